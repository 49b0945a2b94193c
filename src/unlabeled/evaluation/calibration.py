"""Calibration: whether probabilities are the frequencies of correct answers."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from unlabeled.evaluation.intervals import DRAWS, Groups, bootstrap
from unlabeled.evaluation.metric import Value

BINS = 15
"""Number of bins, of equal width as in Guo et al. 2017."""


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
        y: the true classes; −1 if it is none of them.
        groups: the group of each row; complete groups are drawn.

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
    if np.isnan(low):  # one group
        return Value(value)
    spread = np.sqrt(np.bincount(cell, confidence * (1 - confidence), minlength=BINS)) / n
    calibrated = np.abs(np.random.default_rng(0).normal(0, spread, (DRAWS, BINS))).sum(1)
    lowest = min(value, 2 * value - high) if value > np.percentile(calibrated, 97.5) else 0.0
    return Value(value, max(0.0, lowest), max(value, 2 * value - low))
