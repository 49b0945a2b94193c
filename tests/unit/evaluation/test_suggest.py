"""Which samples to label next."""

import csv

import numpy as np
import pytest
from PIL import Image

from unlabeled.cli.main import main
from unlabeled.evaluation.suggest import FEW, to_label, typical


def groups(sizes, seed=0, d=12):
    """Features of well-separated groups of those sizes, and the group of each row."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(len(sizes)), sizes)
    z = 5 * np.eye(len(sizes), d)[y] + 0.3 * rng.normal(size=(len(y), d))
    order = rng.permutation(len(y))
    return z[order].astype(np.float32), y[order]


def test_each_group_is_suggested_once_the_largest_first():
    z, y = groups([60, 20, 40, 10])
    rows = typical(z, np.zeros(len(z), bool), 4)
    assert list(y[rows]) == [0, 2, 1, 3]


def test_the_suggested_sample_is_the_one_of_least_mean_distance_to_its_neighbors():
    z, y = groups([60, 50], d=2)
    for row in typical(z, np.zeros(len(z), bool), 2):
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        members = np.flatnonzero(y == y[row])
        mean = {}
        for member in members:
            distances = sorted(np.linalg.norm(unit[member] - unit[m]) for m in members)
            mean[member] = np.mean(distances[1:21])
        assert row == min(mean, key=mean.get)


def test_groups_with_labels_come_last_and_no_labeled_sample_is_suggested():
    z, y = groups([60, 40, 30])
    known = np.zeros(len(z), bool)
    known[np.flatnonzero(y == 0)[:1]] = True
    rows = typical(z, known, 2)
    assert set(y[rows]) == {1, 2}
    every = typical(z, known, len(z) - 1)
    assert sorted(every) == list(np.flatnonzero(~known))


def test_uncertain_samples_come_once_each_class_has_labels_enough():
    """Catches typical samples forever, and margins of other clusters than those without labels."""
    rng = np.random.default_rng(0)
    group, side = np.repeat(np.arange(28), 40), rng.uniform(-0.4, 0.4, 28 * 40)
    angle = 2 * np.pi * group / 28 + 0.02 * rng.normal(size=len(group))
    z = np.stack([5 * np.cos(angle), 5 * np.sin(angle), side], 1).astype(np.float32)
    classes = (side > 0).astype(int)  # in each group alike
    y = np.full(len(z), -1)
    paths = rng.permutation(28)  # of the groups that have labels first
    for i, path in enumerate(paths[: 2 * FEW - 1]):
        row = np.flatnonzero((group == path) & (classes == i % 2))[0]
        y[row] = classes[row]
    np.testing.assert_array_equal(to_label(z, y, 8), typical(z, y >= 0, 8))
    row = np.flatnonzero((group == paths[2 * FEW - 1]) & (classes == 1))[0]
    y[row] = 1
    uncertain, alike = to_label(z, y, 8), typical(z, y >= 0, 8)
    assert set(group[uncertain]) == set(group[alike]) == set(paths[2 * FEW :])
    away = [np.abs(side[rows[np.argsort(group[rows])]]) for rows in (uncertain, alike)]
    assert (away[0] < away[1]).sum() >= 6
    assert away[0].mean() < 0.5 * away[1].mean()


def test_tiny_groups_come_last():
    """An outlier is typical of nothing."""
    z, y = groups([60, 40, 2])
    assert set(y[typical(z, np.zeros(len(z), bool), 3)[:2]]) == {0, 1}


def test_the_command_writes_names_to_label(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    rows = ["file,label"]
    for i in range(30):
        x = rng.integers(0, 60, (16, 16, 3), dtype=np.uint8)
        x[..., i % 3] += np.uint8(150)
        Image.fromarray(x).save(tmp_path / "photos" / f"{i:02}.png")
        rows.append(f"{i:02}.png,{'ab'[i % 2]}" if i < 10 else f"{i:02}.png,")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    words = ["classify", "histogram", "--data", "photos", "--suggest"]
    assert main([*words, "6"]) == 0
    table = list(csv.DictReader((tmp_path / "suggest.csv").open(newline="")))
    assert len({row["name"] for row in table}) == 6
    assert [row["label"] for row in table] == [""] * 6
    assert "6 samples to label" in capsys.readouterr().out
    with_labels = [*words, "8", "--labels-from", "labels.csv", "--out", "next.csv"]
    assert main(with_labels) == 0
    names = [row["name"] for row in csv.DictReader((tmp_path / "next.csv").open(newline=""))]
    assert len(set(names)) == 8
    assert all(name >= "10" for name in names)
    # Filled in, they are labels.
    filled = "\n".join(["name,label", *(f"{n},{'ab'[i % 2]}" for i, n in enumerate(names))])
    (tmp_path / "filled.csv").write_text(filled)
    again = ["classify", "histogram", "--data", "photos", "--labels-from", "filled.csv"]
    assert main([*again, "--out", "model"]) == 0


def test_sizes_beyond_exact_clusters(capsys):
    """k-means of mini-batches, and clusters that stay empty."""
    z = np.repeat(np.random.default_rng(0).normal(size=(80, 6)), 3, 0).astype(np.float32)
    rows = typical(z, np.zeros(len(z), bool), 120)
    assert len(set(rows)) == 120


@pytest.mark.parametrize("seed", [0, 1])
def test_suggestions_depend_on_the_seed_alone(seed):
    z, _ = groups([50, 50, 50])
    known = np.zeros(len(z), bool)
    np.testing.assert_array_equal(typical(z, known, 9, seed), typical(z, known, 9, seed))


def test_the_most_uncertain_are_found_where_the_labels_are_easy():
    """Catches probabilities that are divided by the temperature twice, or rounded to 0 and 1."""
    rng = np.random.default_rng(0)
    group, side = np.repeat(np.arange(28), 40), rng.uniform(-0.4, 0.4, 28 * 40)
    angle = 2 * np.pi * group / 28 + 0.02 * rng.normal(size=len(group))
    z = np.stack([5 * np.cos(angle), 5 * np.sin(angle), side], 1).astype(np.float32)
    y = np.full(len(z), -1)
    for i in range(2 * FEW):
        far = side > 0.3 if i % 2 else side < -0.3
        y[np.flatnonzero((group == i) & far)[0]] = i % 2
    chosen = to_label(z, y, 8)
    assert (group[chosen] >= 2 * FEW).sum() >= 6
    assert np.abs(side[chosen]).mean() < 0.1
