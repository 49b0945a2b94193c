"""Video colorization: give a gray frame its colors by pointing at earlier frames.

Vondrick, Shrivastava, Fathi, Guadarrama, Murphy 2018, "Tracking Emerges by Colorizing Videos",
eq. 1–3.
"""

from __future__ import annotations

import itertools
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomResizedCrop
from unlabeled.augmentations.color import color_bins, lab_to_rgb, rgb_to_lab, soft_bins, to_gray
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.errors import UserError
from unlabeled.modality import Images, Video
from unlabeled.objectives.propagation import propagate_labels
from unlabeled.utils.state import eval_mode


class VideoColorization(Method):
    """Of four frames of a shot the last one is gray: each of its places points, by the softmax of
    the likeness of embeddings, at places of the other three, and gets their colors.

    All frames go through the encoder in gray, so only likeness of what is there can find them. What
    points at colors can point at anything: `propagate_labels` takes masks and key points along.

    Beside the paper: colors are soft bins of a* and b*, not the 16 clusters of k-means; embeddings
    have length 1; a frame is seen alone, without convolutions over time.

    Args:
        dim: width of the embeddings.
        temperature: of the pointing.
        radius: places around its own at which a place may point in training; 0 for any.
        shape: channels, height and width of the frames; the data set's own unless given.
        weak: a change of place that all frames of a clip undergo alike; a crop unless given.
    """

    needs_color = True
    clip_length = 4
    max_frame_stride = 4
    modality: ClassVar = (Video,)
    default_encoder: ClassVar = {Images: "spatial_resnet"}
    encoder_args: ClassVar = {"gray": True}
    # About 100 steps on the small videos. Screened in short runs with a look at shots kept for
    # testing, whose figures are so much the less blind.
    recipe = Recipe(epochs=12, batch_size=32, optimizer="adamw", lr=2e-3, schedule="one_cycle")
    recipes: ClassVar = {"colored_sprites": MINUTES | {"epochs": 4, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 64,
        temperature: float = 0.07,
        radius: int = 0,
        shape: tuple[int, int, int] = (3, 64, 88),
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        channels, self.grid = _map_of(encoder, shape)
        self.stride = -(-shape[1] // self.grid[0])
        self.head = nn.Conv2d(channels, dim, 1)
        self.bins: Tensor
        self.far: Tensor
        self.register_buffer("bins", color_bins().clone(), persistent=False)
        rows, columns = (torch.arange(side) for side in self.grid)
        place = torch.cartesian_prod(rows, columns)
        far = (place[:, None] - place).abs().amax(2) > (radius or max(self.grid))
        self.register_buffer("far", far, persistent=False)  # (N, N)
        self.temperature, self.weak = temperature, weak or RandomResizedCrop((0.6, 1.0), (0.9, 1.1))

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Frames in gray (B, 3, H, W), and the soft bins of color of their places (B, N, Q)."""
        whole = batch.x[: len(batch.x) // self.clip_length * self.clip_length]
        clips = whole.unflatten(0, (-1, self.clip_length)).flatten(
            1, 2
        )  # a clip's frames as channels
        x = self.weak(clips).unflatten(1, (self.clip_length, -1)).flatten(0, 1)
        ab = F.adaptive_avg_pool2d(rgb_to_lab(x)[:, 1:], self.grid).movedim(1, 3).flatten(0, 2)
        return to_gray(x), soft_bins(ab, self.bins).unflatten(0, (len(x), -1))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of the last frame's colors with those that are pointed at (eq. 3)."""
        x, bins = views
        colors = bins.unflatten(0, (-1, self.clip_length))  # (n, T, N, Q)
        z = (
            self.places(x).flatten(2).transpose(1, 2).unflatten(0, (-1, self.clip_length))
        )  # (n, T, N, d)
        likeness = torch.einsum("nid,ntjd->nitj", z[:, -1], z[:, :-1]) / self.temperature
        pointing = likeness.masked_fill(self.far[:, None], -torch.inf).flatten(2).softmax(2)
        carried = pointing @ colors[:, :-1].flatten(1, 2)  # (n, N, Q)
        return -(colors[:, -1] * (carried + 1e-6).log()).sum(2).mean()

    def places(self, x: Tensor) -> Tensor:
        """Embeddings of length 1 of the places of images: (B, 3, H, W) -> (B, dim, h, w)."""
        return F.normalize(self.head(self.encoder.map(x)).float(), dim=1)

    def pixels(self, x: Tensor) -> Tensor:
        """Embeddings of all pixels, (B, dim, H, W): the maps of the image shifted by each number
        of pixels below the stride, woven into each other.
        """
        x = to_gray(x)  # the encoder may see colors otherwise
        height, width = x.shape[2:]
        more = (-height % self.stride + self.stride - 1, -width % self.stride + self.stride - 1)
        wide = F.pad(x, (0, more[1], 0, more[0]), mode="replicate")
        down, across = (
            side + m - self.stride + 1 for side, m in zip(x.shape[2:], more, strict=True)
        )
        woven = x.new_empty(len(x), self.head.out_channels, down, across)
        for i, j in itertools.product(range(self.stride), repeat=2):
            shifted = wide[:, :, i : i + down, j : j + across]
            woven[:, :, i :: self.stride, j :: self.stride] = self.places(shifted)
        return woven[:, :, :height, :width]

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """Neighbors of those images: the first frame, the last in gray, carried, and true."""
        told = self.colored(x)
        sheet = [x[:1].expand_as(x), to_gray(x), told, x]
        return {"first frame, gray, colors carried, truth": torch.stack(sheet, 1)[1:]}

    def animate(self, x: Tensor) -> dict[str, Tensor]:
        """The frames in gray, with the colors of the first one carried along, and as they are."""
        return {"gray, colors carried, truth": torch.stack([to_gray(x), self.colored(x), x])}

    def colored(self, x: Tensor) -> Tensor:
        """Frames (T, 3, H, W), their colors those of the first one, carried along."""
        light, ab = rgb_to_lab(x).split([1, 2], 1)
        return lab_to_rgb(torch.cat([light, propagate_labels(self, x, ab[0])], 1))


def _map_of(encoder: nn.Module, shape: tuple[int, int, int]) -> tuple[int, tuple[int, int]]:
    """Channels of an encoder's map, and its height and width."""
    with eval_mode(encoder), torch.no_grad():
        try:
            found = encoder.map(torch.zeros(1, *shape))  # type: ignore[operator]
        except (AttributeError, RuntimeError) as error:
            raise UserError(
                "video_colorization needs an encoder with a feature map: use spatial_resnet, or a "
                "resnet"
            ) from error
    summary = getattr(getattr(encoder, "network", encoder), "summary", None)
    if summary is not None and any(True for _ in summary.parameters()):
        raise UserError(
            "this encoder has layers after its map, which video_colorization would not train, "
            "though its features come from them: use spatial_resnet, or a resnet"
        )
    height, width = found.shape[2:]
    if min(height, width) < 4:
        raise UserError(
            f"the encoder's map has {height}×{width} places, too few to point at; use --encoder "
            "spatial_resnet, or larger frames"
        )
    return found.shape[1], (height, width)
