"""Propagate labels through a video by the similarity of pixels to those of earlier frames.

Vondrick et al. 2018, "Tracking Emerges by Colorizing Videos", section 3.4; within a neighborhood
as Lai, Xie 2019, "Self-supervised Learning for Video Correspondence Flow".
"""

import torch
from jaxtyping import Float
from torch import Tensor


@torch.no_grad()
def propagate_labels(
    z: Float[Tensor, "t d h w"],
    first: Float[Tensor, "k h w"],
    *,
    radius: int = 10,
    temperature: float = 0.03,
    recent: int = 0,
    nearest: int = 0,
) -> Float[Tensor, "t k h w"]:
    """Propagate the labels of a clip's first frame to its other frames.

    Args:
        z: (T, d, H, W) embeddings of the pixels, such as `VideoColorization.pixels` returns.
        first: (K, H, W) labels: colors, masks of K objects, or heat maps of K key points.
        radius: of the neighborhood that a pixel attends to, in pixels.
        temperature: of the softmax; lower than in training, where the grid is coarser.
        recent: number of preceding frames that are used besides the first one, with the labels
            propagated to them.
        nearest: number of pixels, the most similar ones, that a pixel attends to; 0 for all.

    Returns:
        (T, K, H, W) labels of all frames.
    """
    labels = [first]
    for t in range(1, len(z)):
        sources = [0, *range(max(1, t - recent), t)]
        source_labels = torch.stack([labels[i] for i in sources])
        labels.append(attend_labels(z[t], z[sources], source_labels, radius, temperature, nearest))
    return torch.stack(labels)


def attend_labels(
    z: Float[Tensor, "d h w"],
    others: Float[Tensor, "r d h w"],
    labels: Float[Tensor, "r k h w"],
    radius: int,
    temperature: float,
    nearest: int = 0,
) -> Float[Tensor, "k h w"]:
    """Labels (K, H, W) of pixels: the attention-weighted mean of those nearby in other frames.

    The weights are the softmax of −½ squared distance, for unit vectors that of the cosine.

    Args:
        z: (d, H, W) embeddings of the pixels.
        others: (R, d, H, W) embeddings of the other frames' pixels.
        labels: (R, K, H, W) of the other frames.
        radius: of the square around a pixel's own position.
        temperature: of the softmax.
        nearest: number of pixels that each attends to, as in Jabri, Owens, Efros 2020; 0 for all.
    """
    height, width = z.shape[1:]
    column = torch.arange(width, device=z.device)
    far = ((column[:, None] - column).abs() > radius)[:, None]  # (W, 1, W)
    rows = []
    for row in range(height):
        near = slice(max(0, row - radius), row + radius + 1)
        keys = others[:, :, near].transpose(0, 1).flatten(1)  # (d, R·rows·W)
        values = labels[:, :, near].transpose(0, 1).flatten(1)  # (K, R·rows·W)
        scores = z[:, row].T @ keys - keys.square().sum(0) / 2  # without −½‖z‖², a constant
        scores = scores.unflatten(1, (-1, width)).masked_fill(far, -torch.inf).flatten(1)
        if 0 < nearest < scores.shape[1]:
            least = scores.topk(nearest, 1).values[:, -1:]
            scores = scores.masked_fill(scores < least, -torch.inf)
        rows.append((scores / temperature).softmax(1) @ values.T)  # (W, K)
    return torch.stack(rows, 1).permute(2, 1, 0)
