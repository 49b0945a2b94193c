"""Images of five channels: every encoder takes them, every image method learns from them."""

import warnings

import contract
import pytest
import torch

from unlabeled import registry
from unlabeled.augmentations import BYOLAugment
from unlabeled.encoders.base import build
from unlabeled.errors import Notice
from unlabeled.modality import Images

CHANNELS = 5


@pytest.mark.parametrize("name", contract.names())
def test_every_image_method_learns_from_five_channels(name):
    cls = contract.find(name)
    if Images not in cls.modality or cls.needs_color:
        pytest.skip("takes other data")
    method = contract.make(cls, channels=CHANNELS, augment=BYOLAugment(blur=0.5, solarize=0.5))
    optimizers = contract.optimizers_of(method)
    batch = contract.batch_of(method, channels=CHANNELS)
    before = {k: v.clone() for k, v in method.encoder.state_dict().items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "images of 5 channels", Notice)  # once of a process
        for _ in range(2):
            contract.step(method, optimizers, batch)
    after = method.encoder.state_dict()
    assert all(torch.isfinite(v).all() for v in after.values())
    assert any(not torch.equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("name", sorted(registry.listing("encoders")))
def test_every_encoder_of_images_takes_five_channels(name):
    torch.manual_seed(0)
    if name in ("text_lstm", "text_transformer", "vit_base"):
        pytest.skip("takes tokens" if "text" in name else "is vit_tiny, but slower")
    options = {"dim": 3} if name in ("pca", "ica", "kmeans") else {}
    side = 8 if name in ("transformer", "lstm", "rnn") else 32  # they read values one by one
    encoder = build(name, CHANNELS, (side, side), **options)
    x = torch.rand(6, CHANNELS, side, side)
    if options:
        encoder.summary.fit(x)
    without_last = x * torch.tensor([1, 1, 1, 1, 0])[:, None, None]
    with torch.no_grad():
        z, other = encoder.eval()(x), encoder(without_last)
    assert z.shape == (6, encoder.dim)
    assert not torch.equal(z, other)  # the last channel counts, too
