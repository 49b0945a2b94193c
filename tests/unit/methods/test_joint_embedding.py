"""The joint-embedding methods, each against its paper: naive loops, and traps others fell into.

With them what they stand on: LARS and clipping, the transformer, batches of groups and of few
labels. The objectives have a file of their own.
"""

import copy
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unlabeled as ul
from unlabeled import parallel, registry
from unlabeled.augmentations import RandomAffine, RandomHorizontalFlip
from unlabeled.augmentations.audio import RandomGain
from unlabeled.core import Batch, Method, Recipe
from unlabeled.data import loader as loading
from unlabeled.data.dataset import Samples
from unlabeled.data.readers.arrays import from_memory
from unlabeled.data.split import split
from unlabeled.encoders.base import build
from unlabeled.errors import Notice, UserError
from unlabeled.methods.supervised import Supervised
from unlabeled.objectives import barlow_twins, info_nce, nt_xent, vicreg
from unlabeled.training.optim import LARS, make_optimizer

SIZE = (32, 32)
NAMES = (
    *("moco", "byol", "simsiam", "dino", "vicreg", "barlow_twins", "swav", "simclr"),
    *("supervised_contrastive", "instance_discrimination", "pirl"),
)


def plain() -> nn.Module:
    """An encoder of any size of images without BatchNorm: every row goes by itself."""
    return build(nn.Sequential(nn.Conv2d(1, 6, 8, 8), nn.Tanh(), Mean()), 1, SIZE)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


def make(name: str, encoder: nn.Module | None = None, **arguments) -> Method:
    torch.manual_seed(0)
    encoder = encoder or build("small", 1, SIZE, width=2)
    return registry.find("methods", name)(encoder, **{"augment": RandomAffine()} | arguments)


def images(n: int = 8, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 1, *SIZE, generator=torch.Generator().manual_seed(seed))


def a_batch(n: int = 8, seed: int = 1) -> Batch:
    return Batch(images(n, seed), torch.arange(n))


def two_views(n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return images(n, 1), images(n, 2)


def weights(module: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def gradient(loss: torch.Tensor, module: nn.Module) -> torch.Tensor:
    result = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    return torch.cat([g.flatten() for g in result])


def step(method: Method, views) -> None:
    """One of plain gradient descent, and what follows."""
    method.zero_grad()
    method.loss(views).backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
        method.update()


def cos(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.dot(u, v) / (u.norm() * v.norm())


@pytest.mark.parametrize("n", [7, 12])
@pytest.mark.parametrize("name", NAMES)
def test_in_low_precision_the_loss_is_not(name, n):
    """A whole step under autocast: loss and state in float32 and finite, in odd batches as well."""
    method = make(name)
    y = torch.arange(n) % 3 if method.supervised else None
    views = method.views(Batch(images(n), torch.arange(n), y))
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(views)
        loss.backward()
        with torch.no_grad():
            method.update()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients
    for value in (*gradients, *method.state_dict().values()):
        assert value.dtype in (torch.float32, torch.int64)
        assert value.isfinite().all()


@pytest.mark.parametrize("name", ["moco", "byol", "dino"])
def test_a_slow_network_starts_as_a_copy_takes_no_gradient_and_follows(name):
    method = make(name, momentum=0.9)
    slow = {"dino": "teacher", "byol": "target", "moco": "key_encoder"}[name]
    slow = method.get_submodule(slow)
    head = {"dino": None, "byol": "projector", "moco": "head"}[name]
    fast = nn.Sequential(method.encoder, getattr(method, head)) if head else method.student
    before = weights(slow)
    assert all(torch.equal(s, f) for s, f in zip(before, fast.parameters(), strict=True))
    step(method, method.views(a_batch()))
    assert all(p.grad is None and not p.requires_grad for p in slow.parameters())
    moved = 0
    for old, new, lead in zip(before, slow.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * lead)
        moved += int(not torch.equal(old, new))
    assert moved


# MoCo


def test_moco_versions_differ_in_their_head():
    assert isinstance(make("moco", version="v1").head, nn.Linear)
    assert [type(layer) for layer in make("moco").head].count(nn.Linear) == 2


@pytest.mark.parametrize("splits", [1, 3, 8])
@pytest.mark.parametrize("n", [1, 2, 7, 12, 25])
def test_moco_keys_come_back_in_the_order_of_their_images(n, splits):
    method = make("moco", plain(), version="v1", bn_splits=splits)
    x = images(n)
    torch.testing.assert_close(method.embed_keys(x), F.normalize(method.key_encoder(x), dim=1))


def test_moco_keys_are_normalized_by_shuffled_parts():
    """What BatchNorm tells of a key's part tells nothing of its query, and differs each time."""
    method = make("moco", bn_splits=3)
    x, parts = images(12), []
    method.key_encoder.module[0].register_forward_pre_hook(
        lambda _, inputs: parts.append(inputs[0])
    )
    first, again = method.embed_keys(x), method.embed_keys(x)
    assert not torch.allclose(first, again)
    assert [len(part) for part in parts] == [4] * 6
    assert not torch.equal(torch.cat(parts[:3]), x)
    assert {p.sum().item() for p in torch.cat(parts[:3])} == {p.sum().item() for p in x}
    full = make("moco", bn_splits=1)
    torch.testing.assert_close(full.embed_keys(x), F.normalize(full.key_encoder(x), dim=1))


@pytest.mark.parametrize("splits", [2, 8])
def test_no_part_of_moco_is_a_single_image(splits):
    """BatchNorm knows no deviation of one."""
    method = make("moco", bn_splits=splits)
    for n in (*range(2, 35), 57):
        assert method.embed_keys(images(n)).isfinite().all()


def test_moco_equals_algorithm_1():
    """The own key is the positive, the queue as it was before are the negatives."""
    method = make("moco", plain(), version="v1", dim=5, queue_size=9, temperature=0.3)
    x_q, x_k = two_views()
    for _ in range(3):
        loss, expected = method.loss((x_q, x_k)).item(), 0.0
        q, k = method.head(method.encoder(x_q)), method.key_encoder(x_k)
        for i in range(8):
            positive = torch.exp(cos(q[i], k[i]) / 0.3)
            below = sum(torch.exp(cos(q[i], row) / 0.3) for row in method.queue.rows)
            expected -= torch.log(positive / (positive + below)).item() / 8
        assert loss == pytest.approx(expected, rel=1e-5)
        with torch.no_grad():
            method.update()


def test_moco_keys_enter_after_the_loss():
    method = make("moco", queue_size=20)
    method.loss(two_views())
    keys, queue = method.keys.clone(), method.queue.rows.clone()
    assert not keys.requires_grad
    assert (keys @ queue.T).max() < 0.999
    with torch.no_grad():
        method.update()
    assert torch.equal(method.queue.rows[:8], keys)
    assert torch.equal(method.queue.rows[8:], queue[8:])


def test_moco_queue_wraps_round_and_survives_a_checkpoint():
    method = make("moco", queue_size=10, dim=4)
    seen = []
    for seed in range(5):
        if seed == 3:
            other = make("moco", queue_size=10, dim=4)
            other.load_state_dict(copy.deepcopy(method.state_dict()))
            method = other
        method.loss((images(4, seed), images(4, seed + 9)))
        seen.append(method.keys)
        with torch.no_grad():
            method.update()
    assert torch.equal(method.queue.rows, torch.cat(seen)[10:])
    assert method.queue.pointer == 0
    method.loss(two_views(16))  # more keys than places
    with torch.no_grad():
        method.update()
    assert torch.equal(method.queue.rows, method.keys[:10])


# BYOL and SimSiam


def test_byol_sums_both_directions():
    method = make("byol", dim=6, hidden_dim=8)
    x1, x2 = two_views()
    with torch.no_grad():
        for p in method.target.parameters():
            p.add_(0.05 * torch.randn_like(p))
    expected = 0.0
    for x, other in ((x1, x2), (x2, x1)):
        p, t = method.predictor(method.projector(method.encoder(x))), method.target(other)
        expected += sum(2 - 2 * cos(p[i], t[i]).item() for i in range(8)) / 8
    assert method.loss((x1, x2)).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_byol_momentum_rises_to_one_along_half_a_cosine(progress):
    method = make("byol", momentum=0.8)
    method.progress = progress
    before = weights(method.target)
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(1)
        method.update()
    momentum = 1 - 0.2 * (math.cos(math.pi * progress) + 1) / 2
    torch.testing.assert_close(next(method.target.parameters()), before[0] + 1 - momentum)


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.99])
def test_byol_without_momentum_copies_throughout(progress):
    method = make("byol", momentum=0.0)
    method.progress = progress
    step(method, two_views())
    online = nn.Sequential(method.encoder, method.projector)
    for slow, fast in zip(method.target.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(slow, fast)


def test_byol_without_stopped_gradient_moves_both_sides():
    """Where target and online net are alike and nothing predicts, the second half doubles it."""
    stopped = make("byol", plain(), predictor=False)
    through = make("byol", plain(), predictor=False, stop_gradient=False)
    through.load_state_dict(stopped.state_dict())
    assert isinstance(stopped.predictor, nn.Identity)
    losses = stopped.loss(two_views()), through.loss(two_views())
    torch.testing.assert_close(*losses)
    half, full = (
        gradient(loss, method.encoder)
        for loss, method in zip(losses, (stopped, through), strict=True)
    )
    assert half.norm() > 1e-6
    torch.testing.assert_close(full, 2 * half)


@pytest.mark.parametrize("stop_gradient", [True, False])
def test_simsiam_equals_algorithm_1(stop_gradient):
    """D(p, z) = −cos, z detached; L = D(p1, z2)/2 + D(p2, z1)/2."""
    method = make("simsiam", dim=6, hidden_dim=4, stop_gradient=stop_gradient)
    x1, x2 = two_views()
    z1, z2 = (method.projector(method.encoder(x)) for x in (x1, x2))
    p1, p2 = method.predictor(z1), method.predictor(z2)
    if stop_gradient:
        z1, z2 = z1.detach(), z2.detach()
    expected = sum(-cos(p1[i], z2[i]) / 2 - cos(p2[i], z1[i]) / 2 for i in range(8)) / 8
    loss = method.loss((x1, x2))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        gradient(loss, method.encoder), gradient(expected, method.encoder), atol=1e-5, rtol=1e-3
    )


def test_simsiam_is_between_minus_one_and_one():
    """Where the predictor says what is there, and where it says the opposite."""
    method = make("simsiam", dim=6)
    x = images()
    for sign in (1, -1):
        method.predictor = nn.Linear(6, 6, bias=False)
        method.predictor.weight.data = sign * torch.eye(6)
        assert method.loss((x, x)).item() == pytest.approx(-sign, abs=1e-5)


# VICReg, Barlow twins, SimCLR, supervised contrast


def test_vicreg_and_barlow_twins_hand_their_weights_on():
    x1, x2 = two_views()
    method = make("vicreg", dim=6, invariance=2.0, variance=3.0, covariance=5.0)
    a, b = (method.expander(method.encoder(x)) for x in (x1, x2))
    torch.testing.assert_close(method.loss((x1, x2)), vicreg(a, b, 2.0, 3.0, 5.0))
    method = make("barlow_twins", dim=6, redundancy=0.1, scale=0.5)
    a, b = (method.projector(method.encoder(x)) for x in (x1, x2))
    torch.testing.assert_close(method.loss((x1, x2)), 0.5 * barlow_twins(a, b, 0.1))


def test_supervised_contrast_of_single_images_is_simclr():
    labeled, not_so = make("supervised_contrastive", temperature=0.3), make("simclr")
    not_so.load_state_dict(labeled.state_dict())
    not_so.temperature = 0.3
    views = two_views()
    expected = not_so.loss(views)
    torch.testing.assert_close(labeled.loss((*views, torch.arange(8))), expected)
    one_class = labeled.loss((*views, torch.zeros(8, dtype=torch.long)))
    assert not torch.isclose(one_class, expected)


@pytest.mark.parametrize("option", [{"negatives": 2}, {"denominator": "tutorial"}])
def test_simclr_refuses_options_of_another_loss(option):
    """Catches a number of negatives that changes nothing."""
    with pytest.raises(UserError, match="options of nt_xent, not of triplet"):
        make("simclr", objective="triplet", **option)


def test_simclr_shows_batchnorm_both_views_together():
    method = make("simclr", dim=6, temperature=0.3)
    x1, x2 = two_views()
    together = method.head(method.encoder(torch.cat([x1, x2]))).chunk(2)
    distance = [method.head(method.encoder(x)) for x in (x1, x2)]
    torch.testing.assert_close(method.loss((x1, x2)), nt_xent(*together, 0.3))
    assert not torch.isclose(nt_xent(*distance, 0.3), nt_xent(*together, 0.3))
    assert isinstance(make("simclr", dim=0).head, nn.Identity)


# DINO


def dino(**arguments) -> Method:
    small = {"prototypes": 7, "hidden_dim": 8, "bottleneck_dim": 5, "local_crops": 3}
    return make("dino", plain(), **small | arguments)


def test_dino_equals_a_loop_over_crops():
    """The teacher on t, one of two whole views; the student on s, any other; no pair t = s."""
    method = dino(student_temperature=0.2, teacher_temperature=0.05)
    method.progress = 1.0
    with torch.no_grad():
        method.center.normal_(0, 0.1)
        for p in method.teacher.parameters():
            p.add_(0.05 * torch.randn_like(p))
    views = method.views(a_batch())
    total, pairs = 0.0, 0
    for t in range(2):
        taught = ((method.teacher(views[t]) - method.center) / 0.05).softmax(1)
        for s in range(len(views)):
            if s != t:
                outputs = (method.student(views[s]) / 0.2).softmax(1)
                total += -(taught * outputs.log()).sum(1).mean().item()
                pairs += 1
    assert pairs == 2 * 4
    assert method.loss(views).item() == pytest.approx(total / pairs, rel=1e-5)


def test_dino_crops_have_half_the_side():
    shapes = [tuple(v.shape) for v in dino().views(a_batch(4))]
    assert shapes == [(4, 1, 32, 32)] * 2 + [(4, 1, 16, 16)] * 3
    assert len(dino(local_crops=0).views(a_batch(4))) == 2


@pytest.mark.parametrize("centering", [True, False])
def test_dino_center_follows_the_teacher_after_its_use(centering):
    method = dino(centering=centering, center_momentum=0.8)
    center = torch.zeros(7)
    for seed in range(3):
        views = method.views(a_batch(8, seed))
        scores = method.teacher(torch.cat(views[:2]))
        method.loss(views)
        torch.testing.assert_close(method.center, center)
        if centering:
            center = 0.8 * center + 0.2 * scores.mean(0)
        with torch.no_grad():
            method.update()
    torch.testing.assert_close(method.center, center)
    assert centering == bool(method.center.any())


def test_dino_sharpens_by_a_lower_temperature():
    sharp, blunt = dino(teacher_temperature=0.06), dino(sharpening=False, student_temperature=0.2)
    at = [sharp.teacher_temperature(t) for t in (0.0, 1 / 6, 1 / 3, 1.0)]
    assert at == pytest.approx([0.04, 0.05, 0.06, 0.06])
    scores = torch.randn(4, 7)
    for progress in (0.0, 0.9):
        blunt.progress = progress
        torch.testing.assert_close(blunt.targets(scores), (scores / 0.2).softmax(1))


def test_dino_freezes_its_last_layer_at_first():
    method = dino(freeze_last_layer=0.1)
    views = method.views(a_batch())
    for progress, moves in ((0.0, False), (0.099, False), (0.1, True), (1.0, True)):
        method.progress = progress
        method.zero_grad()
        method.loss(views).backward()
        head = method.student[1]
        assert bool(head.prototypes.grad.any()) == moves
        assert head.body[0].weight.grad.any()


def test_dino_keeps_the_teacher():
    method = dino()
    assert method.encoder is method.teacher.module[0]
    assert method.encoder is not method.student[0]


def test_dino_entropy_tells_both_kinds_of_collapse():
    method, x = dino(), images()
    assert 0 < method.entropy(x) < 1
    with torch.no_grad():
        method.center[2] = -100
        assert method.entropy(x) == pytest.approx(0, abs=1e-6)
        method.center.zero_()
        method.teacher.module[1].prototypes.fill_(1)
        assert method.entropy(x) == pytest.approx(1, abs=1e-6)


def test_dino_draws_where_each_head_looks():
    vit = build("vit", 1, SIZE, width=12, depth=1, heads=3)
    method = make("dino", vit, prototypes=7).eval()
    x = images(2)
    drawn = method.visualize(x)["attention"]
    assert drawn.shape == (2, 1 + 3, 1, *SIZE)
    assert torch.equal(drawn[:, 0], x)
    assert drawn.min() >= 0
    torch.testing.assert_close(drawn[:, 1:].amax((2, 3, 4)), torch.ones(2, 3))
    assert dino().visualize(x) == {}


@pytest.mark.parametrize("name", ["dino", "swav", "deepclusterv2", "lejepa"])
def test_local_crops_of_recordings_are_refused_in_our_words(name):
    """Catches a pooling of a row of samples, which ends in PyTorch's words."""
    encoder = build("wave", 1, (1, 1024), width=2, context=2)
    batch = Batch(torch.randn(4, 1, 1, 1024), torch.arange(4))
    method = make(name, encoder, augment=RandomGain(), local_crops=2)
    with pytest.raises(UserError, match="1×1024 cannot be halved; give --local-crops 0"):
        method.views(batch)
    method = make(name, encoder, augment=RandomGain(), local_crops=0)
    assert method.loss(method.views(batch)).isfinite()


# SwAV


@pytest.mark.parametrize("rounds", [1, 3])
def test_swav_assigns_as_algorithm_1(rounds):
    method = make("swav", sinkhorn_iterations=rounds, epsilon=0.2)
    scores = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).double()
    q = torch.exp(scores / 0.2).T  # (K, B)
    q = q / q.sum()
    for _ in range(rounds):
        for k in range(4):
            q[k] = q[k] / q[k].sum() / 4
        for b in range(6):
            q[:, b] = q[:, b] / q[:, b].sum() / 6
    result = method.sinkhorn(scores)
    assert (result - 6 * q.T).abs().max() < 1e-6
    torch.testing.assert_close(result.sum(1), torch.ones(6).double())


def test_swav_uses_all_prototypes_alike():
    scores = torch.randn(12, 4)
    scores[:, 0] += 3  # of which all would choose the first
    used = make("swav", sinkhorn_iterations=200, epsilon=0.5).sinkhorn(scores).sum(0)
    torch.testing.assert_close(used, torch.full((4,), 3.0), atol=1e-3, rtol=0)


def test_swav_stays_finite_however_sharp():
    scores = torch.tensor([[1.0, 0.9], [0.1, 0.0], [-1.0, -0.9]])
    shares = make("swav", epsilon=0.001).sinkhorn(scores)
    torch.testing.assert_close(shares.sum(1), torch.ones(3))


def test_swav_predicts_the_other_view_and_not_its_assignment():
    method = make("swav", dim=5, prototypes=4, temperature=0.3)
    method.progress = 1.0
    x1, x2 = two_views()
    z = F.normalize(method.head(method.encoder(torch.cat([x1, x2]))), dim=1)
    a, b = (z @ method.prototypes.T).chunk(2)
    expected = 0
    for scores, other in ((a, b), (b, a)):
        assigned = method.sinkhorn(other)
        assert not assigned.requires_grad
        for i in range(8):
            p = torch.exp(scores[i] / 0.3) / torch.exp(scores[i] / 0.3).sum()
            expected = expected - (assigned[i] * p.log()).sum() / 8 / 2
    loss = method.loss((x1, x2))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient(loss, method.encoder), gradient(expected, method.encoder))


def test_swav_prototypes_stay_on_the_sphere_and_at_first_where_they_are():
    method = make("swav", prototypes=4, freeze_prototypes=0.5)
    start = method.prototypes.detach().clone()
    for progress, moves in ((0.0, False), (0.49, False), (0.5, True)):
        method.progress = progress
        step(method, two_views())
        assert torch.allclose(method.prototypes, start, atol=1e-6) != moves
        torch.testing.assert_close(method.prototypes.norm(dim=1), torch.ones(4))


# Memory banks


@pytest.mark.parametrize("name", ["instance_discrimination", "pirl"])
def test_only_rows_of_seen_images_move(name):
    method = make(name, bank_size=20, negatives=6, momentum=0.7)
    index = torch.tensor([3, 17, 5, 11])
    views = method.views(Batch(images(4), index))
    before = method.bank.rows.clone()
    method.loss(views)
    assert torch.equal(method.bank.rows, before)
    z = method.embeddings[1]
    assert not z.requires_grad
    method.update()
    torch.testing.assert_close(method.bank.rows.norm(dim=1), torch.ones(20))
    for row in range(20):
        at = (index == row).nonzero()
        if len(at):
            mean = 0.7 * before[row] + 0.3 * z[at.item()]
            torch.testing.assert_close(method.bank.rows[row], mean / mean.norm())
        else:
            assert torch.equal(method.bank.rows[row], before[row])


def naive_bank(z, own, others, temperature):
    total = 0.0
    for i in range(len(z)):
        positive = torch.exp(cos(z[i], own[i]) / temperature)
        below = sum(torch.exp(cos(z[i], row) / temperature) for row in others)
        total -= torch.log(positive / (positive + below)).item() / len(z)
    return total


def naive_drawn(z, rows, index, drawn, temperature):
    """Each query beside the drawn rows that are not its own image's."""
    each = [
        naive_bank(z[i : i + 1], rows[[k]], rows[[j for j in drawn if j != k]], temperature)
        for i, k in enumerate(index)
    ]
    return sum(each) / len(each)


def test_instance_discrimination_leaves_out_a_querys_own_row_only():
    """Fails where rows of other images in the batch are left out as well, or its own is not."""
    method = make("instance_discrimination", plain(), bank_size=20, temperature=0.3)
    x, index, others = images(3), [4, 9, 2], [9, 7, 4, 4, 12, 2]
    z = method.head(method.encoder(x))
    expected = naive_drawn(z, method.bank.rows, index, others, 0.3)
    loss = method.loss((x, torch.tensor(index), torch.tensor(others)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["instance_discrimination", "pirl"])
@pytest.mark.parametrize("number", [2, 6])
def test_a_batch_of_all_images_is_contrasted(name, number):
    """Fails where a batch that holds the whole data set leaves no negative, and so no gradient."""
    method = make(name, bank_size=number, negatives=64)
    loss = method.loss(method.views(a_batch(number)))
    loss.backward()
    assert loss > 0.1
    assert any(p.grad.abs().max() > 1e-4 for p in method.encoder.parameters())


def test_negatives_of_the_same_image_are_left_out_query_by_query():
    """InfoNCE with rows is InfoNCE of each query with the negatives that are left for it."""
    g = torch.Generator().manual_seed(0)
    a, b, negatives = (torch.randn(n, 5, generator=g).double() for n in (4, 4, 6))
    a.requires_grad_()
    rows, of = torch.tensor([3, 1, 7, 3]), torch.tensor([1, 3, 3, 8, 1, 9])
    each = [info_nce(a[i : i + 1], b[i : i + 1], 0.3, negatives[of != rows[i]]) for i in range(4)]
    loss = info_nce(a, b, 0.3, negatives, rows, of)
    torch.testing.assert_close(loss, torch.stack(each).mean())
    none = info_nce(a, b, 0.3, negatives, torch.full((4,), 5), torch.full((6,), 5))
    none.backward()
    assert none == 0
    assert a.grad.isfinite().all()
    assert torch.autograd.gradcheck(lambda a: info_nce(a, b, 0.3, negatives, rows, of), (a,))
    with pytest.raises(UserError, match="go together"):
        info_nce(a, b, 0.3, negatives, rows)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_pirl_equals_equation_5(share):
    """λ of the turned copy, 1 − λ of the image; only the image's embedding is kept."""
    method = make("pirl", plain(), bank_size=20, temperature=0.3, pretext_weight=share)
    (x, turned), index = two_views(3), torch.tensor([4, 9, 2])
    rows, drawn = method.bank.rows, [9, 7, 12, 2]
    z, z_turned = method.image_head(method.encoder(x)), method.pretext_head(method.encoder(turned))
    expected = share * naive_drawn(z_turned, rows, index.tolist(), drawn, 0.3)
    expected += (1 - share) * naive_drawn(z, rows, index.tolist(), drawn, 0.3)
    loss = method.loss((x, turned, index, torch.tensor(drawn)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(method.embeddings[1], F.normalize(z, dim=1))


def test_pirl_forgets_the_order_of_tiles():
    """Nine tiles in any order, each through the network, side by side through one layer."""
    method = make(
        "pirl", build("small", 1, SIZE, width=2), task="jigsaw", bank_size=20, shape=(1, *SIZE)
    )
    x, changed, index, others = method.views(a_batch(4))
    assert changed.shape == (4, 9, 1, SIZE[0] // 2, SIZE[0] // 2)
    loss = method.loss((x, changed, index, others))
    parts = torch.stack([method.pretext_head(method.encoder(changed[:, i])) for i in range(9)], 1)
    assert loss.isfinite()
    assert method.join.in_features == parts[0].numel()
    loss.backward()
    assert method.join.weight.grad.any()


def test_pirl_always_turns():
    method = make("pirl", augment=RandomHorizontalFlip(0.0))
    for _ in range(5):
        batch = a_batch()
        x, turned, index, _ = method.views(batch)
        assert torch.equal(x, batch.x)
        assert torch.equal(index, batch.index)
        assert not any(torch.equal(p, q) for p, q in zip(x, turned, strict=True))


# LARS and clipping


def test_lars_equals_its_formula_by_hand():
    w, b = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([1.0]))
    groups = [{"params": [w], "weight_decay": 0.1}, {"params": [b], "adapt": False}]
    optimizer = LARS(groups, lr=0.5, momentum=0.9, trust=0.02)
    expected, plainly = w.detach().clone(), b.detach().clone()
    v = u = 0.0
    for g in (torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 0.25]])):
        w.grad, b.grad = g.clone(), g[0, :1].clone()
        optimizer.step()
        decayed = g + 0.1 * expected
        rate = 0.02 * (expected**2).sum().sqrt() / (decayed**2).sum().sqrt()
        v = 0.9 * v + 0.5 * rate * decayed
        u = 0.9 * u + 0.5 * g[0, :1]
        expected, plainly = expected - v, plainly - u
        torch.testing.assert_close(w.data, expected)
        torch.testing.assert_close(b.data, plainly)


def test_lars_does_not_scale_where_a_norm_is_zero():
    zero, still = nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([zero, still], lr=0.5)
    zero.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    optimizer.step()
    torch.testing.assert_close(zero.data, torch.full((2, 2), -0.5))
    torch.testing.assert_close(still.data, torch.ones(2, 2))


def test_lars_takes_a_closure_and_survives_a_checkpoint():
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = LARS([w], lr=0.5)

    def closure():
        optimizer.zero_grad()
        loss = (w**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 4
    v = nn.Parameter(w.detach().clone())
    other = LARS([v], lr=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for p, o in ((w, optimizer), (v, other)):
        p.grad = torch.ones(2, 2)
        o.step()
    assert torch.equal(v, w)


def test_a_recipe_with_lars_leaves_biases_and_norms_alone():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    optimizer = make_optimizer(Recipe(optimizer="lars", lr=0.3, weight_decay=0.1), net)
    adapted, plainly = optimizer.param_groups
    assert isinstance(optimizer, LARS)
    assert (adapted["adapt"], adapted["weight_decay"]) == (True, 0.1)
    assert (plainly["adapt"], plainly["weight_decay"]) == (False, 0.0)
    assert {p.ndim for p in adapted["params"]} == {2, 4}
    assert {p.ndim for p in plainly["params"]} == {1}


class Steep(Method):
    """A loss with a long gradient, and how long it was when it moved the weights."""

    lengths: ClassVar[list[float]] = []

    def views(self, batch):
        return batch.x

    def loss(self, views):
        return 1000 * self.encoder(views).square().mean()

    def update(self):
        slopes = [p.grad.norm() for p in self.parameters() if p.grad is not None]
        self.lengths.append(torch.stack(slopes).norm().item())


def short(method, tmp_path, x, **options):
    chosen = {"epochs": 1, "batch_size": 16, "encoder_args": {"width": 2}, "precision": "fp32"}
    quiet = {"progress": False, "logger": "none", "out": tmp_path}
    return ul.train(method, data=x, **chosen | options, **quiet)


def test_the_learner_clips_what_is_longer(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (48, *SIZE), np.uint8)
    for clip in (0.0, 0.25):
        Steep.lengths.clear()
        short(Steep, tmp_path / str(clip), x, grad_clip_norm=clip)
        assert len(Steep.lengths) == 3
        assert (max(Steep.lengths) <= 0.25 * 1.001) == bool(clip)
    assert max(Steep.lengths) == pytest.approx(0.25, rel=1e-3)


# The transformer


def test_vit_takes_any_size_and_says_where_it_looks():
    torch.manual_seed(0)
    vit = build("vit", 1, (32, 48), width=12, depth=2, heads=3).eval()  # patches of 4
    for size, paths in (((32, 48), (8, 12)), ((16, 24), (4, 6)), ((37, 50), (9, 12))):
        x = torch.rand(2, 1, *size)
        assert vit.map(x).shape == (2, 12, *paths)
        assert torch.equal(vit(x), vit.summary(vit.map(x)))
        shares = vit.attention(x)
        assert shares.shape == (2, 3, *paths)
        assert shares.min() >= 0
        torch.testing.assert_close(shares.sum((2, 3)), torch.ones(2, 3))


def test_vit_knows_places_and_stretches_them():
    vit = build("vit", 1, SIZE, width=12, depth=1).eval()
    blank = torch.zeros(1, 1, *SIZE)
    assert not torch.allclose(*vit.stages[0](blank).flatten(2)[0].T[:2])
    corner = vit.stages[0].positions.data
    corner.zero_()[:, :, : corner.shape[2] // 2] = 1  # the upper half of the places
    small = vit.stages[0](torch.zeros(1, 1, 16, 16)) - vit.stages[0].project.bias[:, None, None]
    torch.testing.assert_close(small[:, :, 0], torch.ones(1, 12, 4), atol=0.15, rtol=0)
    torch.testing.assert_close(small[:, :, -1], torch.zeros(1, 12, 4), atol=0.15, rtol=0)


def test_vit_attends_as_written_out():
    """A block of two heads against softmax(q·k/√d)·v, token by token."""
    block = build("vit", 1, SIZE, width=4, depth=1, heads=2).stages[1].double()
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64)
    tokens = x.flatten(2)[0].T  # (6, 4)
    q, k, v = block.qkv(block.norm1(tokens)).chunk(3, 1)
    seen = torch.zeros(6, 4, dtype=torch.float64)
    for head in (slice(0, 2), slice(2, 4)):
        for i in range(6):
            e = torch.stack([torch.exp(q[i, head] @ k[j, head] / math.sqrt(2)) for j in range(6)])
            seen[i, head] = sum(e[j] / e.sum() * v[j, head] for j in range(6))
    tokens = tokens + block.out(seen)
    tokens = tokens + block.mlp(block.norm2(tokens))
    torch.testing.assert_close(block(x), tokens.T.reshape(1, 4, 2, 3))


@pytest.mark.parametrize("heads", [0, 5])
def test_vit_refuses_a_width_that_heads_cannot_share(heads):
    with pytest.raises(UserError, match=f"12, which {heads} heads do not divide"):
        build("vit", 1, SIZE, width=12, heads=heads)


# Batches


def samples(y: np.ndarray) -> Samples:
    """Images whose value is their row."""
    x = np.broadcast_to(np.arange(len(y), dtype=np.uint8)[:, None, None, None], (len(y), 1, 4, 4))
    return Samples(x.copy(), {"class": np.asarray(y, np.int64)})


SEVERAL = np.array([0] * 9 + [1] * 6 + [2] * 2 + [3] * 8)


def test_groups_are_of_one_class_and_no_row_comes_twice():
    draw = loading.in_groups(SEVERAL, 6, 3)
    seen = set()
    for seed in range(20):
        batches = draw(np.random.default_rng(seed))
        assert batches.shape == (3, 6)  # 3 + 2 + 0 + 2 groups, two in a batch, one left over
        assert len(np.unique(batches)) == batches.size
        assert all(len({SEVERAL[row] for row in group}) == 1 for group in batches.reshape(-1, 3))
        seen |= set(batches.ravel().tolist())
    assert seen == set(np.flatnonzero(SEVERAL != 2))


def test_groups_that_cannot_be_are_refused():
    """And each says what would help: a smaller batch does not, where a class has one image."""
    for few, text in (
        (np.arange(12), "largest of 12 classes has 1, and 12 have only one; give more images"),
        (np.array([0, 0, 1, 2]), "largest of 3 classes has 2, and 2 have only one; give more"),
        (np.full(12, -1), "largest of 0 classes has 0"),
    ):
        with pytest.raises(UserError, match=f"each class needs at least 3 images.*{text}"):
            loading.in_groups(few, 6, 3)
    with pytest.raises(UserError, match="give --batch-size 21 or less"):
        loading.in_groups(SEVERAL, 24, 3)
    assert loading.in_groups(SEVERAL, 21, 3)(np.random.default_rng(0)).shape == (1, 21)
    with pytest.raises(UserError, match=r"a batch of 2 .* give --batch-size 3 or more"):
        loading.in_groups(SEVERAL, 2, 3)
    with pytest.raises(UserError, match="no sample has a label"):
        loading.with_labeled(np.full(12, -1), 6, 0.3)
    with pytest.raises(UserError, match="not divided by 5 processes; give --batch-size 15"):
        loading.loader(samples(SEVERAL), 18, 0, "class", samples_per_class=3, processes=5)


def test_rows_without_a_label_are_no_class_of_their_own():
    y = np.where(np.arange(25) < 12, -1, SEVERAL)
    assert (y[loading.in_groups(y, 6, 3)(np.random.default_rng(0))] >= 0).all()


@pytest.mark.parametrize("method", ["metric", "siamese"])
def test_classes_too_small_for_a_batch_are_counted_or_refused(method, tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (40, 8, 8)).astype(np.uint8)
    options = {"epochs": 1, "batch_size": 8, "progress": False, "out": tmp_path / "run"}
    with pytest.raises(UserError, match="40 have only one"):
        ul.train(method, split(from_memory((x, np.arange(40))), "x", share=0), **options)
    y = np.r_[np.arange(36) // 4, 10, 10, 11, 12]
    with pytest.warns(Notice, match="3 of 12 classes .* their 4 images are left out"):
        ul.train(method, split(from_memory((x, y)), "x", share=0), **options)


def test_batches_are_of_whole_groups_whatever_their_size():
    """7 is not divided by 3: batches are of 6, and each is one of the plan's."""
    batches = list(loading.loader(samples(SEVERAL), 7, 0, "class", samples_per_class=3))
    assert [len(batch.x) for batch in batches] == [6, 6, 6]
    for batch in batches:
        assert torch.equal(batch.x[:, 0, 0, 0], batch.index)
        assert all(len(set(group.tolist())) == 1 for group in batch.y.view(-1, 3))


@pytest.mark.parametrize("known", [2, 6])
def test_each_batch_has_its_share_of_labels(known):
    y = np.full(40, -1)
    y[:known] = np.arange(known) % 2
    batches = loading.with_labeled(y, 8, 0.25)(np.random.default_rng(0))
    assert batches.shape == (6, 8)
    assert ((y[batches] >= 0).sum(1) >= 2).all()
    rows, times = np.unique(batches, return_counts=True)
    assert np.isin(np.flatnonzero(y < 0), rows).sum() >= 40 - known - 4  # 36 of 40 fill batches
    assert (times[rows >= known] == 1).all()
    again = times[rows < known]
    assert again.sum() >= 12
    assert again.max() - again.min() <= 2


@pytest.mark.parametrize("kind", ["shuffled", "in_groups", "with_labeled"])
def test_parts_of_two_processes_are_the_batch_of_one(kind, monkeypatch):
    plan = {
        "shuffled": loading.shuffled(25, 6),
        "in_groups": loading.in_groups(SEVERAL, 6, 3),
        "with_labeled": loading.with_labeled(SEVERAL - 1, 6, 0.3),
    }[kind]
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        order = loading.Order(plan, seed=4, processes=2)
        order.set_epoch(3)
        rows = list(order)
        assert len(rows) == len(order)
        parts.append(np.array(rows).reshape(-1, 3))
    monkeypatch.undo()
    full = loading.Order(plan, seed=4)
    full.set_epoch(3)
    assert np.array_equal(np.concatenate(parts, 1).ravel(), list(full))


@pytest.mark.parametrize("options", [{}, {"samples_per_class": 3}, {"labeled_fraction": 0.3}])
def test_an_epoch_is_taken_up_where_it_stopped(options):
    def batches(epoch, done):
        loader = loading.loader(samples(SEVERAL), 7, 1, "class", done, **options)
        loader.sampler.set_epoch(epoch)
        return [batch.index.tolist() for batch in loader]

    full = batches(2, (0, 0))
    assert batches(2, (2, 2)) == full[2:]
    assert batches(3, (2, 2)) == batches(3, (0, 0)) != full


# Few labels


class Seen(Supervised):
    """What arrives: by the bytes of an image, its label."""

    seen: ClassVar[dict[bytes, int]] = {}

    def views(self, batch):
        for x, y in zip(batch.x, batch.y.tolist(), strict=True):
            assert self.seen.setdefault(x.numpy().tobytes(), y) == y
        return super().views(batch)

    def loss(self, views):
        x, y = views
        return F.cross_entropy(self.classifier(self.encoder(x)).float(), y, ignore_index=-1)


class SeenWithOthers(Seen):
    """Learns from images without labels, too."""

    recipe = Recipe(labeled_fraction=0.5)


@pytest.mark.parametrize(("method", "images_seen"), [(Seen, 6), (SeenWithOthers, 64)])
def test_few_labels_are_all_that_is_seen(method, images_seen, tmp_path):
    """The others' images go, or, where the method learns from those too, their labels do."""
    x = np.random.default_rng(0).integers(0, 256, (80, *SIZE), np.uint8)
    y = np.arange(80) % 3
    Seen.seen.clear()
    run = short(method, tmp_path, (x, y), labels="6", batch_size=6)
    result = sorted(Seen.seen.values())
    assert len(result) <= images_seen
    assert [label for label in result if label >= 0] == [0, 0, 1, 1, 2, 2]
    assert len(result) >= images_seen - 3  # an epoch's last rows may fill no batch
    assert len(run.data.train) == 64  # it is judged with all labels
    assert run.data.train.factors["label"].min() == 0
