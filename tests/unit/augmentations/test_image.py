"""Augmentations against slow references, one image and one pixel at a time."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from unlabeled import augmentations
from unlabeled.augmentations import color, geometry, image, kernel
from unlabeled.errors import UserError


def images(n=5, c=3, h=16, w=16, seed=0):
    return torch.rand(n, c, h, w, generator=torch.Generator().manual_seed(seed))


def matrices(n=5, seed=1):
    g = torch.Generator().manual_seed(seed)
    angle = (torch.rand(n, generator=g) - 0.5) * 6
    shift = (torch.rand(n, 2, generator=g) - 0.5) * 0.6
    return geometry.affine_matrix(angle, shift, torch.rand(n, generator=g) + 0.5)


def slow_nearest(x, matrix):
    """Each output pixel looks up its own source pixel."""
    n, _, h, w = x.shape
    out = torch.zeros_like(x)
    for b in range(n):
        for i in range(h):
            for j in range(w):
                u = (2 * j + 1) / w - 1
                v = (2 * i + 1) / h - 1
                sx, sy = (matrix[b] @ torch.tensor([u, v, 1.0])).tolist()
                column, row = math.floor((sx + 1) * w / 2), math.floor((sy + 1) * h / 2)
                if 0 <= column < w and 0 <= row < h:
                    out[b, :, i, j] = x[b, :, row, column]
    return out


@pytest.mark.parametrize(("c", "h", "w"), [(1, 12, 12), (3, 9, 14)])
def test_nearest_resampling_equals_a_loop_over_pixels(c, h, w):
    x = images(4, c, h, w)
    fast = geometry.resample(x, matrices(4), "nearest")
    slow = slow_nearest(x, matrices(4))
    # Coordinates that fall on the edge between two pixels may round either way.
    assert (fast != slow).float().mean() < 0.002


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_resampling_equals_torch(mode):
    x, m = images(70, 2, 16, 10), matrices(70)
    grid = F.affine_grid(m, list(x.shape), align_corners=False)
    if mode == "bilinear":
        theirs = F.grid_sample(x, grid, mode=mode, align_corners=False)
        torch.testing.assert_close(geometry.resample(x, m, mode), theirs, atol=2e-5, rtol=0)
    else:
        theirs = F.grid_sample(x, grid, mode=mode, align_corners=False)
        assert (geometry.resample(x, m, mode) != theirs).float().mean() < 0.002


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_affine_matrix_rotates_shifts_and_scales(mode):
    x = torch.zeros(1, 1, 33, 33)
    x[0, 0, 16, 24] = 1.0  # 8 pixels right of the center

    def center_of(angle=0.0, shift=(0.0, 0.0), scale=1.0):
        m = geometry.affine_matrix(
            torch.tensor([angle]), torch.tensor([shift]), torch.tensor([scale])
        )
        out = geometry.resample(x, m, mode)[0, 0]
        return [
            round(float((out * k).sum() / out.sum()), 1)
            for k in torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
        ]

    assert center_of() == [16, 24]
    assert center_of(angle=math.pi / 2) == [24, 16]  # clockwise: right becomes below
    assert center_of(shift=(2 / 33, 5 / 33)) == [21, 26]
    row, column = center_of(scale=1.5)
    assert row == pytest.approx(16, abs=0.5)
    assert column == pytest.approx(28, abs=0.5)


def test_rotating_a_wide_image_preserves_shapes():
    x = torch.zeros(1, 1, 20, 40)
    x[0, 0, 9:11, 16:24] = 1  # 2 high, 8 wide
    turned = geometry.affine_matrix(
        torch.tensor([math.pi / 2]), torch.zeros(1, 2), torch.ones(1), aspect=2.0
    )
    out = geometry.resample(x, turned, "nearest")[0, 0]
    assert out.any(1).sum() == 8
    assert out.any(0).sum() == 2


def test_crop_matrix_shows_the_box():
    x = torch.arange(64.0).view(1, 1, 8, 8) / 64
    quarter = geometry.crop_matrix(
        torch.tensor([[0.5, -0.5]]), torch.tensor([[0.5, 0.5]]), torch.ones(1)
    )  # the upper right quarter
    expected = F.interpolate(x[:, :, :4, 4:], (8, 8), mode="bilinear", align_corners=False)
    inner = (slice(None), slice(None), slice(1, 7), slice(1, 7))
    torch.testing.assert_close(geometry.resample(x, quarter)[inner], expected[inner])
    full = geometry.crop_matrix(torch.zeros(1, 2), torch.ones(1, 2), -torch.ones(1))
    torch.testing.assert_close(geometry.resample(x, full), x.flip(3))


def slow_color(x, brightness, contrast, saturation, hue):
    """Color adjustment of one pixel at a time, by the color circle of YIQ."""
    gray = np.array(color.GRAY)
    to_yiq = np.array([gray, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    x = x.numpy().astype(np.float64) * brightness
    mean = np.mean([gray @ x[:, i, j] for i in range(x.shape[1]) for j in range(x.shape[2])])
    out = np.empty_like(x)
    for i in range(x.shape[1]):
        for j in range(x.shape[2]):
            rgb = mean + contrast * (x[:, i, j] - mean)
            y, in_phase, quadrature = to_yiq @ rgb
            turned = complex(in_phase, quadrature) * saturation * np.exp(2j * np.pi * hue)
            out[:, i, j] = np.linalg.solve(to_yiq, [y, turned.real, turned.imag])
    return torch.from_numpy(out.clip(0, 1)).float()


def test_color_equals_a_loop_over_pixels():
    x, g = images(4, 3, 6, 5), torch.Generator().manual_seed(2)
    factors = [torch.rand(4, generator=g) + 0.5 for _ in range(3)] + [
        torch.rand(4, generator=g) - 0.5
    ]
    fast = color.adjust_color(x, *factors)
    for b in range(4):
        slow = slow_color(x[b], *(float(f[b]) for f in factors))
        torch.testing.assert_close(fast[b], slow, atol=1e-5, rtol=0)


def test_neutral_color_factors_change_nothing():
    x, one = images(), torch.ones(5)
    torch.testing.assert_close(color.adjust_color(x, one, one, one, 0 * one), x, atol=1e-5, rtol=0)


def test_color_without_saturation_is_luminance():
    x, one = images(), torch.ones(5)
    gray = color.adjust_color(x, one, one, 0 * one, 0 * one)
    torch.testing.assert_close(gray, color.rgb_to_grayscale(x).expand_as(x), atol=1e-4, rtol=0)


def test_blur_equals_a_loop_over_pixels():
    x, sigma, radius = images(3, 2, 9, 8), torch.tensor([0.3, 1.0, 2.5]), 2
    fast = image.gaussian_blur(x, sigma, radius)
    for b in range(3):
        padded = np.pad(x[b].numpy(), ((0, 0), (radius, radius), (radius, radius)), "reflect")
        steps = range(-radius, radius + 1)
        weight = {
            (p, q): math.exp(-(p * p + q * q) / (2 * float(sigma[b]) ** 2))
            for p in steps
            for q in steps
        }
        total = sum(weight.values())
        for i in range(9):
            for j in range(8):
                expected = sum(
                    w * padded[:, i + radius + p, j + radius + q] for (p, q), w in weight.items()
                )
                np.testing.assert_allclose(fast[b, :, i, j], expected / total, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 9), (2, 9), (1, 1)])
def test_images_of_a_row_are_blurred_along_it(size):
    """Catches an index outside of an image with a side as short as the kernel."""
    x = images(3, 2, *size)
    blurred = image.gaussian_blur(x, torch.full((3,), 1.0), 2)
    assert blurred.shape == x.shape
    if size[0] == 1:
        tall = x.expand(-1, -1, 9, -1) if size[1] > 2 else x.expand(-1, -1, 9, 9)
        expected = image.gaussian_blur(tall, torch.full((3,), 1.0), 2)[:, :, 4:5, : size[1]]
        torch.testing.assert_close(blurred, expected)


def test_sobel_equals_a_loop_over_pixels():
    x = images(2, 2, 7, 6)
    fast = image.sobel(x)
    for b in range(2):
        p = np.pad(x[b].numpy(), ((0, 0), (1, 1), (1, 1)), "edge")
        for i in range(7):
            for j in range(6):
                w = p[:, i : i + 3, j : j + 3]
                gx = (w[:, :, 2] - w[:, :, 0]) @ [1, 2, 1] / 4
                gy = (w[:, 2] - w[:, 0]) @ [1, 2, 1] / 4
                np.testing.assert_allclose(fast[b, :, i, j], np.hypot(gx, gy).clip(0, 1), atol=1e-5)


def test_style_transfer_swaps_statistics_or_amplitudes_only():
    x = torch.rand(2, 3, 8, 6, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    other, full, none = x.flip(0), torch.ones(2), torch.zeros(2)
    for swap in (color.swap_statistics, color.swap_amplitude):
        torch.testing.assert_close(swap(x, other, none), x, atol=1e-5, rtol=0)
    styled = color.swap_statistics(x, other, full)
    torch.testing.assert_close(styled.mean((2, 3)), other.mean((2, 3)))
    torch.testing.assert_close(styled.std((2, 3)), other.std((2, 3)))
    correlation = torch.corrcoef(torch.stack([styled[0, 0].flatten(), x[0, 0].flatten()]))
    assert correlation[0, 1] > 0.9999  # the same image in another range
    styled = color.swap_amplitude(x, other, full)
    amplitude, phase = torch.fft.fft2(styled).abs(), torch.fft.fft2(styled).angle()
    torch.testing.assert_close(amplitude, torch.fft.fft2(other).abs(), atol=1e-4, rtol=0)
    turn = phase - torch.fft.fft2(x).angle()
    torch.testing.assert_close(turn.cos(), torch.ones_like(turn), atol=1e-3, rtol=0)


def test_erasing_erases_its_square_only():
    x = torch.ones(2, 1, 10, 10)
    out = image.erase_square(x, torch.tensor([[0.5, 0.5], [0.0, 1.0]]), torch.tensor([0.4, 0.4]))
    expected = torch.ones(2, 1, 10, 10)
    expected[0, 0, 3:7, 3:7] = 0
    expected[1, 0, 8:, :2] = 0
    assert torch.equal(out, expected)


def test_rotate90_equals_rot90():
    x, turns = images(8, 2), torch.arange(8) % 4
    expected = torch.stack([p.rot90(int(k), (1, 2)) for p, k in zip(x, turns, strict=True)])
    assert torch.equal(image.rotate90(x, turns), expected)
    with pytest.raises(ValueError, match="square"):
        image.rotate90(images(2, 1, 4, 6), turns[:2])


@pytest.mark.parametrize(("mode", "fill"), [("constant", "constant"), ("edge", "replicate")])
@pytest.mark.parametrize("size", [(8, 8), (5, 9)])
def test_random_crop_draws_every_position_equally(mode, fill, size):
    """Catches interpolation between pixels, wrong numbers of shifts, and rarer extreme shifts."""
    x = images(1, 2, *size)
    torch.manual_seed(0)
    out = augmentations.RandomCrop(2, mode)(x.expand(2000, -1, -1, -1))
    padded = torch.nn.functional.pad(x[0], (2,) * 4, fill)
    h, w = size
    counts = [
        (out == padded[:, i : i + h, j : j + w]).flatten(1).all(1).sum().item()
        for i in range(5)
        for j in range(5)
    ]
    assert sum(counts) == 2000
    assert min(counts) > 40  # 80 each


def test_random_crop_pads_an_eighth_by_default_and_less_than_the_side():
    """Catches a default for one image size only, and a padding that can drop the whole image."""
    spike = torch.zeros(3000, 1, 32, 64)
    spike[:, :, 16, 32] = 1
    torch.manual_seed(0)
    rows, columns = augmentations.RandomCrop()(spike).nonzero()[:, 2:].T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (12, 20, 28, 36)
    assert torch.equal(augmentations.RandomCrop(0)(spike), spike)
    for padding in (-1, 32):
        with pytest.raises(UserError, match=f"padding is {padding}, but must be from 0 to 31"):
            augmentations.RandomCrop(padding)(spike)


EVERY = [
    augmentations.RandomAffine(),
    augmentations.RandomAffine(interpolation="bilinear"),
    augmentations.RandomResizedCrop(),
    augmentations.RandomHorizontalFlip(),
    augmentations.RandomCrop(),
    augmentations.RandomCrop(3, "edge"),
    augmentations.RandomRotation90(),
    augmentations.ColorJitter(),
    augmentations.RandomGrayscale(0.5),
    augmentations.RandomErasing(p=0.5),
    augmentations.GaussianNoise(p=0.5),
    augmentations.GaussianBlur(),
    augmentations.RandomSobel(),
    augmentations.RandomStyleTransfer(p=1.0),
    augmentations.RandomStyleTransfer("amplitude", p=1.0),
    augmentations.SimCLRAugment(blur=0.5),
    augmentations.Compose([augmentations.RandomHorizontalFlip(), augmentations.GaussianNoise()]),
]


@pytest.mark.filterwarnings("ignore:images of 5 channels have no hue")
@pytest.mark.parametrize("view", EVERY, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_every_augmentation_keeps_shape_and_range_and_its_input(view, channels):
    x = images(7, channels, 20, 20)
    before = x.clone()
    torch.manual_seed(0)
    out = view(x)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    assert out.min() >= 0
    assert out.max() <= 1 + 1e-6
    assert torch.equal(x, before)
    torch.manual_seed(0)
    assert torch.equal(view(x), out)  # the seed decides


@pytest.mark.parametrize("view", EVERY, ids=lambda v: type(v).__name__)
def test_every_image_gets_its_own_draw(view):
    one = images(1, 3, 20, 20)
    torch.manual_seed(0)
    out = view(one.expand(64, -1, -1, -1))
    kinds = {
        augmentations.RandomHorizontalFlip: 2,
        augmentations.RandomGrayscale: 2,
        augmentations.RandomRotation90: 4,
        augmentations.RandomSobel: 2,
    }
    kinds[augmentations.RandomStyleTransfer] = 1  # it mixes images, and these are all the same
    assert len({tuple(p.flatten().tolist()) for p in out}) >= kinds.get(type(view), 20)


def test_probabilities_hold():
    x = images(4000, 1, 4, 4)
    torch.manual_seed(0)
    flipped = (augmentations.RandomHorizontalFlip(0.3)(x) != x).flatten(1).any(1).float().mean()
    assert flipped == pytest.approx(0.3, abs=0.03)
    noisy = (augmentations.GaussianNoise(0.1, p=0.6)(x) != x).flatten(1).any(1).float().mean()
    assert noisy == pytest.approx(0.6, abs=0.03)


def test_nearest_keeps_binary_images_binary():
    x = (images(9, 1, 32, 32) > 0.8).float()
    assert set(augmentations.RandomAffine()(x).unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "view",
    [
        augmentations.ColorJitter(p=0.6),
        augmentations.RandomGrayscale(0.4),
        augmentations.GaussianBlur(p=0.6),
        augmentations.GaussianBlur((2.0, 9.0), p=1.0),
    ],
    ids=["colors", "gray", "blur", "wide blur"],
)
def test_compiled_filters_are_those_of_pytorch(view, monkeypatch):
    """Catches edges that are not reflected, colors of another image, and other random numbers."""
    if kernel.compiled_filters() is None:
        pytest.skip("there is no compiler here")
    for x in (images(9, 3, 24, 31), images(1, 3, 70, 22)):
        result = []
        for plain in (False, True):
            if plain:
                monkeypatch.setattr(image, "filters_for", lambda _: None)
                monkeypatch.setattr(color, "filters_for", lambda _: None)
            torch.manual_seed(4)
            result.append(view(x))
        torch.testing.assert_close(*result, atol=2e-6, rtol=0)
        monkeypatch.undo()
