"""Objectives against naive loops from their papers, their gradients, and a second library."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from unlabeled.objectives import nt_xent


def naive_nt_xent(a, b, temperature):
    """SimCLR's algorithm 1, line by line: z_{2k−1} and z_{2k} are the views of picture k."""
    n = len(a)
    z = [v for pair in zip(a, b, strict=True) for v in pair]

    def s(i, j):
        return torch.dot(z[i], z[j]) / (z[i].norm() * z[j].norm())

    def ell(i, j):
        below = sum(torch.exp(s(i, k) / temperature) for k in range(2 * n) if k != i)
        return -torch.log(torch.exp(s(i, j) / temperature) / below)

    return sum(ell(2 * k, 2 * k + 1) + ell(2 * k + 1, 2 * k) for k in range(n)) / (2 * n)


def naive_few(a, b, temperature, negatives, keep_positive):
    """The sum has only the other view of the pictures that follow, and perhaps the positive."""
    n = len(a)

    def e(u, v):
        return torch.exp(torch.dot(u, v) / (u.norm() * v.norm()) / temperature)

    total = 0
    for own, other in ((a, b), (b, a)):
        for i in range(n):
            below = sum(e(own[i], other[(i + k) % n]) for k in range(1, negatives + 1))
            below = below + (e(own[i], other[i]) if keep_positive else 0)
            total = total - torch.log(e(own[i], other[i]) / below)
    return total / (2 * n)


def pair(n=6, d=5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, n, d, generator=generator, dtype=dtype).unbind(0)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
@pytest.mark.parametrize(("n", "d"), [(1, 3), (2, 2), (7, 5)])
def test_nt_xent_equals_the_paper(n, d, temperature):
    a, b = pair(n, d)
    expected = naive_nt_xent(a, b, temperature)
    assert abs(nt_xent(a, b, temperature) - expected) < 1e-6


def test_nt_xent_gradient():
    a, b = (v.clone().requires_grad_() for v in pair())
    assert gradcheck(lambda a, b: nt_xent(a, b, 0.3), (a, b))


def test_nt_xent_gradient_equals_that_of_the_paper():
    grads = []
    for loss in (nt_xent, naive_nt_xent):
        a, b = (v.clone().requires_grad_() for v in pair(5, 4, seed=1))
        grads.append(torch.autograd.grad(loss(a, b, 0.2), (a, b)))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-7)


def test_nt_xent_does_not_care_about_scale_or_order():
    a, b = pair(8, 4)
    loss = nt_xent(a, b, 0.5)
    torch.testing.assert_close(nt_xent(3 * a, 0.2 * b, 0.5), loss)
    order = torch.randperm(8)
    torch.testing.assert_close(nt_xent(a[order], b[order], 0.5), loss)
    torch.testing.assert_close(nt_xent(b, a, 0.5), loss)
    assert not torch.isclose(nt_xent(a[order], b, 0.5), loss)


def test_nt_xent_of_equal_features_is_the_log_of_the_candidates():
    same = torch.ones(9, 3, dtype=torch.float64)
    assert nt_xent(same, same, 0.1).item() == pytest.approx(math.log(17))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_equals_pytorch_metric_learning(temperature):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    a, b = pair(32, 16)
    labels = torch.arange(32).repeat(2)
    theirs = losses.NTXentLoss(temperature)(torch.cat([a, b]), labels)
    torch.testing.assert_close(nt_xent(a, b, temperature), theirs)


def test_losses_stay_in_full_precision_under_autocast():
    a, b = pair(16, 8, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = nt_xent(a, b, 0.1)
        low = nt_xent(a.bfloat16(), b.bfloat16(), 0.1)
    assert inside.dtype == low.dtype == torch.float32
    assert torch.equal(inside, nt_xent(a, b, 0.1))


def test_nt_xent_refuses_what_it_cannot_mean():
    a, b = pair()
    with pytest.raises(ValueError, match="above 0"):
        nt_xent(a, b, 0.0)
    from jaxtyping import TypeCheckError

    with pytest.raises((ValueError, TypeCheckError)):
        nt_xent(a, b[:3], 0.5)


@pytest.mark.parametrize("keep_positive", [True, False])
@pytest.mark.parametrize("negatives", [1, 2, 5])
def test_few_negatives_are_the_pictures_that_follow(negatives, keep_positive):
    a, b = pair()
    expected = naive_few(a, b, 0.3, negatives, keep_positive)
    torch.testing.assert_close(nt_xent(a, b, 0.3, negatives, keep_positive), expected)
    arguments = (a.requires_grad_(), b.requires_grad_(), 0.3, negatives, keep_positive)
    assert gradcheck(nt_xent, arguments)


def test_the_positive_can_be_left_out_of_the_sum():
    a, b = pair()
    z = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    e = torch.exp(z @ z.T / 0.5)
    total = 0
    for i in range(12):
        j = (i + 6) % 12
        total = total - torch.log(e[i, j] / sum(e[i, k] for k in range(12) if k not in (i, j)))
    torch.testing.assert_close(nt_xent(a, b, keep_positive=False), total / 12)


@pytest.mark.parametrize("negatives", [0, 6, -1])
def test_negatives_must_be_there(negatives):
    with pytest.raises(ValueError, match="1 to 5 negatives"):
        nt_xent(*pair(), negatives=negatives)
