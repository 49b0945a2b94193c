"""Images cut into tiles, for jigsaw puzzles and relative positions."""

import functools
import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.errors import UserError


def tiles(
    x: Float[Tensor, "b c h w"], n: int = 3, share: float = 0.75, size: int | None = None
) -> Float[Tensor, "b tiles c s s"]:
    """Crop a random square from each of n × n cells, so that no edge continues in the next tile.

    Args:
        x: images.
        n: cells down and across; a remainder is dropped at the right and the bottom.
        share: side of a tile as a share of the cell's shorter side; 1 leaves no gap and no jitter,
            less leaves a gap of at least a pixel in cells of two pixels or more.
        size: side to which tiles are resized; they are not resized by default.

    Raises:
        UserError: the images are smaller than n pixels.
    """
    b, _, h, w = x.shape
    cell = torch.tensor([h // n, w // n])
    if cell.min() < 1:
        raise UserError(f"images of {h}×{w} cannot be cut into {n}×{n} tiles; give larger ones")
    shortest = int(cell.min())
    largest = shortest - (share < 1)  # small cells get a gap in spite of rounding
    side = max(1, min(round(share * shortest), largest))
    free = (cell - side + 1).to(x.device)  # positions of a tile in its cell, down and across
    jitter = (torch.rand(b, n * n, 2, device=x.device) * free).long()
    corner = torch.cartesian_prod(torch.arange(n), torch.arange(n)).view(-1, 2) * cell
    start = corner.to(x.device) + jitter  # (B, n², 2)
    along = torch.arange(side, device=x.device)
    rows, columns = (start[:, :, i, None] + along for i in (0, 1))  # (B, n², s)
    image = torch.arange(b, device=x.device)[:, None, None, None]
    cut = x[image, :, rows[:, :, :, None], columns[:, :, None, :]].permute(0, 1, 4, 2, 3)
    if size in (None, side):
        return cut.contiguous()
    flat = F.interpolate(cut.flatten(0, 1), (size, size), mode="bilinear", align_corners=False)
    return flat.unflatten(0, (b, n * n))


def standardize_tiles(t: Float[Tensor, "*b c h w"]) -> Float[Tensor, "*b c h w"]:
    """Standardize each tile to mean 0 and deviation 1, which hides differences in brightness."""
    dims = (-3, -2, -1)
    return (t - t.mean(dims, keepdim=True)) / (t.std(dims, keepdim=True) + 1e-3)


def mosaic(t: Float[Tensor, "b tiles c s s"]) -> Float[Tensor, "b c h w"]:
    """n² tiles of each row, laid out as an image of n × n tiles."""
    n = math.isqrt(t.shape[1])
    grid = t.unflatten(1, (n, n)).permute(0, 3, 1, 4, 2, 5)  # (B, C, n, s, n, s)
    return grid.flatten(4, 5).flatten(2, 3)


def drop_colors(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Color dropping: keep one random channel of three and replace the others by faint noise.

    Otherwise chromatic aberration reveals the position of a patch (Doersch et al. 2015). Images
    without three channels are returned unchanged.
    """
    if x.shape[1] != 3:
        return x
    channel = torch.randint(3, (len(x),), device=x.device)
    mask = F.one_hot(channel, 3).bool()[:, :, None, None]
    only = x[torch.arange(len(x), device=x.device), channel].flatten(1)  # (B, H·W)
    mean, std = (v[:, None, None, None] for v in (only.mean(1), only.std(1, correction=0)))
    noise = mean + 0.01 * std * torch.randn_like(x)
    return torch.where(mask, x, noise)


@functools.lru_cache(maxsize=8)
def permutations(items: int, count: int, seed: int = 0) -> Int[np.ndarray, "count items"]:
    """Permutations of large Hamming distance, chosen greedily.

    Args:
        items: number of items to permute.
        count: number of permutations; all if there are no more.
        seed: of the first one.

    Raises:
        UserError: there are fewer than two or more than nine items.

    Source: Noroozi, Favaro 2016, algorithm 1.
    """
    if not 1 < items < 10:
        raise UserError(f"a puzzle has 2 to 9 tiles, not {items}; use 2×2 or 3×3")
    every = np.array(list(itertools.permutations(range(items))), dtype=np.int8)
    if count >= len(every):
        return every.astype(np.int64)
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(every)))]
    distance = np.zeros(len(every))
    for _ in range(count - 1):
        distance += (every != every[chosen[-1]]).sum(1)
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return every[chosen].astype(np.int64)
