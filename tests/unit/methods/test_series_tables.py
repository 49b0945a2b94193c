"""TS2Vec and SCARF: their losses are those of the papers, their views what they say."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.dilated import MaxOverTime, observed
from unlabeled.errors import UserError
from unlabeled.methods.scarf import SCARF
from unlabeled.methods.ts2vec import TS2Vec, bounds, cut, hierarchical_contrast


def naive_dual(a: Tensor, b: Tensor, known: Tensor) -> float:
    """Equations 1 to 3 of TS2Vec, one anchor at a time, of both views and known timestamps."""
    n, length, _ = a.shape
    total, anchors = 0.0, 0
    for i in range(n):
        for t in range(length):
            if not known[i, t]:
                continue
            for r, other in ((a, b), (b, a)):
                positive = math.exp(float(r[i, t] @ other[i, t]))
                times = [s for s in range(length) if known[i, s]]
                temporal = sum(math.exp(float(r[i, t] @ other[i, s])) for s in times)
                temporal += sum(math.exp(float(r[i, t] @ r[i, s])) for s in times if s != t)
                rows = [j for j in range(n) if known[j, t]]
                instance = sum(math.exp(float(r[i, t] @ other[j, t])) for j in rows)
                instance += sum(math.exp(float(r[i, t] @ r[j, t])) for j in rows if j != i)
                total -= math.log(positive / temporal) + math.log(positive / instance)
                anchors += 1
    return total / anchors


def naive_hierarchy(a: Tensor, b: Tensor, known: Tensor) -> float:
    """Algorithm 1: the mean over scales, each the maxima of two known timestamps before."""
    losses = [naive_dual(a, b, known)]
    while a.shape[1] > 1:
        pairs = [(2 * t, 2 * t + 1) for t in range(a.shape[1] // 2)]
        pooled = []
        for z in (a, b):
            out = torch.zeros(len(z), len(pairs), z.shape[2], dtype=z.dtype)
            for i in range(len(z)):
                for k, pair in enumerate(pairs):
                    if seen := [z[i, t] for t in pair if known[i, t]]:
                        out[i, k] = torch.stack(seen).amax(0)
            pooled.append(out)
        known = torch.stack([known[:, p] | known[:, q] for p, q in pairs], 1)
        a, b = pooled
        losses.append(naive_dual(a, b, known))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("length", [1, 4, 7])
@pytest.mark.parametrize("gaps", [False, True])
def test_ts2vec_is_the_papers_hierarchy(length, gaps):
    """Catches one view's anchors alone, an anchor among its own negatives, missing ones as
    negatives, minima of gaps, and scales that are summed."""
    g = torch.Generator().manual_seed(length)
    a, b = torch.randn(2, 3, length, 5, dtype=torch.float64, generator=g)
    known = torch.ones(3, length, dtype=torch.bool)
    if gaps:
        known[0, : length // 2] = False
        known[1, -1] = length == 1
        a, b = (z.masked_fill(~known[:, :, None], 0) for z in (a, b))
    found = hierarchical_contrast(a, b, known)
    assert found.item() == pytest.approx(naive_hierarchy(a, b, known), rel=1e-12)


def test_a_series_without_a_known_timestamp_has_a_finite_gradient():
    a = torch.randn(2, 4, 3, requires_grad=True)
    known = torch.tensor([[True] * 4, [False] * 4])
    hierarchical_contrast(a, a.detach() + 1, known).backward()
    assert torch.isfinite(a.grad).all()
    assert not a.grad[1].any()


@pytest.mark.parametrize("total", [1, 2, 9])
def test_crops_share_what_they_say(total):
    """Catches crops that are shifted against each other, and ends beyond the series."""
    torch.manual_seed(0)
    x = 1 + torch.arange(6 * total, dtype=torch.float32).view(6, 1, 1, total)
    method = TS2Vec(build("dilated", 1, (1, total), width=4, dim=4))
    lengths = set()
    for _ in range(40):
        first, second, keep_first, keep_second, shared = method.views(Batch(x, torch.arange(6)))
        assert torch.equal(first[..., -shared:], second[..., :shared])
        assert keep_first.shape == (6, first.shape[3])
        assert keep_second.shape == (6, second.shape[3])
        lengths.add(shared)
    assert max(lengths) == total
    assert len(lengths) > 3 or total < 4


def test_bounds_are_those_of_two_crops():
    torch.manual_seed(0)
    for _ in range(200):
        a1, a2, b1, b2 = bounds(11)
        assert 0 <= a1 <= a2 < b1 <= b2 <= 11
        assert b1 - a2 >= 2


def test_rows_are_cut_at_places_of_their_own():
    x = torch.arange(12.0).view(2, 1, 1, 6)
    assert cut(x, torch.tensor([0, 3]), 2).flatten().tolist() == [0, 1, 9, 10]


def test_a_masked_timestamp_is_hidden():
    """What the other timestamps say is the same whatever a masked or a missing one held."""
    torch.manual_seed(0)
    encoder = build("dilated", 2, (1, 8), width=4, dim=6).double()
    x = torch.randn(3, 2, 1, 8, dtype=torch.float64)
    keep = torch.ones(3, 8, dtype=torch.bool)
    keep[:, 4] = False
    other = x.clone()
    other[..., 4] = 9
    assert torch.equal(encoder.map(x, keep), encoder.map(other, keep))
    assert not torch.equal(encoder.map(x), encoder.map(other))


def test_missing_timestamps_take_no_part_in_the_features():
    """Catches a maximum over padding: that of negative features would be 0."""
    z = -torch.ones(2, 3, 1, 4)
    z[..., 2:] = 0
    assert (MaxOverTime()(z) == -1).all()
    assert (MaxOverTime()(0 * z) == 0).all()
    encoder = build("dilated", 1, (1, 8), width=4, dim=6)
    x = torch.randn(2, 1, 1, 8)
    x[..., 5:] = 0
    shown = encoder.map(x)
    assert not shown[..., 5:].any()
    assert shown[..., :5].any(1).all()
    assert observed(x).sum() == 10
    maps, features = encoder.maps_and_features(x)
    assert torch.equal(maps[-1], shown)
    assert torch.equal(features, encoder(x))


def test_representations_have_dropout_in_training():
    method = TS2Vec(build("dilated", 1, (1, 8), width=4, dim=6), mask_prob=0.0, dropout=0.5)
    views = method.views(Batch(torch.randn(4, 1, 1, 8), torch.arange(4)))
    assert method.loss(views) != method.loss(views)
    method.eval()
    assert method.loss(views) == method.loss(views)


def test_ts2vec_needs_timestamps():
    with pytest.raises(UserError, match="use --encoder dilated"):
        TS2Vec(torch.nn.Flatten())


class Rows(torch.nn.Module):
    dim = 5

    def forward(self, x):
        return x.flatten(1)


def test_scarf_is_the_papers_loss():
    """Algorithm 1: −log( exp(s_ii/τ) / (1/N Σ_k exp(s_ik/τ)) ), but for the constant log N.

    Catches anchors of both views, similarities that are no cosines, and positives left out."""
    torch.manual_seed(0)
    method = SCARF(Rows(), dim=5, temperature=0.7).double()
    method.head = torch.nn.Identity()
    x, other = (torch.randn(6, 1, 1, 5).double() for _ in range(2))
    s = [
        [float(a @ b / (a.norm() * b.norm())) for b in other.flatten(1).double()]
        for a in x.flatten(1).double()
    ]
    losses = [
        -math.log(math.exp(s[i][i] / 0.7) / (sum(math.exp(v / 0.7) for v in s[i]) / 6))
        for i in range(6)
    ]
    expected = sum(losses) / 6 + math.log(6)
    assert method.loss((x, other)).item() == pytest.approx(expected, rel=1e-6)


def test_corrupted_columns_come_from_other_rows_of_the_same_column():
    """Catches shares of rows, values of other columns, and words that are torn apart."""
    torch.manual_seed(0)
    widths = (1, 3, 1, 2, 1)
    column = np.repeat(np.arange(5), widths)
    base = torch.arange(200)[:, None] * 10 + torch.tensor(column)[None]  # tells row and column
    x = base.float().view(200, 1, 1, 8)
    method = SCARF(Rows(), widths=widths, corruption_rate=0.6)
    same, corrupted = method.views(Batch(x, torch.arange(200)))
    assert torch.equal(same, x)
    y = corrupted.view(200, 8).long()
    assert (y % 10 == torch.tensor(column)).all()
    changed = y != base
    for c in range(5):
        rows = y[:, column == c] // 10
        assert (rows == rows[:, :1]).all()  # all values of a column from one row
    first = torch.stack([changed[:, np.flatnonzero(column == c)[0]] for c in range(5)], 1)
    assert set(first.sum(1).tolist()) <= {1, 2, 3}  # 3 of 5, a few drawn from themselves
    assert first.sum(1).float().mean() > 2.9
    assert (first.float().mean(0) > 0.45).all()


def test_every_column_keeps_its_distribution():
    torch.manual_seed(0)
    x = torch.zeros(4000, 1, 1, 2)
    x[:1000, ..., 1] = 1
    corrupted = SCARF(Rows(), corruption_rate=1.0).views(Batch(x, torch.arange(4000)))[1]
    assert not corrupted[..., 0].any()
    assert corrupted[..., 1].mean().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("rate", [0.0, 1.5])
def test_a_share_that_is_none_is_refused(rate):
    with pytest.raises(UserError, match="corruption_rate is"):
        SCARF(Rows(), corruption_rate=rate)
