"""Objectives of two views: row i of `a` and row i of `b` show the same thing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.objectives.precision import full_precision


@full_precision
def nt_xent(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    temperature: float = 0.5,
    negatives: int | None = None,
    keep_positive: bool = True,
) -> Float[Tensor, ""]:
    """Normalised-temperature cross-entropy, SimCLR's loss (Chen et al. 2020, eq. 1, algorithm 1).

    ℓ(i, j) = −log( exp(s_ij/τ) / Σ_{k≠i} exp(s_ik/τ) ), s the cosine similarity, k over all 2n
    views; the mean over the 2n ordered pairs. Only the view itself is left out of the sum, the
    positive stays. Google's code adds the means of both directions, which is twice this; lightly
    and solo-learn give this value.

    With `negatives` of 0 nothing but the attraction −s_ij/τ is left, which collapses. With some,
    the sum has, beside the positive, the other view of that many pictures only:
    those that follow in the batch, whose order is random. Without `keep_positive` the positive is
    left out of the sum, as in the lecture tutorial's code with two negatives: the loss then has no
    lower bound of 0 (decoupled contrastive learning, Yeh et al. 2022, does so on purpose).

    Args:
        a: projections of one view.
        b: projections of the other, row by row.
        temperature: τ, above 0.
        negatives: how many of the 2n − 2 there are, from 0 to n − 1; all unless given.
        keep_positive: whether the positive stays in the sum.

    Returns:
        a scalar, ≥ 0 with the positive in the sum; log(2n − 1) when all similarities are equal.

    Raises:
        UserError: (a ValueError) the shapes differ, the temperature is not positive, or there are
            not that many negatives.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise UserError(f"a and b are both (n, d), but have {tuple(a.shape)} and {tuple(b.shape)}")
    if not temperature > 0:
        raise UserError(f"the temperature is above 0, but is {temperature}")
    if negatives is not None and not 0 <= negatives < len(a):
        raise UserError(f"{len(a)} pairs have 0 to {len(a) - 1} negatives, not {negatives}")
    z = F.normalize(torch.cat([a, b]), dim=1)  # (2n, d)
    za, zb = z.chunk(2)
    positive = (za * zb).sum(1) / temperature  # (n,), the same for i→j and j→i
    if negatives == 0:
        return -positive.mean()
    if negatives is None:
        similarity = (z / temperature) @ z.T  # (2n, 2n)
        similarity.fill_diagonal_(-torch.inf)
        if not keep_positive:
            similarity.diagonal(len(a)).fill_(-torch.inf)
            similarity.diagonal(-len(a)).fill_(-torch.inf)
    else:
        other = torch.cat([zb, za])  # (2n, d)
        follow = (torch.arange(len(a))[:, None] + torch.arange(1, negatives + 1)) % len(a)
        rows = torch.cat([follow, follow + len(a)]).to(z.device)  # (2n, negatives)
        similarity = torch.einsum("nd,nkd->nk", z / temperature, other[rows])
        if keep_positive:
            similarity = torch.cat([similarity, positive.repeat(2)[:, None]], 1)
    return similarity.logsumexp(1).mean() - positive.mean()


@full_precision
def info_nce(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    temperature: float = 0.2,
    negatives: Float[Tensor, "k d"] | None = None,
) -> Float[Tensor, ""]:
    """Which of some candidates belongs to the query? (van den Oord et al. 2018, eq. 4.)

    −log( exp(a_i·b_i/τ) / Σ_k exp(a_i·k/τ) ), the mean over i; a and b are taken as they are, so
    normalise them for cosines. The candidates of query i are b_i and the `negatives`, such as
    MoCo's queue (He et al. 2020, eq. 1); without any, all rows of b.

    Args:
        a: queries.
        b: their keys, row by row.
        temperature: τ, above 0.
        negatives: keys of other pictures; b_i must not be among them.

    Returns:
        a scalar ≥ 0; the logarithm of the number of candidates where all are alike.
    """
    positive = (a * b).sum(1) / temperature  # (n,)
    if negatives is None:
        return (a @ b.T / temperature).logsumexp(1).mean() - positive.mean()
    others = a @ negatives.T / temperature  # (n, k)
    return torch.cat([positive[:, None], others], 1).logsumexp(1).mean() - positive.mean()


@full_precision
def cosine_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """‖a/‖a‖ − b/‖b‖‖² = 2 − 2 cos(a, b), the mean over rows (BYOL, Grill et al. 2020, eq. 2).

    BYOL adds both directions. SimSiam's −cos (Chen, He 2021, eq. 1) is half of this, less 1.
    """
    return (2 - 2 * F.cosine_similarity(a, b, dim=1)).mean()


@full_precision
def vicreg(
    a: Float[Tensor, "n d"],
    b: Float[Tensor, "n d"],
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
) -> Float[Tensor, ""]:
    """Alike, yet spread out and without redundancy (Bardes, Ponce, LeCun 2022, eq. 1–6).

    The conventions are those of the authors' code, with which the published coefficients were
    found: the invariance term is the mean over rows and dimensions, where eq. 5 has the mean over
    rows of the squared distance; the variance terms of both views are averaged, where eq. 6 adds
    them. So the paper's λ, μ, ν are here λ·d, 2μ, ν.

    Args:
        a: projections of one view.
        b: projections of the other, row by row.
        invariance: weight of the mean squared difference.
        variance: weight of max(0, 1 − σ), σ the standard deviation √(var + 1e-4) of a dimension
            (not its variance, whose gradient would vanish at collapse).
        covariance: weight of Σ_{i≠j} C_ij² / d, added for both views; C is centred, over n − 1.
    """
    alike = F.mse_loss(a, b)
    spread = (_hinge(a) + _hinge(b)) / 2
    redundancy = _off_diagonal(a) + _off_diagonal(b)
    return invariance * alike + variance * spread + covariance * redundancy


def _hinge(z: Tensor) -> Tensor:
    return F.relu(1 - (z.var(0) + 1e-4).sqrt()).mean()


def _off_diagonal(z: Tensor) -> Tensor:
    z = z - z.mean(0)
    c = z.T @ z / (len(z) - 1)  # (d, d)
    return (c.pow(2).sum() - c.diagonal().pow(2).sum()) / z.shape[1]


@full_precision
def barlow_twins(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], redundancy: float = 5e-3
) -> Float[Tensor, ""]:
    """Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij² (Zbontar et al. 2021, eq. 1).

    C is the correlation of dimensions of one view with those of the other over the batch, with
    deviations over n, as BatchNorm has them and the authors' code does.

    Args:
        a: projections of one view.
        b: projections of the other, row by row.
        redundancy: λ.
    """
    a, b = (F.batch_norm(z, None, None, training=True) for z in (a, b))
    c = a.T @ b / len(a)  # (d, d)
    alike = (1 - c.diagonal()).pow(2).sum()
    return alike + redundancy * (c.pow(2).sum() - c.diagonal().pow(2).sum())
