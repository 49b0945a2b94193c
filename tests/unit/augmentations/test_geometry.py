"""Where views come from: what is recorded is read back from images of their own coordinates."""

import pytest
import torch

from unlabeled.augmentations import (
    Compose,
    GaussianNoise,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation90,
    SimCLRAugment,
)
from unlabeled.augmentations.full_size import FullSize
from unlabeled.augmentations.geometry import grid_locations, recorded_geometry

BILINEAR = RandomAffine(interpolation="bilinear")


def coordinates(height: int, width: int) -> torch.Tensor:
    """(3, H, W): x and y of each pixel's center, in pixels from the image's center, and ones."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x + 0.5 - width / 2, y + 0.5 - height / 2, torch.ones_like(x)]).float()


def check(x: torch.Tensor, augment, tolerance: float = 1e-3) -> None:
    """Compare the recorded locations of a view's pixels with what the pixels show."""
    with recorded_geometry(x) as geometry:
        view = augment(x)
    recorded = grid_locations(geometry.matrix, (view.shape[2], view.shape[3]))
    shown = view.flatten(2).transpose(1, 2)  # (B, N, 3)
    inside = shown[:, :, 2] > 1 - 1e-5  # no zero took part
    assert inside.float().mean() > 0.1
    torch.testing.assert_close(recorded[inside], shown[:, :, :2][inside], atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("augment", "size"),
    [
        (BILINEAR, (40, 28)),
        (RandomResizedCrop(), (40, 28)),
        (RandomResizedCrop(size=16), (40, 28)),
        (RandomCrop(), (40, 28)),
        (RandomHorizontalFlip(), (40, 28)),
        (RandomRotation90(), (32, 32)),
        (Compose([RandomRotation90(), RandomResizedCrop(), RandomHorizontalFlip()]), (32, 32)),
        (Compose([RandomHorizontalFlip(), RandomCrop(), RandomResizedCrop()]), (40, 28)),
    ],
)
def test_recorded_locations_are_those_of_the_pixels(augment, size):
    """Catches flips left out, maps composed the wrong way round, x and y exchanged.

    And coordinates of the view's size instead of the image's, or counted in sides, not in pixels.
    """
    torch.manual_seed(0)
    check(coordinates(*size).repeat(16, 1, 1, 1), augment)


def test_a_border_of_repeated_pixels_does_not_count_as_the_image():
    """Catches a shift in sides of the larger, padded image."""
    torch.manual_seed(0)
    x = coordinates(40, 28).repeat(16, 1, 1, 1)
    with recorded_geometry(x) as geometry:
        view = RandomCrop(6, padding_mode="edge")(x)
    recorded = grid_locations(geometry.matrix, (40, 28))
    recorded = torch.stack(
        [recorded[..., 0].clamp(-13.5, 13.5), recorded[..., 1].clamp(-19.5, 19.5)], 1
    )
    torch.testing.assert_close(recorded.unflatten(2, (40, 28)), view[:, :2], atol=1e-3, rtol=0)


def test_crops_of_full_size_images_are_in_their_pixels():
    """Catches boxes as if all images had the batch's size, and top exchanged with left."""
    torch.manual_seed(0)
    sizes = [(60, 44), (37, 90), (50, 50)] * 4
    images = [coordinates(*size) for size in sizes]
    x = FullSize(images, (len(images), 3, 32, 48))
    with recorded_geometry(x) as geometry:
        view = RandomResizedCrop((0.4, 1.0))(x)
    recorded = grid_locations(geometry.matrix, (32, 48)).transpose(1, 2).unflatten(2, (32, 48))
    edge = slice(2, -2)  # where a filter of the resizing does not end at the box
    close = {"atol": 0.15, "rtol": 0}  # PyTorch rounds the filter
    torch.testing.assert_close(recorded[..., edge, edge], view[:, :2, edge, edge], **close)


def test_recording_changes_no_draw_and_ends():
    """Catches draws of its own, and a record that goes on after its context."""
    x = coordinates(32, 32).repeat(4, 1, 1, 1)
    augment = Compose([SimCLRAugment(), RandomRotation90(), RandomCrop(), GaussianNoise()])
    views = []
    for recording in (True, False):
        torch.manual_seed(3)
        if recording:
            with recorded_geometry(x) as geometry:
                views.append(augment(x))
            matrix = geometry.matrix
        else:
            views.append(augment(x))
        views.append(torch.rand(5))
    assert torch.equal(views[0], views[2])
    assert torch.equal(views[1], views[3])
    assert geometry.matrix is matrix


def test_what_moves_no_pixel_leaves_every_one_at_its_own():
    x = coordinates(12, 20).repeat(2, 1, 1, 1)
    with recorded_geometry(x) as geometry:
        GaussianNoise()(x)
    own = x[:, :2].flatten(2).transpose(1, 2)
    torch.testing.assert_close(grid_locations(geometry.matrix, (12, 20)), own)
