"""A small vision transformer whose attention maps can be plotted.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words". The class token is added after the last
block, as in CaiT (Touvron et al. 2021, "Going deeper with Image Transformers"), so that every block
returns a feature map.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.attention import TransformerBlock, check_heads
from unlabeled.encoders.base import Encoder


def vit(
    channels: int = 3,
    size: tuple[int, int] = (64, 64),
    patch: int = 0,
    width: int = 192,
    depth: int = 6,
    heads: int = 3,
) -> Encoder:
    """Vision transformer (ViT): `width` features (192), the class token.

    Args:
        size: of the images; for other sizes the positions are interpolated.
        patch: side of a patch in pixels; an eighth of the image's by default.
        width: dimension of the tokens.
        depth: number of blocks; DeiT-tiny has 12 of this width.
        heads: attention heads of each block.
    """
    patch = patch or max(1, min(size) // 8)
    check_heads(width, heads)
    stages: list[nn.Module] = [_PatchEmbedding(channels, size, patch, width)]
    stages += [_MapBlock(width, heads) for _ in range(depth)]
    return ViT(stages, _ClassAttention(width, heads), width, patch)


class ViT(Encoder):
    """Stages return maps of tokens (B, width, rows, columns); the summary attends to the last.

    Args:
        stages: the patch embedding, then the blocks.
        summary: attention of the class token.
        dim: dimension of the tokens.
        patch: side of a patch in pixels.
    """

    def __init__(
        self, stages: Iterable[nn.Module], summary: nn.Module, dim: int, patch: int
    ) -> None:
        super().__init__(stages, summary, dim)
        self.patch = patch

    def attention(self, x: Tensor) -> Tensor:
        """Attention of the class token to each patch, (B, heads, rows, columns)."""
        return self.summary.attend(self.map(x))[0]  # type: ignore[operator]


class _PatchEmbedding(nn.Module):
    """Images (B, C, H, W) -> a token for each patch, with its position embedding."""

    def __init__(self, channels: int, size: tuple[int, int], patch: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, patch, stride=patch)
        rows, columns = size[0] // patch, size[1] // patch
        self.positions = nn.Parameter(torch.randn(1, width, rows, columns) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        positions: Tensor = self.positions
        if positions.shape[2:] != x.shape[2:] or torch.jit.is_tracing():  # a trace takes any size
            positions = F.interpolate(positions, x.shape[2:], mode="bicubic", align_corners=False)
        return x + positions


class _MapBlock(TransformerBlock):
    """Transformer block on a map of tokens, (B, width, rows, columns)."""

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        tokens = super().forward(x.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class _ClassAttention(nn.Module):
    """A learned class token attends to all patches: (B, width, rows, columns) -> (B, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm, self.last = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Parameter(torch.randn(heads, width // heads))
        self.kv, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)

    def attend(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Attention weights (B, heads, rows, columns), and the weighted values (B, width)."""
        heads, d = self.query.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        k, v = self.kv(tokens).unflatten(2, (2, heads, d)).permute(2, 0, 3, 1, 4)
        weights = (k @ self.query[:, :, None].to(k.dtype) / math.sqrt(d)).squeeze(3).softmax(2)
        attended = (weights[:, :, :, None] * v).sum(2).flatten(1)
        return weights.unflatten(2, x.shape[2:]), attended

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.out(self.attend(x)[1]))
