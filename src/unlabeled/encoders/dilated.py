"""The encoder of time series: residual blocks of dilated convolutions."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder
from unlabeled.modality import Series

MOST_BLOCKS = 10
"""The paper's number of blocks."""


def dilated(
    channels: int = 1,
    size: tuple[int, int] = (1, 128),
    width: int = 64,
    dim: int = 320,
    depth: int | None = None,
) -> Encoder:
    """Dilated convolutions over the timestamps of a series: `dim` features (320).

    A linear projection of each timestamp, `depth` residual blocks of two convolutions whose
    dilation doubles from block to block, and a last one; the features are the maximum over time.
    Yue et al. 2022, section 3.2.

    Args:
        width: channels of the projection and of all blocks but the last.
        dim: channels of the last block.
        depth: number of blocks (default: as many as see the series whole, at most the paper's 10).
    """
    if depth is None:
        depth = min(MOST_BLOCKS, max(1, math.ceil(math.log2(size[1]))))
    stages: list[nn.Module] = [Projection(channels, width)]
    stages += [DilatedBlock(width, width, 2**i) for i in range(depth)]
    return Dilated([*stages, DilatedBlock(width, dim, 2**depth)], MaxOverTime(), dim)


class Dilated(Encoder):
    """Stages from series (B, C, 1, T) to maps (B, C', 1, T), 0 at missing timestamps.

    The first stage is a projection of each timestamp by itself.
    """

    modality = (Series,)

    def map(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Features of each timestamp, (B, dim, 1, T).

        Args:
            x: series (B, C, 1, T).
            keep: timestamps that are not masked, (B, T) bool (default: all). Masked ones are 0
                after the projection, as are missing ones.
        """
        first, *blocks = self.stages
        h = first(x)
        h = h if keep is None else h * keep[:, None, None]
        for block in blocks:
            h = block(h)
        return h * observed(x)

    def maps_and_features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The map after each stage, and the features (B, dim)."""
        maps = itertools.accumulate(self.stages, lambda h, stage: stage(h), initial=x)
        found = [h * observed(x) for h in itertools.islice(maps, 1, None)]
        return found, self.summary(found[-1])


def observed(x: Tensor) -> Tensor:
    """Which timestamps of series (B, C, 1, T) are not missing, (B, 1, 1, T) bool."""
    return (x != 0).any(1, keepdim=True)


class Projection(nn.Module):
    """A linear map of each timestamp, 0 for missing ones: (B, C, 1, T) -> (B, C', 1, T)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * observed(x)


class DilatedBlock(nn.Module):
    """GELU and dilated convolution, twice, and a residual: (B, C, 1, T) -> (B, C', 1, T)."""

    def __init__(self, c_in: int, c_out: int, dilation: int) -> None:
        super().__init__()
        around = {"kernel_size": (1, 3), "padding": (0, dilation), "dilation": (1, dilation)}
        self.first = nn.Conv2d(c_in, c_out, **around)  # type: ignore[arg-type]
        self.second = nn.Conv2d(c_out, c_out, **around)  # type: ignore[arg-type]
        self.shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(F.gelu(self.first(F.gelu(x))))
        return h + self.shortcut(x)


class MaxOverTime(nn.Module):
    """Maximum over all timestamps that are not 0: (B, C, 1, T) -> (B, C)."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        seen = (x != 0).any(1, keepdim=True)  # (B, 1, T)
        largest = x.masked_fill(~seen, -torch.inf).amax(2)
        return largest.masked_fill(~seen.any(2), 0)
