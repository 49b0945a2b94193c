"""Objectives of predictive coding: which candidate stood at this position of this sequence?"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.objectives.checks import objective

NegativeSource = Literal["same", "others", "both"]
"""Where negatives come from: other positions of the same sequence, the same position of other
sequences, or both. The positive is never among them."""


@objective()
def predictive_info_nce(
    a: Float[Tensor, "n t d"], b: Float[Tensor, "n t d"], negatives: NegativeSource = "both"
) -> Float[Tensor, ""]:
    """InfoNCE of contrastive predictive coding (CPC).

    −log( exp(a·b₊) / Σ exp(a·b) ), the mean over positions. The sum runs over the candidates b of
    one prediction a: its positive, once, and the negatives.

    Args:
        a: (n, t, d) predictions W c, for t positions of n sequences.
        b: (n, t, d) the latents at those positions.
        negatives: where negatives come from.

    Returns:
        a scalar ≥ 0; the logarithm of the number of candidates if all are equal.

    Raises:
        UserError: there are no negatives.

    Source: van den Oord, Li, Vinyals 2018, eq. 4.
    """
    n, t, _ = a.shape
    _require_negatives(n, t, negatives)
    sequences, positions = (torch.arange(count, device=a.device) for count in (n, t))
    if negatives == "others":
        logits = torch.einsum("ntd,mtd->ntm", a, b)  # (n, t, n), positives where m = n
        return F.cross_entropy(logits.flatten(0, 1), sequences.repeat_interleave(t))
    logits = torch.einsum("ntd,nsd->nts", a, b)  # (n, t, t), positives where s = t
    if negatives == "both":
        others = torch.einsum("ntd,mtd->ntm", a, b)
        itself = (sequences[:, None] == sequences)[:, None]  # (n, 1, n)
        logits = torch.cat([logits, others.masked_fill(itself, -torch.inf)], 2)
    return F.cross_entropy(logits.flatten(0, 1), positions.repeat(n))


@objective()
def predictive_hinge(
    a: Float[Tensor, "n t d"], b: Float[Tensor, "n t d"], negatives: NegativeSource = "both"
) -> Float[Tensor, ""]:
    """Hinge loss of CLAPP with one negative for each positive.

    max(0, 1 − y·u), u = a·b, for the positive (y = 1) and a negative (y = −1), averaged over both
    signs in every step, as in the paper's CLAPP-s. The authors' code draws the negative's sequence
    among all, its own included; here it never is the positive. With "both", half of the negatives
    are of each kind.

    Args:
        a: (n, t, d) predictions W c, for t positions of n sequences.
        b: (n, t, d) the latents at those positions.
        negatives: where the negative comes from.

    Returns:
        a scalar ≥ 0, the mean over positions and signs.

    Raises:
        UserError: there are no negatives.

    Source: Illing, Ventura, Bellec, Gerstner 2021, eq. 3.
    """
    positive = (1 - (a * b).sum(2)).relu()
    negative = (1 + (a * draw_negatives(b, negatives)).sum(2)).relu()
    return (positive.mean() + negative.mean()) / 2


def draw_negatives(b: Float[Tensor, "n t d"], source: NegativeSource) -> Float[Tensor, "n t d"]:
    """Draw one negative for each position, of the same sequence or of another one.

    Raises:
        UserError: there are no negatives.
    """
    n, t, _ = b.shape
    _require_negatives(n, t, source)
    later = b.roll(-int(torch.randint(1, t, ())), 1) if t > 1 else b
    other = b.roll(-int(torch.randint(1, n, ())), 0) if n > 1 else b
    if source == "others" or t == 1:
        return other
    if source == "same" or n == 1:
        return later
    return torch.where(torch.rand(n, t, 1, device=b.device) < 0.5, later, other)


def draw_distractors(masked: Bool[Tensor, "b t"], number: int) -> Int[Tensor, "b t {number}"]:
    """Draw other masked steps of the same row for each masked step, with replacement.

    A step that is alone in its row gets itself; what steps that are not masked get has no meaning.
    """
    others = masked.sum(1)[:, None, None] - 1
    rank = masked.cumsum(1)[:, :, None] - 1  # of each step among the masked ones of its row
    drawn = (torch.rand(*masked.shape, number, device=masked.device) * others).long()
    drawn = torch.minimum(drawn + (drawn >= rank), others).clamp(min=0)  # beyond itself
    order = masked.float().argsort(dim=1, descending=True, stable=True)  # masked steps first
    return order.gather(1, drawn.flatten(1)).view_as(drawn)


def _require_negatives(n: int, t: int, source: NegativeSource) -> None:
    """Raise UserError if a positive would be its own negative."""
    if (n == 1 or source == "same") and (t == 1 or source == "others"):
        raise UserError(
            f"{n} sequences of {t} positions have no negatives among {source}; use a --batch-size "
            "of at least 2, longer sequences, or other --negatives"
        )


def check_steps(prediction_steps: int, skip_steps: int) -> None:
    """Raise UserError if no step is left to predict."""
    if not 0 <= skip_steps < prediction_steps:
        raise UserError(
            f"prediction_steps is {prediction_steps} and skip_steps {skip_steps}, which leaves "
            "none; give more --prediction-steps, or fewer --skip-steps"
        )


def as_sequence(x: Float[Tensor, "b d r s"]) -> Float[Tensor, "b t d"]:
    """Positions of R rows and S columns as one sequence of T = R · S."""
    return x.flatten(2).transpose(1, 2)
