"""Evaluation of features on disk: the same figures as in memory, whose pages do not add up."""

import numpy as np
import psutil
import pytest

from unlabeled.encoders.features import in_blocks, standardize, standardized
from unlabeled.evaluation.knn import knn_predict, nearest
from unlabeled.evaluation.probe import linear_probe
from unlabeled.evaluation.rsa import gap
from unlabeled.evaluation.similarity import cka

N, DIM, CLASSES = 30_000, 40, 5


@pytest.fixture(scope="module")
def features():
    """Clusters with a common mean, a constant column, and one of another scale."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, N)
    z = rng.normal(size=(CLASSES, DIM))[y] + 2 * rng.normal(size=(N, DIM)) + 3
    z[:, 3], z[:, 7] = 5, z[:, 7] * 1e4
    return z.astype(np.float32), y


@pytest.fixture
def on_disk(features, tmp_path):
    np.save(tmp_path / "z.npy", features[0])
    return np.load(tmp_path / "z.npy", mmap_mode="r")


def test_blocks_are_the_rows_in_order(features, on_disk):
    """Catches an offset that forgets the header of the file, or the last, shorter block."""
    z, _ = features
    for rows in (None, 7_000, N):
        parts = list(in_blocks(on_disk, rows))
        assert np.array_equal(np.concatenate([part for _, part in parts]), z)
        assert all(np.array_equal(z[some], part) for some, part in parts)
    some = on_disk[100:20_000:3]  # a view of a map is not the file from its start
    assert np.array_equal(np.concatenate([part for _, part in in_blocks(some)]), z[100:20_000:3])


def test_standardized_by_blocks(features):
    """Catches deviations of a block instead of all rows, and a constant feature that stays."""
    z, _ = features
    blockwise = standardized(z, z[:100])[0]
    full, _ = standardize(z, z[:100])
    assert blockwise.shape == full.shape == (N, DIM - 1)
    kept = np.delete(z.astype(np.float64), 3, axis=1)
    np.testing.assert_allclose(full, (kept - kept.mean(0)) / kept.std(0), atol=1e-9)
    blocks = np.concatenate([part for _, part in blockwise.blocks(999)])
    np.testing.assert_array_equal(blocks, full.astype(np.float32))


def test_figures_are_those_in_memory(features, on_disk):
    """Catches blocks of one representation that are paired with other rows of the second."""
    z, y = features
    half = slice(0, N // 2)
    assert gap(on_disk, y, "centered") == gap(z, y, "centered")
    assert linear_probe(on_disk, y, z[half], y[half]) == linear_probe(z, y, z[half], y[half])
    assert cka(on_disk, z[:, :11]) == cka(z, z[:, :11])
    assert cka(on_disk, z[:, :11], debiased=True) == cka(z, z[:, :11], debiased=True)
    near, rows = nearest(on_disk, z[:200], 5)
    again, same = nearest(z, z[:200], 5)
    assert np.array_equal(near, again)
    assert np.array_equal(rows, same)
    assert np.array_equal(nearest(z, on_disk[:200], 5)[1], rows)  # read-only queries, no warning


def test_neighbors_are_found_in_all_blocks(monkeypatch):
    """Catches rows counted from the start of their block, and neighbors of the last block only."""
    rng = np.random.default_rng(1)
    bank, queries = rng.normal(size=(1_000, 8)), rng.normal(size=(50, 8))
    units = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (bank, queries)]
    similarity = units[1] @ units[0].T
    expected = np.argsort(-similarity, axis=1)[:, :9]
    monkeypatch.setattr("unlabeled.evaluation.knn.AT_ONCE", 30 * 8)
    values, rows = nearest(bank.astype(np.float32), queries.astype(np.float32), 9, block=8)
    assert np.array_equal(rows, expected)
    np.testing.assert_allclose(values, np.take_along_axis(similarity, rows, 1), atol=1e-6)
    _, few = nearest(bank[:4].astype(np.float32), queries.astype(np.float32), 9, block=7)
    assert few.shape == (50, 4)
    y = rng.integers(0, 3, 1_000)
    votes = np.exp(np.take_along_axis(similarity, expected, 1) / 0.07)
    naive = [
        np.bincount(y[r], w, minlength=3).argmax() for r, w in zip(expected, votes, strict=True)
    ]
    assert np.array_equal(knn_predict(bank, y, queries, 9), naive)


def test_pages_of_a_file_do_not_add_up(tmp_path):
    """Catches one map for all blocks, whose pages stay in memory until it is closed."""
    large = np.lib.format.open_memmap(tmp_path / "z.npy", "w+", np.float32, (2_000_000, 32))
    large.flush()
    del large
    z = np.load(tmp_path / "z.npy", mmap_mode="r")
    before = psutil.Process().memory_info().rss
    most = before
    for _, part in in_blocks(z):
        part.sum()
        most = max(most, psutil.Process().memory_info().rss)
    assert most - before < 60e6  # of 256 MB
