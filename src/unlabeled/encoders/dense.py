"""Layers of units that look at all pixels, for machines that are older than convolutions."""

from __future__ import annotations

import itertools
import math

from torch import Tensor, nn

from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError


def dense(
    channels: int = 1, size: tuple[int, int] = (28, 28), widths: tuple[int, ...] = (256,)
) -> Encoder:
    """Layers of sigmoid units, each connected to all before it: `widths[-1]` features (256).

    Args:
        channels: of the images.
        size: of the images.
        widths: units of each layer.
    """
    if not widths or min(widths) < 1:
        raise UserError(
            f"layers of {tuple(widths)} units cannot be; give at least one of 1 or more"
        )
    pairs = itertools.pairwise([channels * math.prod(size), *widths])
    return Encoder([SigmoidLayer(*pair) for pair in pairs], nn.Flatten(), widths[-1])


class SigmoidLayer(nn.Module):
    """σ(W x + b) of whatever comes, as a map of one place: (B, …) -> (B, units, 1, 1)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units)

    def forward(self, x: Tensor) -> Tensor:
        """(B, …) -> (B, units, 1, 1)."""
        return self.linear(x.flatten(1)).sigmoid()[:, :, None, None]
