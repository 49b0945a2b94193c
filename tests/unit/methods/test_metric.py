"""Learning metrics: the method, its retrieval figures, and two linear metrics as estimators."""

import json
from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import unlabeled as ul
from unlabeled import objectives as ob
from unlabeled import registry
from unlabeled.data.dataset import Samples, Splits
from unlabeled.errors import UserError
from unlabeled.evaluation.retrieval import interval, retrieval
from unlabeled.methods.metric import Metric
from unlabeled.objectives.named import ObjectiveName, loss_by_name, pair_rounds
from unlabeled.sklearn.metric_learning import LMNN, Mahalanobis, target_neighbors
from unlabeled.studies.lab import Scale
from unlabeled.studies.run import run_study

RNG = np.random.default_rng(0)


def naive_retrieval(z, y, k, cosine):
    """Row by row, as the words say."""
    if cosine:
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
    result, precisions = [], []
    for i in range(len(y)):
        others = [j for j in range(len(y)) if j != i]
        order = sorted(others, key=lambda j: np.linalg.norm(z[i] - z[j]))
        r = sum(y[j] == y[i] for j in others)
        if r:
            hits = [y[j] == y[i] for j in order]
            result.append(any(hits[:k]))
            at = [sum(hits[: n + 1]) / (n + 1) for n in range(r) if hits[n]]
            precisions.append(sum(at) / r)
    return np.mean(result), np.mean(precisions)


@pytest.mark.parametrize("nearness", ["cosine", "euclidean"])
def test_retrieval_equals_its_definition(nearness):
    z, y = RNG.normal(size=(40, 5)).astype(np.float32), np.append(np.arange(39) % 6, 9)
    recall, precision = naive_retrieval(z, y, 3, nearness == "cosine")
    result = retrieval(z, y, at=(1, 3), nearness=nearness, block=7)
    assert result["recall@3"] == pytest.approx(recall, abs=1e-6)
    assert result["map@r"] == pytest.approx(precision, abs=1e-6)


def test_retrieval_of_perfect_features_and_of_none():
    y = np.repeat(np.arange(5), 4)
    perfect = retrieval(np.eye(5, dtype=np.float32)[y], y)
    assert perfect == {"recall@1": 1, "recall@5": 1, "recall@10": 1, "map@r": 1}
    with pytest.raises(UserError, match="class of its own"):
        retrieval(np.eye(5, dtype=np.float32), np.arange(5))


def test_retrieval_equals_pytorch_metric_learning():
    accuracy = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    z, y = RNG.normal(size=(60, 5)).astype(np.float32), np.arange(60) % 7
    calculator = accuracy.AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"),
        k="max_bin_count",
        knn_func=_every_neighbor,
    )
    theirs = calculator.get_accuracy(torch.from_numpy(z), torch.from_numpy(y))
    ours = retrieval(z, y, nearness="euclidean")
    assert ours["recall@1"] == pytest.approx(theirs["precision_at_1"])
    assert ours["map@r"] == pytest.approx(theirs["mean_average_precision_at_r"])


def _every_neighbor(query, k, reference, ref_includes_query):
    """Exact search, where that library would ask for faiss."""
    distance = torch.cdist(query, reference)
    near = distance.topk(k + ref_includes_query, largest=False)
    return near.values[:, int(ref_includes_query) :], near.indices[:, int(ref_includes_query) :]


def test_pairs_come_in_rounds_of_distinct_classes():
    y = torch.tensor([2, 0, 0, 2, 1, 2, 0, 2, 0, 2])
    result = [(a.tolist(), b.tolist()) for a, b in pair_rounds(y)]
    assert result == [([1, 0], [2, 3]), ([6, 5], [8, 7])]
    assert list(pair_rounds(torch.arange(4))) == []


@pytest.mark.parametrize("name", ["n_pair", "nce", "info_nce", "nt_xent", "hinge"])
def test_an_objective_of_pairs_gets_its_pairs(name):
    z, y = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    z = torch.nn.functional.normalize(z, dim=1)
    expected = getattr(ob, name)(z[0::2], z[1::2])
    torch.testing.assert_close(loss_by_name(name, z, y), expected)
    alone = loss_by_name(name, z.requires_grad_(), torch.arange(6))
    assert alone == 0
    assert not torch.autograd.grad(alone, z)[0].any()


@pytest.mark.parametrize("name", get_args(ObjectiveName))
def test_an_objective_by_name_stays_in_double_precision(name):
    """Catches rows that are normalized in float32."""
    z, y = torch.randn(6, 3).double(), torch.tensor([0, 0, 1, 1, 2, 2])
    assert loss_by_name(name, z, y).dtype == torch.float64


def test_options_that_an_objective_lacks_are_refused():
    encoder = torch.nn.Flatten()
    encoder.dim = 4
    assert Metric(encoder, objective="triplet", margin=0.4).options == {"margin": 0.4}
    with pytest.raises(UserError, match="triplet has no temperature"):
        Metric(encoder, objective="triplet", temperature=0.1)


def test_it_learns_what_belongs_together(sprites, tmp_path):
    """Squares, ellipses and hearts of every size and place are nearer after two epochs."""
    x, y = sprites
    run = ul.train(
        "metric",
        (x, y),
        objective="soft_nearest_neighbor",
        epochs=4,
        batch_size=32,
        lr=3e-3,
        out=tmp_path / "run",
        progress=False,
        logger="none",
    )
    learned = retrieval(run.embed(x), y)["map@r"]
    pixels = retrieval(x.reshape(len(x), -1).astype(np.float32), y)["map@r"]
    assert learned > 1.3 * pixels


@pytest.mark.parametrize("objective", ["triplet", "nce"])
def test_simclr_takes_another_objective(sprites, tmp_path, objective):
    run = ul.train(
        "simclr",
        sprites[0][:128],
        objective=objective,
        epochs=1,
        batch_size=32,
        out=tmp_path / "run",
        progress=False,
        logger="none",
    )
    assert np.isfinite(run.embed(sprites[0][:8])).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize("estimator", [LMNN(max_iter=20), Mahalanobis(max_iter=20)])
def test_scikit_learn_takes_it(estimator):
    check_estimator(estimator)


@pytest.mark.parametrize("estimator", [LMNN(), Mahalanobis()])
def test_neighbors_agree_more_often(estimator):
    """On wine, standardized, ten splits: above the Euclidean distance."""
    x, y = load_wine(return_X_y=True)
    result, plain = [], []
    for seed in range(10):
        x_fit, x_test, y_fit, y_test = train_test_split(
            x, y, test_size=0.3, random_state=seed, stratify=y
        )
        scaler = StandardScaler().fit(x_fit)
        x_fit, x_test = scaler.transform(x_fit), scaler.transform(x_test)
        knn = KNeighborsClassifier(3)
        plain.append(knn.fit(x_fit, y_fit).score(x_test, y_test))
        estimator.fit(x_fit, y_fit)
        near = knn.fit(estimator.transform(x_fit), y_fit)
        result.append(near.score(estimator.transform(x_test), y_test))
    assert np.mean(result) > np.mean(plain)


def test_the_metric_is_of_the_components():
    x, y = load_wine(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    result = LMNN(n_components=2, max_iter=5).fit(x, y)
    assert result.transform(x).shape == (len(x), 2)
    a, b = result.transform(x[:1])[0], result.transform(x[1:2])[0]
    difference = x[0] - x[1]
    expected = difference @ result.metric_ @ difference
    assert ((a - b) ** 2).sum() == pytest.approx(expected)
    assert np.linalg.eigvalsh(result.metric_).min() > -1e-9


def test_target_neighbors_are_the_nearest_of_the_class():
    x = torch.tensor([[0.0], [1.0], [1.5], [9.0], [0.1]])
    y = torch.tensor([0, 0, 0, 1, 2])
    assert target_neighbors(x, y, 2).tolist() == [[1, 2], [2, 0], [1, 0], [3, 3], [4, 4]]


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="1 class"):
        LMNN().fit(np.random.rand(5, 2), np.zeros(5))


def test_the_interval_draws_whole_classes():
    """Catches a bootstrap over rows, whose interval is too narrow where a class hits as a whole."""
    y = np.repeat(np.arange(20), 10)
    hits = y < 10
    low, high = interval(hits, y)
    spread = 1.96 * np.sqrt(0.25 / 20)  # of 20 independent classes, not of 200 rows
    assert low == pytest.approx(0.5 - spread, abs=0.03)
    assert high == pytest.approx(0.5 + spread, abs=0.03)
    assert interval(np.ones(200, bool), y) == (1, 1)
    z = np.eye(20, dtype=np.float32)[y]
    result = retrieval(z, y, draws=50)
    assert result["low"] == result["high"] == result["recall@1"] == 1
    lonely = retrieval(np.r_[z, z[:1]], np.r_[y, 99], draws=50)  # 99 asks nothing
    assert lonely["low"] <= lonely["recall@1"] <= lonely["high"]


def drawings(alphabets=6, characters=4, drawers=12):
    """Omniglot's factors on small noise: alphabets of which some are to test."""
    rng = np.random.default_rng(0)
    character = np.repeat(np.arange(alphabets * characters), drawers)
    samples = Samples(
        rng.integers(0, 255, (len(character), 1, 28, 28)).astype(np.uint8),
        {"character": character, "alphabet": character // characters},
    )
    cut = len(character) * 2 // 3
    rows = np.arange(len(character))
    return Splits("drawings", samples.take(rows[:cut]), samples.take(rows[cut:]), "character")


def test_hyperparameters_are_chosen_on_training_alphabets():
    """Catches a choice on the test alphabets, or on drawings of characters that were learned."""
    study, data = registry.find("studies", "metric"), drawings()
    parts = study.divide(data)
    fit, held = (set(part.factors["alphabet"].tolist()) for part in (parts.train, parts.test))
    assert fit
    assert held
    assert not fit & held
    assert fit | held == set(data.train.factors["alphabet"].tolist())
    assert len(parts.train) + len(parts.test) == len(data.train)


def test_every_loss_gets_as_many_tries():
    """Catches one tuned loss beside others at their defaults."""
    study = registry.find("studies", "metric")
    assert len({len(set(values)) for _, _, values in study.LOSSES.values()}) == 1
    for objective, key, values in study.LOSSES.values():
        for value in values:
            encoder = torch.nn.Flatten()
            encoder.dim = 4
            assert Metric(encoder, objective=objective, **{key: value}).options == {key: value}


def test_the_study_in_miniature(tmp_path):
    """Catches a final training with another value than the best on held-out alphabets."""
    study = registry.find("studies", "metric")
    objective, key, values = study.LOSSES["InfoNCE"]
    losses = {"InfoNCE": (objective, key, values[:2])}
    settings = study.Settings(losses, widths=(0, 8))
    train_args = {"epochs": 1, "batch_size": 16, "progress": False}
    scale = Scale(True, settings, train_args)
    result = run_study(study, tmp_path, scale=scale, data=drawings())["experiments"]["R1"]
    baselines = {"untrained", "pixels", "pixels, 7×7"}
    assert set(result["test"]) == {*losses, *baselines}
    assert all(f["low"] <= f["recall@1"] <= f["high"] for f in result["test"].values())
    runs = tmp_path / "quick" / "runs"
    rows, chosen = result["choice"]["grid"]["InfoNCE"], result["choice"]["chosen"]["InfoNCE"]
    assert len(rows) == len(list((runs / "choice").iterdir())) == 4
    assert max(rows, key=lambda row: row["recall@1"]) == chosen
    final = json.loads((runs / "infonce" / "config.json").read_text())
    assert final["method_args"][key] == chosen["value"]
    assert final["method_args"]["dim"] == chosen["dim"]
    choices = [json.loads(path.read_text()) for path in (runs / "choice").glob("*/config.json")]
    assert all(choice["images"] < final["images"] for choice in choices)
    page = (tmp_path / "quick" / "report" / "index.html").read_text()
    assert "Chosen on held-out training alphabets" in page
