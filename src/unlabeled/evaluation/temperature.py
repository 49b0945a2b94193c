"""Fit the temperature of a softmax."""

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

TEMPERATURES = (1e-3, 1e3)
"""Range of the temperature."""


def fit_temperature(scores: Float[np.ndarray, "n k"], y: Int[np.ndarray, " n"]) -> float:
    """The temperature T that minimizes the cross-entropy of softmax(scores / T).

    The loss is convex in 1/T, so it has one minimum; if all samples are classified correctly, that
    is 0, and 0.001 is returned. The most probable class does not change.

    Args:
        scores: logits of samples that the classifier did not learn from.
        y: their classes, from 0 to k − 1.

    Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", eq. 9.
    """
    wide = scores.astype(np.float64)

    def loss(log_t: float) -> float:
        return cross_entropy(wide / np.exp(log_t), y)

    low, high = np.log(TEMPERATURES)
    result = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(result.x))


def cross_entropy(scores: Float[np.ndarray, "n k"], y: Int[np.ndarray, " n"]) -> float:
    """Mean of −log p of the true class, in nats; p is the softmax of the scores."""
    return float(-log_softmax(scores, axis=1)[np.arange(len(y)), y].mean())
