"""Similarity of generated and real images: Fréchet distance and shares of classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from unlabeled.errors import UserError


def frechet(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Fréchet distance of two sets of features taken as Gaussian (Heusel et al. 2017, eq. 6).

    ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½). With Inception's features it is known as FID; here
    features of any network can be compared.

    Raises:
        UserError: fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise UserError("a Fréchet distance needs at least two rows of each kind")
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    half = vectors * np.sqrt(values.clip(0)) @ vectors.T
    product = np.linalg.eigvalsh(half @ cov_b @ half).clip(0)  # those of Σ_a Σ_b
    distance = ((a.mean(0) - b.mean(0)) ** 2).sum()
    return float(distance + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(product).sum())


def shares(predicted: Int[np.ndarray, " n"], classes: int) -> Float[np.ndarray, " k"]:
    """Share of each class among a classifier's predictions of generated images."""
    return np.bincount(predicted, minlength=classes) / len(predicted)
