"""95 % intervals of metrics over the samples of a test set."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Z = 1.959963984540054
"""The normal distribution's 97.5th percentile."""
DRAWS = 1000
"""Bootstrap samples; their seed is 0."""
BLOCK = 2**22
"""Weights in memory at a time."""

Interval = tuple[float, float]


def wilson(hits: int, n: int) -> Interval:
    """Wilson score interval of a proportion.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    p, spread = hits / n, Z**2 / n
    center = (p + spread / 2) / (1 + spread)
    half = math.sqrt(p * (1 - p) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, center - half), min(1.0, center + half)


def bootstrap(
    statistic: Callable[[Float[np.ndarray, "b n"]], Float[np.ndarray, " b"]],
    probabilities: Float[np.ndarray, " n"] | int,
    size: int | None = None,
) -> Interval:
    """Percentile interval of a statistic over samples drawn with replacement.

    Args:
        statistic: of how often each row is drawn, (draws, n) -> (draws,); NaN where undefined.
        probabilities: of each row, or how many equally likely rows there are.
        size: number of rows drawn each time (default: all).
    """
    if isinstance(probabilities, int):
        probabilities = np.full(probabilities, 1 / probabilities)
    n = len(probabilities)
    rng, block = np.random.default_rng(0), max(1, BLOCK // n)
    values = [
        statistic(rng.multinomial(size or n, probabilities, min(block, DRAWS - start)))
        for start in range(0, DRAWS, block)
    ]
    low, high = np.nanpercentile(np.concatenate(values), [2.5, 97.5])
    return float(low), float(high)


def bootstrap_mean(values: Float[np.ndarray, " n"]) -> Interval:
    """Bootstrap interval of a mean."""
    return bootstrap(lambda times: times @ values / len(values), len(values))


def bootstrap_ratio(
    above: Float[np.ndarray, " n"],
    below: Float[np.ndarray, " n"],
    transform: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> tuple[float, Interval]:
    """A ratio of sums over rows, such as a mean per word over texts, and its bootstrap interval.

    Args:
        above: the numerator's share of each row.
        below: the denominator's.
        transform: of the ratio, such as `np.exp`.
    """

    def statistic(times: np.ndarray) -> np.ndarray:
        total = times @ below
        ratio = np.divide(times @ above, total, where=total > 0, out=np.full(len(times), np.nan))
        return transform(ratio)

    value = float(statistic(np.ones((1, len(above))))[0])
    return value, bootstrap(statistic, len(above)) if np.isfinite(value) else (np.nan, np.nan)


def normal(
    value: float, influence: Float[np.ndarray, " n"], bounds: Interval = (-1.0, 1.0)
) -> Interval:
    """Interval of a statistic from how much each sample influences it.

    The infinitesimal jackknife: the variance of the bootstrap, to first order, without drawing.

    Args:
        value: the statistic.
        influence: its derivative by the weight of each sample.
        bounds: of what it can be.

    Source: Efron 1982, "The Jackknife, the Bootstrap and Other Resampling Plans", chapter 6.
    """
    half = Z * float(np.sqrt((influence**2).sum()))
    return max(bounds[0], value - half), min(bounds[1], value + half)
