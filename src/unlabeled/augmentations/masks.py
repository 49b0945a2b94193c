"""Random masks of rectangular blocks on a grid of patches."""

import math

import torch
from jaxtyping import Bool, Int
from torch import Tensor

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
