"""Hand-made features of images: histograms of colors and of gradient orientations."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from unlabeled.augmentations.color import rgb_to_grayscale
from unlabeled.encoders.base import Encoder

HUES, SATURATIONS, VALUES, LEVELS = 12, 4, 4, 16
"""Bins of a color in HSV, and of a channel that is no color."""
CELLS, ORIENTATIONS = 4, 9
"""Cells a side, and bins of unsigned orientations in each (Dalal, Triggs 2005)."""


class Histogram(nn.Module):
    """Color histogram and gradient histograms of images: (B, C, H, W) in [0, 1] -> (B, dim).

    Colors: the joint histogram of hue, saturation and value; of other than three channels a
    histogram of each. Gradients: in each of 4×4 cells a histogram of orientations, weighted by
    magnitude, over the cell's norm. Both as square roots, so that their dot product is the
    Hellinger affinity, which linear classifiers need.

    Args:
        channels: of the images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        colors = HUES * SATURATIONS * VALUES if channels == 3 else LEVELS * channels
        self.dim = colors + CELLS**2 * ORIENTATIONS

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        colors = _colors(x) if x.shape[1] == 3 else _levels(x)
        gray = rgb_to_grayscale(x) if x.shape[1] == 3 else x.mean(1, keepdim=True)
        return torch.cat([colors.sqrt(), _gradients(gray).sqrt()], 1)


def histogram(channels: int = 3, size: tuple[int, int] = (64, 64)) -> Encoder:
    """Histograms of colors and of gradient orientations: what to try before training anything."""
    summary = Histogram(channels)
    return Encoder([], summary, dim=summary.dim)


def _colors(x: Tensor) -> Tensor:
    """Joint histogram of hue, saturation, value: (B, 3, H, W) -> (B, bins), of sum 1."""
    value, low = x.amax(1), x.amin(1)
    chroma = value - low
    r, g, b = x.unbind(1)
    span = chroma.clamp(min=1e-6)
    hue = torch.where(
        value == r, (g - b) / span, torch.where(value == g, 2 + (b - r) / span, 4 + (r - g) / span)
    )
    bins = _bin(hue.remainder(6) / 6, HUES)
    bins = bins * SATURATIONS + _bin(chroma / value.clamp(min=1e-6), SATURATIONS)
    bins = bins * VALUES + _bin(value, VALUES)
    return _count(bins.flatten(1), HUES * SATURATIONS * VALUES)


def _levels(x: Tensor) -> Tensor:
    """A histogram of each channel: (B, C, H, W) -> (B, C·bins), of sum 1."""
    bins = _bin(x, LEVELS) + LEVELS * torch.arange(x.shape[1], device=x.device)[:, None, None]
    return _count(bins.flatten(1), LEVELS * x.shape[1])


def _gradients(gray: Tensor) -> Tensor:
    """Histograms of gradient orientations by cell: (B, 1, H, W) -> (B, cells·bins)."""
    padded = F.pad(gray, (1, 1, 1, 1), mode="replicate")
    dx = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    dy = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    bins = _bin(torch.atan2(dy, dx).remainder(math.pi) / math.pi, ORIENTATIONS)
    by_bin = torch.zeros_like(gray).repeat(1, ORIENTATIONS, 1, 1)
    by_bin.scatter_(1, bins, torch.hypot(dx, dy))
    cells = F.adaptive_avg_pool2d(by_bin, CELLS)
    return (cells / (cells.norm(dim=1, keepdim=True) + 0.01)).flatten(1)


def _bin(values: Tensor, bins: int) -> Tensor:
    """Index of the bin of values in [0, 1]."""
    return (values * bins).long().clamp(0, bins - 1)


def _count(bins: Tensor, n: int) -> Tensor:
    """Shares of the bins in each row: (B, pixels) -> (B, n)."""
    counts = torch.zeros(len(bins), n, device=bins.device)
    counts.scatter_add_(1, bins, torch.ones_like(bins, dtype=counts.dtype))
    return counts / bins.shape[1]
