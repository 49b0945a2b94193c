"""DenseCL against a loop over its equations, and its traps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from two_views import Mean, unit, updated

from unlabeled import registry
from unlabeled.augmentations import RandomAffine
from unlabeled.encoders.base import Encoder, build
from unlabeled.encoders.memory import shuffled_keys
from unlabeled.encoders.spatial import at_positions
from unlabeled.errors import UserError
from unlabeled.methods.densecl import DenseCL
from unlabeled.objectives import info_nce

SHAPE = (1, 16, 24)


@pytest.fixture(autouse=True)
def in_float64(monkeypatch):
    """What a method computes in full precision is computed in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def images(seed: int = 1, n: int = 6) -> torch.Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed)).double()


def make(**options) -> DenseCL:
    """On maps of 2×3 positions and 7 channels, without BatchNorm; key networks of their own."""
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Conv2d(1, 7, 8, 8), nn.Tanh())
    encoder = build(Encoder([stage], Mean(), 7), 1, SHAPE[1:])
    small = {"dim": 5, "queue_size": 11, "augment": RandomAffine()}
    method = DenseCL(encoder, shape=SHAPE, **small | options).double()
    with torch.no_grad():
        for p in method.key_networks.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def cross_entropy(query, key, queue, tau) -> torch.Tensor:
    scores = [torch.exp(query @ row / tau) for row in (key, *queue)]
    return -torch.log(scores[0] / sum(scores))


def nearest_position(own, others) -> int:
    return max(range(len(others)), key=lambda j: F.cosine_similarity(own, others[j], dim=0).item())


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_densecl_equals_its_equations(weight):
    """Catches λ exchanged, positives of the same position or by dense vectors, one queue for both.

    And dense negatives that are positions instead of means, means of normalized vectors, keys that
    enter before the loss, and a sum over positions.
    """
    method, views = make(dense_weight=weight, temperature=0.3), (images(1), images(2))
    queue, dense_queue = method.queue.rows.clone(), method.dense_queue.rows.clone()
    assert not torch.equal(queue, dense_queue)
    for step in range(3):
        maps = [
            net.map(x)
            for net, x in zip((method.encoder, method.key_networks.module[0]), views, strict=True)
        ]
        heads = [method.networks()[1:], method.key_networks.module[1:]]
        whole = [head(h.mean((2, 3))) for (head, _), h in zip(heads, maps, strict=True)]
        dense = [head(h) for (_, head), h in zip(heads, maps, strict=True)]
        features, dense = ([h.flatten(2).transpose(1, 2) for h in part] for part in (maps, dense))
        expected = 0.0
        for i in range(6):
            q, k = (z[i] / z[i].norm() for z in whole)
            expected = expected + (1 - weight) * cross_entropy(q, k, queue, 0.3) / 6
            for s in range(6):
                best = nearest_position(features[0][i, s], features[1][i])
                r, t = dense[0][i, s], dense[1][i, best]
                term = cross_entropy(r / r.norm(), t / t.norm(), dense_queue, 0.3)
                expected = expected + weight * term / 36
        loss = method.loss(views)
        torch.testing.assert_close(loss, expected)
        for ours, naive in zip(gradient(method, loss), gradient(method, expected), strict=True):
            torch.testing.assert_close(ours, naive)
        for i in range(6):
            row = (6 * step + i) % 11
            queue[row] = (whole[1][i] / whole[1][i].norm()).detach()
            mean = dense[1][i].mean(0).detach()
            dense_queue[row] = mean / mean.norm()
        updated(method, views)
        torch.testing.assert_close(method.queue.rows, queue)
        torch.testing.assert_close(method.dense_queue.rows, dense_queue)


def gradient(method: DenseCL, loss: torch.Tensor) -> list[torch.Tensor]:
    weights = [*method.networks().parameters()]
    slopes = torch.autograd.grad(loss, weights, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, slopes, strict=True)]


def test_without_the_dense_loss_it_is_moco():
    """Catches a global loss of pooled dense vectors."""
    method, views = make(dense_weight=0.0), (images(1), images(2))
    q = unit(method.project(views[0]))
    encoder, head, _ = method.key_networks.module
    k = unit(head(encoder(views[1])))
    torch.testing.assert_close(method.loss(views), info_nce(q, k, 0.2, method.queue.rows))


def test_the_dense_loss_starts_later():
    """Catches a start in the wrong half."""
    method, views = make(ramp_start=0.5), (images(1), images(2))
    method.progress = 0.49
    early = method.loss(views)
    method.progress = 0.5
    late = method.loss(views)
    assert not torch.equal(early, late)
    torch.testing.assert_close(early, make(dense_weight=0.0).loss(views))
    torch.testing.assert_close(late, make().loss(views))


def test_the_key_networks_follow_without_gradient():
    """Catches an average that lacks the dense head, and keys that learn by themselves."""
    method, views = make(momentum=0.9), (images(1), images(2))
    method.loss(views).backward()
    assert all(p.grad is None for p in method.key_networks.parameters())
    assert all(p.grad is not None for p in method.networks().parameters())
    before = [p.clone() for p in method.key_networks.parameters()]
    with torch.no_grad():
        method.update()
    slow, fast = method.key_networks.parameters(), method.networks().parameters()
    for old, new, lead in zip(before, slow, fast, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * lead)


def test_keys_are_split_for_batchnorm_and_in_order_again():
    """Catches rows that stay shuffled, and statistics of all rows."""
    torch.manual_seed(0)
    x, norm = torch.randn(9, 4).double(), nn.BatchNorm1d(4).double()
    same, twice = shuffled_keys(lambda part: (part, 2 * part), x, 3)
    assert torch.equal(same, x)
    assert torch.equal(twice, 2 * x)
    (normed,) = shuffled_keys(lambda part: (norm(part),), x, 3)
    assert int(norm.num_batches_tracked) == 3
    assert not torch.allclose(normed, norm(x))


def test_vectors_at_positions_are_those_of_a_loop():
    z, index = torch.randn(3, 5, 2), torch.tensor([[4, 0], [1, 1], [2, 3]])
    expected = torch.stack([torch.stack([z[i, j] for j in index[i]]) for i in range(3)])
    assert torch.equal(at_positions(z, index), expected)


@pytest.mark.parametrize("grid", [0, 2])
def test_maps_are_pooled_to_the_grid(grid):
    """Catches a grid that only the dense vectors have, and not the features they are matched by."""
    method = make(grid=grid)
    dense, features = method.embed(method.networks(), images())[1:]
    assert dense.shape == (6, 4 if grid else 6, 5)
    h = method.encoder.map(images())
    h = F.adaptive_avg_pool2d(h, 2) if grid else h
    torch.testing.assert_close(features, h.flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    ("name", "positions", "options"),
    [
        ("small", 4, {"width": 2}),
        ("spatial_resnet", 64, {"width": 2, "gray": True}),
        ("vit", 64, {"width": 12, "depth": 1}),
        ("vit_tiny", 64, {"registers": 2}),
        ("patches", 49, {"width": 2}),
        ("lenet", 25, {}),
        ("unet", 64, {"width": 8}),
        ("rnn", 64, {"width": 4}),
    ],
)
def test_every_encoder_with_a_map_fits(name, positions, options, monkeypatch):
    """Catches class tokens and registers among the positions, and patches side by side as a map."""
    monkeypatch.undo()
    side = 8 if name == "rnn" else 32
    encoder = build(name, 3, (side, side), **options)
    shape = 3, side, side
    method = DenseCL(encoder, dim=4, queue_size=8, shape=shape, augment=RandomAffine())
    x = torch.rand(4, *shape)
    assert method.embed(method.networks(), x)[1].shape == (4, positions, 4)
    encoder.eval()
    torch.testing.assert_close(encoder.map_and_features(x)[1], encoder(x))
    assert method.train().loss((x, x)).isfinite()


def test_an_encoder_without_positions_is_refused():
    """Catches a dense loss that is silently the global one."""
    flat = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    with pytest.raises(UserError, match="densecl needs an encoder with a feature map"):
        DenseCL(build(flat, 1, (16, 16)), shape=(1, 16, 16))
    with pytest.raises(UserError, match="is 1×1, of which densecl compares no positions"):
        DenseCL(build("small", 1, (16, 16), width=2), shape=(1, 16, 16))
    with pytest.raises(UserError, match="grid is 3, but the encoder's feature map is 2×3"):
        make(grid=3)
    with pytest.raises(UserError, match="dense_weight is 2"):
        make(dense_weight=2.0)
    assert registry.find("methods", "densecl") is DenseCL
