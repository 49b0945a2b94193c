"""Calibration: whether probabilities are the shares of correct answers."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from unlabeled.evaluation.intervals import DRAWS, Groups, bootstrap
from unlabeled.evaluation.metric import Value

BINS = 15
"""Of equal width, as Guo et al. 2017 have them."""
TEMPERATURES = (1e-3, 1e3)
"""Within which the temperature is looked for."""


def fit_temperature(scores: Float[np.ndarray, "n k"], y: Int[np.ndarray, " n"]) -> float:
    """The temperature T that minimizes the cross-entropy of softmax(scores / T).

    The loss is convex in 1/T, so it has one minimum; where all samples are classified correctly,
    that is 0, and 0.001 is returned. The most probable class stays.

    Args:
        scores: logits of samples that the classifier did not learn from.
        y: their classes, from 0 to k − 1.

    Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", eq. 9.
    """
    wide = scores.astype(np.float64)

    def loss(log_t: float) -> float:
        return cross_entropy(wide / np.exp(log_t), y)

    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def cross_entropy(scores: Float[np.ndarray, "n k"], y: Int[np.ndarray, " n"]) -> float:
    """Mean of −log p of the true class, in nats; p is the softmax of the scores."""
    return float(-log_softmax(scores, axis=1)[np.arange(len(y)), y].mean())


def expected_calibration_error(
    probability: Float[np.ndarray, "n k"], y: Int[np.ndarray, " n"], groups: Groups = None
) -> Value:
    """Mean distance of confidence and accuracy in bins of confidence (ECE), with its interval.

    Confidence is the probability of the most probable class. Noise within bins makes the ECE of a
    sample too large, and that of a bootstrap sample again: so the interval is the basic bootstrap's
    (Davison & Hinkley 1997, eq. 5.6), extended to the value where that lies above it, and down to 0
    where calibrated probabilities would give such a value or a larger one in more than 2.5 %.

    Args:
        probability: of each class.
        y: the true classes; −1 where it is none of them.
        groups: the group of each row; groups are drawn as a whole.

    Source: Naeini, Cooper, Hauskrecht 2015; Guo et al. 2017, eq. 3.
    """
    confidence, n = probability.max(1).astype(np.float64), len(y)
    cell = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    off = np.zeros((n, BINS))
    off[np.arange(n), cell] = (probability.argmax(1) == y) - confidence

    def statistic(times: np.ndarray) -> np.ndarray:
        return np.abs(times @ off).sum(1) / times.sum(1)

    value = float(statistic(np.ones((1, n)))[0])
    low, high = bootstrap(statistic, n, groups)
    spread = np.sqrt(np.bincount(cell, confidence * (1 - confidence), minlength=BINS)) / n
    calibrated = np.abs(np.random.default_rng(0).normal(0, spread, (DRAWS, BINS))).sum(1)
    lowest = min(value, 2 * value - high) if value > np.percentile(calibrated, 97.5) else 0.0
    return Value(value, max(0.0, lowest), max(value, 2 * value - low))
