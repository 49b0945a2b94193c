"""Labels carried through a film by pointing at what looks alike in earlier frames.

Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos", section 3.4; within a neighbourhood
as Lai, Xie 2019, "Self-supervised Learning for Video Correspondence Flow".
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def carry(
    method: Any,
    frames: Float[Tensor, "t 3 h w"],
    first: Float[Tensor, "k h w"],
    *,
    radius: int = 10,
    temperature: float = 0.03,
    recent: int = 0,
) -> Float[Tensor, "t k h w"]:
    """Labels of the first frame's pixels, carried through a clip.

    Args:
        method: video_colorization, which says what is alike, in eval mode.
        frames: (T, 3, H, W) in [0, 1]; their colours are not looked at.
        first: (K, H, W): colours, masks of K things, or heat maps of K key points.
        radius: pixels around its own place at which a pixel may point.
        temperature: of the pointing; lower than in training, where places are larger.
        recent: frames just before each one that it points at as well as at the first, with the
            labels that were carried to them; 0 for the first frame only.

    Returns:
        (T, K, H, W), first that of the first frame.
    """
    with torch.no_grad():
        z = method.pixels(frames)
    return carried(z, first, radius=radius, temperature=temperature, recent=recent)


def carried(
    z: Float[Tensor, "t d h w"],
    first: Float[Tensor, "k h w"],
    *,
    radius: int,
    temperature: float,
    recent: int = 0,
) -> Float[Tensor, "t k h w"]:
    """`carry` by embeddings (T, d, H, W) of any kind, alike where their distance is small."""
    labels = [first]
    for t in range(1, len(z)):
        others = [0, *range(max(1, t - recent), t)]
        known = torch.stack([labels[i] for i in others])
        labels.append(pointed(z[t], z[others], known, radius, temperature))
    return torch.stack(labels)


def pointed(
    z: Float[Tensor, "d h w"],
    others: Float[Tensor, "r d h w"],
    labels: Float[Tensor, "r k h w"],
    radius: int,
    temperature: float,
) -> Float[Tensor, "k h w"]:
    """Labels (K, H, W) of pixels, each the mean of those near its place in other frames, weighted
    by the softmax of −½ squared distance of embeddings; for unit vectors, that of the cosine.

    Args:
        z: of the pixels, (d, H, W).
        others: of the other frames' pixels, (R, d, H, W).
        labels: of those, (R, K, H, W).
        radius: of the square around a pixel's own place, within the picture.
        temperature: of the softmax.
    """
    height, width = z.shape[1:]
    around = [radius] * 4
    near, told = F.pad(others, around), F.pad(labels, around)
    inside = F.pad(torch.ones(height, width, device=z.device, dtype=torch.bool), around)
    corners = list(itertools.product(range(2 * radius + 1), repeat=2))

    def window(x: Tensor, corner: tuple[int, ...]) -> Tensor:
        return x[..., corner[0] : corner[0] + height, corner[1] : corner[1] + width]

    likeness = torch.stack(
        [
            (-(window(near, c) - z).square().sum(1) / 2).masked_fill(~window(inside, c), -torch.inf)
            for c in corners
        ]
    )  # (places, R, H, W)
    weight = (likeness / temperature).flatten(0, 1).softmax(0).view_as(likeness)
    out = torch.zeros_like(labels[0])
    for corner, share in zip(corners, weight, strict=True):
        out += (share[:, None] * window(told, corner)).sum(0)
    return out
