"""Objectives of several views: z (n, k, d) holds k views of each of n samples.

Each returns a scalar.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.objectives.checks import objective


@objective(least=2)
def wmse(z: Float[Tensor, "n k d"], shrinkage: float = 1e-3) -> Float[Tensor, ""]:
    """Whitening MSE (W-MSE): mean squared distance of whitened, normalized views.

    2 − 2 cos(w_i, w_j), the mean over samples and pairs i ≠ j of views. w = L⁻¹(z − μ), Σ = L Lᵀ
    the Cholesky decomposition of the covariance matrix. Each view is whitened by itself, in parts
    of 2d or more consecutive samples; in the paper they are 2d drawn at random, as the order of a
    batch is. Whitened views cannot collapse.

    Args:
        shrinkage: ε of (1 − ε) Σ + ε (tr Σ / d) I, which parts of d samples or fewer need; 0 in
            the paper. The reference code adds ε I, which says nothing once projections, of which
            the loss is blind to the scale, have grown.

    Returns:
        a scalar from 0 to 4.

    Raises:
        UserError: (a ValueError) there are too few rows and no shrinkage.

    Source: Ermolov, Siarohin, Sangineto, Sebe 2021, section 3.
    """
    n, k, d = z.shape
    parts = z.transpose(0, 1).tensor_split(max(1, n // (2 * d)), 1)  # (k, n/parts, d) each
    if shrinkage == 0 and (rows := parts[-1].shape[1]) <= d:
        raise UserError(
            f"{rows} rows of {d} dimensions cannot be whitened without shrinkage; give more rows "
            "than dimensions, or a shrinkage above 0"
        )
    w = F.normalize(torch.cat([_whiten(part, shrinkage) for part in parts], 1), dim=2)
    pairs = w.sum(0).pow(2).sum(1) - w.pow(2).sum((0, 2))  # Σ_{i≠j} w_i·w_j of each sample
    return 2 - 2 * pairs.mean() / max(1, k * (k - 1))


def _whiten(x: Tensor, shrinkage: float) -> Tensor:
    """Rows (k, m, d) with covariance matrices I of each of the k."""
    x = x - x.mean(1, keepdim=True)
    covariance = x.mT @ x / (x.shape[1] - 1)
    identity = torch.eye(x.shape[2], dtype=x.dtype, device=x.device)
    variance = covariance.diagonal(0, 1, 2).mean(1).clamp(min=1e-12)[:, None, None]
    shrunk = (1 - shrinkage) * covariance + shrinkage * variance * identity
    factor = torch.linalg.cholesky(shrunk)
    return torch.linalg.solve_triangular(factor, x.mT, upper=False).mT


@objective()
def mmcr(z: Float[Tensor, "n k d"], compression: float = 0.0) -> Float[Tensor, ""]:
    """Maximum manifold capacity (MMCR): −‖C‖_* + λ mean_i ‖Z_i‖_*.

    ‖·‖_* is the nuclear norm, the sum of the singular values; rows of C (n, d) are the centroids of
    each sample's normalized views Z_i (k, d). Long centroids are of views that agree, and their
    singular values are largest where they are orthogonal.

    Args:
        compression: λ; the centroids compress the views by themselves, and the paper uses 0.

    Source: Yerxa, Kuang, Simoncelli, Chung 2023, section 3.
    """
    z = F.normalize(z, dim=2)
    loss = -torch.linalg.matrix_norm(z.mean(1), "nuc")
    return loss + compression * torch.linalg.matrix_norm(z, "nuc").mean() if compression else loss


@objective(least=2)
def frossl(z: Float[Tensor, "n k d"], invariance: float = 1.0) -> Float[Tensor, ""]:
    """FroSSL: log ‖K_v‖²_F + λ · MSE of view v and the mean of all views, summed over views.

    K_v = Z_vᵀ Z_v / tr, of which −log ‖K_v‖²_F is the entropy (Rényi's, of order 2). Columns of Z_v
    (n, d) are centered, with norm √d, as in the authors' code of two views; the sum over views is
    that of their code of several. Of two views the MSE term is thus half the MSE of both, which
    their code of two views has.

    Args:
        invariance: λ.

    Returns:
        a scalar, at least −k log min(n, d).

    Source: Skean, Dhakal, Jacobs, Sanchez Giraldo 2024, section 3.
    """
    n, k, d = z.shape
    z = z.transpose(0, 1)  # (k, n, d)
    z = d**0.5 * F.normalize(z - z.mean(1, keepdim=True), dim=1)
    gram = (z.mT @ z if d < n else z @ z.mT) / d**2  # of equal norm; the trace of zᵀz is d²
    entropy = -gram.pow(2).sum((1, 2)).clamp(min=1e-12).log().sum()
    return invariance * k * (z - z.mean(0)).pow(2).mean() - entropy


@objective(least=2)
def ssl_ey(z: Float[Tensor, "n k d"]) -> Float[Tensor, ""]:
    """SSL-EY: −2 tr A + ‖B‖²_F, whose minimum is that of canonical correlation analysis.

    A = Σ_{i≠j} Cov(z_i, z_j) and B = Σ_i Cov(z_i, z_i) over the views i, j; covariances are over
    n − 1. ‖B‖² is estimated from one batch, as in the authors' code; their theory takes B from two
    independent ones.

    Returns:
        a scalar, at least −d (k − 1)², where all views are equal and white.

    Source: Chapman, Wells, Lawry Aguila 2024, L_EY of section 3 with one network for all views.
    """
    z = z - z.mean(0)
    b = torch.einsum("nki,nkj->ij", z, z) / (len(z) - 1)  # (d, d)
    trace_of_both = z.sum(1).pow(2).sum() / (len(z) - 1)  # of A + B
    return -2 * (trace_of_both - b.trace()) + b.pow(2).sum()


@objective()
def emp_ssl(
    z: Float[Tensor, "n k d"], epsilon: float = 0.2, invariance: float = 200.0
) -> Float[Tensor, ""]:
    """EMP-SSL: −R(Z_v) − λ cos(z_v, z̄), the mean over views v; z̄ is the mean of a sample's views.

    R(Z) = ½ log det(I + d/(nε) Zᵀ Z) is the total coding rate of the normalized rows of Z (n, d).
    The paper writes ε² for ε, and an inner product for the cosine, which is that of its code.

    Args:
        epsilon: ε > 0, the squared distortion of the coding rate.
        invariance: λ.

    Source: Tong, Chen, Ma, LeCun 2023, section 3.
    """
    n, _, d = z.shape
    z = F.normalize(z, dim=2).transpose(0, 1)  # (k, n, d)
    gram = z.mT @ z if d < n else z @ z.mT  # log det is the same
    identity = torch.eye(gram.shape[1], dtype=z.dtype, device=z.device)
    coding_rate = torch.logdet(identity + d / (n * epsilon) * gram).mean() / 2
    return -coding_rate - invariance * F.cosine_similarity(z, z.mean(0)[None], dim=2).mean()
