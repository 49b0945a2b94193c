"""Tests over seeds: right against scipy, calibrated for equal encoders, no single training bold."""

import numpy as np
import pytest
from scipy import stats

from unlabeled.evaluation.metric import Value
from unlabeled.evaluation.seeds import (
    Candidate,
    Estimate,
    best_of,
    compare_pairs,
    holm,
    seeds_difference,
)


def candidate(values, correct=None, is_trained=True):
    """A candidate with linear probe accuracies."""
    answers = [{} if c is None else {"linear_probe": c} for c in correct or [None] * len(values)]
    return Candidate([{"linear_probe": Value(float(v))} for v in values], answers, is_trained)


def single(p, rng, n=500, is_trained=True):
    correct = rng.random(n) < p
    return candidate([correct.mean()], [correct], is_trained)


def test_welch_and_its_interval_are_those_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.7, 0.02, 4), rng.normal(0.6, 0.05, 7)
    result, expected = seeds_difference(x, y), stats.ttest_ind(x, y, equal_var=False)
    interval = expected.confidence_interval()
    assert (result.p, result.low, result.high) == pytest.approx((expected.pvalue, *interval))
    assert result.value == pytest.approx(x.mean() - y.mean())


def test_an_encoder_that_no_seed_changes_is_a_constant():
    x = np.array([0.61, 0.65, 0.6, 0.66])
    expected = stats.ttest_1samp(x, 0.58)
    low, high = expected.confidence_interval()
    result = seeds_difference(x, np.array([0.58]), True, False)
    assert (result.p, result.low, result.high) == pytest.approx(
        (expected.pvalue, low - 0.58, high - 0.58)
    )
    turned = seeds_difference(np.array([0.58]), x, False, True)
    assert (turned.value, turned.p) == pytest.approx((-result.value, result.p))


def test_one_draw_more_is_a_prediction():
    """Catches: the variance of the single one forgotten."""
    rng = np.random.default_rng(1)
    p = [seeds_difference(x[:3], x[3:]).p for x in rng.normal(size=(2000, 4))]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_seeds_that_all_give_the_same_are_no_evidence():
    """Shares of few samples are often equal by chance."""
    tests = compare_pairs({"a": candidate([0.8, 0.8]), "b": candidate([0.75, 0.75])})
    assert tests == []


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize("seeds", [2, 5])
def test_equal_encoders_are_called_different_in_at_most_six_percent(seeds):
    """Of four configurations, six pairs: without Holm it would be three times as often."""
    rng = np.random.default_rng(2)
    draws, called, marked = 600, 0, 0
    for _ in range(draws):
        candidates = {n: candidate(rng.normal(0.7, 0.02, seeds).round(3)) for n in "abcd"}
        tests = compare_pairs(candidates)
        called += any(test.is_significant for test in tests)
        marked += bool(best_of(candidates, tests))
    assert called / draws <= 0.06
    assert marked <= called


def test_equal_single_encoders_are_called_different_in_at_most_six_percent():
    """A rate of 5 % is off by half a percent over so many draws."""
    rng = np.random.default_rng(3)
    draws, called = 2000, 0
    for _ in range(draws):
        encoders = {n: single(0.7, rng, 200, is_trained=False) for n in "ab"}
        called += any(test.is_significant for test in compare_pairs(encoders))
    assert called / draws <= 0.06


def test_unequal_configurations_are_told_apart():
    rng = np.random.default_rng(4)
    candidates = {
        "low": candidate(rng.normal(0.6, 0.01, 5)),
        "high": candidate(rng.normal(0.7, 0.01, 5)),
    }
    tests = compare_pairs(candidates)
    assert [test.test for test in tests] == ["Welch"]
    assert tests[0].n == (5, 5)
    assert best_of(candidates, tests) == {"linear_probe": "high"}


def test_the_luck_of_one_seed_is_never_best():
    """However different: another seed of either may be better."""
    rng = np.random.default_rng(5)
    two = {"a": single(0.9, rng), "b": single(0.5, rng)}
    tests = compare_pairs(two)
    assert tests[0].is_significant  # of these two encoders
    assert tests[0].test == "paired"
    assert not tests[0].seeds
    assert best_of(two, tests) == {}
    against_seeds = {"a": single(0.99, rng), "b": candidate([0.5, 0.51, 0.5])}
    tests = compare_pairs(against_seeds)
    assert tests[0].is_significant
    assert best_of(against_seeds, tests) == {}
    with_name = {"a": single(0.9, rng), "b": single(0.5, rng, is_trained=False)}
    assert best_of(with_name, compare_pairs(with_name)) == {}


def test_encoders_without_a_seed_can_be_best():
    rng = np.random.default_rng(6)
    two = {n: single(p, rng, is_trained=False) for n, p in (("a", 0.9), ("b", 0.5))}
    assert best_of(two, compare_pairs(two)) == {"linear_probe": "a"}
    near = {n: single(0.7, rng, n=50, is_trained=False) for n in "ab"}
    assert best_of(near, compare_pairs(near)) == {}


def test_only_the_next_counts():
    """The best is not marked for being better than the worst."""
    candidates = {
        "a": candidate([0.70, 0.71, 0.72]),
        "b": candidate([0.705, 0.708, 0.712]),
        "c": candidate([0.1, 0.11, 0.1]),
    }
    tests = compare_pairs(candidates)
    assert {(t.a, t.b) for t in tests if t.is_significant} == {("a", "c"), ("b", "c")}
    assert best_of(candidates, tests) == {}


def test_metrics_that_do_not_rank_are_not_tested():
    values = [{"rankme": Value(v), "dim": Value(8)} for v in (1.0, 2.0, 3.0)]
    other = [{"rankme": Value(v), "dim": Value(9)} for v in (10.0, 20.0, 30.0)]
    candidates = {"a": Candidate(values, [{}] * 3), "b": Candidate(other, [{}] * 3)}
    assert compare_pairs(candidates) == []
    assert best_of(candidates, []) == {}


def test_an_estimate_is_the_mean_with_its_t_interval():
    x = np.array([0.5, 0.6, 0.8])
    result = Estimate.over([Value(float(v)) for v in x] + [Value(None)])
    low, high = stats.t.interval(0.95, 2, x.mean(), stats.sem(x))
    assert (result.value, result.low, result.high) == pytest.approx((x.mean(), low, high))
    assert (result.sd, result.n) == (pytest.approx(x.std(ddof=1)), 3)
    share = Estimate.over([Value(0.5), Value(0.9)], is_share=True)
    assert (share.low, share.high) == (0.0, 1.0)
    alone = Estimate.over([Value(0.5, 0.4, 0.6)])
    assert (alone.low, alone.high, alone.sd, alone.n) == (0.4, 0.6, None, 1)
    assert Estimate.over([Value(None)]).value is None
