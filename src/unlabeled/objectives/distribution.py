"""Objectives of the distribution of embeddings, independent of pairs."""

import torch
from jaxtyping import Float
from torch import Tensor

from unlabeled.objectives.checks import objective

BOUND, POINTS = 5.0, 9
"""Of the integral: 17 points from −5 to 5 (Balestriero, LeCun 2025, algorithm 1). The integrand is
even, so that the 9 from 0 to 5 give the same sum."""


@objective()
def sigreg(z: Float[Tensor, "n d"], directions: Float[Tensor, "d k"]) -> Float[Tensor, ""]:
    """Sketched isotropic Gaussian regularization (SIGReg), LeJEPA's.

    The mean over directions a of the Epps-Pulley test statistic of a·z_1 … a·z_n against N(0, 1):
    n ∫ |φ̂(t) − exp(−t²/2)|² exp(−t²/2) dt with φ̂(t) = Σ_j exp(i t a·z_j) / n, by the trapezoidal
    rule with 17 points from −5 to 5, as in algorithm 1. The authors' package has 17 points from 0
    to 3 instead. The rows are neither centered nor scaled: mean and variance are tested, too.

    Args:
        z: (n, d) embeddings.
        directions: (d, k) unit vectors, new ones for each step.

    Returns:
        a scalar ≥ 0; of n rows of N(0, 1) about 1.06, whatever n is.

    Source: Balestriero, LeCun 2025, equations (SIGReg) and (Epps-Pulley), algorithm 1.
    """
    t = torch.linspace(0, BOUND, POINTS, dtype=z.dtype, device=z.device)
    angles = (z @ directions.to(z.dtype))[:, :, None] * t  # (n, k, points)
    normal = torch.exp(-(t**2) / 2)
    squares = (angles.cos().mean(0) - normal) ** 2 + angles.sin().mean(0) ** 2
    return 2 * len(z) * torch.trapezoid(squares * normal, t, dim=1).mean()
