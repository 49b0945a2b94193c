"""Objectives of labelled rows: those with equal `y` belong together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.objectives.precision import full_precision


@full_precision
def sup_con(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Supervised contrastive loss with the sum outside (Khosla et al. 2020, eq. 2, L_out).

    For each row the mean over its positives p of −log( exp(z_i·z_p/τ) / Σ_{a≠i} exp(z_i·z_a/τ) ),
    z normalised; the mean over the rows that have a positive. The authors' code multiplies by
    τ/0.07 besides, which this does not. With two views and every picture its own label, it is
    SimCLR's loss.

    Args:
        z: projections.
        y: labels.
        temperature: τ, above 0.
    """
    z = F.normalize(z, dim=1)
    similarity = z @ z.T / temperature  # (n, n)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    log_sum = similarity.masked_fill(itself, -torch.inf).logsumexp(1)  # (n,)
    positive = (y[:, None] == y) & ~itself
    count = positive.sum(1)
    mean = similarity.masked_fill(~positive, 0).sum(1) / count.clamp(min=1)
    return (log_sum - mean)[count > 0].sum() / (count > 0).sum().clamp(min=1)


@full_precision
def siamese(
    z: Float[Tensor, "n d"], y: Int[Tensor, " n"], weight: float = 1.0
) -> Float[Tensor, ""]:
    """Verification: s·d² where two rows show the same, max(1 − d², 0) where they do not.

    d is the Euclidean distance of two rows. All pairs of the batch are taken; those of each kind
    are averaged by themselves, since there are far more of the second. (The lectures' cost; Chopra,
    Hadsell, LeCun 2005 square the hinge of d instead.)

    Args:
        z: embeddings.
        y: identities.
        weight: s.
    """
    length = z.pow(2).sum(1)
    squared = (length[:, None] + length - 2 * z @ z.T).clamp(min=0)  # (n, n)
    above = torch.ones_like(squared, dtype=torch.bool).triu(1)
    same = y[:, None] == y
    near, far = squared[same & above], (1 - squared[~same & above]).relu()
    return weight * near.sum() / max(1, len(near)) + far.sum() / max(1, len(far))
