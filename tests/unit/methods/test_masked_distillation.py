"""iBOT and DINOv2 against loops over their equations, and the traps of masks and targets."""

import copy
import math

import pytest
import torch
from torch.nn.functional import normalize

from unlabeled.augmentations import RandomAffine
from unlabeled.augmentations.masks import block_masks
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.dinov2 import DINOv2
from unlabeled.methods.ibot import IBOT
from unlabeled.objectives import koleo

METHODS = {"ibot": IBOT, "dinov2": DINOv2}


def make(name: str, **options):
    """With a teacher that differs from the student and a mask token that is not 0."""
    torch.manual_seed(0)
    encoder = build("vit", 1, (16, 16), patch=4, width=12, depth=1)
    small = {"prototypes": 5, "hidden_dim": 8, "bottleneck_dim": 4, "augment": RandomAffine()}
    method = METHODS[name](encoder, **{"local_crops": 2} | small | options)
    method.progress = 0.8
    with torch.no_grad():
        method.student.mask_token.normal_()
        for p in method.teacher.parameters():
            p.add_(0.1 * torch.randn_like(p))
        for buffer in ("center", "patch_center"):
            if hasattr(method, buffer):
                getattr(method, buffer).normal_(0, 0.2)
    return method


def views_of(method, n: int = 6):
    torch.manual_seed(1)
    x = torch.rand(n, 1, 16, 16)
    views = method.views(Batch(x, torch.arange(n)))
    assert views[2].any()
    assert not torch.cat(views[2:4]).any(1).all()  # some views are complete
    return views


def softmax(row) -> list[float]:
    e = [math.exp(v) for v in row]
    return [v / sum(e) for v in e]


def cross_entropy(target, scores, tau: float) -> float:
    outputs = softmax([s / tau for s in scores])
    return -sum(t * math.log(p) for t, p in zip(target, outputs, strict=True))


def sinkhorn(scores: list[list[float]], tau: float) -> list[list[float]]:
    """Caron et al. 2020, algorithm 1: rows, then columns, three times."""
    q = [[math.exp(s / tau) for s in row] for row in scores]
    for _ in range(3):
        total = [sum(row[k] for row in q) for k in range(len(q[0]))]
        q = [[v / (t * len(total)) for v, t in zip(row, total, strict=True)] for row in q]
        q = [[v / (sum(row) * len(q)) for v in row] for row in q]
    return [[v * len(q) for v in row] for row in q]


@torch.no_grad()
def naive(method, views) -> float:
    """Both papers: class tokens across views, masked patches within a view, KoLeo."""
    n, is_ibot, tau = len(views[0]), isinstance(method, IBOT), 0.07
    student, teacher = method.student, method.teacher.module
    every = torch.ones_like(views[2])
    outputs = [student(x, masked, every) for x, masked in zip(views[:2], views[2:4], strict=True)]
    taught = [teacher(x, None, every) for x in views[:2]]  # complete
    local = [student(x)[1] for x in views[4:]]
    if is_ibot:
        centered = [
            ((c - method.center).tolist(), (p - method.patch_center).view(n, 16, -1).tolist())
            for _, c, p in taught
        ]
        targets = [[softmax([s / tau for s in row]) for row in c] for c, _ in centered]
        of_patches = [[[softmax([s / tau for s in r]) for r in i] for i in p] for _, p in centered]
    else:
        both = sinkhorn([row for _, c, _ in taught for row in c.tolist()], tau)
        targets = [both[:n], both[n:]]
        masked = torch.stack(views[2:4])  # (2, n, 16)
        scores = torch.stack([p.view(n, 16, -1) for _, _, p in taught])[masked].tolist()
        assigned, of_patches = (
            iter(sinkhorn(scores, tau)),
            [[[None] * 16 for _ in range(n)] for _ in "ab"],
        )
        for v, i, j in masked.nonzero().tolist():
            of_patches[v][i][j] = next(assigned)
    student_views = [s[1].tolist() for s in outputs] + [z.tolist() for z in local]
    pairs = [(t, s) for t in range(2) for s in range(len(student_views)) if t != s]
    loss = sum(
        cross_entropy(targets[t][i], student_views[s][i], 0.1) for t, s in pairs for i in range(n)
    ) / (n * len(pairs))
    for v in range(2):
        patches = outputs[v][2].view(n, 16, -1).tolist()
        for i in range(n):
            hidden = views[2 + v][i].nonzero().flatten().tolist()
            for j in hidden:
                cost = cross_entropy(of_patches[v][i][j], patches[i][j], 0.1)
                loss += cost / len(hidden) / (2 * n)
    if not is_ibot:
        for z, _, _ in outputs:
            u = normalize(z, dim=1)
            for i in range(n):
                nearest = min(float((u[i] - u[j]).norm()) for j in range(n) if j != i)
                loss -= 0.1 * math.log(nearest + 1e-8) / n
    return loss


@pytest.mark.parametrize("shared_head", [True, False])
@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_that_of_a_loop(name, shared_head):
    """Catches a teacher that sees masks, targets of the wrong view or patch, means over all masked
    patches instead of those of a view, one center for both tokens, and assignments of each view.
    """
    method = make(name, shared_head=shared_head)
    assert (method.student.head is method.student.patch_head) == shared_head
    views = views_of(method)
    assert method.loss(views).item() == pytest.approx(naive(method, views), rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_the_teacher_takes_no_gradient_and_follows_after_the_step(name):
    """Catches targets with gradient, a loss that updates, and a teacher that leads."""
    method = make(name, momentum=0.9)
    before = copy.deepcopy(method.teacher).state_dict()
    method.loss(views_of(method)).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(torch.equal(before[k], v) for k, v in method.teacher.state_dict().items())
    assert method.student.mask_token.grad.abs().sum() > 0
    momentum = 1 - 0.1 * (math.cos(math.pi * 0.8) + 1) / 2
    with torch.no_grad():
        for p in method.student.parameters():
            p.add_(1)
        method.update()
    fast = method.student.state_dict()
    for key, value in method.teacher.module.state_dict().items():
        expected = momentum * before[f"module.{key}"] + (1 - momentum) * fast[key]
        torch.testing.assert_close(value, expected)


def test_ibot_centers_follow_the_complete_views():
    """Catches one center for both tokens, masked patches only, and an update before the use."""
    method = make("ibot", center_momentum=0.8)
    views, before = views_of(method), (method.center.clone(), method.patch_center.clone())
    every = torch.ones_like(torch.cat(views[2:4]))
    _, scores, patches = method.teacher(torch.cat(views[:2]), None, every)
    method.loss(views)
    assert torch.equal(method.center, before[0])
    with torch.no_grad():
        method.update()
    torch.testing.assert_close(method.center, 0.8 * before[0] + 0.2 * scores.mean(0))
    torch.testing.assert_close(method.patch_center, 0.8 * before[1] + 0.2 * patches.mean(0))


def test_sinkhorn_uses_all_prototypes_equally():
    """Catches a softmax without balance, and an overflow: e to the 25 of two thousand rows."""
    method = make("dinov2", sinkhorn_iterations=30)
    scores = normalize(torch.randn(2000, 5), dim=1) + torch.tensor([0.5, 0, 0, 0, -0.5])
    q = method.sinkhorn(scores)
    torch.testing.assert_close(q.sum(1), torch.ones(2000))
    torch.testing.assert_close(q.mean(0), torch.full((5,), 0.2), atol=1e-2, rtol=0)
    assert (scores / 0.07).softmax(1).mean(0)[0] > 0.4
    assert method.sinkhorn(scores[:0]).shape == (0, 5)
    method.warmup = lambda t: 1e-3  # e to the 1000
    assert method.sinkhorn(scores).isfinite().all()


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_without_masks_has_a_loss(name):
    """Catches a mean over no patches, which is NaN, and parts of the graph that are missing."""
    method = make(name)
    views = list(views_of(method))
    views[2], views[3] = (torch.zeros_like(m) for m in views[2:4])
    loss = method.loss(tuple(views))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in method.student.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_prototypes_rest_at_first(name):
    method = make(name, freeze_last_layer=0.3)
    for progress, moves in ((0.1, False), (0.5, True)):
        method.progress = progress
        method.zero_grad()
        method.loss(views_of(method)).backward()
        for head in (method.student.head, method.student.patch_head):
            grad = head.prototypes.grad
            assert (grad is not None and bool(grad.any())) == moves


@pytest.mark.parametrize("name", METHODS)
def test_a_network_without_patches_is_refused(name):
    with pytest.raises(UserError, match="give --encoder vit"):
        METHODS[name](build("small", 1, (16, 16), width=2))


@pytest.mark.parametrize("name", ["vit", "vit_tiny"])
def test_patches_without_a_mask_give_the_features(name):
    """Catches registers among the patches, another norm, and a mask token that is always added."""
    torch.manual_seed(0)
    options = {"vit": {"width": 12, "depth": 2}, "vit_tiny": {"registers": 3}}[name]
    encoder = build(name, 1, (16, 16), patch=4, **options).eval()
    x = torch.rand(2, 1, 16, 16)
    z, patches = encoder.encode_patches(x)
    torch.testing.assert_close(z, encoder(x))
    expected = encoder.summary.norm(encoder.patch_map(x).flatten(2).transpose(1, 2))
    torch.testing.assert_close(patches, expected)
    none = torch.zeros(2, 16, dtype=torch.bool)
    torch.testing.assert_close(encoder.encode_patches(x, none, torch.ones(encoder.dim))[0], z)


@pytest.mark.parametrize("name", ["hf:dinov2", "hf:dinov2_with_registers", "hf:vit", "timm"])
def test_networks_of_other_libraries_have_patches(name):
    """Catches registers and class tokens among the patches, and pixels that a mask leaves."""
    if name == "timm":
        pytest.importorskip("timm")
        encoder = build("timm:vit_tiny_patch16_224", 3, (224, 224), depth=1, reg_tokens=2)
        side, grid = 224, 14
    else:
        pytest.importorskip("transformers")
        options = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        encoder = build(name, 3, (32, 32), patch_size=8, **options)
        side, grid = 32, 4
    encoder.eval()
    x, token = torch.rand(2, 3, side, side), torch.randn(encoder.dim)
    z, patches = encoder.encode_patches(x)
    assert patches.shape == (2, grid**2, encoder.dim)
    torch.testing.assert_close(z, encoder(x))
    masked = torch.rand(2, grid**2) < 0.4
    hidden = masked.view(2, 1, grid, grid).repeat_interleave(side // grid, 2)
    other = torch.where(hidden.repeat_interleave(side // grid, 3), torch.rand_like(x), x)
    before, after = (encoder.encode_patches(v, masked, token) for v in (x, other))
    for one, two in zip(before, after, strict=True):
        torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert not torch.equal(before[1], patches)
    method = DINOv2(encoder, prototypes=4, hidden_dim=8, bottleneck_dim=4, local_crops=0)
    method.loss(method.views(Batch(x, torch.arange(2)))).backward()


def test_masks_are_blocks_of_at_most_the_ratio():
    """Catches more than was drawn, scattered patches, masks that are all alike, and no complete
    view; the blocks of a half of the views cover a tenth to a half of the patches.
    """
    torch.manual_seed(0)
    masks = block_masks(400, (14, 14))
    share = masks.float().mean(1)
    hidden = share > 0
    assert 0.4 < hidden.float().mean() < 0.6
    assert share.max() <= 0.5
    assert 0.22 < share[hidden].mean() < 0.32
    grid = masks[hidden].view(-1, 14, 14)
    beside = (grid[:, :, 1:] & grid[:, :, :-1]).sum() / grid.sum()
    assert beside > 0.6  # of patches masked at random a third would have such a neighbor
    torch.manual_seed(0)
    assert torch.equal(masks, block_masks(400, (14, 14)))
    assert not torch.equal(masks, block_masks(400, (14, 14)))
    assert block_masks(30, (2, 2), 1.0).any(1).float().mean() > 0.5


def test_koleo_is_the_distance_to_the_nearest_neighbor():
    """Catches a row that is its own neighbor, and rows that are not normalized."""
    torch.manual_seed(0)
    z = 3 * torch.randn(7, 4, dtype=torch.float64)
    u = normalize(z, dim=1)
    near = [min(float((u[i] - u[j]).norm()) for j in range(7) if j != i) for i in range(7)]
    assert koleo(z).item() == pytest.approx(-sum(map(math.log, near)) / 7, rel=1e-6)
    assert torch.autograd.gradcheck(koleo, z.requires_grad_())
    same = torch.ones(3, 4, requires_grad=True)
    loss = koleo(same)
    loss.backward()
    assert loss.isfinite()
    assert same.grad.isfinite().all()
