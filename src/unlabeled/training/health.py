"""Measures of a representation without labels, and the detection of collapse.

None of them alone implies that a representation is good: random weights can have a higher RankMe
than the best encoder. Compare them within one method, and over the course of one run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from unlabeled.encoders.features import unit

SAMPLE = 512
"""Number of training samples whose features are measured; always the same ones."""
Measures = Mapping[str, float | int]


def feature_std(z: Float[Tensor, "n d"]) -> float:
    """Mean standard deviation of the features of unit-length rows, times √d.

    1 for evenly distributed directions, 0 if all features have the same direction (SimSiam, §4.1).
    """
    return float(unit(z.double()).std(0).mean() * math.sqrt(z.shape[1]))


def rankme(z: Float[Tensor, "n d"]) -> float:
    """Effective rank of the features: exp of the entropy of their singular values.

    RankMe (Garrido et al. 2023, eq. 1), features not centered: from 1 (a line) to min(n, d). NaN
    where a feature is not finite.
    """
    if not z.isfinite().all():
        return math.nan
    # Singular values by the smaller Gram matrix: much faster for many rows, or pixels.
    z = z.double()
    gram = z.T @ z if z.shape[0] >= z.shape[1] else z @ z.T
    return _perplexity(torch.linalg.eigvalsh(gram).clamp(min=0).sqrt())


def _perplexity(weights: Tensor) -> float:
    """Exp of the entropy of weights that are divided by their sum."""
    p = weights / weights.sum().clamp(min=1e-300)
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))


def alignment(a: Float[Tensor, "n d"], b: Float[Tensor, "n d"]) -> float:
    """Mean squared distance of the unit features of two views of an image (Wang & Isola 2020).

    0 if features are invariant to the augmentation, 2 if views differ as much as images do.
    """
    a, b = unit(a.double()), unit(b.double())
    return float((a - b).pow(2).sum(1).mean())


def uniformity(z: Float[Tensor, "n d"]) -> float:
    """Log of the mean of exp(−2·squared distance) over pairs of unit features (Wang & Isola 2020).

    0 if all features have the same direction, toward −4 if they fill the sphere.
    """
    distance = torch.pdist(unit(z.double()))
    return float(torch.exp(-2 * distance**2).mean().log())


def alpha_req(z: Float[Tensor, "n d"]) -> float:
    """Decay of the eigenspectrum, λ_i ∝ i^−α, of the features' covariance (Agrawal et al. 2022).

    The slope of log λ over log i by least squares. About 1 is considered good; if larger, few
    directions contain all the variance; if smaller, noise has as much as the signal. NaN with fewer
    than two directions, or if a feature is not finite.
    """
    if not z.isfinite().all():
        return math.nan
    spectrum = torch.linalg.eigvalsh(torch.cov(z.double().T).reshape(z.shape[1], -1)).flip(0)
    spectrum = spectrum[spectrum > 1e-10 * spectrum[0]][: len(z) - 1]
    if len(spectrum) < 2 or not spectrum.isfinite().all():
        return math.nan
    x = torch.arange(1, len(spectrum) + 1).double().log()
    x, y = x - x.mean(), spectrum.log()
    return -float((x * (y - y.mean())).sum() / (x * x).sum())


def lidar(z: Float[Tensor, "n q d"], delta: float = 1e-4) -> float:
    """Effective rank of differences between images, relative to those between views of an image.

    LiDAR (Thilak et al. 2023): exp of the entropy of the eigenvalues of Σ_w^−½ Σ_b Σ_w^−½, with Σ_b
    the covariance of the images' means, and Σ_w that of the views around them plus `delta`.

    Args:
        z: features of q views of each of n images.
        delta: added to the diagonal of Σ_w, relative to the features' mean variance, so that
            their scale does not matter; the paper adds 1e-4 itself.

    Returns:
        from 1 to d; NaN if no feature varies or one is not finite.
    """
    z = z.double()
    scale = z.flatten(0, 1).var(0, correction=0).mean()
    if not z.isfinite().all() or scale == 0:
        return math.nan
    z = z / scale.sqrt()
    means = z.mean(1)
    off = (z - means[:, None]).flatten(0, 1)
    within = off.T @ off / len(off) + delta * torch.eye(z.shape[2], dtype=z.dtype)
    centered = means - means.mean(0)
    values, vectors = torch.linalg.eigh(within)
    whiten = vectors / values.clamp(min=delta).sqrt()
    spread = centered @ whiten  # the rest of the symmetric root is a rotation
    return _perplexity(torch.linalg.svdvals(spread) ** 2)


def summary(z: Float[Tensor, "n d"]) -> dict[str, float]:
    """All measures of one set of features; `spread` is the RankMe of centered features."""
    return {
        "std": feature_std(z),
        "rankme": rankme(z),
        "spread": rankme(z - z.mean(0)),
        "uniformity": uniformity(z),
    }


COLLAPSED = {
    "std": (
        0.05,
        "all images get almost the same features (std {:.3f}, healthy is well above 0.1); the "
        "encoder tells nothing apart",
    ),
    "projection_std": (
        0.1,
        "all images get almost the same projection (std {:.3f}), which is all that the loss "
        "compares; the encoder learns nothing more",
    ),
    "projection_spread": (
        1.5,
        "the projections vary along {:.1f} direction only, and the loss compares nothing else",
    ),
    "spread": (
        1.5,
        "the features vary along {:.1f} direction only; the encoder keeps almost nothing of the "
        "images",
    ),
}
"""Values below which a representation has collapsed; the study `collapse` shows both kinds."""


def alarm(measures: Measures, before: Sequence[Measures] = ()) -> str | None:
    """Message about a collapsed representation; None if it is not collapsed.

    Args:
        measures: of the features now.
        before: of earlier features of the run, random weights first. Random weights, and a first
            epoch whose BatchNorm statistics lag behind, can look collapsed too: given these, only a
            measure that fell to a third of its best, twice in a row, is reported.
    """
    if not math.isfinite(measures["rankme"]):
        return "the features are no longer finite: stop, lower the learning rate, start again"
    for key, (bound, message) in COLLAPSED.items():
        if key not in measures:
            continue
        if before:
            bound = min(bound, max(row[key] for row in before) / 3)
        if all(row[key] < bound for row in [*before[-1:], measures]):
            return f"collapse: {message.format(measures[key])}"
    return None
