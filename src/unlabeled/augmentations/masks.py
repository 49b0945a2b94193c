"""Random masks: rectangular blocks on a grid of patches, and spans of a sequence."""

import math

import numpy as np
import torch
import torch.nn.functional as F
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
        position = torch.arange(length, device=side.device)
        sides.append((position >= start[..., None]) & (position < (start + side)[..., None]))
    return sides[0][..., :, None] & sides[1][..., None, :]


def draw_block_size(
    grid: tuple[int, int], scale: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int]:
    """Height and width of a block, in patches, of random area and aspect ratio.

    Args:
        grid: rows and columns of patches.
        scale: range of the area, as a fraction of the grid's.
        aspect: range of the ratio of height and width, each as a fraction of the grid's.
    """
    a, b = torch.rand(2).tolist()
    area, ratio = scale[0] + (scale[1] - scale[0]) * a, aspect[0] + (aspect[1] - aspect[0]) * b
    sides = (area * ratio) ** 0.5, (area / ratio) ** 0.5
    height, width = (
        max(1, min(side, round(share * side))) for share, side in zip(sides, grid, strict=True)
    )
    return height, width


def block_unions(
    n: int, grid: tuple[int, int], size: tuple[int, int], blocks: int, device: torch.device
) -> Bool[Tensor, "n p"]:
    """Unions of blocks of one size at random positions, true inside; drawn again where they cover
    everything.

    Args:
        n: number of unions.
        grid: rows and columns of patches.
        size: height and width of a block, in patches.
        blocks: number of blocks of each union.
        device: of the result.

    Raises:
        UserError: the blocks always cover everything.
    """
    union = torch.ones(n, math.prod(grid), dtype=torch.bool, device=device)
    for _ in range(1000):
        full = union.all(1)
        if not full.any():
            return union
        sides = [torch.full((int(full.sum()), blocks), side, device=device) for side in size]
        union[full] = random_blocks(sides[0], sides[1], grid).any(1).flatten(1)
    raise UserError(
        f"{blocks} blocks of {size[0]}×{size[1]} patches cover all of {grid[0]}×{grid[1]}; give "
        "fewer or smaller ones"
    )


def choose_patches(allowed: Bool[Tensor, "n p"]) -> Int[Tensor, "n k"]:
    """Indices of random allowed patches of each row, as many as the row with the fewest has."""
    order = allowed + torch.rand(allowed.shape, device=allowed.device)
    return order.argsort(dim=1, descending=True)[:, : int(allowed.sum(1).min())]


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
    """Mask at most `number` patches by blocks, in place, until ten blocks in a row do not fit."""
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


def span_masks(steps: Bool[Tensor, "b t"], share: float, length: int) -> Bool[Tensor, "b t"]:
    """Spans of steps, which may overlap and end with the sequence, as in wav2vec 2.0.

    A share of the steps, drawn without replacement and at least one, begin a span. Where spans
    would cover all steps of a row, a random one remains visible.

    Args:
        steps: which steps there are; others begin no span and are never masked.
        share: of the steps that begin a span.
        length: of a span, in steps.

    Source: Baevski, Zhou, Mohamed, Auli 2020, section 3.1.
    """
    count = steps.sum(1, keepdim=True)
    draw = torch.rand(steps.shape, device=steps.device).masked_fill(~steps, 2.0)
    rank = draw.argsort(1).argsort(1)  # a random order of the steps, others last
    begins = steps & (rank < (share * count).round().clamp(min=1))
    spans = F.max_pool1d(F.pad(begins.float(), (length - 1, 0))[:, None], length, 1)[:, 0] > 0
    is_complete = (spans | ~steps).all(1, keepdim=True)
    return spans & steps & ~(is_complete & (rank == count - 1))
