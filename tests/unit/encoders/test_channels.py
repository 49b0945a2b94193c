"""Pretrained first layers for images of other numbers of channels."""

import warnings

import numpy as np
import pytest
import torch

import unlabeled
from unlabeled.augmentations import ColorJitter, RandomGrayscale, SimCLRAugment
from unlabeled.augmentations.color import say_without_color
from unlabeled.encoders.base import build
from unlabeled.encoders.channels import adapted_weights
from unlabeled.errors import Notice, UserError
from unlabeled.runs.adapt import for_channels_of
from unlabeled.runs.run import load

RNG = np.random.default_rng(0)
FIVE = RNG.integers(0, 255, (12, 5, 32, 32), np.uint8)


@pytest.mark.parametrize("new", [1, 2, 4, 5, 12])
def test_the_rule_is_timms(new):
    timm_rule = pytest.importorskip("timm.models", reason="timm").adapt_input_conv
    old, like = build("resnet18", 3, (32, 32)), build("resnet18", new, (32, 32))
    weights = adapted_weights(old.state_dict(), like.state_dict())
    first = next(k for k, v in old.state_dict().items() if v.ndim == 4)
    expected = timm_rule(new, old.state_dict()[first].clone())
    torch.testing.assert_close(weights[first], expected)
    like.load_state_dict(weights)


@pytest.mark.parametrize("new", [1, 6])
def test_gray_images_of_any_number_of_channels_keep_their_features(new):
    old, like = build("vit_tiny", 3, (32, 32)).eval(), build("vit_tiny", new, (32, 32)).eval()
    like.load_state_dict(adapted_weights(old.state_dict(), like.state_dict()))
    gray = torch.rand(4, 1, 32, 32)
    z, z_like = old(gray.expand(-1, 3, -1, -1)), like(gray.expand(-1, new, -1, -1))
    torch.testing.assert_close(z, z_like, atol=1e-4, rtol=1e-4)


def test_other_layers_than_convolutions_are_refused():
    old, like = build("dense", 3, (8, 8)), build("dense", 5, (8, 8))
    with pytest.raises(UserError, match="are not a convolution"):
        adapted_weights(old.state_dict(), like.state_dict())


def test_a_run_on_colors_is_the_start_of_one_on_five_channels(tmp_path):
    colors = RNG.integers(0, 255, (12, 3, 32, 32), np.uint8)
    options = {"epochs": 1, "batch_size": 4, "encoder_args": {"width": 4}, "progress": False}
    first = unlabeled.train("denoising_autoencoder", colors, out=tmp_path / "first", **options)
    with pytest.warns(Notice, match=r"takes 3 channels; for images of 5 .* scaled by 3/5"):
        run = for_channels_of(FIVE, load(first.path))
    assert run.embed(FIVE).shape == (12, first.dim)
    del options["encoder_args"]
    with pytest.warns(Notice, match="for images of 5"):
        second = unlabeled.train(
            "denoising_autoencoder", FIVE, init=first.path, out=tmp_path / "second", **options
        )
    assert second.modality.channels == 5
    assert load(second.path).embed(FIVE).shape == (12, first.dim)
    with pytest.raises(UserError, match=r"5 channels, but 3 are needed|no axis of 3 channels"):
        load(first.path).embed(FIVE)  # trained: it is not changed behind the user's back


def test_pretrained_transformers_are_adapted(tmp_path):
    transformers = pytest.importorskip("transformers", reason="pip install 'unlabeled[hf]'")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24,
        patch_size=8, image_size=32,
    )  # fmt: skip
    transformers.ViTModel(config).save_pretrained(tmp_path)
    six = np.concatenate([FIVE, FIVE[:, :1]], 1)
    with pytest.warns(Notice, match="takes 3 channels; for images of 6"):
        run = load(f"hf:{tmp_path}", data=six)
    own = load(f"hf:{tmp_path}")
    gray = torch.rand(4, 1, 32, 32)
    with torch.no_grad():
        z, z_own = (r.encoder(gray.expand(-1, r.modality.channels, -1, -1)) for r in (run, own))
    torch.testing.assert_close(z, z_own, atol=1e-4, rtol=1e-4)
    assert run.embed(six).shape == (12, 16)


def test_colors_are_needed_for_color_augmentations_which_is_said_once():
    say_without_color.cache_clear()
    x = torch.rand(8, 5, 16, 16)
    with pytest.warns(Notice, match="5 channels have no hue"):
        jittered = ColorJitter(0.5, 0.0, 0.9, 0.2, p=1.0)(x)
    assert torch.equal(RandomGrayscale(1.0)(x), x)  # a second notice would be an error
    SimCLRAugment()(x)
    factors = (jittered / x).clamp(max=2)[x * 1.5 < 1].unique()
    each = jittered.mean((2, 3)) / x.mean((2, 3))  # (B, C)
    assert each.std(0).min() > 0.05  # brightness changes from image to image
    assert factors.min() >= 0.49
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SimCLRAugment()(torch.rand(4, 1, 16, 16))
        SimCLRAugment()(torch.rand(4, 3, 16, 16))


@pytest.mark.parametrize("channels", [2, 4, 5, 12])
def test_arrays_of_any_number_of_channels_are_opened(channels):
    x = RNG.integers(0, 255, (3, channels, 32, 40), np.uint8)
    assert (unlabeled.open_data(x).train.x == x).all()
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    if channels > 4:
        with pytest.warns(Notice, match=r"are read as \(N, H, W, C\)"):
            assert (unlabeled.open_data(last).train.x == x).all()
    else:
        assert (unlabeled.open_data(last).train.x == x).all()
