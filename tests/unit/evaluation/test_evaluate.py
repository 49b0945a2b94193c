"""Probe, neighbors, similarity and health on features whose answer is known."""

import math

import numpy as np
import pytest
import torch

from unlabeled.encoders.features import embed
from unlabeled.errors import UserError
from unlabeled.evaluation import rsa
from unlabeled.evaluation.knn import knn_accuracy, nearest
from unlabeled.evaluation.probe import linear_probe
from unlabeled.training import health

RNG = np.random.default_rng(0)


def clusters(n=300, d=10, classes=3, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    centers = np.random.default_rng(99).normal(size=(classes, d)) * 2
    return (centers[y] + spread * rng.normal(size=(n, d))).astype(np.float32), y


def naive_gap(z, y, kind):
    z = z.astype(np.float64)
    if kind == "centered":
        z = z - z.mean(0)
    pairs = {True: [], False: []}
    for i in range(len(z)):
        for j in range(len(z)):
            if i != j:
                a, b = z[i], z[j]
                if kind == "pearson":
                    s = np.corrcoef(a, b)[0, 1]
                else:
                    s = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
                pairs[y[i] == y[j]].append(s)
    return np.mean(pairs[True]), np.mean(pairs[False])


@pytest.mark.parametrize("kind", ["cosine", "centered", "pearson"])
def test_gap_equals_a_loop_over_pairs(kind):
    z, y = clusters(40, 6, spread=2.0)
    within, between = naive_gap(z, y, kind)
    result = rsa.gap(z, y, kind)
    assert result.within == pytest.approx(within, abs=1e-6)
    assert result.between == pytest.approx(between, abs=1e-6)
    assert result.gap == pytest.approx(within - between, abs=1e-6)


def test_gap_of_100_000_rows_needs_no_matrix():
    z, y = clusters(100_000, 8)
    assert rsa.gap(z, y).gap > 0.3
    with pytest.raises(UserError, match="too large"):
        rsa.similarity_matrix(z)


def test_histograms_equal_those_of_the_matrix():
    z, y = clusters(150, 5)
    edges, within, between = rsa.histograms(z, y, "centered", bins=20)
    matrix = rsa.similarity_matrix(z, "centered")
    other_row = ~np.eye(len(z), dtype=bool)
    same = y[:, None] == y[None]
    for density, chosen in ((within, same & other_row), (between, ~same)):
        expected, _ = np.histogram(matrix[chosen].clip(-1, 1), edges, density=True)
        np.testing.assert_allclose(density, expected, atol=0.02)
        assert density.sum() * (edges[1] - edges[0]) == pytest.approx(1)


def test_probe_reads_what_is_there_and_not_what_is_not():
    z, y = clusters(600)
    probe = linear_probe(z[:400], y[:400], z[400:], y[400:])
    assert probe.test > 0.98
    noise = RNG.normal(size=(600, 10)).astype(np.float32)
    assert linear_probe(noise[:400], y[:400], noise[400:], y[400:]).test < 0.45


def test_probe_does_not_care_about_the_scale_of_features():
    z, y = clusters(600, spread=2.0)
    scaled = (z * np.logspace(-3, 3, z.shape[1]) + 100).astype(np.float64)
    a = linear_probe(z[:400], y[:400], z[400:], y[400:]).test
    b = linear_probe(scaled[:400], y[:400], scaled[400:], y[400:]).test
    assert a == pytest.approx(b, abs=0.011)


@pytest.mark.parametrize(("n", "d"), [(400, 12), (60, 200)])
def test_probe_has_the_optimum_of_sklearn(n, d):
    from sklearn.linear_model import LogisticRegression

    from unlabeled.evaluation.probe import logistic_regression

    z, y = clusters(n, d, spread=3.0)
    z = (z - z.mean(0)) / z.std(0)
    weight, bias = logistic_regression(z, y, tolerance=1e-7)
    theirs = LogisticRegression(tol=1e-8, max_iter=5000).fit(z, y)
    # sklearn leaves the biases' common offset open; ours is the one of zero sum too.
    np.testing.assert_allclose(weight.T, theirs.coef_, atol=2e-3)
    np.testing.assert_allclose(
        bias - bias.mean(), theirs.intercept_ - theirs.intercept_.mean(), atol=2e-3
    )


def test_probe_of_a_constant_encoder_names_the_commonest_class():
    y = np.array([0, 0, 1, 0, 1, 0])
    z = np.ones((6, 4), np.float32)
    assert linear_probe(z, y, z, y).test == pytest.approx(4 / 6)


def test_neighbors_equal_those_of_sklearn():
    from sklearn.neighbors import NearestNeighbors

    bank, queries = RNG.normal(size=(200, 7)), RNG.normal(size=(30, 7))
    similarity, rows = nearest(bank, queries, 5, block=8)
    model = NearestNeighbors(n_neighbors=5, metric="cosine").fit(bank)
    distance, expected = model.kneighbors(queries)
    assert (rows == expected).mean() > 0.99
    np.testing.assert_allclose(similarity, 1 - distance, atol=1e-5)


def test_knn_finds_clusters():
    z, y = clusters(300)
    assert knn_accuracy(z[:200], y[:200], z[200:], y[200:]) > 0.98


def test_rankme_of_known_spectra():
    eye = torch.linalg.qr(torch.randn(50, 8, dtype=torch.float64))[0]
    assert health.rankme(eye) == pytest.approx(8)
    assert health.rankme(eye[:, :1] @ torch.ones(1, 8, dtype=torch.float64)) == pytest.approx(1)
    spectrum = torch.tensor([3.0, 1.0], dtype=torch.float64)
    p = spectrum / spectrum.sum()
    expected = math.exp(-(p * p.log()).sum())
    assert health.rankme(eye[:, :2] * spectrum) == pytest.approx(expected)
    assert math.isnan(health.rankme(torch.full((4, 4), torch.nan)))


def test_alignment_and_uniformity_equal_their_definitions():
    a, b = torch.randn(2, 12, 4, dtype=torch.float64).unbind(0)
    u, v = (t / t.norm(dim=1, keepdim=True) for t in (a, b))
    assert health.alignment(a, b) == pytest.approx(((u - v).norm(dim=1) ** 2).mean().item())
    terms = [math.exp(-2 * float((u[i] - u[j]).norm()) ** 2) for i in range(12) for j in range(i)]
    assert health.uniformity(a) == pytest.approx(math.log(sum(terms) / len(terms)))


def test_alarm_fires_on_collapse_and_only_then():
    torch.manual_seed(0)
    healthy = torch.randn(200, 16).relu()
    assert health.alarm(health.summary(healthy)) is None
    point = torch.ones(200, 16) + 1e-3 * torch.randn(200, 16)
    assert "almost the same" in health.alarm(health.summary(point))
    line = torch.randn(200, 1) @ torch.randn(1, 16)
    assert "1.0 direction" in health.alarm(health.summary(line))
    broken = healthy.clone()
    broken[0, 0] = torch.nan
    assert "finite" in health.alarm(health.summary(broken) | {"std": 1.0})


def test_embed_is_in_eval_mode_and_puts_the_mode_back():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5))
    net.train()
    x = RNG.integers(0, 256, (50, 1, 2, 2)).astype(np.uint8)
    z = embed(net, x, batch_size=7)
    assert net.training
    np.testing.assert_allclose(z, x.reshape(50, 4) / 255 / np.sqrt(1 + 1e-5), rtol=1e-5)
    assert int(net[1].num_batches_tracked) == 0
