"""Images cut into tiles, as puzzles and questions of place need them."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.errors import UserError


def tiles(
    x: Float[Tensor, "b c h w"], n: int = 3, share: float = 0.75, size: int | None = None
) -> Float[Tensor, "b tiles c s s"]:
    """A square at a random place in each of n × n cells, so that no edge goes on in the next tile.

    Args:
        x: images.
        n: cells down and across; what does not divide is left over at the right and below.
        share: of a cell's shorter side that a tile takes; 1 leaves no gap and no jitter, less
            leaves at least a pixel of room where a cell has two.
        size: side to which tiles are resized; as cut unless given.

    Raises:
        UserError: the images are smaller than n pixels.
    """
    b, _, h, w = x.shape
    cell = torch.tensor([h // n, w // n])
    if cell.min() < 1:
        raise UserError(f"images of {h}×{w} cannot be cut into {n}×{n} tiles; give larger ones")
    shortest = int(cell.min())
    largest = shortest - (share < 1)  # rounding leaves no small cell without a gap
    side = max(1, min(round(share * shortest), largest))
    free = (cell - side + 1).to(x.device)  # places of a tile in its cell, down and across
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
    """Every tile with mean 0 and deviation 1 by itself: brightness no longer tells its place."""
    dims = (-3, -2, -1)
    return (t - t.mean(dims, keepdim=True)) / (t.std(dims, keepdim=True) + 1e-3)


def drop_colors(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Keep one random channel of three, put faint noise into the others (Doersch et al. 2015).

    A lens bends each color by another angle, which tells the place of a patch. LazyImages of other
    numbers of channels stay as they are.
    """
    if x.shape[1] != 3:
        return x
    kept = torch.randint(3, (len(x),), device=x.device)
    mask = F.one_hot(kept, 3).bool()[:, :, None, None]
    only = x[torch.arange(len(x), device=x.device), kept].flatten(1)  # (B, H·W)
    mean, std = (v[:, None, None, None] for v in (only.mean(1), only.std(1, correction=0)))
    noise = mean + 0.01 * std * torch.randn_like(x)
    return torch.where(mask, x, noise)


@functools.lru_cache(maxsize=8)
def permutations(items: int, count: int, seed: int = 0) -> Int[np.ndarray, "count items"]:
    """Orders as unlike each other as possible: each next one has the largest mean Hamming distance.

    Noroozi, Favaro 2016, algorithm 1, over all orders of up to nine items.

    Args:
        items: to be ordered.
        count: of orders; all of them where there are no more.
        seed: of the first one.

    Raises:
        UserError: more than nine items.
    """
    if not 1 < items < 10:
        raise UserError(f"a puzzle has 2 to 9 pieces, not {items}; cut 2×2 or 3×3")
    every = np.array(list(itertools.permutations(range(items))), dtype=np.int8)
    if count >= len(every):
        return every.astype(np.int64)
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(every)))]
    apart = np.zeros(len(every))
    for _ in range(count - 1):
        apart += (every != every[chosen[-1]]).sum(1)
        apart[chosen] = -1
        chosen.append(int(apart.argmax()))
    return every[chosen].astype(np.int64)
