"""Filled polygons, pixel for pixel as a graphics card fills them."""

import numpy as np

# Pixels from column j on, as the 64 bits of a row.
FROM = np.append(np.left_shift(np.uint64(2**64 - 1), np.arange(64, dtype=np.uint64)), np.uint64(0))


def fill(vertices: np.ndarray) -> np.ndarray:
    """Images of 64×64 with one polygon each, white on black.

    Vertices are rounded to 1/256 of a pixel. A pixel is on where its center lies inside; where it
    lies on an edge, if a point a hair to the right and above is inside (OpenGL's rule, its y being
    up). Each edge flips, in every row that it crosses, all pixels to its right: what is flipped an
    odd number of times is inside.

    Args:
        vertices: (N, 2, V), x and y in pixels, y down, in order around the polygon, within [0, 64].

    Returns:
        uint8 (N, 64, 64) of 0 and 1.
    """
    x, y = np.floor(256 * vertices + 0.5).astype(np.int64).transpose(1, 0, 2)
    below = (y + 128) >> 8  # the first row whose center is below y
    image, a = np.nonzero(below != np.roll(below, -1, 1))
    b = (a + 1) % x.shape[1]
    up = y[image, a] > y[image, b]
    a, b = np.where(up, b, a), np.where(up, a, b)  # from top to bottom
    first, crossed = below[image, a], below[image, b] - below[image, a]
    image, a, b = (np.repeat(v, crossed) for v in (image, a, b))  # one entry a row crossed
    row = np.repeat(first - np.cumsum(crossed) + crossed, crossed) + np.arange(len(a))
    x0, y0 = x[image, a], y[image, a]
    dx, dy = x[image, b] - x0, y[image, b] - y0
    # The first column whose center is at the edge or to the right of it, in whole numbers.
    column = -((dy * (128 - x0) - dx * (256 * row + 128 - y0)) // (256 * dy))
    bits = np.zeros((len(x), 64), "<u8")
    np.bitwise_xor.at(bits, (image, row), FROM[column])
    return np.unpackbits(bits.view(np.uint8), bitorder="little").reshape(-1, 64, 64)
