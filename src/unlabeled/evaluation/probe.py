"""Linear probe: how well a linear decoder reads a factor from features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression


@dataclass(frozen=True)
class Probe:
    """Accuracy of a linear probe, as shares of 1."""

    train: float
    test: float


def linear_probe(
    train: Float[np.ndarray, "n d"],
    train_y: Int[np.ndarray, " n"],
    test: Float[np.ndarray, "m d"],
    test_y: Int[np.ndarray, " m"],
    max_iter: int = 3000,
) -> Probe:
    """Multinomial logistic regression on standardised features, to convergence.

    Mean and deviation are those of the training features; features that never vary are left out.
    The penalty is scikit-learn's default, C = 1: half the squared weights against the summed loss.
    """
    mean, std = train.mean(0, dtype=np.float64), train.std(0, dtype=np.float64)
    varies = std > 1e-7
    if not varies.any() or not np.isfinite(std).all():
        # A constant (or broken) encoder: the probe can only name the commonest class.
        guess = np.bincount(train_y).argmax()
        return Probe(float((train_y == guess).mean()), float((test_y == guess).mean()))

    def standardise(z: np.ndarray) -> np.ndarray:
        return ((z[:, varies] - mean[varies]) / std[varies]).astype(np.float32)

    z, z_test = standardise(train), standardise(test)
    model = LogisticRegression(max_iter=max_iter, tol=1e-4).fit(z, train_y)
    return Probe(float(model.score(z, train_y)), float(model.score(z_test, test_y)))
