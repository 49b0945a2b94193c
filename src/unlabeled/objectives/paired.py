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
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], temperature: float = 0.5
) -> Float[Tensor, ""]:
    """Normalised-temperature cross-entropy, SimCLR's loss (Chen et al. 2020, eq. 1, algorithm 1).

    ℓ(i, j) = −log( exp(s_ij/τ) / Σ_{k≠i} exp(s_ik/τ) ), s the cosine similarity, k over all 2n
    views; the mean over the 2n ordered pairs. Only the view itself is left out of the sum, the
    positive stays. Google's code adds the means of both directions, which is twice this; lightly
    and solo-learn give this value.

    Args:
        a: projections of one view.
        b: projections of the other, row by row.
        temperature: τ, above 0.

    Returns:
        a scalar ≥ 0; log(2n − 1) when all similarities are equal.

    Raises:
        UserError: (a ValueError) the shapes differ, or the temperature is not positive.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise UserError(f"a and b are both (n, d), but have {tuple(a.shape)} and {tuple(b.shape)}")
    if not temperature > 0:
        raise UserError(f"the temperature is above 0, but is {temperature}")
    z = F.normalize(torch.cat([a, b]), dim=1)  # (2n, d)
    similarity = (z / temperature) @ z.T  # (2n, 2n)
    similarity.fill_diagonal_(-torch.inf)
    za, zb = z.chunk(2)
    positive = (za * zb).sum(1) / temperature  # (n,), the same for i→j and j→i
    return similarity.logsumexp(1).mean() - positive.mean()
