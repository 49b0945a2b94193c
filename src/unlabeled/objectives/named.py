"""Objectives by name, all called with embeddings and labels."""

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
    "contrastive", "siamese", "triplet", "lifted_structure", "soft_nearest_neighbor", "sup_con",
    "mahalanobis",
]  # fmt: skip
Paired = Literal["n_pair", "nce", "info_nce", "nt_xent", "hinge"]
ObjectiveName = Literal[Grouped, Paired]
NORMALIZED = ("contrastive", "triplet", "nce", "info_nce", "soft_nearest_neighbor")
"""Objectives whose rows are normalized first: as in their papers, because the temperature is that
of cosines, or, with a margin, so that the rows cannot all shrink to one point."""


def check_options(name: ObjectiveName, options: dict[str, Any]) -> dict[str, Any]:
    """The options that are not None.

    Raises:
        UserError: the objective does not have one of them.
    """
    function = getattr(grouped, name, None) or getattr(paired, name)
    options = {key: value for key, value in options.items() if value is not None}
    if unknown := set(options) - set(inspect.signature(function).parameters):
        raise UserError(f"{name} has no {min(unknown)}; omit it")
    return options


@objective()
def loss_by_name(
    name: ObjectiveName, z: Float[Tensor, "n d"], y: Int[Tensor, " n"], **options: Any
) -> Tensor:
    """The named objective of labeled embeddings.

    An objective of pairs takes two rows of each class that has as many, then the next two, and so
    on: in each round every class occurs once, so that no pair is another's false negative.

    Args:
        name: of the objective.
        z: (n, d) embeddings.
        y: (n,) labels.
        options: further arguments of the objective.

    Returns:
        a scalar; 0 if there are no pairs.
    """
    z = F.normalize(z, dim=1) if name in NORMALIZED else z
    if name in get_args(Grouped):
        return getattr(grouped, name)(z, y, **options)
    function = getattr(paired, name)
    losses = [function(z[first], z[second], **options) for first, second in pair_rounds(y)]
    return torch.stack(losses).mean() if losses else 0 * z.sum()


def pair_rounds(y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows of pairs of equal labels, (k,) and (k,) in each round, in which a label occurs once."""
    order = y.argsort(stable=True)
    _, group, counts = y[order].unique(return_inverse=True, return_counts=True)
    rank = torch.arange(len(y), device=y.device) - (counts.cumsum(0) - counts)[group]
    size = counts[group]
    for k in range(0, int(counts.max()) - 1, 2):
        yield order[(rank == k) & (size > k + 1)], order[rank == k + 1]
