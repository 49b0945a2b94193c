"""Probes of every factor of a data set: linear probe for classes, ridge regression for numbers."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from unlabeled.data.dataset import Splits
from unlabeled.data.targets import Numbers
from unlabeled.encoders.features import standardize
from unlabeled.evaluation.probe import linear_probe

PENALTY = 1.0
"""Penalty of the squared weights of ridge regression on standardized features."""


def ridge_r2(
    train: Float[np.ndarray, "n d"],
    train_t: Float[np.ndarray, "n k"],
    test: Float[np.ndarray, "m d"],
    test_t: Float[np.ndarray, "m k"],
    penalty: float = PENALTY,
) -> float:
    """R² of ridge regression on the test rows: 1 if exact, 0 if no better than the mean.

    Features are standardized by the training rows, whatever their scale; several targets count by
    their variance. NaN if the test targets do not vary.

    Raises:
        UserError: some features are NaN or infinite.
    """
    residual = ((test_t - ridge(train, train_t, test, penalty)) ** 2).sum()
    total = ((test_t - test_t.mean(0)) ** 2).sum()
    return float(1 - residual / total) if total > 0 else math.nan


def ridge(
    train: Float[np.ndarray, "n d"],
    train_t: Float[np.ndarray, "n k"],
    test: Float[np.ndarray, "m d"],
    penalty: float = PENALTY,
) -> Float[np.ndarray, "m k"]:
    """Predictions of ridge regression on standardized features.

    Raises:
        UserError: some features are NaN or infinite.
    """
    z, z_test = standardize(train, test)
    center = train_t.mean(0)
    gram = z.T @ z + penalty * np.eye(z.shape[1])
    return center + z_test @ np.linalg.solve(gram, z.T @ (train_t - center))


def probe_factors(
    train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"], splits: Splits
) -> dict[str, float]:
    """Linear predictability of each factor of a data set, on the test part.

    Classes by the accuracy of a linear probe; numbers by ridge regression's R²; periodic numbers,
    such as an orientation, by R² of sine and cosine. Samples without a label are left out.
    """
    return {
        name: probe_number(train, test, splits, name)
        if isinstance(splits.targets.get(name), Numbers)
        else linear_probe(train, y, test, splits.test.factors[name]).test
        for name, y in splits.train.factors.items()
    }


def probe_number(
    train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"], splits: Splits, name: str
) -> float:
    """R² of a numeric factor, from the features of the samples that have a value."""
    (z, t), (z_test, t_test) = numbers_of(train, test, splits, name)
    return ridge_r2(z, t, z_test, t_test)


def predict_number(
    train: Float[np.ndarray, "n d"],
    test: Float[np.ndarray, "m d"],
    splits: Splits,
    name: str,
    penalty: float = PENALTY,
) -> tuple[Float[np.ndarray, "v k"], Float[np.ndarray, "v k"]]:
    """Predictions of ridge regression and true values, of the test samples that have a value."""
    (z, t), (z_test, t_test) = numbers_of(train, test, splits, name)
    return ridge(z, t, z_test, penalty), t_test


def numbers_of(
    train: Float[np.ndarray, "n d"], test: Float[np.ndarray, "m d"], splits: Splits, name: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Features (n, d) and values (n, k) of both parts, of the samples that have a value."""
    target = splits.targets[name]
    assert isinstance(target, Numbers)
    return [
        (z[part.known(name)], as_targets(part.labeled(name).factors[name], target.period))
        for z, part in ((train, splits.train), (test, splits.test))
    ]


def as_targets(y: np.ndarray, period: float | None) -> Float[np.ndarray, "n k"]:
    """Numbers as one column; with a period as sine and cosine."""
    if period is None:
        return y[:, None].astype(np.float64)
    angle = 2 * np.pi * y / period
    return np.stack([np.sin(angle), np.cos(angle)], 1)
