"""Crops of another size, solarization, and different augmentations of two views."""

import pytest
import torch
import torch.nn.functional as F

from unlabeled import parallel, registry
from unlabeled.augmentations import (
    BYOLAugment,
    ColorJitter,
    RandomResizedCrop,
    RandomSolarize,
    SimCLRAugment,
    kernel,
)
from unlabeled.augmentations.geometry import crop_matrix, resample
from unlabeled.core import Batch
from unlabeled.encoders.base import build


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_resampling_to_another_size_is_grid_samples(plain, mode, monkeypatch):
    """Catches coordinates in units of the output, and rows of the input's length."""
    if plain:
        monkeypatch.setattr(kernel, "compiled", lambda: None)
    x = torch.rand(3, 2, 17, 23)
    torch.manual_seed(1)
    matrix = torch.eye(2, 3) + 0.3 * torch.randn(3, 2, 3)
    for size in ((9, 31), (40, 5), (17, 23)):
        grid = F.affine_grid(matrix, [3, 2, *size], align_corners=False)
        expected = F.grid_sample(x, grid, mode=mode, align_corners=False)
        assert torch.allclose(resample(x, matrix, mode, size), expected, atol=1e-5)


def test_a_crop_of_the_whole_image_is_the_image_at_that_size():
    """Catches a size that is ignored by the views of the papers."""
    x = torch.rand(4, 3, 32, 32)
    full = resample(x, crop_matrix(torch.zeros(4, 2), torch.ones(4, 2), torch.ones(4)), size=(8, 8))
    crop = RandomResizedCrop((1.0, 1.0), (1.0, 1.0), flip=0.0, size=8)(x)
    assert torch.equal(crop, full)
    for augment in (SimCLRAugment(size=12), BYOLAugment(size=12, solarize=0.5)):
        assert augment(x).shape == (4, 3, 12, 12)


def test_solarization_inverts_what_is_bright_of_some_images():
    """Catches images that are inverted whole, or all of them."""
    x = torch.full((2000, 1, 1, 2), 0.25)
    x[..., 1] = 0.75
    y = RandomSolarize(p=0.2)(x)
    assert (y[..., 0] == 0.25).all()
    assert 0.16 < (y[..., 1] == 0.25).float().mean() < 0.24


@pytest.mark.parametrize("name", ["byol", "barlow_twins", "vicreg", "dino"])
def test_the_second_view_can_differ(name):
    """Catches a second augmentation that is not used, or used for both views."""
    encoder = build("small", 3, (16, 16))
    same, dark = ColorJitter(p=0.0), ColorJitter(1.0, p=1.0)
    method = registry.find("methods", name)(encoder, augment=same, second_augment=dark)
    x = torch.full((8, 3, 16, 16), 0.5)
    first, second = method.views(Batch(x, torch.arange(8)))[:2]
    assert torch.equal(first, x)
    assert not torch.equal(second, x)


def test_local_crops_of_swav_only_predict():
    """Catches codes of local crops, and local crops that change nothing."""
    torch.manual_seed(0)
    method = registry.find("methods", "swav")(build("small", 3, (32, 32)), local_crops=2)
    method.progress = 1.0
    views = method.views(Batch(torch.rand(8, 3, 32, 32), torch.arange(8)))
    assert [tuple(v.shape[2:]) for v in views] == [(32, 32)] * 2 + [(16, 16)] * 2
    method.eval()
    scores = [F.normalize(method.project(v), dim=1) @ method.prototypes.T for v in views]
    codes = [method.sinkhorn(s) for s in scores[:2]]
    losses = [
        -(codes[i] * F.log_softmax(scores[j] / 0.1, 1)).sum(1).mean()
        for i in range(2)
        for j in range(4)
        if i != j
    ]
    assert torch.allclose(method.loss(views), torch.stack(losses).mean(), atol=1e-5)
    assert method.loss(views[:2]) != method.loss(views)


def test_views_of_several_sizes_have_a_gradient():
    """Catches running statistics changed in place by a large view after a small one."""
    torch.manual_seed(0)
    method = registry.find("methods", "swav")(
        build("small", 3, (16, 16)), local_crops=1, local_augment=SimCLRAugment(size=96)
    )
    method.progress = 1.0
    parallel.synchronize(method, 1)
    method.loss(method.views(Batch(torch.rand(8, 3, 16, 16), torch.arange(8)))).backward()
    assert all(p.grad is not None for p in method.encoder.parameters())
