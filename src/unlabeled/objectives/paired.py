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

    With `negatives` the sum has, beside the positive, the other view of that many pictures only:
    those that follow in the batch, whose order is random. Without `keep_positive` the positive is
    left out of the sum, as in the lecture tutorial's code with two negatives: the loss then has no
    lower bound of 0 (decoupled contrastive learning, Yeh et al. 2022, does so on purpose).

    Args:
        a: projections of one view.
        b: projections of the other, row by row.
        temperature: τ, above 0.
        negatives: how many of the 2n − 2 there are, at most n − 1; all unless given.
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
    if negatives is not None and not 1 <= negatives < len(a):
        raise UserError(f"{len(a)} pairs have 1 to {len(a) - 1} negatives, not {negatives}")
    z = F.normalize(torch.cat([a, b]), dim=1)  # (2n, d)
    za, zb = z.chunk(2)
    positive = (za * zb).sum(1) / temperature  # (n,), the same for i→j and j→i
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
