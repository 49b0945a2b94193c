"""All4One against a loop over its equations, and its traps."""

import math

import pytest
import torch
from two_views import images, make, two_views, unit, updated

from unlabeled.augmentations import RandomErasing
from unlabeled.core import Batch
from unlabeled.errors import UserError
from unlabeled.methods.all4one import All4One, contrast, feature_contrast


@pytest.fixture(autouse=True)
def in_float64(monkeypatch):
    """What a method computes in full precision is computed in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def small(**options) -> All4One:
    """In float64, without dropout, with a momentum network of its own."""
    sizes = {"dim": 8, "hidden_dim": 7, "predictor_dim": 6, "queue_size": 11, "heads": 2}
    method = make("all4one", **sizes | {"dropout": 0.0, "layers": 2, "neighbors": 3} | options)
    with torch.no_grad():
        for p in method.target.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def nnclr(keys, queries, tau) -> torch.Tensor:
    """Cross-entropy of each key with its query among all queries, all normalized."""
    keys, queries, total = unit(keys), unit(queries), 0.0
    for i in range(len(keys)):
        scores = [torch.exp(keys[i] @ q / tau) for q in queries]
        total = total - torch.log(scores[i] / sum(scores)) / len(keys)
    return total


def naive_features(targets, z) -> torch.Tensor:
    """Square roots of mean squares over both ways, column by column."""
    on, off = [], []
    for t, other in ((targets[0], z[1]), (targets[1], z[0])):
        d = t.shape[1]
        for i in range(d):
            for j in range(d):
                c = (t[:, i] @ other[:, j]) / t[:, i].norm() / other[:, j].norm()
                (on if i == j else off).append((c - float(i == j)) ** 2)
    return (torch.stack(on).mean().sqrt() + torch.stack(off).mean().sqrt()) / 2


def three_nearest(queue, row) -> torch.Tensor:
    return torch.stack(sorted(queue, key=lambda other: -(other @ row).item())[:3])


def positions(k: int, dim: int) -> torch.Tensor:
    """Sines and cosines of a neighbor's rank; the second half is that of a single row."""
    rows = []
    for rank in range(k):
        rates = [10_000 ** (-i / (dim // 4)) for i in range(dim // 4)]
        row = [math.sin(rank * r) for r in rates] + [math.cos(rank * r) for r in rates]
        rows.append(row + [0.0] * (dim // 4) + [1.0] * (dim // 4))
    return torch.tensor(rows).double()


def test_all4one_equals_its_equations():
    """Catches neighbors of the online network, centroids of one view against itself, no shift.

    And predictions among neighbors that are normalized, no positions, both predictors being one,
    weights exchanged, centered correlations, and targets that enter before the loss.
    """
    weights = {"neighbor_weight": 0.7, "centroid_weight": 0.4, "feature_weight": 3.0}
    method, views = small(centroid_temperature=0.3, **weights), two_views()
    queue = method.queue.rows.clone()
    for step in range(3):
        z = [method.project(x) for x in views]
        t = [unit(method.target(x)) for x in views]
        near = [
            torch.stack(
                [torch.stack(sorted(queue, key=lambda r: -(r @ row).item())[:3]) for row in v]
            )
            for v in t
        ]
        keys, queries = [], []
        for n, v in zip(near, z, strict=True):
            first = method.centroid_predictor(v)
            shifted = torch.stack([first, n[:, 0], n[:, 1]], 1)
            keys.append(method.transformer(n + positions(3, 8))[:, 0])
            queries.append(method.transformer(shifted + positions(3, 8))[:, 0])
        p = [method.predictor(v) for v in z]
        neighbors = (nnclr(near[0][:, 0], p[1], 0.2) + nnclr(near[1][:, 0], p[0], 0.2)) / 2
        centroids = (nnclr(keys[0], queries[1], 0.3) + nnclr(keys[1], queries[0], 0.3)) / 2
        expected = 0.7 * neighbors + 0.4 * centroids + 3.0 * naive_features(t, z)
        loss = method.loss(views)
        torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6)
        weights_of = [p for p in method.parameters() if p.requires_grad]
        slopes = [torch.autograd.grad(v, weights_of, allow_unused=True) for v in (loss, expected)]
        for ours, naive in zip(*slopes, strict=True):
            torch.testing.assert_close(ours, naive, atol=1e-6, rtol=1e-5)
        updated(method, views)
        for i in range(8):
            queue[(8 * step + i) % 11] = t[0][i]
        torch.testing.assert_close(method.queue.rows, queue)


def test_features_are_compared_between_online_and_momentum_network():
    """Catches correlations of one view with itself, and of both online embeddings."""
    torch.manual_seed(0)
    a, b, other = (torch.randn(9, 4).double() for _ in range(3))
    same = feature_contrast(a, b, b, a)  # of each pair of views, both are equal
    off = naive_features((a, b), (b, a))
    torch.testing.assert_close(same, off)
    torch.testing.assert_close(feature_contrast(a, b, other, a), naive_features((a, b), (other, a)))
    whitened = torch.linalg.qr(a)[0]
    assert feature_contrast(whitened, whitened, whitened, whitened).item() < 1e-7


def test_the_gradient_at_the_optimum_is_finite():
    """Catches the infinite slope of a square root at 0."""
    z = torch.linalg.qr(torch.randn(9, 4).double())[0].requires_grad_()
    feature_contrast(z.detach(), z.detach(), z, z).backward()
    assert z.grad.isfinite().all()


def test_contrast_takes_the_other_view():
    """Catches rows that are contrasted with those of their own view, and a sum of both ways."""
    a, b = ([torch.randn(5, 3).double() for _ in range(2)] for _ in range(2))
    expected = (nnclr(a[0], b[1], 0.4) + nnclr(a[1], b[0], 0.4)) / 2
    torch.testing.assert_close(contrast(a, b, 0.4), expected)


def test_the_momentum_network_follows_without_gradient():
    """Catches a target that learns by itself, a constant momentum, and predictors within it."""
    method, views = small(momentum=0.8), two_views()
    method.loss(views).backward()
    assert all(p.grad is None for p in method.target.parameters())
    before = [p.clone() for p in method.target.parameters()]
    method.progress = 0.5  # of half a cosine from 0.8 to 1
    with torch.no_grad():
        method.update()
    fast = torch.nn.Sequential(method.encoder, method.projector).parameters()
    for old, new, lead in zip(before, method.target.parameters(), fast, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * lead)


def test_every_part_learns():
    """Catches a centroid without gradient: the transformer learns from keys and queries."""
    method = small(neighbor_weight=0.0, feature_weight=0.0)
    method.loss(two_views()).backward()
    assert all(p.grad.any() for p in method.transformer.layers[0].self_attn.out_proj.parameters())
    assert method.centroid_predictor[0].weight.grad.any()
    assert not method.predictor[0].weight.grad.any()


def test_the_second_view_has_its_own_augmentation():
    """Catches views that are exchanged: the queue is of the first."""
    method = small(augment=RandomErasing(0.0), second_augment=RandomErasing(2.0))
    first, second = method.views(Batch(images(), torch.arange(8)))
    assert torch.equal(first, images())
    assert not second.any()


def test_one_neighbor_is_enough():
    """Catches a shift that leaves no token."""
    assert small(neighbors=1).loss(two_views()).isfinite()


def test_heads_must_divide_the_width():
    with pytest.raises(UserError, match="width is 8, which 3 heads do not divide"):
        small(heads=3)
