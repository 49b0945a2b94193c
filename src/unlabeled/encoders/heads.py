"""Small networks that sit on an encoder while it learns and are thrown away afterwards."""

from __future__ import annotations

import itertools

from torch import nn

from unlabeled.errors import UserError


def mlp(*dims: int) -> nn.Sequential:
    """Linear layers of these widths; BatchNorm and ReLU between them, nothing after the last.

    `mlp(128, 512, 64)` maps (B, 128) -> (B, 64). Hidden layers have no bias, BatchNorm brings one.

    Raises:
        UserError: a width below 1.
    """
    if min(dims) < 1:
        raise UserError(f"a layer cannot have {min(dims)} outputs; give at least 1")
    *hidden, last = itertools.pairwise(dims)
    layers: list[nn.Module] = []
    for d_in, d_out in hidden:
        layers += [nn.Linear(d_in, d_out, bias=False), nn.BatchNorm1d(d_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(*last))
