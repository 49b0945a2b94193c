"""Images of any size in place of a batch, so that random crops are taken from the originals."""

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._pytree import tree_map

Images = Sequence[Tensor]
"""Images of any size, (C, h, w) each, all uint8 or all float32."""


class FullSize(Tensor):
    """A batch (B, C, H, W) in [0, 1] that is made of full-size images when it is needed.

    `RandomResizedCrop` takes its crops from the full-size images. Every other operation receives
    the usual tensor: each image cropped at the center and resized.

    Args:
        images: returns the B images; called once, when they are needed.
        shape: (B, C, H, W).
        value_range: black and white of images that are not uint8.
    """

    _images: Images | Callable[[], Images]
    _fitted: Tensor | None
    _to: torch.device
    value_range: tuple[float, float]

    @staticmethod
    def __new__(
        cls,
        images: Images | Callable[[], Images],
        shape: Sequence[int],
        value_range: tuple[float, float] = (0.0, 1.0),
        device: Any = "cpu",
    ) -> "FullSize":
        batch = Tensor._make_wrapper_subclass(cls, tuple(shape), dtype=torch.float32, device=device)
        batch._images, batch._fitted, batch._to = images, None, torch.device(device)
        batch.value_range = value_range
        return batch

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run every operation on the usual tensor."""
        args, kwargs = tree_map(
            lambda value: value.fitted() if isinstance(value, FullSize) else value,
            (args, kwargs or {}),
        )
        return func(*args, **kwargs)

    def to(self, device: Any, *_: Any, **__: Any) -> "FullSize":  # type: ignore[override]
        """The same images, whose crops will be on a device."""
        return FullSize(self._images, self.shape, self.value_range, device)

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """Parts of the batch; those of rows are full-size, too."""
        if dim != 0:
            return self.fitted().chunk(chunks, dim)

        def part(rows: list[int]) -> FullSize:
            shape = len(rows), *self.shape[1:]
            return FullSize(
                lambda: [self.images[i] for i in rows], shape, self.value_range, self._to
            )

        return tuple(part(rows.tolist()) for rows in torch.arange(len(self)).chunk(chunks))

    def pin_memory(self, *_: Any) -> "FullSize":
        """The same: crops are made when they are needed."""
        return self

    @property
    def images(self) -> Images:
        """The full-size images."""
        if callable(self._images):
            self._images = self._images()
        return self._images

    def fitted(self) -> Float[Tensor, "b c h w"]:
        """Each image cropped at the center to the batch's proportions, and resized."""
        if self._fitted is None:
            height, width = self.shape[2:]
            sides = torch.tensor([image.shape[1:] for image in self.images])  # (B, 2)
            scale = (sides / torch.tensor([height, width])).amin(1, keepdim=True)
            box = (scale * torch.tensor([height, width])).round().int().clamp(min=1)
            box = torch.minimum(box, sides)
            self._fitted = self.crop(torch.cat([(sides - box) // 2, box], 1))
        return self._fitted

    def crop(
        self,
        boxes: Int[Tensor, "b 4"],
        flip: Bool[Tensor, " b"] | None = None,
        size: tuple[int, int] | None = None,
    ) -> Float[Tensor, "b c *size"]:
        """Crop a box of each image and resize it, antialiased.

        Args:
            boxes: top, left, height and width in pixels.
            flip: whether each is flipped horizontally.
            size: height and width of the crops (default: those of the batch).
        """
        images, to = self.images, list(size or self.shape[2:])
        out = torch.empty(*self.shape[:2], *to, dtype=images[0].dtype)

        def make(row: int) -> None:
            top, left, height, width = boxes[row].tolist()
            part = images[row][None, :, top : top + height, left : left + width]
            part = part.contiguous(memory_format=torch.channels_last)
            part = F.interpolate(part, to, mode="bilinear", antialias=True)[0]
            out[row] = part.flip(2) if flip is not None and flip[row] else part

        threads = torch.get_num_threads()
        run = map if threads == 1 else _single_threads(threads).map
        list(run(make, range(len(images))))
        low, high = (0.0, 255.0) if out.dtype == torch.uint8 else self.value_range
        return out.to(self._to).to(torch.float32, copy=True).sub_(low).div_(max(high - low, 1e-12))


@functools.cache
def _single_threads(number: int) -> ThreadPoolExecutor:
    """Threads in each of which PyTorch uses no further ones, which would wait for each other."""
    pool, all_there = ThreadPoolExecutor(number), threading.Barrier(number)

    def begin(_: int) -> None:
        torch.set_num_threads(1)  # of this thread, and of those that begin later
        all_there.wait()

    list(pool.map(begin, range(number)))
    torch.set_num_threads(number)
    return pool


def random_boxes(
    sides: Int[Tensor, "b 2"], scale: tuple[float, float], ratio: tuple[float, float]
) -> Int[Tensor, "b 4"]:
    """Random boxes in images of those heights and widths, as torchvision's `RandomResizedCrop`.

    Ten boxes are drawn for each image, the first that fits is taken; if none fits, the largest at
    the center with a ratio in the range.

    Args:
        sides: height and width of each image.
        scale: range of the box's area, as a fraction of the image's.
        ratio: range of its width over its height.

    Returns:
        top, left, height and width of each box.
    """
    tries = 10
    height, width = sides[:, :1].double(), sides[:, 1:].double()  # (B, 1)
    area = height * width * torch.empty(len(sides), tries).uniform_(*scale)
    low, high = torch.tensor(ratio).log().tolist()
    shape = torch.empty(len(sides), tries).uniform_(low, high).exp()
    w, h = (area * shape).sqrt().round(), (area / shape).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)
    w, h = w.gather(1, first), h.gather(1, first)
    none = ~fits.any(1, keepdim=True)
    most_w = torch.minimum(width, (height * ratio[1]).round())
    most_h = torch.minimum(height, (width / ratio[0]).round())
    w, h = torch.where(none, most_w, w), torch.where(none, most_h, h)
    free = torch.cat([height - h, width - w], 1)
    corner = (torch.rand(len(sides), 2) * (free + 1)).floor().clamp(max=free)
    corner = torch.where(none, (free / 2).floor(), corner)
    return torch.cat([corner, h, w], 1).int()
