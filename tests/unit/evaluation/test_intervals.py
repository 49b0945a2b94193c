"""Intervals against published values, naive computations and simulated classifiers."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from unlabeled.evaluation.calibration import expected_calibration_error
from unlabeled.evaluation.intervals import (
    bootstrap_mean,
    normal,
    paired_difference,
    share,
    wilson,
)
from unlabeled.evaluation.metric import accuracy, mean_share
from unlabeled.evaluation.metrics.linear_probe import balanced_accuracy
from unlabeled.evaluation.verification import auroc, pairs


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
    result = paired_difference(*answers(*table))
    assert (result.value, result.low, result.high) == pytest.approx((value, low, high), abs=1e-4)


def test_the_interval_excludes_0_where_the_test_rejects():
    rng = np.random.default_rng(0)
    calls = []
    for n in (30, 200):
        for shift in (0.0, 0.1):
            for _ in range(100):
                result = paired_difference(rng.random(n) < 0.7, rng.random(n) < 0.7 + shift)
                calls.append(result.p < 0.05)
                assert calls[-1] == (result.low > 0 or result.high < 0)
                assert result.low <= result.value <= result.high
    assert 0 < sum(calls) < len(calls)


def test_values_that_are_not_shares_are_compared_by_a_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40))
    expected = ttest_rel(a, b)
    interval = expected.confidence_interval()
    result = paired_difference(a, b)
    assert result.p == pytest.approx(expected.pvalue)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high))


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


# ---- shares --------------------------------------------------------------------------------------


def test_a_share_of_independent_answers_has_the_wilson_interval():
    correct = np.arange(50) < 41
    value, influence = 0.82, (correct - 0.82) / 50
    assert share(value, influence) == pytest.approx(wilson(41, 50))
    assert share(1.0, np.zeros(50)) == wilson(50, 50)


def test_samples_of_a_group_count_as_the_answers_that_they_are():
    correct = np.repeat(np.random.default_rng(0).random(60) < 0.8, 10)  # ten times the same answer
    groups = np.repeat(np.arange(60), 10)
    alone, grouped = accuracy(correct), accuracy(correct, groups)
    once = accuracy(correct[::10])
    assert grouped.value == alone.value == once.value
    assert (grouped.low, grouped.high) == pytest.approx((once.low, once.high), abs=0.005)
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)
    assert accuracy(np.ones(600, bool), groups).low == wilson(60, 60)[0]


def test_the_bootstrap_draws_groups_as_a_whole():
    values, groups = np.repeat(np.random.default_rng(0).normal(size=50), 8), np.repeat(range(50), 8)
    low, high = bootstrap_mean(values, groups)
    assert (low, high) == pytest.approx(bootstrap_mean(values[::8]), abs=1e-9)
    assert high - low > 2 * np.subtract(*bootstrap_mean(values)[::-1])


def test_one_group_has_no_interval():
    """Catches: an interval of no width where all test samples are of one group."""
    values, one = np.random.default_rng(0).random(40), np.zeros(40)
    assert np.isnan(bootstrap_mean(values, one)).all()
    assert np.isnan(normal(0.5, (values - values.mean()) / 40, groups=one)).all()
    for correct in (values < 0.5, values[:-1] < 0.5):
        value = accuracy(correct, one[: len(correct)])
        assert value.high - value.low > 0.7
    equal = accuracy(np.arange(40) % 4 == 0, np.arange(40) // 20)  # but for rounding
    assert equal.high - equal.low > 0.2
    error = expected_calibration_error(np.stack([values, 1 - values], 1), one.astype(int), one)
    assert error.value > 0
    assert error.low is error.high is None


def test_the_interval_of_few_groups_covers():
    """Catches: a normal quantile, and the variance over g instead of g − 1, which cover 82 %."""
    rng, groups, hits = np.random.default_rng(0), np.repeat(np.arange(4), 10), 0
    for _ in range(400):
        values = rng.normal(size=4)[groups] + 0.1 * rng.normal(size=40)
        low, high = normal(values.mean(), (values - values.mean()) / 40, (-99.0, 99.0), groups)
        hits += low < 0 < high
    assert 0.92 * 400 < hits < 0.98 * 400


def test_no_interval_collapses_where_all_answers_are_right():
    y = np.repeat(np.arange(3), 10)
    z = np.eye(3)[y] + 0.01 * np.random.default_rng(0).normal(size=(30, 3))
    for value in (
        accuracy(np.ones(30, bool)),
        balanced_accuracy(np.ones(30, bool), y),
        balanced_accuracy(np.ones(30, bool), y, np.arange(30) // 2),
        mean_share(np.ones(30)),
    ):
        assert (value.value, value.high) == (1.0, 1.0)
        assert 0.7 < value.low < 0.95
    compared = pairs(z, y)
    low, high = compared.auc_interval()
    assert compared.auc == high == 1.0
    assert 0.7 < low < 0.95


def test_balanced_accuracy_of_one_answer_a_class_is_the_accuracy():
    correct = np.random.default_rng(0).random(200) < 0.9
    alone, balanced = accuracy(correct), balanced_accuracy(correct, np.arange(200))
    assert balanced.value == pytest.approx(alone.value)
    assert (balanced.low, balanced.high) == pytest.approx((alone.low, alone.high), abs=0.01)


@pytest.mark.parametrize("apart", [1.0, 1.5])
def test_the_auroc_of_few_samples_has_an_interval_that_covers(apart):
    """Catches: the variance of pairs alone, without that of the mean, which covers 86 to 89 %."""
    means, rng = np.random.default_rng(9).normal(size=(3, 8)), np.random.default_rng(0)

    def draw(n):
        y = rng.integers(3, size=n)
        return (apart * means[y] + rng.normal(size=(n, 8))).astype(np.float32), y

    truth = pairs(*draw(2000)).auc
    hits = {"auroc": 0, "pairs": 0}
    for _ in range(150):
        z, y = draw(30)
        compared = pairs(z, y)
        area, interval = auroc(z, y)
        assert area == compared.auc
        assert interval[0] <= area <= interval[1]
        for name, (low, high) in (("auroc", interval), ("pairs", compared.auc_interval())):
            hits[name] += low <= truth <= high
    assert hits["auroc"] >= 0.92 * 150 > hits["pairs"]


def test_the_auroc_of_groups_has_the_interval_of_groups():
    """Catches: samples of a group that are left out one at a time."""
    rng = np.random.default_rng(0)
    y = np.arange(12) % 3
    z = (np.eye(3)[y] * 1.5 + rng.normal(size=(12, 3))).repeat(5, 0)
    z, y, groups = z + 0.01 * rng.normal(size=z.shape), y.repeat(5), np.arange(12).repeat(5)
    (low, high), (first, last) = auroc(z, y)[1], auroc(z, y, groups)[1]
    assert last - first > 1.5 * (high - low)
