"""Objectives of prediction: which of some candidates came at this place of this sequence?"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.objectives.checks import objective

Among = Literal["same", "others", "both"]
"""Where negatives come from: other places of the same sequence, the same place of other sequences,
or both. What is predicted is never among them."""


@objective()
def predictive(
    a: Float[Tensor, "n t d"], b: Float[Tensor, "n t d"], among: Among = "both"
) -> Float[Tensor, ""]:
    """CPC's InfoNCE: −log( exp(a·b₊) / Σ exp(a·b) ) (van den Oord et al. 2018, eq. 4).

    The sum runs over candidates b for a fixed prediction a: the true one, once, and the negatives.

    Args:
        a: predictions W c, for t places of n sequences.
        b: what came there.
        among: where negatives come from.

    Returns:
        a scalar ≥ 0, the mean over places; the logarithm of the number of candidates where all are
        alike.

    Raises:
        UserError: nothing is left to be a negative.
    """
    n, t, _ = a.shape
    _refuse_alone(n, t, among)
    here = torch.einsum("ntd,nsd->nts", a, b)  # (n, t, t): the true one on the diagonal
    if among != "same":
        there = torch.einsum("ntd,mtd->ntm", a, b)  # (n, t, n)
        itself = torch.eye(n, dtype=torch.bool, device=a.device)[:, None]
        there = there.masked_fill(itself, -torch.inf)
        true = here.diagonal(dim1=1, dim2=2)[:, :, None]
        here = torch.cat([true if among == "others" else here, there], 2)
    places = torch.arange(t, device=a.device) if among != "others" else a.new_zeros(t).long()
    return F.cross_entropy(here.flatten(0, 1), places.repeat(n))


@objective()
def predictive_hinge(
    a: Float[Tensor, "n t d"], b: Float[Tensor, "n t d"], among: Among = "both"
) -> Float[Tensor, ""]:
    """CLAPP's: max(0, 1 − y·u), u = a·b, for the true one (y = 1) and one negative (y = −1).

    Illing, Ventura, Bellec, Gerstner 2021, eq. 3, both signs at once and of one weight, as their
    CLAPP-s has it. Their code draws the negative's sequence among all, its own included; here it
    never is what was predicted. With "both", half of the negatives are of each kind.

    Args:
        a: predictions W c, for t places of n sequences.
        b: what came there.
        among: where the negative comes from.

    Returns:
        a scalar ≥ 0, the mean over places, halved over the signs.

    Raises:
        UserError: nothing is left to be a negative.
    """
    near = (1 - (a * b).sum(2)).relu()
    far = (1 + (a * negatives(b, among)).sum(2)).relu()
    return (near.mean() + far.mean()) / 2


def _refuse_alone(n: int, t: int, among: Among) -> None:
    """Raises UserError where what is predicted would be its own negative."""
    if (n == 1 or among == "same") and (t == 1 or among == "others"):
        raise UserError(
            f"{n} sequences of {t} places have no negatives among {among}; give a --batch-size of "
            "at least 2, longer sequences, or other --negatives"
        )


def negatives(b: Float[Tensor, "n t d"], among: Among) -> Float[Tensor, "n t d"]:
    """One for each place: of another place of the same sequence, or of another sequence."""
    n, t, _ = b.shape
    _refuse_alone(n, t, among)
    later = b.roll(-int(torch.randint(1, t, ())), 1) if t > 1 else b
    other = b.roll(-int(torch.randint(1, n, ())), 0) if n > 1 else b
    if among == "others" or t == 1:
        return other
    if among == "same" or n == 1:
        return later
    return torch.where(torch.rand(n, t, 1, device=b.device) < 0.5, later, other)
