"""Methods with a queue of past embeddings, each against its paper: naive loops, and traps."""

import pytest
import torch
from two_views import images, make, two_views, unit, updated

from unlabeled.augmentations import RandomErasing
from unlabeled.core import Batch
from unlabeled.encoders.memory import Queue, nearest
from unlabeled.objectives import cosine_distance


@pytest.fixture(autouse=True)
def in_float64(monkeypatch):
    """What a method computes in full precision is computed in float64."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def test_the_nearest_rows_are_those_of_a_loop():
    """Catches neighbors of the smallest similarity, and rows in another order."""
    torch.manual_seed(0)
    rows, z = unit(torch.randn(9, 4).double()), unit(torch.randn(5, 4).double())
    result = nearest(rows, z, 3)
    assert result.shape == (5, 3, 4)
    for i in range(5):
        order = sorted(range(9), key=lambda k: -torch.dot(z[i], rows[k]).item())
        assert torch.equal(result[i], rows[order[:3]])
    assert nearest(rows, z, 12).shape == (5, 9, 4)


@pytest.mark.parametrize("number", [2, 3, 7, 12])
def test_a_queue_after_rows_is_what_it_becomes(number):
    """Catches a preview that changes the queue, and one of other rows than those replaced."""
    torch.manual_seed(0)
    queue = Queue(7, 3)
    for _ in range(4):
        z, before = torch.randn(number, 3), queue.rows.clone()
        preview = queue.after(z)
        assert torch.equal(queue.rows, before)
        queue.enqueue(z)
        if number < 7:
            assert torch.equal(queue.rows, preview)
        else:  # all of a batch that does not fit can be neighbors
            assert torch.equal(preview, z)
            assert set(map(tuple, queue.rows.tolist())) == set(map(tuple, z[:7].tolist()))


def test_the_latest_of_a_queue_are_no_random_ones():
    """Catches random rows of the start, and rows that are lost once the queue is full."""
    queue, z = Queue(7, 3), torch.randn(12, 3)
    for first, wanted in ((0, z[:3]), (3, z[:6]), (6, torch.cat([z[7:9], z[2:7]]))):
        queue.enqueue(z[first : first + 3])
        assert torch.equal(queue.latest(), wanted)


def test_the_nearest_of_a_target_is_itself_whatever_the_queue():
    """Catches targets beyond the queue's size, which got those of other images."""
    method = make("mean_shift", dim=5, hidden_dim=7, queue_size=3, neighbors=1)
    x = two_views()
    p, t = unit(method.predictor(method.project(x[0]))), unit(method.target(x[1]))
    expected = ((p - t) ** 2).sum(1).mean().item()
    assert method.loss(x).item() == pytest.approx(expected, rel=1e-5)


# NNCLR


def test_nnclr_equals_algorithm_1():
    """Catches neighbors of the same view, a softmax over neighbors, and a sum of both views."""
    method = make("nnclr", dim=5, hidden_dim=7, predictor_dim=6, queue_size=11)
    views = two_views()
    for _ in range(3):
        expected = 0.0
        for x, other in (views, views[::-1]):
            z, p = unit(method.project(x)), unit(method.predictor(method.project(other)))
            for i in range(8):
                near = max(method.queue.rows, key=lambda row: torch.dot(row, z[i]).item())
                scores = [torch.exp(torch.dot(near, p[k]) / 0.1) for k in range(8)]
                expected -= torch.log(scores[i] / sum(scores)).item() / 16
        assert method.loss(views).item() == pytest.approx(expected, rel=1e-5)
        updated(method, views)


def test_nnclr_enqueues_first_views_after_the_loss():
    """Catches embeddings that are their own neighbors, those of second views, and predictions."""
    method, views = make("nnclr", dim=5, queue_size=20), two_views()
    method.loss(views)
    before = method.queue.rows.clone()
    z = unit(method.project(views[0]))
    assert (z @ before.T).max() < 0.999
    updated(method, views)
    torch.testing.assert_close(method.queue.rows[:8], z, atol=1e-6, rtol=0)
    assert torch.equal(method.queue.rows[8:], before[8:])


def test_nnclr_has_a_gradient_through_predictions_only():
    """Catches a gradient that reaches the encoder through the neighbors' view."""
    method = make("nnclr", dim=5)
    weights = [*method.encoder.parameters()]
    assert all(g.any() for g in torch.autograd.grad(method.loss(two_views()), weights))
    torch.nn.init.zeros_(method.predictor[0].weight)  # predictions know nothing of the view
    assert not any(g.any() for g in torch.autograd.grad(method.loss(two_views()), weights))


# TiCo


def test_tico_equals_algorithm_1():
    """Catches a covariance without the batch, centered, of targets, or updated before the loss."""
    method = make("tico", dim=4, hidden_dim=6, covariance_momentum=0.7, contrast=3.0)
    apart(method.target)
    views, c = two_views(), torch.zeros(4, 4).double()
    for _ in range(3):
        z, t = unit(method.project(views[0])), unit(method.target(views[1]))
        c = 0.7 * c + 0.3 * sum(torch.outer(row, row) for row in z) / 8
        expected = sum(1 - z[i] @ t[i] + 3 * z[i] @ c @ z[i] for i in range(8)) / 8
        loss = method.loss(views)
        torch.testing.assert_close(loss, expected)
        slopes = [torch.autograd.grad(x, method.encoder.parameters()) for x in (loss, expected)]
        for ours, naive in zip(*slopes, strict=True):  # through the batch's share of C, too
            torch.testing.assert_close(ours, naive)
        c = c.detach()
        updated(method, views)
        torch.testing.assert_close(method.covariance, c)


def apart(slow: torch.nn.Module) -> None:
    """Weights that differ from those of the trained network."""
    with torch.no_grad():
        for p in slow.parameters():
            p.add_(0.1 * torch.randn_like(p))


@pytest.mark.parametrize("name", ["tico", "ressl", "mean_shift", "smog"])
def test_the_momentum_network_follows_without_gradient(name):
    """Catches a target that learns by itself, stays, or is a copy."""
    method = make(name, momentum=0.9, dim=4)
    slow = method.get_submodule("teacher" if name == "ressl" else "target")
    fast = torch.nn.Sequential(method.encoder, method.projector)
    apart(slow)
    method.loss(two_views()).backward()
    assert all(p.grad is None for p in slow.parameters())
    before = [p.clone() for p in slow.parameters()]
    with torch.no_grad():
        method.update()
    for old, new, lead in zip(before, slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * lead)
        assert not torch.equal(new, old)


# ReSSL


def test_ressl_equals_algorithm_1():
    """Catches temperatures or views exchanged, a gradient of the teacher, keys that enter early."""
    method = make("ressl", dim=5, hidden_dim=6, queue_size=9)
    apart(method.teacher)
    strong, weak = two_views()
    for _ in range(3):
        q, k, expected = unit(method.project(strong)), unit(method.teacher(weak)), 0.0
        for i in range(8):
            student = [torch.exp(q[i] @ row / 0.1) for row in method.queue.rows]
            teacher = [torch.exp(k[i] @ row / 0.04) for row in method.queue.rows]
            for s, t in zip(student, teacher, strict=True):
                expected = expected - t / sum(teacher) * torch.log(s / sum(student)) / 8
        torch.testing.assert_close(method.loss((strong, weak)), expected)
        updated(method, (strong, weak))
    torch.testing.assert_close(method.keys, method.queue.rows[[7, 8, 0, 1, 2, 3, 4, 5]])


@pytest.mark.parametrize("name", ["ressl", "mean_shift"])
def test_the_teacher_sees_the_weak_view(name):
    """Catches views that are exchanged, or augmented alike."""
    method = make(name, augment=RandomErasing(2.0), weak=RandomErasing(0.0))
    x = images()
    strong, weak = method.views(Batch(x, torch.arange(8)))
    assert torch.equal(weak, x)
    assert not strong.any()


# Mean shift


def test_mean_shift_equals_the_paper():
    """Catches neighbors of the prediction, without the target itself, or of the old queue."""
    method = make("mean_shift", dim=5, hidden_dim=6, queue_size=11, neighbors=3)
    apart(method.target)
    strong, weak = two_views()
    for step in range(3):
        p = unit(method.predictor(method.project(strong)))
        t = unit(method.target(weak))
        bank = method.queue.rows.clone()
        for i in range(8):  # the oldest are replaced
            bank[(8 * step + i) % 11] = t[i]
        expected = 0.0
        for i in range(8):
            near = sorted(bank, key=lambda row, i=i: (row - t[i]).norm().item())[:3]
            assert torch.equal(near[0], t[i])
            expected = expected + sum((p[i] - row).pow(2).sum() for row in near) / 3 / 8
        torch.testing.assert_close(method.loss((strong, weak)), expected)
        updated(method, (strong, weak))
        torch.testing.assert_close(method.queue.rows, bank)


def test_mean_shift_with_one_neighbor_is_byol_in_one_direction():
    """Catches a target that is not its own nearest neighbor."""
    method = make("mean_shift", dim=5, neighbors=1)
    apart(method.target)
    strong, weak = two_views()
    p = method.predictor(method.project(strong))
    torch.testing.assert_close(method.loss((strong, weak)), cosine_distance(p, method.target(weak)))
