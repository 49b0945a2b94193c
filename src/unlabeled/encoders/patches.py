"""The encoder of overlapping patches, for methods that predict some patches from others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

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

    Each stage is a 3×3 convolution and ReLU on every patch separately; from the second on, 2×2 max
    pooling precedes it while more than two pixels are left. Widths double. As the VGG-6 of Illing
    et al. 2021, but smaller.

    Args:
        width: channels of the first stage.
        patch: side of a patch in pixels; a quarter of the image's by default. Neighboring patches
            overlap by half.
        stages: number of stages.
        norm: "layer" normalizes over the channels and pixels of each patch, as CPC v2 does (Hénaff
            et al. 2020).
        contrast: standardize every patch to mean 0 and deviation 1 first, as a retina does, so that
            its brightness does not identify the image.
    """
    side = patch or max(4, min(size) // 4)
    if not 4 <= side <= min(size):
        raise UserError(
            f"patches of {side} pixels cannot be cut from {size[0]}×{size[1]}; "
            "give 4 to the image's side"
        )
    grid = PatchGrid(side, size)
    layers_of, remaining = [], side
    widths = [channels, *(width * 2**i for i in range(stages))]
    for i, (c_in, c_out) in enumerate(itertools.pairwise(widths)):
        pool = i > 0 and remaining > 2
        remaining //= 2 if pool else 1
        layers: list[nn.Module] = [nn.MaxPool2d(2)] if pool else []
        if i == 0 and contrast:
            layers.append(nn.GroupNorm(1, channels, affine=False))
        layers.append(nn.Conv2d(c_in, c_out, 3, padding=1, bias=norm == "none"))
        nn.init.kaiming_normal_(layers[-1].weight)  # type: ignore[arg-type]
        layers += [nn.GroupNorm(1, c_out)] if norm == "layer" else []
        stage = PerPatch(nn.Sequential(*layers, nn.ReLU()), grid.number)
        layers_of.append(nn.Sequential(grid, stage) if i == 0 else stage)
    return Patches(layers_of, grid, widths[1:])


class Patches(Encoder):
    """Stages from images (B, C, H, W) to patches side by side (B, C', p', P·p').

    Args:
        stages: the first one begins with the patch grid.
        patch_grid: cuts images into patches.
        widths: channels of each stage.
        masked_context: whether methods that predict use a context of the rows above.
    """

    def __init__(
        self,
        stages: Sequence[nn.Module],
        patch_grid: PatchGrid,
        widths: Sequence[int],
        masked_context: bool = True,
    ) -> None:
        super().__init__(stages, GlobalPool(), widths[-1])
        self.patch_grid, self.widths = patch_grid, list(widths)
        self.masked_context = masked_context
        self.latent_dims = widths[-1], widths[-1]  # of latents and of contexts

    def single_stage(self, stage: int, channels: int, dim: int) -> Patches:
        """One stage, whose patches are both latents and contexts."""
        return Patches([self.stages[stage]], self.patch_grid, [channels], masked_context=False)

    @property
    def overlap(self) -> int:
        """Number of following rows of patches that share pixels with a row."""
        return -(-self.patch_grid.side // self.patch_grid.stride) - 1

    def to_grid(self, x: Tensor) -> Tensor:
        """The mean of each patch, as a grid: (B, C, p, P·p) -> (B, C, rows, columns)."""
        means = x.unflatten(3, (self.patch_grid.number, -1)).mean((2, 4))
        return means.unflatten(2, self.patch_grid.shape)

    def map_and_features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The grid of patches (B, C, rows, columns), and features (B, dim)."""
        last = self.map(x)
        return self.to_grid(last), self.summary(last)

    def latents_and_context(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is predicted z, and from what c: here both are the grid of patches."""
        z = self.to_grid(self.map(x))
        return z, z

    def make_context(self) -> nn.Module:
        """A context network over the rows of patches above each patch."""
        return MaskedContext(self.dim) if self.masked_context else nn.Identity()

    def default_augmentation(self) -> Augmentation:
        """The augmentation of predictive methods: a random horizontal flip."""
        return RandomHorizontalFlip()

    def segments(self, x: Tensor, samples: int = 0, jitter: Augmentation | None = None) -> Tensor:
        """Patches side by side, each augmented separately by `jitter`, if any."""
        patches = self.patch_grid(x)
        if jitter is None:
            return patches
        number = self.patch_grid.number
        return join_patches(jitter(split_patches(patches, number)), number)


class PatchGrid(nn.Module):
    """Cut images into overlapping patches, side by side: (B, C, H, W) -> (B, C, p, P·p).

    Input that is already cut is returned unchanged.

    Args:
        side: p, of a patch in pixels; the stride is half of it.
        size: height and width of the images.
    """

    def __init__(self, side: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.side, self.stride = side, max(1, side // 2)
        rows, columns = ((length - side) // self.stride + 1 for length in size)
        self.shape = rows, columns
        self.number = rows * columns

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] == (self.side, self.number * self.side):
            return x
        patches = x.unfold(2, self.side, self.stride).unfold(3, self.side, self.stride)
        return patches.flatten(2, 3).transpose(2, 3).flatten(3)  # from (B, C, P, p, p)


class PerPatch(nn.Module):
    """Apply a network to every patch separately: (B, C, p, P·p) -> (B, C', p', P·p').

    Args:
        network: from (B, C, p, p) to (B, C', p', p').
        number: P, of patches.
    """

    def __init__(self, network: nn.Module, number: int) -> None:
        super().__init__()
        self.network, self.number = network, number

    def forward(self, x: Tensor) -> Tensor:
        return join_patches(self.network(split_patches(x, self.number)), self.number)


def split_patches(x: Tensor, number: int) -> Tensor:
    """Patches side by side (B, C, p, P·p) as separate images (B·P, C, p, p)."""
    return x.unflatten(3, (number, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)


def stage_layers(stage: nn.Module) -> tuple[int, nn.Module, nn.Conv2d]:
    """Number of patches, the fixed layer before the convolution if any, and the convolution.

    Raises:
        UserError: the stage is not a convolution that ends in ReLU.
    """
    each: Any = stage[-1] if isinstance(stage, nn.Sequential) else stage
    layers: list[Any] = [*each.network.children()] if isinstance(each, PerPatch) else []
    fixed = layers and not list(layers[0].parameters())  # pooling, or normalization
    pool = layers.pop(0) if fixed else nn.Identity()
    if [type(layer) for layer in layers] != [nn.Conv2d, nn.ReLU]:
        raise UserError(
            "the local rule is for stages of convolution and ReLU only: use --encoder patches "
            "without a norm, or --rule autograd"
        )
    return each.number, pool, layers[0]


def join_patches(x: Tensor, number: int) -> Tensor:
    """Separate patches (B·P, C, p, p) side by side (B, C, p, P·p)."""
    return x.unflatten(0, (-1, number)).permute(0, 2, 3, 1, 4).flatten(3)


class MaskedContext(nn.Module):
    """Context of each position from its row and those above: (B, D, R, S) -> (B, D, R, S).

    Masked convolutions as PixelCNN's (van den Oord et al. 2016): two layers that see their own row
    and the one above, three columns wide, with a residual connection.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(dim, dim, (2, 3)), nn.Conv2d(dim, dim, (2, 3))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(F.pad(x, (1, 1, 1, 0))).relu()
        return x + self.second(F.pad(h, (1, 1, 1, 0)))
