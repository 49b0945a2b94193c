"""Transformer blocks, shared by the encoders of images, sequences and texts."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.errors import UserError


class DropPath(nn.Module):
    """Stochastic depth: omit a residual branch of some samples in training (Huang et al. 2016).

    Args:
        rate: probability of omission; the others are scaled by 1 / (1 − rate).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """A residual branch (B, …)."""
        if not self.training or not self.rate:
            return x
        keep = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * keep.to(x.dtype) / (1 - self.rate)


class LayerScale(nn.Module):
    """A learned factor of each dimension of a residual branch (Touvron et al. 2021, CaiT).

    Args:
        width: dimension of the tokens.
        value: of the factors at the start.
    """

    def __init__(self, width: int, value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: self-attention, then an MLP of four times the width.

    Tokens are (B, L, width); a mask is true where a token may be attended to, (B, 1, 1, L).

    Args:
        width: dimension of the tokens.
        heads: attention heads.
        dropout: probability, on the output of the attention and of the MLP.
        drop_path: probability by which a sample skips attention or MLP.
        layer_scale: factor of both branches at the start, then learned; 0 has none.
        eps: added to the variance by LayerNorm.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        layer_scale: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.drop, self.drop_path = nn.Dropout(dropout), DropPath(drop_path)
        scaled = bool(layer_scale)
        self.scale1 = LayerScale(width, layer_scale) if scaled else nn.Identity()
        self.scale2 = LayerScale(width, layer_scale) if scaled else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """All tokens at once; if causal, each attends to itself and those before it."""
        return self.forward_cached(x, mask, causal)[0]

    def forward_cached(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens that follow the cached ones, and the cache of all: keys and values."""
        q, k, v = self._heads(x)
        keys_values = torch.stack([k, v])  # (2, B, heads, L, width / heads)
        if cache is not None:
            keys_values = torch.cat([cache, keys_values], 3)
        attended = _attend(q, keys_values[0], keys_values[1], mask, causal)
        attended = self.drop(self.out(attended.transpose(1, 2).flatten(2)))
        x = x + self.drop_path(self.scale1(attended))
        branch = self.drop(self.mlp(self.norm2(x)))
        return x + self.drop_path(self.scale2(branch)), keys_values

    def weights(self, x: Tensor) -> Tensor:
        """Attention weights of tokens (B, L, width), to be plotted: (B, heads, L, L)."""
        q, k, _ = self._heads(x)
        return (q @ k.transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3)

    def _heads(self, x: Tensor) -> Tensor:
        """Queries, keys and values: (B, L, width) -> (3, B, heads, L, width / heads)."""
        return self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)


class Transformer(nn.Module):
    """Transformer blocks with learned positions: (B, L, width) -> (B, L, width).

    Called like a recurrent network: `forward(x, cache)` returns the states and a new cache. It is
    causal unless a mask is given.

    Args:
        width: dimension of the tokens.
        layers: number of blocks.
        heads: attention heads of each block.
        length: number of positions.
        dropout: probability, on the embedded tokens and in each block.
    """

    def __init__(
        self, width: int, layers: int, heads: int, length: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_heads(width, heads)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks: Any = nn.ModuleList(
            TransformerBlock(width, heads, dropout) for _ in range(layers)
        )
        self.first, self.last = nn.Dropout(dropout), nn.LayerNorm(width)

    def forward(
        self, x: Tensor, cache: list[Tensor] | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """States of tokens that follow the cached ones, and the cache of all, one per block."""
        start = 0 if cache is None else cache[0].shape[3]
        end = start + x.shape[1]
        if end > len(self.positions):
            raise UserError(f"{end} tokens are more than the {len(self.positions)} positions")
        x = self.first(x + self.positions[start:end])
        causal = mask is None and cache is None
        if mask is None and not causal and x.shape[1] > 1:  # no token sees later ones
            mask = torch.ones(x.shape[1], end, dtype=torch.bool, device=x.device).tril(start)
        caches = []
        for i, block in enumerate(self.blocks):
            x, seen = block.forward_cached(x, mask, causal, None if cache is None else cache[i])
            caches.append(seen)
        return self.last(x), caches


def check_heads(width: int, heads: int) -> None:
    """Raise UserError if the attention heads do not divide the width."""
    if min(width, heads) < 1 or width % heads:
        raise UserError(f"width is {width}, which {heads} heads do not divide; change either")


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot-product attention; in float32 on CPUs, where 16 bits are far slower."""
    dtype = q.dtype
    with torch.autocast("cpu", enabled=False):
        if q.is_cpu and dtype.itemsize == 2:
            q, k, v = q.float(), k.float(), v.float()
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal).to(dtype)
