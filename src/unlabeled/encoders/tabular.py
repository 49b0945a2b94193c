"""The encoder of rows of tables: a multilayer perceptron."""

from __future__ import annotations

import itertools
import math

from torch import nn

from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError
from unlabeled.modality import Table


class Perceptron(Encoder):
    """Rows (B, 1, 1, D) -> features (B, dim)."""

    modality = (Table,)


def mlp(
    channels: int = 1, size: tuple[int, int] = (1, 16), width: int = 256, depth: int = 4
) -> Encoder:
    """Multilayer perceptron of the values of a row: `width` features (256).

    Each layer is followed by a ReLU, as in Bahri et al. 2022, section 4; there is no norm.

    Args:
        width: of all layers.
        depth: number of layers.
    """
    if depth < 1:
        raise UserError(f"depth is {depth}; give at least 1 layer")
    dims = [channels * math.prod(size), *[width] * depth]
    layers = ((nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(dims))
    return Perceptron([], nn.Sequential(nn.Flatten(), *itertools.chain(*layers)), width)
