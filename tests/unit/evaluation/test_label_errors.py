"""Labels that are likely wrong: against a loop over the definition, and labels that we flip."""

import numpy as np
import pytest

from unlabeled.evaluation.label_errors import AGREEMENT, MARGIN, probabilities, suspected_labels
from unlabeled.evaluation.structure import neighbors


def blobs(n=300, groups=3, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(groups, size=n)
    return (np.eye(8)[y] + spread * rng.normal(size=(n, 8))).astype(np.float32), y


def flipped(y, share=0.08, classes=3, seed=1):
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(y), int(share * len(y)), replace=False)
    changed = y.copy()
    changed[rows] = (y[rows] + rng.integers(1, classes, len(rows))) % classes
    return changed, rows


def naive(similarity, rows, y):
    n, classes = len(y), y.max() + 1
    p = np.zeros((n, classes))
    for i in range(n):
        for s, j in zip(similarity[i], rows[i], strict=True):
            if y[j] >= 0:
                p[i, y[j]] += np.exp(float(s) / 0.07)
        p[i] /= p[i].sum()
    threshold = [p[y == c, c].mean() for c in range(classes)]
    result = {}
    for i in range(n):
        if y[i] >= 0:
            over = [(p[i, c], c) for c in range(classes) if p[i, c] >= threshold[c]]
            if over and max(over)[1] != y[i] and max(over)[0] - p[i, y[i]] >= MARGIN:
                result[i] = (max(over)[1], max(over)[0] - p[i, y[i]])
    return p, result


def test_suspects_equal_a_loop_over_the_definition():
    z, y = blobs()
    y, _ = flipped(y)
    y[::17] = -1
    similarity, rows = neighbors(z, 20)
    p, expected = naive(similarity, rows, y)
    np.testing.assert_allclose(probabilities(similarity, rows, y), p, atol=1e-4)
    result = suspected_labels(similarity, rows, y)
    assert set(result.rows) == set(expected)
    for row, suggested, margin in zip(result.rows, result.suggested, result.margins, strict=True):
        assert suggested == expected[row][0]
        assert margin == pytest.approx(expected[row][1], abs=1e-4)
    assert (np.diff(result.margins) <= 0).all()
    known = y >= 0
    assert result.agreement == pytest.approx((p.argmax(1) == y)[known].mean())


def test_flipped_labels_are_found_and_no_others():
    z, y = blobs(spread=0.1)
    changed, rows = flipped(y)
    result = suspected_labels(*neighbors(z, 20), changed)
    assert set(result.rows) <= set(rows)
    assert len(result.rows) >= 0.9 * len(
        rows
    )  # the others have neighbors of which many are flipped
    np.testing.assert_array_equal(result.suggested, y[result.rows])


def test_right_labels_are_not_suspected():
    z, y = blobs(spread=0.1)
    result = suspected_labels(*neighbors(z, 20), y)
    assert len(result.rows) == 0
    assert result.agreement == 1


def test_without_labels_nothing_is_suspected():
    z, y = blobs(30)
    result = suspected_labels(*neighbors(z, 20), np.full_like(y, -1))
    assert len(result.rows) == 0
    assert np.isnan(result.agreement)


def test_weak_features_suspect_no_label():
    """Catches a list of what the features cannot tell apart: without the check, hundreds."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(600, 8)).astype(np.float32), rng.integers(3, size=600)
    z[:, 0] += 1.5 * y
    result = suspected_labels(*neighbors(z, 20), y)
    assert 1 / 3 < result.agreement < AGREEMENT
    assert result.too_weak
    assert len(result.rows) == len(result.suggested) == len(result.margins) == 0
    assert "too weak to judge labels" in str(result)
    assert f"the label of {100 * result.agreement:.0f} %" in str(result)


def test_labels_that_some_neighbors_share_are_not_suspected():
    """Catches any margin: of a sample between two groups a third of the neighbors agree."""
    y = np.repeat([0, 1], 30)
    neighbors_of = np.tile(np.arange(20), (60, 1))
    neighbors_of[30:, :12] += 30  # so that their mean probability is 0.6
    neighbors_of[0] = [*range(1, 8), *range(31, 44)]  # 7 of its class, 13 of the other
    neighbors_of[1] = [*range(2, 4), *range(31, 49)]  # 2 and 18
    result = suspected_labels(np.ones((60, 20), np.float32), neighbors_of, y)
    assert result.rows.tolist() == [1]
    assert result.margins[0] == pytest.approx(0.8)


def test_samples_without_a_labeled_neighbor_do_not_count():
    """Catches features that are called too weak because few samples have a label."""
    z, y = blobs(3000, spread=0.1)
    few = np.where(np.random.default_rng(1).random(len(y)) < 0.02, y, -1)
    few[np.flatnonzero(few == 0)[0]] = 1
    result = suspected_labels(*neighbors(z, 20), few)
    assert result.agreement > 0.8
    assert not result.too_weak
    alone = suspected_labels(np.ones((3, 1), np.float32), np.full((3, 1), 2), np.array([0, 1, -1]))
    assert np.isnan(alone.agreement)
    assert len(alone.rows) == 0
