"""95 % intervals of metrics over the samples of a test set."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

Z = 1.959963984540054
"""The normal distribution's 97.5th percentile."""
DRAWS = 1000
"""Number of bootstrap samples; their seed is 0."""
BLOCK = 2**22
"""Number of bootstrap weights in memory at a time."""

Interval = tuple[float, float]
Groups = Shaped[np.ndarray, " n"] | None
"""The group of each sample, such as a patient; None if ungrouped."""


def wilson(hits: int | float, n: int | float) -> Interval:
    """Wilson score interval of a proportion.

    Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical Inference".
    """
    p, spread = hits / n, Z**2 / n
    center = (p + spread / 2) / (1 + spread)
    half = math.sqrt(p * (1 - p) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, center - half) if p > 0 else 0.0, min(1.0, center + half) if p < 1 else 1.0


def share(
    value: float,
    influence: Float[np.ndarray, " n"],
    groups: Groups = None,
    largest: int | float = math.inf,
) -> Interval:
    """Interval of a share in [0, 1], such as a mean of values in [0, 1].

    Wilson's interval with the number of independent answers that has the same variance; it does not
    degenerate if all answers are correct.

    Args:
        value: the share.
        influence: its derivative by the weight of each sample.
        groups: the group of each sample; samples of a group are not independent.
        largest: maximum number of independent answers (default: of grouped ones the samples).

    Source: Korn and Graubard 1998, "Confidence Intervals for Proportions with Small Expected Number
    of Positive Counts Estimated from Survey Data".
    """
    sums = _by_group(influence, groups)
    units, variance = float(len(sums)), float((sums**2).sum())
    if groups is not None and largest == math.inf:
        largest = len(influence)  # groups that are equal by chance
    if len(sums) > 1 and variance > 0 and 0 < value < 1:
        units = max(1.0, min(value * (1 - value) / variance, largest))
    return wilson(value * units, units)


def _by_group(influence: Float[np.ndarray, " n"], groups: Groups) -> Float[np.ndarray, " g"]:
    """Sums over the samples of each group, enlarged as few leave their own variance uncertain."""
    if groups is None:
        return influence
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], influence)
    degrees = max(1, len(sums) - 1)
    return sums * student.ppf(0.975, degrees) / Z * math.sqrt(len(sums) / degrees)


def bootstrap(
    statistic: Callable[[Float[np.ndarray, "b n"]], Float[np.ndarray, " b"]],
    n: int,
    groups: Groups = None,
) -> Interval:
    """Percentile interval of a statistic over samples drawn with replacement.

    NaN for one row or group, of which every sample is the same.

    Args:
        statistic: of how often each row is drawn, (draws, n) -> (draws,); NaN if undefined.
        n: number of rows.
        groups: the group of each row; complete groups are drawn.
    """
    codes = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(codes.max()) + 1
    if units < 2:
        return math.nan, math.nan
    rng, block = np.random.default_rng(0), max(1, BLOCK // n)
    values = [
        statistic(rng.multinomial(units, [1 / units] * units, min(block, DRAWS - start))[:, codes])
        for start in range(0, DRAWS, block)
    ]
    low, high = np.nanpercentile(np.concatenate(values), [2.5, 97.5])
    return float(low), float(high)


def bootstrap_mean(values: Float[np.ndarray, " n"], groups: Groups = None) -> Interval:
    """Bootstrap interval of a mean."""
    return bootstrap(lambda times: times @ values / times.sum(1), len(values), groups)


def mean_of_defined(values: Float[np.ndarray, "k b"]) -> Float[np.ndarray, " b"]:
    """Mean of several statistics of each draw, without those that are NaN; NaN if all are."""
    known = np.isfinite(values)
    total = np.where(known, values, 0).sum(0)
    return np.divide(total, known.sum(0), where=known.any(0), out=np.full(len(total), np.nan))


def bootstrap_ratio(
    above: Float[np.ndarray, " n"],
    below: Float[np.ndarray, " n"],
    transform: Callable[[np.ndarray], np.ndarray] = np.asarray,
    groups: Groups = None,
) -> tuple[float, Interval]:
    """A ratio of sums over rows, such as a mean per word over texts, and its bootstrap interval.

    Args:
        above: the numerator's share of each row.
        below: the denominator's.
        transform: of the ratio, such as `np.exp`.
        groups: the group of each row; complete groups are drawn.
    """

    def statistic(times: np.ndarray) -> np.ndarray:
        total = times @ below
        ratio = np.divide(times @ above, total, where=total > 0, out=np.full(len(times), np.nan))
        return transform(ratio)

    value = float(statistic(np.ones((1, len(above))))[0])
    if not np.isfinite(value):
        return value, (np.nan, np.nan)
    return value, bootstrap(statistic, len(above), groups)


def normal(
    value: float,
    influence: Float[np.ndarray, " n"],
    bounds: Interval = (-1.0, 1.0),
    groups: Groups = None,
) -> Interval:
    """Interval of a statistic from the influence of each sample.

    The infinitesimal jackknife: the variance of the bootstrap, to first order, without drawing.
    NaN for one sample or group.

    Args:
        value: the statistic.
        influence: its derivative by the weight of each sample.
        bounds: minimum and maximum of the statistic.
        groups: the group of each sample; samples of a group are not independent.

    Source: Efron 1982, "The Jackknife, the Bootstrap and Other Resampling Plans", chapter 6.
    """
    sums = _by_group(influence, groups)
    if len(sums) < 2:
        return math.nan, math.nan
    half = Z * float(np.sqrt((sums**2).sum()))
    return max(bounds[0], value - half), min(bounds[1], value + half)


@dataclass(frozen=True)
class Difference:
    """How much better one encoder is than another on the same test samples."""

    value: float  #: the first's mean minus the second's
    low: float  #: ends of its 95 % interval
    high: float
    p: float  #: of a two-sided test that both are equal; below 0.05 where the interval excludes 0


def paired_difference(
    a: Shaped[np.ndarray, " n"],
    b: Shaped[np.ndarray, " n"],
    groups: Groups = None,
) -> Difference:
    """Test two encoders on the same samples for a difference.

    Correct and wrong answers are compared by McNemar's test and the corresponding score interval
    (Tango), which does not degenerate if no answer differs. Other values, and grouped samples, are
    compared by a paired t-test, over groups if any.

    Args:
        a: for each sample, whether the first encoder's answer is correct (bool), or its score.
        b: the same for the second encoder.
        groups: the group of each sample, such as a patient; samples of a group are not independent.

    Source: McNemar 1947, "Note on the Sampling Error of the Difference between Correlated
    Proportions"; Tango 1998, "Equivalence Test and Confidence Interval for the Difference in
    Proportions for the Paired-Sample Design", equations 7 to 10.
    """
    differences = a.astype(float) - b.astype(float)
    value = float(differences.mean())
    if groups is None and a.dtype == b.dtype == bool:
        only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
        z = (only_a - only_b) / math.sqrt(max(1, only_a + only_b))
        return Difference(value, *_tango(only_a, only_b, len(a)), float(2 * norm.sf(abs(z))))
    codes = np.arange(len(a)) if groups is None else np.unique(groups, return_inverse=True)[1]
    units = int(codes.max()) + 1
    if units < 2:
        return Difference(value, math.nan, math.nan, math.nan)
    sums = np.bincount(codes, differences - value, minlength=units)
    error = math.sqrt((sums**2).sum() * units / (units - 1)) / len(a)
    half = float(student.ppf(0.975, units - 1)) * error
    p = float(2 * student.sf(abs(value) / error, units - 1)) if error else float(value == 0)
    return Difference(value, value - half, value + half, p)


def _tango(only_a: int, only_b: int, n: int) -> Interval:
    """Score interval of a paired difference, by the counts of samples that only one gets right."""
    value = (only_a - only_b) / n

    def excess(delta: float, sign: int) -> float:
        """By how much the score of a difference exceeds the critical value."""
        # Maximum likelihood share of samples that only b gets right, given the difference.
        linear = (2 * n - only_a + only_b) * delta - only_a - only_b
        constant = -only_b * delta * (1 - delta)
        share = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * max(0.0, 2 * share + delta * (1 - delta))
        return sign * (only_a - only_b - n * delta) - Z * math.sqrt(variance)

    margin = 1e-9  # where no answer differs, the score is 0/0 at the value itself
    low = brentq(excess, -1.0, value - margin, args=(1,)) if value > -1 else -1.0
    high = brentq(excess, value + margin, 1.0, args=(-1,)) if value < 1 else 1.0
    return float(low), float(high)
