"""Objectives against naive loops from their papers, their gradients, and a second library."""

import math

import pytest
import torch
from torch.autograd import gradcheck

from unlabeled.objectives import (
    barlow_twins,
    cosine_distance,
    info_nce,
    nt_xent,
    siamese,
    sup_con,
    vicreg,
)


def naive_nt_xent(a, b, temperature):
    """SimCLR's algorithm 1, line by line: z_{2k−1} and z_{2k} are the views of image k."""
    n = len(a)
    z = [v for pair in zip(a, b, strict=True) for v in pair]

    def s(i, j):
        return torch.dot(z[i], z[j]) / (z[i].norm() * z[j].norm())

    def ell(i, j):
        below = sum(torch.exp(s(i, k) / temperature) for k in range(2 * n) if k != i)
        return -torch.log(torch.exp(s(i, j) / temperature) / below)

    return sum(ell(2 * k, 2 * k + 1) + ell(2 * k + 1, 2 * k) for k in range(n)) / (2 * n)


def naive_few(a, b, temperature, negatives, keep_positive):
    """The sum has the other views of the images that follow, and optionally the positive."""
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


def test_nt_xent_is_invariant_to_scale_and_order():
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


def test_nt_xent_refuses_wrong_arguments():
    a, b = pair()
    with pytest.raises(ValueError, match="above 0"):
        nt_xent(a, b, 0.0)
    from jaxtyping import TypeCheckError

    with pytest.raises((ValueError, TypeCheckError)):
        nt_xent(a, b[:3], 0.5)


@pytest.mark.parametrize("keep_positive", [True, False])
@pytest.mark.parametrize("negatives", [1, 2, 5])
def test_few_negatives_are_the_images_that_follow(negatives, keep_positive):
    a, b = pair()
    expected = naive_few(a, b, 0.3, negatives, keep_positive)
    torch.testing.assert_close(nt_xent(a, b, 0.3, negatives, keep_positive), expected)
    arguments = (a.requires_grad_(), b.requires_grad_(), 0.3, negatives, keep_positive)
    assert gradcheck(nt_xent, arguments)


def test_few_negatives_need_no_copies_of_rows():
    """Catches a tensor of negatives × dimensions for each view: 67 MB for a batch of 256."""
    a, b = torch.randn(2, 16, 64, requires_grad=True)
    sizes: list[int] = []

    def keep(saved):
        sizes.append(saved.numel())
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        nt_xent(a, b, 0.5, negatives=15)
    assert max(sizes) <= 32 * 64


def test_the_positive_can_be_excluded_from_the_sum():
    a, b = pair()
    z = torch.nn.functional.normalize(torch.cat([a, b]), dim=1)
    e = torch.exp(z @ z.T / 0.5)
    total = 0
    for i in range(12):
        j = (i + 6) % 12
        total = total - torch.log(e[i, j] / sum(e[i, k] for k in range(12) if k not in (i, j)))
    torch.testing.assert_close(nt_xent(a, b, keep_positive=False), total / 12)


def test_without_negatives_only_the_attraction_is_left():
    """Catches the logarithm of an empty sum, −1e30, as the loss of a single pair."""
    a, b = torch.randn(2, 6, 4)
    cosines = torch.cosine_similarity(a, b)
    torch.testing.assert_close(nt_xent(a, b, 0.2, negatives=0), -cosines.mean() / 0.2)
    alone = nt_xent(a[:1], b[:1], 0.2, keep_positive=False)
    torch.testing.assert_close(alone, -cosines[0] / 0.2)


@pytest.mark.parametrize("negatives", [6, -1])
def test_too_many_negatives_are_refused(negatives):
    with pytest.raises(ValueError, match="0 to 5 negatives"):
        nt_xent(*pair(), negatives=negatives)


def naive_info_nce(a, b, temperature, negatives=None):
    """The softmax runs over the candidates of one query; its own key is among them once."""
    total = 0
    for i in range(len(a)):
        others = negatives if negatives is not None else [b[k] for k in range(len(b)) if k != i]
        own = torch.exp(torch.dot(a[i], b[i]) / temperature)
        below = own + sum(torch.exp(torch.dot(a[i], k) / temperature) for k in others)
        total = total - torch.log(own / below)
    return total / len(a)


def naive_cosine_distance(a, b):
    """BYOL's eq. 2: the squared distance of the normalized rows."""
    return sum(((u / u.norm() - v / v.norm()) ** 2).sum() for u, v in zip(a, b, strict=True)) / len(
        a
    )


def naive_vicreg(a, b, lam, mu, nu, paper):
    """Bardes et al.'s eq. 1–6 on scalars; or, if not `paper`, their code's two means."""
    n, d = a.shape
    spread, redundancy = [], 0
    for z in (a, b):
        mean = [sum(z[i, j] for i in range(n)) / n for j in range(d)]

        def covariance(j, k, z=z, mean=mean):
            return sum((z[i, j] - mean[j]) * (z[i, k] - mean[k]) for i in range(n)) / (n - 1)

        hinges = [torch.relu(1 - torch.sqrt(covariance(j, j) + 1e-4)) for j in range(d)]
        spread.append(sum(hinges) / d)
        off = [covariance(j, k) ** 2 for j in range(d) for k in range(d) if j != k]
        redundancy = redundancy + sum(off) / d
    squared = sum((a[i, j] - b[i, j]) ** 2 for i in range(n) for j in range(d))
    if paper:
        return lam * squared / n + mu * (spread[0] + spread[1]) + nu * redundancy
    return lam * squared / (n * d) + mu * (spread[0] / 2 + spread[1] / 2) + nu * redundancy


def naive_barlow(a, b, redundancy):
    """Zbontar et al.'s eq. 1 and 2: uncentered correlation of centered dimensions."""
    a, b = a - a.mean(0), b - b.mean(0)
    total = 0
    for i in range(a.shape[1]):
        for j in range(a.shape[1]):
            above = sum(a[k, i] * b[k, j] for k in range(len(a)))
            below = torch.sqrt((a[:, i] ** 2).sum()) * torch.sqrt((b[:, j] ** 2).sum())
            c = above / below
            total = total + ((1 - c) ** 2 if i == j else redundancy * c**2)
    return total


def naive_sup_con(z, y, temperature):
    """Khosla et al.'s eq. 2, the sum over positives outside of the logarithm."""
    z = [v / v.norm() for v in z]
    losses = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if y[p] == y[i]]
        below = sum(torch.exp(torch.dot(z[i], z[a]) / temperature) for a in others)
        logs = [
            torch.log(torch.exp(torch.dot(z[i], z[p]) / temperature) / below) for p in positives
        ]
        if positives:
            losses.append(-sum(logs) / len(positives))
    return sum(losses) / len(losses)


def naive_siamese(z, y, weight):
    near, far = [], []
    for i in range(len(z)):
        for j in range(i):
            squared = ((z[i] - z[j]) ** 2).sum()
            (near if y[i] == y[j] else far).append(
                squared if y[i] == y[j] else torch.relu(1 - squared)
            )
    return weight * sum(near) / len(near) + sum(far) / len(far)


LABELS = torch.tensor([0, 1, 0, 2, 1, 0])  # 2 has no positive
TWO_VIEWS = {
    "cosine_distance": (cosine_distance, naive_cosine_distance),
    "info_nce": (lambda a, b: info_nce(a, b, 0.3), lambda a, b: naive_info_nce(a, b, 0.3)),
    "vicreg": (
        lambda a, b: vicreg(a, b, 2.0, 3.0, 5.0),
        lambda a, b: naive_vicreg(a, b, 2, 3, 5, False),
    ),
    # BatchNorm adds 1e-5 to the variance, which is negligible at deviations of 100.
    "barlow_twins": (
        lambda a, b: barlow_twins(100 * a, 100 * b, 0.1),
        lambda a, b: naive_barlow(a, b, 0.1),
    ),
    "sup_con": (lambda a, b: sup_con(a, LABELS, 0.3), lambda a, b: naive_sup_con(a, LABELS, 0.3)),
    "siamese": (lambda a, b: siamese(a, LABELS, 0.7), lambda a, b: naive_siamese(a, LABELS, 0.7)),
}


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize("name", TWO_VIEWS)
def test_objectives_equal_their_papers(name, scale):
    ours, naive = TWO_VIEWS[name]
    a, b = (scale * v for v in pair())
    assert abs(ours(a, b) - naive(a, b)) < 1e-6


@pytest.mark.parametrize("name", TWO_VIEWS)
def test_objectives_pass_gradcheck(name):
    a, b = (0.4 * v for v in pair())
    assert gradcheck(TWO_VIEWS[name][0], (a.requires_grad_(), b.requires_grad_()))


def test_info_nce_with_a_queue_equals_the_paper():
    (a, b), (queue, _) = pair(), pair(9, 5, seed=1)
    assert abs(info_nce(a, b, 0.3, queue) - naive_info_nce(a, b, 0.3, queue)) < 1e-6
    assert gradcheck(
        lambda a, b, k: info_nce(a, b, 0.3, k), [v.requires_grad_() for v in (a, b, queue)]
    )


def test_info_nce_equals_cross_entropy():
    (a, b), (queue, _) = pair(), pair(9, 5, seed=1)
    theirs = torch.nn.functional.cross_entropy(a @ b.T / 0.3, torch.arange(6))
    torch.testing.assert_close(info_nce(a, b, 0.3), theirs)
    scores = torch.cat([(a * b).sum(1, keepdim=True), a @ queue.T], 1) / 0.3
    theirs = torch.nn.functional.cross_entropy(scores, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(info_nce(a, b, 0.3, negatives=queue), theirs)


def test_vicreg_of_the_paper_has_other_weights():
    """The paper's λ, μ, ν are λ·d, 2μ, ν of the authors' code, which is the convention here."""
    a, b = (0.5 * v for v in pair())
    paper = naive_vicreg(a, b, 2, 3, 5, paper=True)
    assert abs(vicreg(a, b, 2.0 * a.shape[1], 2 * 3.0, 5.0) - paper) < 1e-6
    assert abs(vicreg(a, b, 2.0, 3.0, 5.0) - paper) > 1


def test_vicreg_weights_switch_their_terms_off():
    a, b = (0.5 * v for v in pair())
    parts = [
        vicreg(a, b, *weights) for weights in ((2.0, 0.0, 0.0), (0.0, 3.0, 0.0), (0.0, 0.0, 5.0))
    ]
    assert all(part > 0.01 for part in parts)
    torch.testing.assert_close(sum(parts), vicreg(a, b, 2.0, 3.0, 5.0))
    assert vicreg(a, a, 2.0, 0.0, 0.0) == 0
    assert vicreg(10 * a, 10 * b, 0.0, 3.0, 0.0) == 0  # deviations above 1 cost nothing
    assert vicreg(a, b, 0.0, 0.0, 0.0) == 0


def test_vicreg_has_a_gradient_at_collapse():
    """The hinge is on the deviation; one on the variance would have no gradient here."""
    a, b = (1 + 1e-3 * v for v in pair())
    (slope,) = torch.autograd.grad(vicreg(a.requires_grad_(), b, 0.0, 1.0, 0.0), a)
    (flat,) = torch.autograd.grad(torch.relu(1 - a.var(0)).mean(), a)
    assert slope.norm() > 20 * flat.norm() > 0


def test_vicreg_and_barlow_twins_are_invariant_to_the_mean():
    a, b = pair()
    torch.testing.assert_close(vicreg(a + 7, b + 7), vicreg(a, b))
    torch.testing.assert_close(barlow_twins(a + 7, b - 3), barlow_twins(a, b))


def test_barlow_twins_equals_numpys_correlation():
    """With deviations over n; a view agrees with itself up to BatchNorm's 1e-5."""
    a, b = (100 * v for v in pair(12, 4))
    c = torch.corrcoef(torch.cat([a, b], 1).T)[:4, 4:]
    eye = torch.eye(4, dtype=torch.bool)
    expected = ((1 - c[eye]) ** 2).sum() + 0.02 * (c[~eye] ** 2).sum()
    assert abs(barlow_twins(a, b, 0.02) - expected) < 1e-6
    assert barlow_twins(a, a, 0.0) < 1e-12


def test_cosine_distance_of_parallel_and_opposite_rows():
    a, b = pair()
    assert cosine_distance(a, 3 * a).item() == pytest.approx(0, abs=1e-12)
    assert cosine_distance(a, -a).item() == pytest.approx(4)
    torch.testing.assert_close(cosine_distance(a, 5 * b), cosine_distance(a, b))


def test_sup_con_of_images_that_are_their_own_class_is_nt_xent():
    a, b = pair(8, 5)
    y = torch.arange(8).repeat(2)
    torch.testing.assert_close(sup_con(torch.cat([a, b]), y, 0.2), nt_xent(a, b, 0.2))


def test_sup_con_and_siamese_without_a_pair_are_zero_with_a_gradient():
    z = pair()[0].requires_grad_()
    alone = sup_con(z, torch.arange(6))
    assert alone == 0
    assert torch.autograd.grad(alone, z)[0].isfinite().all()
    for y in (torch.arange(6), torch.zeros(6, dtype=torch.long)):
        assert torch.autograd.grad(siamese(z, y), z)[0].isfinite().all()


def test_two_objectives_equal_pytorch_metric_learning():
    """SupCon averages over rows with a positive in both; its VICReg follows the authors' code."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    a, b = pair(24, 8)
    y = torch.arange(24) % 5
    torch.testing.assert_close(sup_con(a, y, 0.2), losses.SupConLoss(0.2)(a, y))
    a, b = 0.5 * a, 0.5 * b
    theirs = losses.VICRegLoss(10, 20, 3)(a, ref_emb=b)
    torch.testing.assert_close(vicreg(a, b, 10.0, 20.0, 3.0), theirs)


def test_siamese_equals_pytorch_metric_learning():
    """With squared distances, a margin of 1, and means over all pairs of either kind."""
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.reducers import MeanReducer

    z, y = 0.3 * pair(24, 8)[0], torch.arange(24) % 5
    distance = LpDistance(normalize_embeddings=False, p=2, power=2)
    theirs = losses.ContrastiveLoss(0, 1, distance=distance, reducer=MeanReducer())
    torch.testing.assert_close(siamese(z, y), theirs(z, y))


@pytest.mark.parametrize("name", TWO_VIEWS)
def test_objectives_stay_in_full_precision_under_autocast(name):
    a, b = (0.4 * v for v in pair(dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        inside = TWO_VIEWS[name][0](a, b)
        low = TWO_VIEWS[name][0](a.bfloat16(), b.bfloat16())
    assert inside.dtype == low.dtype == torch.float32
    assert low.isfinite()
    assert torch.equal(inside, TWO_VIEWS[name][0](a, b))


def test_keyword_arguments_are_upcast():
    (a, b), (queue, _) = (pair(dtype=torch.bfloat16), pair(9, 5, 1, torch.bfloat16))
    named = info_nce(a=a, b=b, temperature=0.3, negatives=queue)
    assert torch.equal(named, info_nce(a.float(), b.float(), 0.3, queue.float()))
