"""Fully connected layers of sigmoid units, for Boltzmann and Helmholtz machines."""

import itertools
import math

from torch import Tensor, nn

from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError


def dense(
    channels: int = 1, size: tuple[int, int] = (28, 28), widths: tuple[int, ...] = (256,)
) -> Encoder:
    """Fully connected layers of sigmoid units: `widths[-1]` features (256).

    Args:
        widths: number of units of each layer.
    """
    if not widths or min(widths) < 1:
        raise UserError(f"widths is {tuple(widths)}; give at least one layer of 1 or more units")
    pairs = itertools.pairwise([channels * math.prod(size), *widths])
    return Encoder([SigmoidLayer(*pair) for pair in pairs], nn.Flatten(), widths[-1])


class SigmoidLayer(nn.Module):
    """σ(W x + b) of a flattened input, as a 1×1 map: (B, …) -> (B, units, 1, 1)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, units)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)).sigmoid()[:, :, None, None]
