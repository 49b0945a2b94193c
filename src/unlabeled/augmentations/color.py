"""Lightness and two colors instead of red, green and blue; colors in bins.

CIE 1976 L*a*b* of sRGB with the white D65: L* is lightness from 0 to 100, a* runs from green to
red, b* from blue to yellow, both about −110 to 110.
"""

from __future__ import annotations

import functools

import torch
from jaxtyping import Float
from torch import Tensor

LINEAR = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750),
          (0.0193339, 0.1191920, 0.9503041))  # fmt: skip
"""Linear sRGB to CIE XYZ (IEC 61966-2-1)."""
WHITE = (0.95047, 1.0, 1.08883)
BIN = 10.0
"""Side of a bin of colors, as Zhang et al. 2016 have it."""


def rgb_to_lab(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Red, green and blue in [0, 1] -> L*, a*, b*."""
    matrix = x.new_tensor(LINEAR) / x.new_tensor(WHITE)[:, None]
    t = torch.einsum("ij,bjhw->bihw", matrix, _straight(x))
    f = torch.where(t > (6 / 29) ** 3, t.clamp(min=1e-8) ** (1 / 3), t * (29 / 6) ** 2 / 3 + 4 / 29)
    fx, fy, fz = f.unbind(1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], 1)


def lab_to_rgb(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """L*, a*, b* -> red, green and blue, clipped to [0, 1]."""
    fy = (x[:, 0] + 16) / 116
    f = torch.stack([fy + x[:, 1] / 500, fy, fy - x[:, 2] / 200], 1)
    t = torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    matrix = torch.linalg.inv(x.new_tensor(LINEAR) / x.new_tensor(WHITE)[:, None])
    return _bent(torch.einsum("ij,bjhw->bihw", matrix, t))


def to_gray(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The same lightness L* without color, as red, green and blue."""
    bright = torch.einsum("j,bjhw->bhw", x.new_tensor(LINEAR[1]), _straight(x))
    return _bent(bright)[:, None].expand_as(x)


def _straight(x: Tensor) -> Tensor:
    """From sRGB to light."""
    return torch.where(x > 0.04045, ((x.clamp(min=0) + 0.055) / 1.055) ** 2.4, x / 12.92)


def _bent(light: Tensor) -> Tensor:
    """From light to sRGB in [0, 1]."""
    light = light.clamp(0, 1)
    dark = light <= 0.0031308
    return torch.where(dark, 12.92 * light, 1.055 * light.clamp(min=1e-8) ** (1 / 2.4) - 0.055)


@functools.cache
def color_bins() -> Float[Tensor, "q 2"]:
    """Centers (a*, b*) of the bins that some color of a screen falls into."""
    steps = torch.linspace(0, 1, 33)
    cube = torch.cartesian_prod(steps, steps, steps).T.reshape(1, 3, -1, 1)
    places = (rgb_to_lab(cube)[0, 1:, :, 0].T / BIN).round().long()
    return places.unique(dim=0).float() * BIN


def soft_bins(
    ab: Float[Tensor, "n 2"], centers: Float[Tensor, "q 2"], neighbors: int = 5, sigma: float = 5.0
) -> Float[Tensor, "n q"]:
    """Each color as a mixture of its nearest bins, by a Gaussian (Zhang et al. 2016, section 2.2).

    Args:
        ab: colors.
        centers: of the bins.
        neighbors: bins that share a color.
        sigma: of the Gaussian, in units of a* and b*.
    """
    distance, place = torch.cdist(ab, centers).topk(neighbors, largest=False)
    weights = torch.softmax(-(distance**2) / (2 * sigma**2), 1)
    return ab.new_zeros(len(ab), len(centers)).scatter(1, place, weights)
