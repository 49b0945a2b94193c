"""Random masks of rectangular blocks on a grid of patches."""

import math

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from unlabeled.errors import UserError

BLOCKS = 32
"""Rectangles that are drawn; patches in none of them are masked last, at random."""


def random_blocks(
    height: Int[Tensor, "b k"], width: Int[Tensor, "b k"], grid: tuple[int, int]
) -> Bool[Tensor, "b k r c"]:
    """Rectangles of given sides, in patches, at random positions, which are true inside."""
    sides = []
    for side, length in zip((height, width), grid, strict=True):
        start = (torch.rand(side.shape, device=side.device) * (length - side + 1)).long()
        place = torch.arange(length, device=side.device)
        sides.append((place >= start[..., None]) & (place < (start + side)[..., None]))
    return sides[0][..., :, None] & sides[1][..., None, :]


def blockwise_mask(
    n: int, grid: tuple[int, int], count: int, device: torch.device
) -> Bool[Tensor, "n p"]:
    """BEiT's masks: rectangles are added until `count` patches are masked, in each image.

    Areas are uniform from 8 % of the patches (16 of 196) to `count`, logarithms of aspect ratios
    uniform from 0.3 to 1 / 0.3. Of the last rectangle random patches remain visible, so that counts
    are exact; in the authors' code its area is drawn from what is left, and a few may be missing.

    Source: Bao, Dong, Piao, Wei 2022, "BEiT: BERT Pre-Training of Image Transformers", algorithm 1.
    """
    rows, columns = grid
    least = min(count, round(16 / 196 * rows * columns))
    area = least + (count - least) * torch.rand(n, BLOCKS, device=device)
    aspect = torch.exp(math.log(0.3) * (2 * torch.rand(n, BLOCKS, device=device) - 1))
    height = (area * aspect).sqrt().round().long().clamp(1, rows)
    width = (area / aspect).sqrt().round().long().clamp(1, columns)
    inside = random_blocks(height, width, grid).flatten(2)  # (n, BLOCKS, patches)
    order = torch.arange(BLOCKS, device=device)[:, None].expand_as(inside[0])
    first = torch.where(inside, order, BLOCKS).amin(1)  # the first rectangle that a patch is in
    chosen = (first + torch.rand(first.shape, device=device)).argsort(1)[:, :count]
    return torch.zeros_like(first, dtype=torch.bool).scatter_(1, chosen, True)


def block_masks(
    n: int,
    grid: tuple[int, int],
    share: float = 0.5,
    ratio: tuple[float, float] = (0.1, 0.5),
) -> Tensor:
    """Masks of blocks of neighboring patches, (n, rows · columns) bool, true where masked.

    Blocks have an aspect ratio from 0.3 to 1/0.3 and are placed until about as many patches are
    masked as was drawn, never more (BEiT, Bao et al. 2022, algorithm 1).

    Args:
        n: number of masks.
        grid: rows and columns of patches.
        share: probability that any patch of an image is masked.
        ratio: range of the fraction of masked patches of such an image.

    Raises:
        UserError: the range is not within [0, 1].
    """
    if not 0 <= ratio[0] <= ratio[1] <= 1:
        raise UserError(f"mask_ratio is {ratio}, but must be two numbers that rise within [0, 1]")
    rng = np.random.default_rng(int(torch.randint(2**31, ())))  # repeats with torch's seed
    masks = np.zeros((n, *grid), bool)
    for mask in masks:
        if rng.random() < share:
            _mask_blocks(mask, max(1, int(rng.uniform(*ratio) * mask.size)), rng)
    return torch.from_numpy(masks).flatten(1)


def _mask_blocks(mask: np.ndarray, number: int, rng: np.random.Generator) -> None:
    """Mask at most `number` patches by blocks, in place; give up when ten in turn do not fit."""
    rows, columns = mask.shape
    missed = 0
    while (left := number - int(mask.sum())) > 0 and missed < 10:
        area = rng.uniform(min(left, (min(rows, columns) // 3) ** 2), left)
        aspect = math.exp(rng.uniform(math.log(0.3), -math.log(0.3)))
        height, width = (max(1, round(math.sqrt(area * a))) for a in (aspect, 1 / aspect))
        missed += 1
        if height >= rows or width >= columns:
            continue
        top, start = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
        block = mask[top : top + height, start : start + width]
        if 0 < block.size - int(block.sum()) <= left:
            block[:] = True
            missed = 0
