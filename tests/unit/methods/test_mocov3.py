"""MoCo v3 against a loop over its algorithm, and its traps."""

import math

import pytest
import torch
from torch import nn

from unlabeled.augmentations import RandomAffine
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.methods.mocov3 import MoCoV3


def images(n: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def make(network: str = "small", **options) -> MoCoV3:
    torch.manual_seed(0)
    args = {"width": 12, "depth": 1, "patch": 4} if network == "vit" else {"width": 2}
    encoder = build(network, 1, (16, 16), **args)
    small = {"dim": 6, "hidden_dim": 8, "augment": RandomAffine()}
    return MoCoV3(encoder, **small | options)


def step(method: MoCoV3) -> None:
    views = method.views(Batch(images(), torch.arange(6)))
    method.loss(views).backward()
    with torch.no_grad():
        for p in method.parameters():
            if p.grad is not None:
                p -= 0.1 * p.grad
        method.update()


@pytest.mark.parametrize("network", ["small", "vit"])
def test_mocov3_equals_algorithm_1(network):
    """Catches a mean of both directions, a lost 2τ, keys of the same view, a predicted key."""
    method = make(network, temperature=0.3)
    with torch.no_grad():
        for p in method.key_encoder.parameters():
            p.add_(0.05 * torch.randn_like(p))
    x1, x2 = images(seed=1), images(seed=2)
    q = [method.predictor(method.projector(method.encoder(x))).double() for x in (x1, x2)]
    k = [method.key_encoder(x).double() for x in (x1, x2)]
    expected = 0.0
    for queries, keys in ((q[0], k[1]), (q[1], k[0])):
        for i in range(6):
            scores = [
                math.exp((queries[i] @ key / queries[i].norm() / key.norm()).item() / 0.3)
                for key in keys
            ]
            expected -= 2 * 0.3 * math.log(scores[i] / sum(scores)) / 6
    assert method.loss((x1, x2)).item() == pytest.approx(expected, rel=1e-4)


def test_keys_take_no_gradient():
    """Catches keys with a gradient: the loss would pull them to the queries, too."""
    method = make()
    assert all(not p.requires_grad for p in method.key_encoder.parameters())
    step(method)
    assert all(p.grad is None for p in method.key_encoder.parameters())


def test_the_keys_network_starts_as_a_copy_and_follows_after_the_step():
    """Catches an average of the predictor, a momentum that stays, an update before the step."""
    method = make(momentum=0.8)
    online = nn.Sequential(method.encoder, method.projector)
    before = [p.clone() for p in method.key_encoder.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, online.parameters(), strict=True))
    method.progress = 0.5  # of half a cosine from 0.8 to 1
    step(method)
    slow = method.key_encoder.parameters()
    for old, new, lead in zip(before, slow, online.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * lead)


@pytest.mark.parametrize("freeze", [True, False])
def test_the_patch_projection_of_a_transformer_is_frozen(freeze):
    """Catches a projection that learns, positions or blocks that do not, a bias left out."""
    method = make("vit", freeze_patches=freeze)
    before = {name: p.clone() for name, p in method.encoder.named_parameters()}
    for _ in range(3):
        step(method)
    still = {n for n, p in method.encoder.named_parameters() if torch.equal(p, before[n])}
    frozen = {"stages.0.project.weight", "stages.0.project.bias"}
    assert still == (frozen if freeze else set())
    assert all(p.requires_grad for p in make("small").encoder.parameters())


def test_heads_are_the_papers():
    """Catches a projector of two layers for a transformer, and a last norm with weights."""
    for network, layers in (("small", 2), ("vit", 3)):
        method = make(network)
        for head, number in ((method.projector, layers), (method.predictor, 2)):
            assert [type(layer) for layer in head].count(nn.Linear) == number
            assert isinstance(head[-1], nn.BatchNorm1d)
            assert not head[-1].affine
            assert head[-2].bias is None
