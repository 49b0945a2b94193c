"""Values of several training seeds, and tests of whether encoders differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from unlabeled.evaluation.intervals import Difference, Groups, paired_difference
from unlabeled.evaluation.metric import Value
from unlabeled.evaluation.metrics import in_order

LEVEL = 0.05
"""Significance level of corrected p-values."""


@dataclass(frozen=True)
class Estimate(Value):
    """The mean of a metric over training seeds, with its 95 % t-interval.

    Args:
        sd: standard deviation over the seeds; None for one seed, whose interval is over the test
            samples.
        n: number of seeds.
    """

    sd: float | None = None
    n: int = 1

    @classmethod
    def over(cls, values: Sequence[Value], is_share: bool = False) -> Estimate:
        """The estimate from the values of each seed; undefined values are ignored.

        Args:
            values: of the seeds.
            is_share: whether it lies between 0 and 1, so that its interval does, too.
        """
        known = [value for value in values if value.value is not None]
        if not known:
            return cls(None, n=0)
        x, one = np.array([value.value for value in known], float), known[0]
        if len(x) == 1:
            return cls(one.value, one.low, one.high)
        if (x == x[0]).all():
            return cls(one.value, sd=0.0, n=len(x))
        mean, sd = float(x.mean()), float(x.std(ddof=1))
        half = float(student.ppf(0.975, len(x) - 1)) * sd / math.sqrt(len(x))
        low, high = mean - half, mean + half
        if is_share:
            low, high = max(0.0, low), min(1.0, high)
        return cls(mean, low, high, sd, len(x))


@dataclass
class Candidate:
    """An encoder, or several seeds of a training configuration.

    Args:
        metrics: of each seed, by their keys.
        correct: of each seed, by the key of a metric, which test samples are answered correctly.
        is_trained: whether the encoder depends on a random seed.
    """

    metrics: list[Mapping[str, Value]]
    correct: list[Mapping[str, np.ndarray]]
    is_trained: bool = True

    def values(self, key: str) -> Float[np.ndarray, " n"]:
        """The defined values of a metric, one for each seed."""
        values = (metrics[key].value for metrics in self.metrics if key in metrics)
        return np.array([value for value in values if value is not None], float)


@dataclass(frozen=True)
class PairTest:
    """A test of whether two candidates differ in a metric.

    Args:
        metric: its key.
        a, b: names of the candidates.
        difference: the first minus the second, with its 95 % interval and p-value.
        p_holm: the p-value corrected for the number of pairs tested in the metric.
        test: `paired` over the test samples; over the seeds `Welch`, or a `t-test` if one of both
            is a single encoder.
        n: the number of seeds of each.
        seeds: whether it generalizes to other seeds, and not only these encoders.
    """

    metric: str
    a: str
    b: str
    difference: Difference
    p_holm: float
    test: str
    n: tuple[int, int]
    seeds: bool

    @property
    def is_significant(self) -> bool:
        """At the level of 5 %, after the correction."""
        return self.p_holm < LEVEL


def compare_pairs(candidates: Mapping[str, Candidate], groups: Groups = None) -> list[PairTest]:
    """Test each pair of candidates in each metric by which runs are ranked.

    Between seeds of two configurations it is Welch's t-test. A single encoder is compared with n
    seeds by a t-test with their deviation: of their mean with its value, if no seed was drawn for
    it, or else of one draw more. Two single encoders are compared on the same test samples by
    `paired_difference`, which says nothing about other seeds. p-values are corrected for the number
    of pairs of each metric by Holm's method.

    Args:
        candidates: by name.
        groups: the group of each test sample; samples of a group are not independent.

    Source: Welch 1947, "The Generalization of 'Student's' Problem when Several Different Population
    Variances are Involved"; Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure";
    Sokal & Rohlf 1995, "Biometry", chapter 9, for a single draw.
    """
    results: list[PairTest] = []
    every = (metrics for candidate in candidates.values() for metrics in candidate.metrics)
    for key, metric in in_order(every).items():
        if metric.higher_is_better is None:
            continue
        tests = [
            test
            for a, b in combinations(candidates, 2)
            if (test := _test(key, (a, candidates[a]), (b, candidates[b]), groups))
        ]
        corrected = holm([test.difference.p for test in tests])
        results += [replace(test, p_holm=p) for test, p in zip(tests, corrected, strict=True)]
    return results


def best_of(candidates: Mapping[str, Candidate], tests: Sequence[PairTest]) -> dict[str, str]:
    """By metric, the best candidate if it is significantly better than the next.

    Its test must be significant and generalize to other seeds; a single training is never best.
    """
    best = {}
    every = (metrics for candidate in candidates.values() for metrics in candidate.metrics)
    for key, metric in in_order(every).items():
        means = {name: x.mean() for name, c in candidates.items() if len(x := c.values(key))}
        if metric.higher_is_better is None or len(means) < 2:
            continue
        sign = -1 if metric.higher_is_better else 1
        first, second, *_ = sorted(means, key=lambda name: sign * means[name])
        winner = candidates[first]
        is_luck = winner.is_trained and len(winner.values(key)) < 2
        if not is_luck and any(
            t.metric == key and {t.a, t.b} == {first, second} and t.seeds and t.is_significant
            for t in tests
        ):
            best[key] = first
    return best


def holm(p: Sequence[float]) -> list[float]:
    """Holm's correction of p-values, which controls the family-wise error rate."""
    corrected, largest = [0.0] * len(p), 0.0
    for rank, i in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - rank) * p[i]))
        corrected[i] = largest
    return corrected


def _test(
    key: str, one: tuple[str, Candidate], other: tuple[str, Candidate], groups: Groups
) -> PairTest | None:
    """A test of a pair before correction; None if none applies."""
    (a, first), (b, second) = one, other
    x, y = first.values(key), second.values(key)
    if not (len(x) and len(y)):
        return None
    seeds = True
    if max(len(x), len(y)) > 1:
        test = "Welch" if min(len(x), len(y)) > 1 else "t-test"
        difference = seeds_difference(x, y, first.is_trained, second.is_trained)
    else:
        right, left = (c.correct[0].get(key) for c in (first, second))
        if right is None or left is None or right.shape != left.shape:
            return None
        test, seeds = "paired", not (first.is_trained or second.is_trained)
        difference = paired_difference(right, left, groups)
    if not math.isfinite(difference.p):
        return None
    return PairTest(key, a, b, difference, difference.p, test, (len(x), len(y)), seeds)


def seeds_difference(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " m"],
    x_is_draw: bool = True,
    y_is_draw: bool = True,
) -> Difference:
    """The difference of two means over seeds, with the 95 % interval and p of a t-test.

    Args:
        x: values of the seeds of one; a single value is given the deviation of the others.
        y: values of the other.
        x_is_draw: whether a single value of x is that of one seed of many.
        y_is_draw: the same for y.

    Returns:
        NaN for the interval and p if no value varies.
    """
    n, m = len(x), len(y)
    value = float(x.mean() - y.mean())
    if min(n, m) > 1:
        error, other = x.var(ddof=1) / n, y.var(ddof=1) / m
        total = error + other
        degrees = total**2 / (error**2 / (n - 1) + other**2 / (m - 1)) if total else 1
    else:
        several, is_draw = (y, x_is_draw) if n == 1 else (x, y_is_draw)
        total, degrees = several.var(ddof=1) * (1 / len(several) + is_draw), len(several) - 1
    if not total:  # possibly rounded to the same value, such as a share of few samples
        return Difference(value, math.nan, math.nan, math.nan)
    half = float(student.ppf(0.975, degrees) * math.sqrt(total))
    p = float(2 * student.sf(abs(value) / math.sqrt(total), degrees))
    return Difference(value, value - half, value + half, p)
