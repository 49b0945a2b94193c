"""Every encoder and any user's module return features of the declared dimension."""

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled import registry
from unlabeled.encoders.base import build
from unlabeled.encoders.baselines import PCA
from unlabeled.encoders.lenet import FastAvgPool2d
from unlabeled.errors import UserError

IMAGES = [name for name in registry.listing("encoders") if not name.startswith("text_")]
"""Encoders of text are in test_text.py."""


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize(("channels", "size"), [(1, (64, 64)), (3, (32, 32)), (4, (24, 40))])
def test_every_encoder_returns_its_dim(name, channels, size):
    encoder = build(name, channels, size).eval()
    x = torch.rand(2, channels, *size)
    z = encoder(x)
    assert z.shape == (2, encoder.dim)
    assert torch.equal(z, encoder.summary(encoder.map(x)))
    for stage in encoder.stages:
        x = stage(x)
        assert x.ndim == 4


def test_lenet_equals_the_tutorial():
    encoder = build("lenet", 1, (64, 64))
    assert sum(p.numel() for p in encoder.parameters()) == 344_476
    assert encoder.dim == 84


@pytest.mark.parametrize("size", [(8, 12), (7, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_fast_average_pooling_equals_average_pooling(size, dtype, layout):
    x = torch.randn(3, 6, *size).to(dtype, memory_format=layout)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    a, b = FastAvgPool2d(2)(ours), nn.functional.avg_pool2d(theirs, 2)
    g = torch.randn_like(b)
    a.backward(g), b.backward(g)
    assert torch.equal(a, b)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("small", {"width": -1}),
        ("small", {"width": "many"}),
        ("vit", {"patch": 4, "heads": "3"}),
        ("text_lstm", {"layers": 0}),
        ("text_transformer", {"dropout": 2.0}),
        ("patches", {"stages": 0}),
    ],
)
def test_options_that_layers_refuse_are_named(name, options):
    """Catches errors of PyTorch or Python that name neither the encoder nor the option."""
    named = f"{name} cannot be built with {next(iter(options))}="
    with pytest.raises(UserError, match=named):
        build(name, 1, (1, 64) if name.startswith("text") else (32, 32), **options)


def test_errors_of_a_users_own_encoder_are_its_own():
    """Catches a sentence in place of where the user's code failed."""

    class Broken(nn.Module):
        def __init__(self, width: int = 4) -> None:
            super().__init__()
            raise KeyError(width)

    with pytest.raises(KeyError, match="5"):
        build(Broken, 1, (32, 32), width=5)


@pytest.mark.parametrize(("name", "millions"), [("resnet18", 11.17), ("resnet50", 23.5)])
def test_resnets_have_their_known_size(name, millions):
    count = sum(p.numel() for p in build(name, 3, (224, 224)).parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.02)


def test_small_images_keep_their_resolution_in_the_stem():
    assert build("resnet18", 3, (32, 32)).stages[0](torch.rand(1, 3, 32, 32)).shape[-1] == 32
    assert build("resnet18", 3, (96, 96)).stages[0](torch.rand(1, 3, 96, 96)).shape[-1] == 24
    assert build("resnet18", 3, (32, 32), width=0.25).dim == 128


def test_build_accepts_any_module():
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert build(net, 2, (16, 16)).dim == 5
    assert net.training
    with pytest.raises(UserError, match="pooling"):
        build(nn.Conv2d(2, 5, 3), 2, (16, 16))
    with pytest.raises(UserError, match="cannot take"):
        build(net, 3, (16, 16))
    with pytest.raises(UserError, match="no argument 'depth'"):
        build("small", 1, (16, 16), depth=3)


def test_pca_of_many_bright_images_is_as_exact_as_float64():
    """In float32 these components would be rotated by up to 0.3 radians."""
    draw = np.random.default_rng(0).random((20_000, 1, 1, 12))
    x = torch.from_numpy((0.9 + 0.02 * draw * np.linspace(1, 2, 12)).astype(np.float32))
    ours = PCA(1, (1, 12), 3).fit(x)
    flat = x.flatten(1).double()
    _, _, axes = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    cosines = (ours.components.double() * axes[:3].T).sum(0).abs()
    torch.testing.assert_close(cosines, torch.ones(3).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.mean.double(), flat.mean(0), atol=1e-7, rtol=0)


def test_pca_equals_sklearn():
    from sklearn import decomposition

    x = torch.randn(300, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    ours = PCA(1, (5, 4), 3).fit(x)(x)
    theirs = decomposition.PCA(3).fit_transform(x.flatten(1).numpy())
    torch.testing.assert_close(ours.abs(), torch.from_numpy(theirs).abs(), atol=1e-4, rtol=1e-4)
