"""Objectives by name, all called with labeled rows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.objectives import grouped, paired
from unlabeled.objectives.checks import objective

Grouped = Literal[
    "contrastive",
    "siamese",
    "triplet",
    "lifted_structure",
    "soft_nearest_neighbor",
    "sup_con",
    "mahalanobis",
]
Paired = Literal["n_pair", "nce", "info_nce", "nt_xent", "hinge"]
ObjectiveName = Literal[Grouped, Paired]
NORMALIZED = ("contrastive", "triplet", "nce", "info_nce", "soft_nearest_neighbor")
"""Whose rows are normalized first: the papers do, their temperatures are of cosines, or (pairs with
a margin) all rows would shrink to one point, where nothing pushes any more."""


def check_options(name: ObjectiveName, options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given.

    Raises:
        UserError: the objective has no such option.
    """
    function = getattr(grouped, name, None) or getattr(paired, name)
    given = {key: value for key, value in options.items() if value is not None}
    if unknown := set(given) - set(inspect.signature(function).parameters):
        raise UserError(f"{name} has no {min(unknown)}; leave it out")
    return given


@objective()
def loss_by_name(
    name: ObjectiveName, z: Float[Tensor, "n d"], y: Int[Tensor, " n"], **options: Any
) -> Tensor:
    """The objective of rows z (n, d) with labels y (n,).

    One of pairs takes two rows of each class that has as many, then the next two, and so on: in
    each round every class is there once, so that no pair is another's false negative.
    """
    z = F.normalize(z.float(), dim=1) if name in NORMALIZED else z
    if name in get_args(Grouped):
        return getattr(grouped, name)(z, y, **options)
    objective = getattr(paired, name)
    losses = [objective(z[first], z[second], **options) for first, second in pair_rounds(y)]
    return torch.stack(losses).mean() if losses else 0 * z.sum()


def pair_rounds(y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of pairs of one class, each class once in a round: (k,) and (k,) at a time."""
    order = y.argsort(stable=True)
    _, group, counts = y[order].unique(return_inverse=True, return_counts=True)
    place = torch.arange(len(y), device=y.device) - (counts.cumsum(0) - counts)[group]
    size = counts[group]
    for k in range(0, int(counts.max()) - 1, 2):
        yield order[(place == k) & (size > k + 1)], order[place == k + 1]
