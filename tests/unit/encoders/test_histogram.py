"""Color and gradient histograms against loops over pixels."""

import colorsys
import math

import numpy as np
import torch

from unlabeled.encoders.base import build
from unlabeled.encoders.histogram import CELLS, HUES, LEVELS, ORIENTATIONS, SATURATIONS, VALUES


def test_colors_are_counted_as_a_loop_over_pixels_counts_them():
    """Catches: hue in degrees, bins swapped, a hue below 0."""
    x = torch.rand(2, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    x[0, :, 0] = torch.tensor([1.0, 0.0, 0.0])[:, None]  # hue 0, saturation and value 1
    z = build("histogram", 3, (7, 5))(x)[:, : HUES * SATURATIONS * VALUES] ** 2
    for image, counted in zip(x.numpy(), z.numpy(), strict=True):
        expected = np.zeros((HUES, SATURATIONS, VALUES))
        for r, g, b in image.reshape(3, -1).T.astype(float):
            h, s, v = colorsys.rgb_to_hsv(r, g, b)
            at = (
                min(int(h * HUES), HUES - 1),
                min(int(s * SATURATIONS), SATURATIONS - 1),
                min(int(v * VALUES), VALUES - 1),
            )
            expected[at] += 1 / 35
        np.testing.assert_allclose(counted, expected.ravel(), atol=1e-6)


def test_gradients_vote_for_their_orientation_in_their_cell():
    """Catches: x and y swapped, signed orientations, cells in another order."""
    ramp = torch.zeros(1, 1, 16, 16)
    ramp[..., :8, :] = torch.arange(16) / 16  # in the upper half it grows to the right
    z = build("histogram", 1, (16, 16))(ramp)[0, LEVELS:] ** 2
    cells = z.view(ORIENTATIONS, CELLS, CELLS)
    assert cells[0, 0].min() > 0.9  # orientation 0, upper row of cells
    assert cells[:, 3].max() == 0
    down = build("histogram", 1, (16, 16))(ramp.transpose(2, 3))[0, LEVELS:] ** 2
    quarter = int(0.5 * ORIENTATIONS)
    assert down.view(ORIENTATIONS, CELLS, CELLS)[quarter, :, 0].min() > 0.9


def test_channels_that_are_no_colors_are_counted_each():
    x = torch.rand(3, 5, 9, 9)
    z = build("histogram", 5, (9, 9))(x)
    assert z.shape == (3, 5 * LEVELS + CELLS**2 * ORIENTATIONS)
    levels = z[:, : 5 * LEVELS].view(3, 5, LEVELS) ** 2
    torch.testing.assert_close(levels.sum(2), torch.full((3, 5), 1 / 5))
    first = np.histogram(x[0, 0].numpy(), LEVELS, (0, 1))[0] / (81 * 5)
    np.testing.assert_allclose(levels[0, 0].numpy(), first, atol=1e-6)
    assert math.isfinite(float(z.sum()))
