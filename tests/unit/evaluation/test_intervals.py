"""Intervals against published values, naive computations and simulated classifiers."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from unlabeled.evaluation.intervals import paired_difference


def answers(both: int, only_a: int, only_b: int, none: int) -> tuple[np.ndarray, np.ndarray]:
    """Correct answers of two encoders, by the counts of a 2×2 table."""
    counts = [both, only_a, only_b, none]
    return np.repeat([True, True, False, False], counts), np.repeat([1, 0, 1, 0], counts) > 0


@pytest.mark.parametrize(
    ("table", "value", "low", "high"),
    [
        ((43, 0, 1, 0), -0.0227, -0.1181, 0.0594),  # Tango 1998, the table of contact lenses
        ((0, 40, 0, 0), 1.0, 0.8247, 1.0),  # (n − z²)/(n + z²)
        ((40, 0, 0, 4), 0.0, -0.0803, 0.0803),  # z²/(n + z²)
        ((0, 0, 5, 0), -1.0, -1.0, -0.1310),
    ],
)
def test_score_interval_of_a_paired_difference(table, value, low, high):
    found = paired_difference(*answers(*table))
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-4)


def test_the_interval_excludes_0_where_the_test_rejects():
    rng = np.random.default_rng(0)
    calls = []
    for n in (30, 200):
        for shift in (0.0, 0.1):
            for _ in range(100):
                found = paired_difference(rng.random(n) < 0.7, rng.random(n) < 0.7 + shift)
                calls.append(found.p < 0.05)
                assert calls[-1] == (found.low > 0 or found.high < 0)
                assert found.low <= found.value <= found.high
    assert 0 < sum(calls) < len(calls)


def test_values_that_are_not_shares_are_compared_by_a_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    expected = ttest_rel(a, b)
    interval = expected.confidence_interval()
    found = paired_difference(a, b)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_two_equal_encoders_differ_in_one_of_twenty_draws_with_groups_too():
    rng = np.random.default_rng(0)
    naive, grouped = 0, 0
    groups = np.repeat(np.arange(40), 10)
    for _ in range(400):
        easy = np.repeat(rng.random((2, 40)) < 0.5, 10, axis=1)  # all samples of a group, or none
        correct = rng.random((2, 400)) < np.where(easy, 0.9, 0.4)
        naive += paired_difference(*correct).p < 0.05
        grouped += paired_difference(*correct, groups).p < 0.05
    assert naive > 40  # one of ten and more: samples of a group are not independent
    assert 8 <= grouped <= 32
