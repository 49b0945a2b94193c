"""A small vision transformer whose attention can be drawn.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words"; the class token comes last, as in CaiT
(Touvron et al. 2021, "Going deeper with Image Transformers"), so that all before are maps.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.attention import Block
from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError


def vit(
    channels: int = 3,
    size: tuple[int, int] = (64, 64),
    patch: int = 0,
    width: int = 192,
    depth: int = 6,
    heads: int = 3,
) -> Encoder:
    """Transformer on patches: `width` features (192), what its class token gathers.

    Args:
        channels: of the images.
        size: of the images; others are taken as well, with positions interpolated.
        patch: side of a patch in pixels; an eighth of the image's unless given.
        width: of the tokens.
        depth: number of blocks; DeiT's tiny has 12 of this width.
        heads: of attention in each block.
    """
    patch = patch or max(1, min(size) // 8)
    if min(width, heads) < 1 or width % heads:
        raise UserError(f"a width of {width} is not divided by {heads} heads; choose others")
    stages = [_Patches(channels, size, patch, width), *(_OnMap(width, heads) for _ in range(depth))]
    return ViT(stages, _ClassAttention(width, heads), width, patch)


class ViT(Encoder):
    """Stages hand on maps of tokens (B, width, rows, columns); the summary looks at the last.

    Args:
        stages: patches, then blocks.
        summary: attention of the class token.
        dim: width of the tokens.
        patch: side of a patch in pixels.
    """

    def __init__(
        self, stages: Iterable[nn.Module], summary: nn.Module, dim: int, patch: int
    ) -> None:
        super().__init__(stages, summary, dim)
        self.patch = patch

    def attention(self, x: Tensor) -> Tensor:
        """How much each head of the class token looks at each patch: (B, heads, rows, columns)."""
        return self.summary.look(self.map(x))[0]  # type: ignore[operator]


class _Patches(nn.Module):
    """LazyImages (B, C, H, W) -> one token for each patch, with its place."""

    def __init__(self, channels: int, size: tuple[int, int], patch: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, patch, stride=patch)
        rows, columns = size[0] // patch, size[1] // patch
        self.places = nn.Parameter(torch.randn(1, width, rows, columns) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        places: Tensor = self.places
        if places.shape[2:] != x.shape[2:] or torch.jit.is_tracing():  # where both are the same
            places = F.interpolate(places, x.shape[2:], mode="bicubic", align_corners=False)
        return x + places


class _OnMap(Block):
    """A block on a map of tokens, (B, width, rows, columns)."""

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        tokens = super().forward(x.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class _ClassAttention(nn.Module):
    """A learned token looks at all patches: (B, width, rows, columns) -> (B, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(heads, width // heads))
        self.kv, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Shares (B, heads, rows, columns), and what is seen there (B, width)."""
        heads, d = self.query.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        k, v = self.kv(tokens).unflatten(2, (2, heads, d)).permute(2, 0, 3, 1, 4)
        shares = (k @ self.query[:, :, None].to(k.dtype) / math.sqrt(d)).squeeze(3).softmax(2)
        seen = (shares[:, :, :, None] * v).sum(2).flatten(1)
        return shares.unflatten(2, x.shape[2:]), seen

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.out(self.look(x)[1]))
