"""Settings of probes follow the training labels, and those alone."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge

from unlabeled.cli.main import main
from unlabeled.data import open_data
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.split import sample_labels
from unlabeled.data.targets import MultiLabel, Numbers
from unlabeled.encoders.base import build
from unlabeled.errors import Notice
from unlabeled.evaluation.evaluate import compute, settings_of
from unlabeled.evaluation.few_labels import few_labels, tune_penalty
from unlabeled.evaluation.layers import embed_stages, evaluate_stages
from unlabeled.evaluation.metric import Subject
from unlabeled.evaluation.probe import linear_probe, logistic_path, logistic_regression
from unlabeled.evaluation.result import chosen
from unlabeled.evaluation.tuning import (
    RIDGE,
    SETTINGS,
    fold_of,
    held_out,
    tune,
    tune_labels,
    tune_ridge,
)


class Identity(torch.nn.Module):
    dim = 60

    def forward(self, x):
        return x.flatten(1)


def noisy(n=240, d=60, seed=0):
    """Many features, of which one says something of two classes."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d)).astype(np.float32)
    return z, (z[:, 0] + 1.5 * rng.normal(size=n) > 0).astype(np.int64)


def subject(y=None, y_test=None, targets=None, target="label", groups=None, **options):
    (z, own), (z_test, own_test) = noisy(), noisy(100, seed=1)
    y, y_test = own if y is None else y, own_test if y_test is None else y_test
    parts = [
        Samples(x[:, None, None], {target: labels}, targets=targets or {}, groups=g)
        for x, labels, g in ((z, y, groups), (z_test, y_test, None))
    ]
    name = None if targets and isinstance(targets[target], Numbers) else target
    return Subject("mine", Splits("data", *parts, target=name), Identity(), **options)


def test_test_labels_choose_nothing():
    """Catches: a penalty or k of the highest test accuracy."""
    other = np.random.default_rng(0).integers(0, 2, 100)  # not mirrored: a mirror chooses the same
    first, second = subject(), subject(y_test=other)
    for mine in (first, second):
        mine.metrics = compute(mine)
    assert settings_of(first) == settings_of(second)
    assert first.metrics["linear_probe"] != second.metrics["linear_probe"]


def test_the_penalty_is_that_of_a_naive_cross_validation():
    """Catches: a sample that is scored by a probe which learned from it, as small ones then win."""
    z, y = noisy()
    fold, losses = fold_of(y), []
    for penalty in SETTINGS["linear"]:
        p = np.zeros(len(y))
        for i in range(5):
            learned, tested = fold != i, fold == i
            mean, std = z[learned].mean(0), z[learned].std(0)
            model = LogisticRegression(C=1 / penalty, tol=1e-6, max_iter=2000)
            model.fit((z[learned] - mean) / std, y[learned])
            p[tested] = model.decision_function((z[tested] - mean) / std)
        signs = np.where(y == 1, 1, -1)
        losses.append(min(np.log1p(np.exp(-signs * p / t)).mean() for t in np.geomspace(0.1, 20)))
    best = SETTINGS["linear"][int(np.argmin(losses))]
    assert tune(z, y, "linear").value == best > 1
    assert tune(z, y, "linear").folds == 5


def test_neighbors_follow_the_labels():
    """Catches: always 20; noise of labels needs many neighbors, small classes few."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 2)).astype(np.float32)
    side = (z[:, 0] > 0).astype(np.int64)
    assert tune(z, np.where(rng.random(400) < 0.3, 1 - side, side), "knn").value >= 50
    small = np.repeat(np.arange(60), 4)
    pairs = np.stack([np.cos(small / 9.6), np.sin(small / 9.6)], 1).astype(np.float32)
    assert tune(pairs, small, "knn").value <= 5


def test_groups_are_held_out_as_a_whole():
    """Catches: folds that cut groups, where features that name the group seem to name the class."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 6)
    y = rng.integers(0, 2, 40)[groups]  # of a group, and nothing else in its features says which
    z = np.concatenate([6 * np.eye(40)[groups], rng.normal(size=(240, 5))], 1).astype(np.float32)
    fold = fold_of(y, groups)
    assert all(len(set(fold[groups == g])) == 1 for g in range(40))
    counts = np.array([np.bincount(y[fold == i], minlength=2) for i in range(5)])
    assert (counts.max(0) - counts.min(0) <= 12).all()
    for kind in ("linear", "knn"):
        accuracies = []
        for own in (None, groups):
            (scores,), answers = held_out(z, y, kind, [5], own)
            accuracies.append((scores.argmax(1) == answers).mean())
        assert accuracies[0] > 0.9
        assert accuracies[1] < 0.7
    mine = subject(groups=np.array([f"p{i // 6}" for i in range(240)]))
    assert mine.probe_setting == tune(mine.train, mine.y, "linear", mine.train_groups)


def test_a_class_of_one_group_is_not_scored_without_it():
    """Catches: logits of a class that was not learned, and folds that have none to learn."""
    y = np.repeat([0, 1, 2], 20)
    groups = np.concatenate([np.arange(40) // 4, np.full(20, 99)])
    z = np.eye(3)[y].astype(np.float32) + 0.1 * noisy(60, 3)[0]
    for kind in ("linear", "knn"):
        (scores,), answers = held_out(z, y, kind, [1], groups)
        assert set(answers) == {0, 1}
        assert (scores.argmax(1) == answers).all()


def test_ridge_has_the_penalty_of_a_naive_cross_validation():
    """Catches: weights of another penalty, or targets that are not centered."""
    z, _ = noisy()
    t = 50 + z[:, :1] + 3 * np.random.default_rng(1).normal(size=(240, 1))
    fold, errors = fold_of(np.zeros(240, np.int64)), []
    for penalty in RIDGE:
        errors.append(0.0)
        for i in range(5):
            learned, tested = fold != i, fold == i
            mean, std = z[learned].mean(0), z[learned].std(0)
            model = Ridge(alpha=penalty).fit((z[learned] - mean) / std, t[learned])
            errors[-1] += ((model.predict((z[tested] - mean) / std) - t[tested].T) ** 2).sum()
    assert tune_ridge(z, t).value == RIDGE[int(np.argmin(errors))] > 10


def test_ridge_is_tuned_with_fewer_groups_than_folds():
    """Catches: the default where one of the five folds is empty."""
    z, _ = noisy()
    t = 50 + z[:, :1] + 3 * np.random.default_rng(1).normal(size=(240, 1))
    for groups in (3, 4):
        setting = tune_ridge(z, t, np.arange(240) % groups)
        assert setting.folds
        assert setting.value > 10
    assert not tune_ridge(z, t, np.zeros(240)).folds


def test_numbers_and_several_labels_are_tuned_too():
    """Catches: a penalty of 1 for R² or mean average precision."""
    z, y = noisy()
    z_test, y_test = noisy(100, seed=1)
    rng = np.random.default_rng(2)
    tags = [np.stack([part, rng.integers(0, 2, len(part))], 1) for part in (y, y_test)]
    mine = subject(*tags, {"tags": MultiLabel(("a", "b"))}, "tags")
    (key, setting), *rest = settings_of(mine).items()
    assert (key, rest) == ("mean_average_precision", [])
    assert setting == tune_labels(mine.train, tags[0])
    assert setting.value > 1
    fixed = subject(*tags, mine.splits.train.targets, "tags", penalty=1.0)
    assert compute(mine)[key].value > compute(fixed)[key].value
    ages = [x[:, 0] + 1.5 * rng.normal(size=len(x)) for x in (z, z_test)]
    numbers = subject(*ages, {"age": Numbers()}, "age")
    settings = settings_of(numbers)
    assert list(settings) == ["r2_age"]
    assert settings["r2_age"].value > 10
    fixed = subject(*ages, {"age": Numbers()}, "age", penalty=1.0)
    assert compute(numbers)["r2_age"].value > compute(fixed)["r2_age"].value


def test_what_is_given_is_used():
    """Catches: a choice where the caller has made one."""
    mine = subject(penalty=3.0, k=7)
    settings = settings_of(mine)
    assert (settings["linear_probe"].value, settings["linear_probe"].folds) == (3.0, 0)
    assert settings["knn"].to_json() == {"neighbors": 7, "folds": 0, "samples": 0}
    probe = linear_probe(mine.train, mine.y, mine.test, mine.y_test, 3.0)
    assert (mine.probe.predicted == probe.predicted).all()


def test_more_neighbors_than_samples_are_all_of_them():
    """Catches a number on record that is not the one that voted."""
    mine = subject(k=100_000)
    with pytest.warns(Notice, match=r"k is 100,000, but there are \d+ training samples"):
        assert settings_of(mine)["knn"].value == len(mine.train)


def test_too_few_labels_keep_the_default():
    """Catches: a choice between settings that nothing was held out for."""
    z, _ = noisy(4, 8)
    for kind in ("linear", "knn"):
        setting = tune(z, np.arange(4), kind)
        assert (setting.value, setting.folds) == ({"linear": 1.0, "knn": 20}[kind], 0)


def test_many_samples_are_tried_on_some(monkeypatch):
    """Catches: a note of more samples than were used."""
    from unlabeled.evaluation import tuning

    monkeypatch.setattr(tuning, "MANY", 50)
    assert tune(*noisy(), "linear").samples == 50
    (scores,), answers = held_out(*noisy(), "knn", [5], many=50)
    assert len(answers) == len(scores) == 50


def test_few_labels_are_fitted_as_scikit_learn_does():
    """Catches: a scale of the labeled samples alone, and features that are scaled one by one."""
    z, y = noisy()
    z = z * np.linspace(0.1, 3, z.shape[1]) + 2
    z_test, y_test = noisy(400, seed=1)
    z_test = z_test * np.linspace(0.1, 3, z.shape[1]) + 2
    rows = sample_labels(y, 120, 0)
    scale = np.sqrt(((z - z.mean(0)) ** 2).mean())
    # of two classes scikit-learn has one vector of weights, and half the penalty
    fitted = LogisticRegression(C=2 / 10, tol=1e-8, max_iter=5000)
    fitted.fit((z[rows] - z.mean(0)) / scale, y[rows])
    expected = fitted.score((z_test - z.mean(0)) / scale, y_test)
    result = few_labels(z, y, z_test, y_test, 120, draws=1, penalty=10.0)
    assert result.test == pytest.approx(expected, abs=1 / 400)


def test_few_labels_are_tuned_on_those_labels():
    """Catches: few labels whose penalty is chosen with all, or not chosen."""
    z, y = noisy()
    z_test, y_test = noisy(400, seed=1)
    rows = sample_labels(y, 120, 0)
    scaled = ((z - z.mean(0)) / np.sqrt(((z - z.mean(0)) ** 2).mean())).astype(np.float32)
    penalty = tune_penalty(scaled[rows], y[rows])
    free = few_labels(z, y, z_test, y_test, 120, draws=1)
    assert free == few_labels(z, y, z_test, y_test, 120, draws=1, penalty=penalty)
    assert free != few_labels(z, y, z_test, y_test, 120, draws=1, penalty=0.1)


def test_features_that_hardly_vary_do_not_matter_with_few_labels():
    """Catches: noise of a small scale that is blown up to that of the features that count."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=600)
    z = 0.02 * rng.normal(size=(600, 100))
    z[:, :3] += np.eye(3)[y]
    result = few_labels(z[:300], y[:300], z[300:], y[300:], 6, draws=3)
    assert result.test > 0.99
    standardized = z / z.std(0)
    worse = few_labels(standardized[:300], y[:300], standardized[300:], y[300:], 6, draws=3)
    assert worse.test < 0.9


def test_a_path_is_as_good_as_single_fits():
    """Catches: a start that ends in another optimum, and penalties in another order."""
    z, y = noisy()
    z = (z - z.mean(0)) / z.std(0)
    path = logistic_path(z, y, [1.0, 100.0, 0.1], 1e-7)
    for (weight, bias), penalty in zip(path, (1.0, 100.0, 0.1), strict=True):
        alone, own = logistic_regression(z, y, penalty, 1e-7)
        np.testing.assert_allclose(weight, alone, atol=2e-3)
        np.testing.assert_allclose(bias, own, atol=2e-3)


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_settings_are_in_the_json_the_table_and_the_page(trained, sprites, tmp_path, capsys):
    """Catches: settings that only one of them has, and flags that do nothing."""
    x, y = sprites
    np.savez(tmp_path / "data.npz", x=x[:200], y=y[:200])
    words = ["evaluate", str(trained.path), "--data", str(tmp_path / "data.npz")]
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["settings"]) == {"simclr", "raw", "pca", "histogram", "random"}
    own = result["settings"]["simclr"]["linear_probe"]
    assert own["penalty"] in SETTINGS["linear"]
    assert (own["folds"], own["samples"]) == (5, result["n_train"])
    lines = chosen(result["settings"], result["n_train"])
    assert lines[0].startswith("Linear probe accuracy: penalty ")
    assert "by 5-fold cross-validation on training labels" in lines[0]
    assert main([*words, "--penalty", "2", "--k", "3"]) == 0
    printed = capsys.readouterr().out
    assert "penalty 2 (simclr), 2 (raw)" in printed
    assert "neighbors 3 (simclr)" in printed
    page = (trained.path / "report" / "index.html").read_text()
    assert "penalty 2 (simclr), 2 (raw)" in page
    for flag, value in (("--penalty", "0"), ("--k", "0")):
        assert main([*words, flag, value]) == 2
        assert flag[2:] in capsys.readouterr().err


def test_the_probe_of_a_stage_has_its_own_penalty():
    """Catches a probe of penalty 1 for stages of many features and labels that they do not know."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (160, 1, 32, 32), np.uint8)
    data = open_data((x, rng.integers(0, 2, 160)))
    encoder = build("small", 1, (32, 32), width=16).eval()
    parts = (data.train, data.test)
    y, y_test = (part.factors["label"] for part in parts)
    features = zip(*(embed_stages(encoder, part.x) for part in parts), strict=True)
    differ = False
    for layer, (z, z_test) in zip(evaluate_stages(encoder, data), features, strict=True):
        assert layer.penalty == tune(z, y, "linear").value
        tuned, plain = (linear_probe(z, y, z_test, y_test, p).test for p in (layer.penalty, 1.0))
        assert layer.linear_probe.value == pytest.approx(tuned)
        differ |= tuned != plain
    assert differ
