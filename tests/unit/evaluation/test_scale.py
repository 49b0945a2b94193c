"""Figures do not depend on the scale of features, and broken features have none."""

import json

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError
from unlabeled.evaluation import rsa, structure
from unlabeled.evaluation.factors import ridge_r2
from unlabeled.evaluation.few_labels import few_labels
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.layers import embed_stages
from unlabeled.evaluation.metric import Value
from unlabeled.evaluation.metrics import metric_of
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.retrieval import paired_retrieval, retrieval
from unlabeled.evaluation.verification import one_shot, pairs
from unlabeled.sklearn.metric_learning import LMNN, Mahalanobis
from unlabeled.studies.lab import Table
from unlabeled.training import health
from unlabeled.utils.files import write_json


def blobs(n=240, d=6, seed=0):
    """Overlapping classes, so that a probe of them is neither perfect nor chance."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    return (rng.normal(size=(n, d)) + rng.normal(size=(3, d))[y]).astype(np.float32), y


MEASURES = {
    "linear_probe": lambda z, y: linear_probe(z[::2], y[::2], z[1::2], y[1::2]).test,
    "few_labels": lambda z, y: few_labels(z[::2], y[::2], z[1::2], y[1::2], 30).test,
    "ridge_r2": lambda z, y: ridge_r2(z[::2], TARGETS[::2], z[1::2], TARGETS[1::2]),
    "knn": lambda z, y: knn_accuracy(z[::2], y[::2], z[1::2], y[1::2]),
    "retrieval": lambda z, y: retrieval(z, y)["map@r"],
    "retrieval, euclidean": lambda z, y: retrieval(z, y, nearness="euclidean")["map@r"],
    "paired_retrieval": lambda z, y: paired_retrieval(z, z[::-1], y=y)["a_to_b_recall_at_10"],
    "verification": lambda z, y: pairs(z, y).auc,
    "verification, euclidean": lambda z, y: pairs(z, y, "euclidean").auc,
    "one_shot": lambda z, y: one_shot(z, *ONE_SHOT, "euclidean")[0],
    "gap": lambda z, y: rsa.gap(z, y).gap,
    "gap, centered": lambda z, y: rsa.gap(z, y, "centered").gap,
    "gap, pearson": lambda z, y: rsa.gap(z, y, "pearson").gap,
    "histograms": lambda z, y: float(rsa.histograms(z, y)[1] @ np.arange(80)),
    "similarity_matrix": lambda z, y: float(rsa.similarity_matrix(z)[0, 5]),
    "neighbors": lambda z, y: float(structure.neighbors(z)[0].mean()),
    "cluster": lambda z, y: float(structure.cluster(z, 3).labels @ np.arange(len(z))),
    "place": lambda z, y: float(np.abs(structure.project(z, "pca")).mean()),
    "lmnn": lambda z, y: fitted(LMNN(max_iter=10), z, y),
    "mahalanobis": lambda z, y: fitted(Mahalanobis(), z, y),
}
HEALTH = {
    "feature_std": health.feature_std,
    "rankme": health.rankme,
    "alpha_req": health.alpha_req,
    "uniformity": health.uniformity,
    "alignment": lambda z: health.alignment(z, z.flip(0)),
    "lidar": lambda z: health.lidar(z.unflatten(0, (-1, 4))),
}
TARGETS = blobs(seed=1)[0][:, :2].astype(np.float64) + blobs()[0][:, :2]
ONE_SHOT = (np.arange(6).reshape(2, 3), np.arange(60, 72).reshape(2, 6), np.tile([0, 1, 2], (2, 2)))


def fitted(estimator, z, y):
    """Accuracy of neighbors by a metric that other rows learned."""
    z = estimator.fit(z[::2], y[::2]).transform(z)
    return KNeighborsClassifier(3).fit(z[::2], y[::2]).score(z[1::2], y[1::2])


@pytest.mark.parametrize("scale", [1e-15, 1e-12, 1e-9, 1e9, 1e18])
@pytest.mark.parametrize("name", MEASURES)
def test_the_scale_of_features_changes_nothing(name, scale):
    """Catches absolute tolerances, which take small features for constant ones, and overflow."""
    z, y = blobs()
    expected = MEASURES[name](z, y)
    assert MEASURES[name](z * np.float32(scale), y) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-15, 1e-9, 1e9])
@pytest.mark.parametrize("name", HEALTH)
def test_the_scale_of_features_changes_no_sign_of_health(name, scale):
    """Catches LiDAR's regularization and the normalization of short rows."""
    z = torch.from_numpy(blobs()[0]) @ torch.diag(torch.tensor([5.0, 3, 2, 1, 0.5, 0.1]))
    assert HEALTH[name](scale * z) == pytest.approx(HEALTH[name](z), rel=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        *("linear_probe", "ridge_r2", "lmnn", "mahalanobis", "gap, centered", "verification"),
        *("verification, euclidean", "retrieval, euclidean", "one_shot"),
    ],
)
@pytest.mark.parametrize("constant", [0.0, 0.1, -3e4, 1e9])
def test_a_constant_feature_changes_nothing(name, constant):
    """Catches a constant that rounding makes vary, and differences lost beside a large mean."""
    z, y = blobs()
    wider = np.c_[z, np.full(len(z), constant, np.float32)]
    assert MEASURES[name](wider, y) == pytest.approx(MEASURES[name](z, y), abs=1e-5)


@pytest.mark.parametrize("name", ["linear_probe", "ridge_r2", "lmnn", "mahalanobis"])
def test_a_feature_of_a_huge_scale_counts_as_any_other(name):
    """Catches one tolerance for all features, relative to the largest."""
    z, y = blobs()
    huge = z * np.float32([1e9, 1, 1, 1, 1, 1e-9])
    assert MEASURES[name](huge, y) == pytest.approx(MEASURES[name](z, y), abs=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", [name for name in MEASURES if name not in ("lmnn", "mahalanobis")])
def test_features_that_are_not_finite_are_refused(name, value):
    """Catches a probe that names the commonest class, and neighbors in the order of NaN."""
    z, y = blobs()
    z[1, 2] = z[4, 0] = z[4, 1] = value  # a row to learn from and one to test on
    with pytest.raises(
        UserError, match=r"\d of \d+ rows of features contain NaN or infinite values"
    ):
        MEASURES[name](z, y)


def test_features_are_refused_where_they_are_made():
    """Catches a diverged encoder whose features reach a table."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
    x = np.zeros((5, 1, 2, 2), np.uint8)
    x[3] = 9
    torch.nn.init.constant_(net[1].weight, torch.inf)  # inf · 0 is NaN
    with pytest.raises(UserError, match="5 of 5 rows of features"):
        embed(net, x)
    assert embed(net, x, check_finite=False).shape == (5, 3)
    stages = build("small", 1, (8, 8), width=2)
    torch.nn.init.constant_(next(stages.parameters()), torch.nan)
    with pytest.raises(UserError, match="5 of 5 rows of features"):
        embed_stages(stages, np.zeros((5, 1, 8, 8), np.uint8))


@pytest.mark.parametrize("name", HEALTH)
def test_signs_of_health_are_nan_where_features_are_not_finite(name):
    """They watch a training, which the alarm then tells to stop: no figure, and no traceback."""
    z = torch.from_numpy(blobs()[0])
    z[3, 1] = torch.nan
    assert np.isnan(HEALTH[name](z))


def test_what_has_no_correlation_has_no_gap():
    """Catches a Pearson gap of 0 for one feature, where every correlation is 0 / 0."""
    z, y = blobs()
    for column in (z[:, :1], np.full_like(z, 0.1)):
        result = rsa.gap(column, y, "pearson")
        assert np.isnan([result.gap, result.within, result.between]).all()
    constant = z.copy()
    constant[7] = 0.1  # minus its mean in float32 it is 1e-9, not 0
    matrix = rsa.similarity_matrix(constant, "pearson")
    assert np.isnan(matrix[7]).all()
    assert np.isnan(matrix).any(0).all()
    assert np.isfinite(np.delete(np.delete(matrix, 7, 0), 7, 1)).all()
    assert np.isfinite(np.concatenate(rsa.histograms(constant, y, "pearson"))).all()
    assert rsa.gap(np.full_like(z, 0.1), y).gap == pytest.approx(0, abs=1e-6)


def test_a_target_that_does_not_vary_has_no_r2():
    """Catches a division by zero, minus infinity in the table."""
    z, _ = blobs()
    assert np.isnan(ridge_r2(z, TARGETS, z, np.ones_like(TARGETS)))


def test_nan_is_null_in_json_and_a_dash_in_tables(tmp_path):
    """Catches `NaN` in a .json file, which no browser reads."""
    content = {"a": float("nan"), "b": [1.5, float("inf"), (np.float64("nan"), 2)], "c": "nan"}
    write_json(tmp_path / "a.json", content)

    def refuse(constant):
        raise AssertionError(constant)

    result = json.loads((tmp_path / "a.json").read_text(), parse_constant=refuse)
    assert result == {"a": None, "b": [1.5, None, [None, 2]], "c": "nan"}
    gap = metric_of("similarity_gap")
    assert gap.format(Value(float("nan"))) == gap.format(Value(None)) == "–"
    rows = Table(
        "", ["", "gap", "seeds"], [["nan", f"{np.nan:.3f}", f"{np.nan:.1f} ± {np.nan:.1f}"]]
    )
    assert rows.rows == [["nan", "–", "–"]]
