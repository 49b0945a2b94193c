"""Few labels, factors, spectra and the baselines that are fitted, against naive computations."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from unlabeled.data import open_data
from unlabeled.data.dataset import to_float
from unlabeled.encoders.base import build
from unlabeled.evaluation.factors import as_targets, probe_factors, ridge_r2
from unlabeled.evaluation.few_labels import few_labels
from unlabeled.training.health import alpha_req, lidar

NUMBERS = {"scale": None, "orientation": 39.0, "x": None, "y": None}
RNG = np.random.default_rng(0)


def test_ridge_is_scikit_learns():
    z, z_test = RNG.normal(size=(60, 7)) * 3 + 1, RNG.normal(size=(40, 7)) * 3 + 1
    w = RNG.normal(size=(7, 2))
    t, t_test = z @ w + RNG.normal(size=(60, 2)), z_test @ w + RNG.normal(size=(40, 2))
    mean, std = z.mean(0), z.std(0)
    model = Ridge(1.0).fit((z - mean) / std, t)
    expected = r2_score(
        t_test, model.predict((z_test - mean) / std), multioutput="variance_weighted"
    )
    assert ridge_r2(z, t, z_test, t_test) == pytest.approx(expected, abs=1e-9)


def test_what_goes_round_has_no_seam():
    targets = as_targets(np.array([0, 39, 13]), 39.0)
    np.testing.assert_allclose(targets[0], targets[1], atol=1e-12)
    np.testing.assert_allclose((targets**2).sum(1), 1)
    assert as_targets(np.arange(3), None).shape == (3, 1)


def test_every_factor_gets_the_probe_that_suits_it():
    splits = open_data("dsprites")
    rows = {"train": np.arange(2000), "test": np.arange(800)}
    splits.train, splits.test = (getattr(splits, k).take(v) for k, v in rows.items())
    # Features that are the factors themselves are read exactly, whatever their kind.
    features = [
        np.concatenate(
            [
                np.eye(3)[part.factors["shape"]],
                *(as_targets(part.factors[k], period) for k, period in NUMBERS.items()),
            ],
            1,
        ).astype(np.float32)
        for part in (splits.train, splits.test)
    ]
    result = probe_factors(*features, splits)
    assert set(result) == {"shape", "scale", "orientation", "x", "y"}
    assert all(score > 0.999 for score in result.values())
    noise = [RNG.normal(size=f.shape).astype(np.float32) for f in features]
    result = probe_factors(*noise, splits)
    assert result["shape"] < 0.45
    assert all(abs(result[k]) < 0.05 for k in NUMBERS)


def test_more_labels_read_more():
    y = RNG.integers(0, 3, 900)
    z = (np.eye(3)[y] + RNG.normal(size=(900, 3))).astype(np.float32)
    result = [few_labels(z[:600], y[:600], z[600:], y[600:], n, draws=4) for n in (6, 60, "50%")]
    assert [f.labels for f in result] == [6, 60, 300]
    assert result[0].test < result[1].test < result[2].test + 0.02
    assert result[0].sd > result[2].sd
    assert result[0].train >= result[2].train


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_is_the_decay_of_the_spectrum(alpha):
    rotation, _ = np.linalg.qr(RNG.normal(size=(30, 30)))
    z, _ = np.linalg.qr(RNG.normal(size=(500, 30)) - 0)
    z = z - z.mean(0)
    z, _ = np.linalg.qr(z)  # columns without correlation, mean 0
    z = z * np.arange(1, 31) ** (-alpha / 2) @ rotation
    assert alpha_req(torch.from_numpy(z)) == pytest.approx(alpha, abs=0.02)


def naive_lidar(z, delta):
    n, q, d = z.shape
    means = z.mean(1)
    between, within = torch.zeros(d, d).double(), torch.zeros(d, d).double()
    for i in range(n):
        off = means[i] - means.mean(0)
        between += torch.outer(off, off) / n
        for k in range(q):
            within += torch.outer(z[i, k] - means[i], z[i, k] - means[i]) / (n * q)
    within += delta * torch.eye(d)
    values, vectors = torch.linalg.eigh(within)
    root = vectors @ torch.diag(values**-0.5) @ vectors.T
    values = torch.linalg.eigvalsh(root @ between @ root).clamp(min=0)
    p = values / values.sum() + 1e-12
    return float(torch.exp(-(p * p.log()).sum()))


def test_lidar_is_that_of_the_paper():
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(20, 1, 6, generator=generator).double() * torch.tensor([3, 2, 1, 1, 0, 0])
    z = centers + 0.3 * torch.randn(20, 5, 6, generator=generator).double()
    scale = float(z.flatten(0, 1).var(0, correction=0).mean())
    assert lidar(z) == pytest.approx(naive_lidar(z, 1e-4 * scale), rel=1e-6)
    flat = z.clone()
    flat[..., 1:] *= 1e-6
    assert lidar(flat) < lidar(z)


@pytest.mark.parametrize("name", ["pca", "ica", "kmeans"])
def test_fitted_baselines_are_encoders(name, sprites):
    splits = open_data(sprites)
    x = to_float(torch.from_numpy(splits.train.x), splits.value_range)
    encoder = build(name, 1, (64, 64), dim=5)
    encoder.summary.fit(x)
    z = encoder(x)
    assert z.shape == (len(x), 5)
    assert z.isfinite().all()
    assert z.std(0).min() > 0
    again = build(name, 1, (64, 64), dim=5)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x), z)


def test_independent_components_separate_what_was_mixed():
    """Two sources of heavy tails, mixed: each component is one source, up to sign and scale."""
    sources = RNG.laplace(size=(2000, 2))
    mixed = sources @ np.array([[1.0, 0.6], [0.4, 1.0]])
    x = torch.from_numpy(mixed).float().reshape(-1, 1, 1, 2)
    encoder = build("ica", 1, (1, 2), dim=2)
    encoder.summary.fit(x)
    result = np.abs(np.corrcoef(encoder(x).numpy().T, sources.T)[:2, 2:])
    assert sorted(result.argmax(1)) == [0, 1]
    assert result.max(1).min() > 0.98
