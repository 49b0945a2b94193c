"""The encoder of overlapping patches, for methods that predict one from the others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomHorizontalFlip
from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.errors import UserError

Norm = Literal["none", "layer"]


def patches(
    channels: int = 3,
    size: tuple[int, int] = (32, 32),
    width: int = 32,
    patch: int | None = None,
    stages: int = 4,
    norm: Norm = "none",
    contrast: bool = True,
) -> Encoder:
    """Convolutions on overlapping patches, and a mean over all: 8·width features (256).

    Each stage is a 3×3 convolution and ReLU on every patch by itself; from the second on, with the
    largest of 2×2 before it, while there are more than two pixels left. Widths double. As VGG-6 in
    Illing et al. 2021, but smaller.

    Args:
        channels: of the images.
        size: of the images.
        width: of the first stage.
        patch: side of a patch; a quarter of the image's unless given. The next one is half a
            patch away.
        stages: how many.
        contrast: every patch gets mean 0 and deviation 1 before, as by a retina, so that brightness
            does not tell which image it is of.
        norm: "layer", over the channels and pixels of each patch, is CPC v2's (Hénaff et al. 2020).
    """
    side = patch or max(4, min(size) // 4)
    if not 4 <= side <= min(size):
        raise UserError(
            f"patches of {side} pixels cannot be cut from {size[0]}×{size[1]}; "
            "give 4 to the image's side"
        )
    cut = Cut(side, size)
    made, left = [], side
    widths = [channels, *(width * 2**i for i in range(stages))]
    for i, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
        pool = i > 0 and left > 2
        left //= 2 if pool else 1
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if pool else []
        if i == 0 and contrast:
            layers.append(nn.GroupNorm(1, channels, affine=False))
        layers.append(nn.Conv2d(c_in, c_out, 3, padding=1, bias=norm == "none"))
        nn.init.kaiming_normal_(layers[-1].weight)  # type: ignore[arg-type]
        layers += [nn.GroupNorm(1, c_out)] if norm == "layer" else []
        each = Each(nn.Sequential(*layers, nn.ReLU()), cut.number)
        made.append(nn.Sequential(cut, each) if i == 0 else each)
    return Patches(made, cut, widths[1:])


class Patches(Encoder):
    """Stages from images (B, C, H, W) to patches side by side (B, C', p', P·p').

    Args:
        stages: the first one cuts.
        cut: how.
        widths: channels of each stage.
        above: whether a context gathers the rows above for methods that predict.
    """

    def __init__(
        self, stages: Sequence[nn.Module], cut: Cut, widths: Sequence[int], above: bool = True
    ) -> None:
        super().__init__(stages, GlobalPool(), widths[-1])
        self.cut, self.widths, self.above = cut, list(widths), above
        self.latent = widths[-1], widths[-1]

    def alone(self, stage: int, channels: int, dim: int) -> Patches:
        """One stage, which predicts itself."""
        return Patches([self.stages[stage]], self.cut, [channels], above=False)

    @property
    def overlap(self) -> int:
        """How many of the next rows of patches share pixels with a row."""
        return -(-self.cut.side // self.cut.stride) - 1

    def places(self, x: Tensor) -> Tensor:
        """The mean of each patch, in its place: (B, C, p, P·p) -> (B, C, rows, columns)."""
        means = x.unflatten(3, (self.cut.number, -1)).mean((2, 4))
        return means.unflatten(2, self.cut.grid)

    def predicted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be predicted z, and from what c: the patches, each by itself."""
        z = self.places(self.map(x))
        return z, z

    def context(self) -> nn.Module:
        """What gathers the patches of all rows above into c."""
        return Above(self.dim) if self.above else nn.Identity()

    def weak(self) -> Augmentation:
        """A view that suits images unless another is named: mirroring."""
        return RandomHorizontalFlip()

    def pieces(self, x: Tensor, samples: int = 0, jitter: Augmentation | None = None) -> Tensor:
        """Patches side by side, each changed by itself where there is a `jitter`."""
        tiles = self.cut(x)
        if jitter is None:
            return tiles
        return side_by_side(jitter(apart(tiles, self.cut.number)), self.cut.number)


class Cut(nn.Module):
    """Overlapping patches of an image, side by side: (B, C, H, W) -> (B, C, p, P·p).

    What is cut already stays.

    Args:
        side: p, of a patch; the next one is half of it away.
        size: height and width of the images.
    """

    def __init__(self, side: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.side, self.stride = side, max(1, side // 2)
        rows, columns = ((length - side) // self.stride + 1 for length in size)
        self.grid = rows, columns
        self.number = rows * columns

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, p, P·p)."""
        if x.shape[2:] == (self.side, self.number * self.side):
            return x
        tiles = x.unfold(2, self.side, self.stride).unfold(3, self.side, self.stride)
        return tiles.flatten(2, 3).transpose(2, 3).flatten(3)  # (B, C, P, p, p) before


class Each(nn.Module):
    """A network on every patch by itself: (B, C, p, P·p) -> (B, C', p', P·p').

    Args:
        network: from (B, C, p, p) to (B, C', p', p').
        number: P, of patches.
    """

    def __init__(self, network: nn.Module, number: int) -> None:
        super().__init__()
        self.network, self.number = network, number

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, p, P·p) -> (B, C', p', P·p')."""
        return side_by_side(self.network(apart(x, self.number)), self.number)


def apart(x: Tensor, number: int) -> Tensor:
    """Patches side by side (B, C, p, P·p) as images of their own (B·P, C, p, p)."""
    return x.unflatten(3, (number, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)


def side_by_side(x: Tensor, number: int) -> Tensor:
    """Patches (B·P, C, p, p) as one image (B, C, p, P·p)."""
    return x.unflatten(0, (-1, number)).permute(0, 2, 3, 1, 4).flatten(3)


class Above(nn.Module):
    """Each place and what is above it, to both sides: (B, D, R, S) -> (B, D, R, S).

    Masked convolutions as PixelCNN's (van den Oord et al. 2016): two layers that see their own row
    and the one above, three columns wide, added to the patch itself.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(dim, dim, (2, 3)), nn.Conv2d(dim, dim, (2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, R, S) -> (B, D, R, S)."""
        h = self.first(F.pad(x, (1, 1, 1, 0))).relu()
        return x + self.second(F.pad(h, (1, 1, 1, 0)))
