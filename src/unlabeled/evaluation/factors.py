"""What an encoder keeps of every factor: a probe for each, of the kind that suits it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from unlabeled.datasets.base import Splits
from unlabeled.evaluation.features import standardize
from unlabeled.evaluation.probe import linear_probe

PENALTY = 1.0
"""Of the squared weights of ridge regression, on standardised features."""


def ridge_r2(
    train: Float[np.ndarray, "n d"],
    train_t: Float[np.ndarray, "n k"],
    test: Float[np.ndarray, "m d"],
    test_t: Float[np.ndarray, "m k"],
    penalty: float = PENALTY,
) -> float:
    """R² of ridge regression on the test rows: 1 exact, 0 no better than the mean, or below.

    Features are standardized by the training rows, whatever their scale; several targets count by
    their variance. NaN where the test targets do not vary.

    Raises:
        UserError: some features are NaN or infinite.
    """
    z, z_test = standardize(train, test)
    centre = train_t.mean(0)
    gram = z.T @ z + penalty * np.eye(z.shape[1])
    weights = np.linalg.solve(gram, z.T @ (train_t - centre))
    residual = ((test_t - centre - z_test @ weights) ** 2).sum()
    total = ((test_t - test_t.mean(0)) ** 2).sum()
    return float(1 - residual / total) if total > 0 else math.nan


def probe_factors(
    train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"], splits: Splits
) -> dict[str, float]:
    """How well each factor of a data set can be read by a linear decoder, from the test part.

    Classes by the accuracy of a linear probe; numbers by ridge regression's R²; what goes round,
    such as an orientation, by R² of its sine and cosine.
    """
    found = {}
    for name, y in splits.train.factors.items():
        y_test = splits.test.factors[name]
        if name not in splits.numbers:
            found[name] = linear_probe(train, y, test, y_test).test
            continue
        targets = (as_targets(part, splits.numbers[name]) for part in (y, y_test))
        train_t, test_t = targets
        found[name] = ridge_r2(train, train_t, test, test_t)
    return found


def as_targets(y: np.ndarray, period: float | None) -> Float[np.ndarray, "n k"]:
    """Numbers as one column; with a period as sine and cosine."""
    if period is None:
        return y[:, None].astype(np.float64)
    angle = 2 * np.pi * y / period
    return np.stack([np.sin(angle), np.cos(angle)], 1)
