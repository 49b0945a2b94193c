"""Labels carried through a video by pointing at what looks alike in earlier frames.

Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos", section 3.4; within a neighborhood
as Lai, Xie 2019, "Self-supervised Learning for Video Correspondence Flow".
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def propagate_labels(
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
        frames: (T, 3, H, W) in [0, 1]; their colors are not looked at.
        first: (K, H, W): colors, masks of K things, or heat maps of K key points.
        radius: pixels around its own place at which a pixel may point.
        temperature: of the pointing; lower than in training, where places are larger.
        recent: frames just before each one that it points at as well as at the first, with the
            labels that were carried to them; 0 for the first frame only.

    Returns:
        (T, K, H, W), first that of the first frame.
    """
    with torch.no_grad():
        z = method.pixels(frames)
    return propagate(z, first, radius=radius, temperature=temperature, recent=recent)


def propagate(
    z: Float[Tensor, "t d h w"],
    first: Float[Tensor, "k h w"],
    *,
    radius: int,
    temperature: float,
    recent: int = 0,
) -> Float[Tensor, "t k h w"]:
    """`propagate_labels` with given embeddings (T, d, H, W) of the pixels."""
    labels = [first]
    for t in range(1, len(z)):
        others = [0, *range(max(1, t - recent), t)]
        known = torch.stack([labels[i] for i in others])
        labels.append(attend_labels(z[t], z[others], known, radius, temperature))
    return torch.stack(labels)


def attend_labels(
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
        radius: of the square around a pixel's own place, within the image.
        temperature: of the softmax.
    """
    height, width = z.shape[1:]
    across = torch.arange(width, device=z.device)
    far = ((across[:, None] - across).abs() > radius)[:, None]  # (W, 1, W)
    rows = []
    for row in range(height):
        near = slice(max(0, row - radius), row + radius + 1)
        keys = others[:, :, near].transpose(0, 1).flatten(1)  # (d, R·rows·W)
        told = labels[:, :, near].transpose(0, 1).flatten(1)  # (K, R·rows·W)
        likeness = z[:, row].T @ keys - keys.square().sum(0) / 2  # but for what all share
        likeness = likeness.unflatten(1, (-1, width)).masked_fill(far, -torch.inf).flatten(1)
        rows.append((likeness / temperature).softmax(1) @ told.T)  # (W, K)
    return torch.stack(rows, 1).permute(2, 1, 0)
