"""AIM against a loop over its equations, and the traps of its attention and its targets."""

import pytest
import torch
from torch import nn

from unlabeled.augmentations import RandomErasing
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.decoders import PixelHead
from unlabeled.errors import UserError
from unlabeled.methods.aim import AIM

SHAPE = (2, 12, 20)


def images(n: int = 4, shape=SHAPE, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed))


def make(network: str = "vit", shape=SHAPE, **options) -> AIM:
    """On 3×5 patches of 4 pixels; all weights random, also norms and biases."""
    torch.manual_seed(0)
    args = {"vit": {"width": 12, "depth": 3}, "vit_tiny": {"registers": 2}}[network]
    encoder = build(network, shape[0], shape[1:], patch=4, pool="mean", **args)
    method = AIM(encoder, shape=shape, **{"head_width": 8} | options)
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return method


def target_of(x: torch.Tensor, index: int) -> torch.Tensor:
    """Normalized pixels of a patch, in raster order."""
    row, column = index // 5 * 4, index % 5 * 4
    patch = x[:, row : row + 4, column : column + 4].double().flatten()
    variance = ((patch - patch.mean()) ** 2).sum() / (len(patch) - 1)
    return (patch - patch.mean()) / (variance + 1e-6).sqrt()


def test_aim_is_the_error_of_the_next_patch():
    """Catches a patch that predicts itself, the prefix in the mean, raw pixels, another order.

    And a mean of the images' means, by which patches of a long prefix would count more.
    """
    method = make()
    x, known = images(), torch.tensor([1, 3, 14, 7])
    predicted, errors = method.predict(x, known), []
    for i in range(4):
        for k in range(int(known[i]), 15):  # patch k from the token before
            errors.append(((predicted[i, k - 1].double() - target_of(x[i], k)) ** 2).mean().item())
    assert len(errors) == 14 + 12 + 1 + 8
    assert method.loss((x, known)).item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


@pytest.mark.parametrize("network", ["vit", "vit_tiny"])
def test_attention_is_causal_after_the_prefix_and_free_within(network):
    """Catches a prefix that is causal, one that sees what follows, and a lost or doubled shift.

    The gradient of a token tells which patches it sees.
    """
    method = make(network).eval()
    known = torch.tensor([1, 4, 14])
    x = images(3).requires_grad_()
    tokens = method.encoder.encode_causal(x, known)
    for token in range(15):
        weight = torch.randn(tokens.shape[2], generator=torch.Generator().manual_seed(token))
        slope = torch.autograd.grad((tokens[:, token] * weight).sum(), x, retain_graph=True)[0]
        for i in range(3):
            seen = [
                bool(slope[i, :, k // 5 * 4 : k // 5 * 4 + 4, k % 5 * 4 : k % 5 * 4 + 4].any())
                for k in range(15)
            ]
            assert seen == [k <= token or k < known[i] for k in range(15)]


def test_a_prefix_of_all_patches_is_the_usual_attention():
    """Catches another norm, other positions, and a mask in place of its complement."""
    for network in ("vit", "vit_tiny"):
        method = make(network).eval()
        x = images()
        expected = method.encoder.encode_patches(x)[1]
        tokens = method.encoder.encode_causal(x, torch.full((4,), 15))
        torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(method.encoder.encode_causal(x, torch.full((4,), 2)), expected)
        torch.testing.assert_close(method.encoder(x), method.encoder.encode_patches(x)[0])


def test_the_prefix_is_drawn_for_each_image():
    """Catches an empty prefix, one without anything to predict, and the same one for all."""
    torch.manual_seed(0)
    _, known = make().views(Batch(images(300), torch.arange(300)))
    assert set(known.tolist()) == set(range(1, 15))
    counts = known.bincount(minlength=15)[1:]
    assert counts.min() > 5  # 21 of each, if uniform


def test_the_head_sees_one_patch_and_its_position():
    """Catches attention or a mean within the head, missing positions, no residual connection."""
    torch.manual_seed(0)
    head = PixelHead(6, 8, 2, (3, 5), 7)
    x = torch.randn(2, 15, 6)
    out = head(x)
    other = x.clone()
    other[:, 4] += 1
    changed = (head(other) != out).any(2)
    assert changed[:, 4].all()
    assert changed.sum() == 2
    same = head(x[:, :1].expand(-1, 15, -1))
    assert not torch.allclose(same[:, 0], same[:, 1])
    for block in head.blocks:
        nn.init.zeros_(block[-1].weight)
        nn.init.zeros_(block[-1].bias)
    expected = head.output(head.norm(head.input(x) + head.positions))
    torch.testing.assert_close(head(x), expected)


def test_what_is_embedded_must_be_what_is_trained():
    """Catches networks whose features are not of the patches that the method trains."""
    for name, options in (("small", {}), ("vit", {}), ("vit_tiny", {})):
        with pytest.raises(UserError, match="--encoder vit --pool mean"):
            AIM(build(name, 1, (32, 32), **options), shape=(1, 32, 32))
    with pytest.raises(UserError, match="give another --patch"):
        make(shape=(2, 4, 4))


def test_aim_draws_what_it_predicts():
    """Catches an image cut to whole patches in one of the three only, and predictions shifted."""
    method = make(shape=(1, 13, 22)).eval()
    sheet = method.visualize(images(3, (1, 13, 22)))["image, prefix, each patch from those before"]
    assert sheet.shape == (3, 3, 1, 12, 20)
    assert torch.equal(sheet[:, 0], images(3, (1, 13, 22))[:, :, :12, :20])
    prefix = torch.arange(15).view(3, 5).repeat_interleave(4, 0).repeat_interleave(4, 1) < 7
    assert torch.equal(sheet[:, 2][:, :, prefix], sheet[:, 0][:, :, prefix])
    assert (sheet[:, 1][:, :, ~prefix] == 0.5).all()
    assert 0 <= sheet.min() <= sheet.max() <= 1


def test_the_images_are_augmented():
    method = make(weak=RandomErasing(2.0))
    assert not method.views(Batch(images(), torch.arange(4)))[0].any()
