"""MSN against loops over its equations, and its traps."""

import math

import pytest
import torch
from torch import nn

from unlabeled.augmentations import RandomAffine
from unlabeled.core import Batch, sinkhorn
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.msn import MSN


def images(n: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def make(**options) -> MSN:
    torch.manual_seed(0)
    encoder = build("vit", 1, (16, 16), width=12, depth=1, patch=4)
    small = {"prototypes": 5, "dim": 6, "hidden_dim": 8, "augment": RandomAffine()}
    method = MSN(encoder, **small | {"local_augment": RandomAffine()} | options)
    with torch.no_grad():
        for p in method.target.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return method


def views_of(method: MSN, n: int = 6):
    return method.views(Batch(images(n), torch.arange(n)))


def assigned(method: MSN, z: torch.Tensor) -> torch.Tensor:
    """Softmax of cosines, row by row, in float64."""
    rows = []
    for row in z.detach().double():
        cosines = [(row @ p / row.norm() / p.norm()).item() for p in method.prototypes.double()]
        e = [math.exp(c / method.temperature) for c in cosines]
        rows.append([value / sum(e) for value in e])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("crops", [0, 2])
@pytest.mark.parametrize("iterations", [0, 3])
def test_msn_equals_equation_1(crops, iterations):
    """Catches a target that is masked or not sharpened, a sign, a divergence of each anchor.

    And Sinkhorn-Knopp of scores in place of probabilities: its first step weighs rows otherwise.
    """
    options = {"local_crops": crops, "temperature": 0.3, "sharpening": 0.5, "prior_weight": 0.7}
    method = make(sinkhorn_iterations=iterations, **options)
    target, anchor, visible, *focal = views = views_of(method)
    assert [view.shape[2] for view in focal] == [8] * crops
    sharp = assigned(method, method.target(target)) ** 2
    q = (sharp / sharp.sum(1, keepdim=True)).T
    for _ in range(iterations):
        q = q / q.sum(1, keepdim=True) / 5
        q = q / q.sum(0, keepdim=True) / 6
    q = (q / q.sum(0, keepdim=True)).T
    z = [method.projector(method.anchor_encoder.encode_visible(anchor, visible)[0])]
    if crops:
        z += method.projector(method.anchor_encoder(torch.cat(focal))).chunk(crops)
    p = [assigned(method, v) for v in z]
    expected = 0.0
    for view in p:
        for i in range(6):
            terms = [q[i, k].item() * math.log(view[i, k].item()) for k in range(5)]
            expected -= sum(terms) / 6 / len(p)
    mean = torch.stack(p).mean((0, 1)).tolist()
    expected += 0.7 * (math.log(5) + sum(m * math.log(m) for m in mean))  # ln K − entropy
    assert method.loss(views).item() == pytest.approx(expected, rel=1e-4)


def test_the_masked_anchor_sees_some_patches_only():
    """Catches a mask that hides nothing, the same one for all images, a class token that drops."""
    method = make(mask_ratio=0.3, local_crops=0)
    _, anchor, visible = views_of(method)
    assert visible.shape == (6, 11)  # ⌊0.7 · 16⌋
    assert all(len(set(row)) == 11 for row in visible.tolist())
    assert len(visible.sort(1).values.unique(dim=0)) > 1
    _, anchor, visible = views_of(make(mask_ratio=0.0))[:3]
    features = method.anchor_encoder.encode_visible(anchor, visible)[0]
    torch.testing.assert_close(features, method.anchor_encoder(anchor))


def test_a_prior_replaces_the_entropy():
    """Catches a divergence from the wrong side, and a prior that sums to more than 1."""
    method = make(prior_exponent=0.5)
    prior = method.log_prior.exp()
    assert prior.sum().item() == pytest.approx(1)
    assert (prior[0] / prior[3]).item() == pytest.approx(2)
    assert method.sinkhorn_iterations == 0
    assert make().sinkhorn_iterations == 3

    def divergence(row: torch.Tensor, method: MSN) -> float:
        """Of a mean assignment, where anchors and targets have it all: less its entropy."""
        method.scores = lambda z: row.log().expand(len(z), 5)
        method.sinkhorn_iterations, method.sharpening = 0, 1.0
        entropy = -(row * row.log()).sum()
        return (method.loss(views_of(method)) - entropy).item()

    assert divergence(prior, method) == pytest.approx(0, abs=1e-5)
    other = torch.tensor([0.1, 0.1, 0.2, 0.3, 0.3])
    expected = (other * (other / prior).log()).sum().item()
    assert divergence(other, method) == pytest.approx(expected, abs=1e-5)
    assert divergence(torch.full((5,), 0.2), make()) == pytest.approx(0, abs=1e-5)


def test_sinkhorn_uses_all_alike():
    logits = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    logits[:, 0] += 3  # of which all would choose the first
    torch.testing.assert_close(sinkhorn(logits, 100).sum(0), torch.full((4,), 3.0))
    torch.testing.assert_close(sinkhorn(logits, 0), logits.softmax(1))


def test_the_target_network_follows_and_is_the_result():
    """Catches a momentum along a cosine, an average of the encoder alone, a gradient."""
    method = make(momentum=0.8)
    assert method.encoder is method.target.module[0]
    assert method.encoder is not method.anchor_encoder
    method.loss(views_of(method)).backward()
    assert all(p.grad is None for p in method.target.parameters())
    assert method.prototypes.grad.any()
    before = [p.clone() for p in method.target.parameters()]
    method.progress = 0.25
    method.update()
    online = nn.Sequential(method.anchor_encoder, method.projector)
    slow = method.target.parameters()
    for old, new, lead in zip(before, slow, online.parameters(), strict=True):
        torch.testing.assert_close(new, 0.85 * old + 0.15 * lead)


def test_msn_needs_patches():
    with pytest.raises(UserError, match="use --encoder vit"):
        MSN(build("small", 1, (16, 16), width=2))


@pytest.mark.parametrize("exponent", [0.5, 1, 2])
def test_the_prior_is_a_power_law(exponent):
    """Catches a power of integers, which a whole exponent made an error."""
    weights = [1 / k**exponent for k in range(1, 6)]
    expected = torch.tensor([w / sum(weights) for w in weights]).log()
    torch.testing.assert_close(make(prior_exponent=exponent).log_prior, expected)
