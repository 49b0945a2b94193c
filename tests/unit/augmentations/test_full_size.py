"""Random crops of full-size images, and the batch that they stand for."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from unlabeled.augmentations import Compose, RandomHorizontalFlip, RandomResizedCrop, SimCLRAugment
from unlabeled.augmentations.full_size import FullSize, random_boxes


def photos(number: int = 4) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    sides = [(40 + 7 * i, 90 - 11 * i) for i in range(number)]
    return [torch.from_numpy(rng.integers(0, 256, (3, *s), dtype=np.uint8)) for s in sides]


def naive_box(rng: np.random.Generator, height: int, width: int, scale, ratio) -> list[float]:
    """torchvision's `RandomResizedCrop.get_params`, from its documentation."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        shape = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < w <= width and 0 < h <= height:
            return [rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w]
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize("sides", [(375, 500), (100, 300)])
def test_boxes_have_the_statistics_of_a_loop(sides):
    """Catches boxes clamped instead of drawn again, and areas of the square at the center."""
    scale, ratio, n = (0.08, 1.0), (3 / 4, 4 / 3), 4000
    torch.manual_seed(0)
    ours = random_boxes(torch.tensor([sides] * n), scale, ratio).double().numpy()
    rng = np.random.default_rng(0)
    naive = np.array([naive_box(rng, *sides, scale, ratio) for _ in range(n)], float)
    for column in range(4):
        a, b = ours[:, column], naive[:, column]
        error = math.sqrt((a.var() + b.var()) / n)
        assert abs(a.mean() - b.mean()) < 4 * error
        assert abs(a.std() / b.std() - 1) < 0.1
    assert (ours[:, 0] + ours[:, 2] <= sides[0]).all()
    assert (ours[:, 1] + ours[:, 3] <= sides[1]).all()


def test_without_a_fitting_box_the_largest_at_the_center_is_taken():
    """Catches a fallback that leaves the image or the range of ratios."""
    boxes = random_boxes(torch.tensor([[10, 100], [100, 10]]), (1.0, 1.0), (0.75, 1.25))
    assert boxes.tolist() == [[0, 44, 10, 12], [43, 0, 13, 10]]


def test_a_crop_equals_pillows():
    """Catches resizing without antialiasing, and rows for columns."""
    images = photos()
    batch = FullSize(images, (4, 3, 16, 24))
    boxes = torch.tensor([[1, 2, 30, 40], [0, 0, 47, 79], [5, 6, 8, 8], [3, 0, 50, 57]])
    flip = torch.tensor([False, True, False, True])
    crops = (batch.crop(boxes, flip) * 255).round()
    for image, (top, left, h, w), crop, flipped in zip(
        images, boxes.tolist(), crops, flip, strict=True
    ):
        pil = Image.fromarray(image.permute(1, 2, 0).numpy()).crop((left, top, left + w, top + h))
        pil = pil.resize((24, 16), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(pil)).permute(2, 0, 1).float()
        expected = expected.flip(2) if flipped else expected
        assert (crop - expected).abs().max() <= 1


def test_every_other_operation_receives_the_fitted_images():
    """Catches operators, functions or methods that see an empty tensor."""
    batch = FullSize(photos, (4, 3, 20, 20))
    plain = batch.fitted()
    assert isinstance(batch, torch.Tensor)
    assert (batch.shape, batch.dtype, len(batch)) == (plain.shape, torch.float32, 4)
    for task in (
        lambda x: 2 * x - 1,
        lambda x: x.flatten(1),
        lambda x: torch.cat([x, x]),
        lambda x: x[1:3],
        lambda x: torch.nn.functional.avg_pool2d(x, 2),
    ):
        assert torch.equal(task(batch), task(plain))
    first = Compose([RandomHorizontalFlip(p=1.0), RandomResizedCrop((1.0, 1.0), (1.0, 1.0), 0.0)])
    assert torch.allclose(first(batch), plain.flip(3), atol=1e-6)


def test_images_are_fetched_once_and_only_when_needed():
    """Catches decoding before the crops are made, and again for each view."""
    calls = []

    def fetch():
        calls.append(1)
        return photos()

    batch = FullSize(fetch, (4, 3, 8, 8)).to("cpu").pin_memory()
    assert not calls
    views = [SimCLRAugment()(batch) for _ in range(3)]
    assert len(calls) == 1
    assert not torch.equal(views[0], views[1])
    assert all(view.min() >= 0 and view.max() <= 1 for view in views)


def test_parts_of_a_batch_are_full_size():
    """Catches --accumulate, whose crops would be those of images that were resized before."""
    batch = FullSize(photos, (4, 3, 16, 24))
    parts = batch.chunk(2)
    assert all(isinstance(part, FullSize) and part.shape == (2, 3, 16, 24) for part in parts)
    boxes = torch.tensor([[1, 2, 30, 40], [0, 0, 47, 79], [5, 6, 8, 8], [3, 0, 50, 57]])
    crops = torch.cat([part.crop(box) for part, box in zip(parts, boxes.chunk(2), strict=True)])
    assert torch.equal(crops, batch.crop(boxes))
    assert torch.equal(torch.cat(batch.chunk(2, 1), 1), batch.fitted())


def test_floats_are_scaled_by_their_range():
    """Catches 16-bit images divided by 255."""
    image = torch.tensor([[[100.0, 300.0], [100.0, 300.0]]])
    batch = FullSize([image], (1, 1, 2, 2), value_range=(100.0, 300.0))
    assert batch.fitted().tolist() == [[[[0.0, 1.0], [0.0, 1.0]]]]
