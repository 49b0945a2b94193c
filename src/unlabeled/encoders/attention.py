"""The block of which every transformer here is built."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Block(nn.Module):
    """Attention, then two layers of four times the width, each after a LayerNorm.

    Tokens are (B, L, width); a mask is true where a token may be looked at, (B, 1, 1, L).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """All tokens at once; causal: each looks at itself and those before."""
        return self.read_on(x, mask, causal)[0]

    def read_on(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        causal: bool = False,
        memory: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Further tokens after those of a memory; with them, what is remembered of all."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        kept = torch.stack([k, v])  # (2, B, heads, L, width / heads)
        if memory is not None:
            kept = torch.cat([memory, kept], 3)
        seen = _attend(q, kept[0], kept[1], mask, causal)
        x = x + self.drop(self.out(seen.transpose(1, 2).flatten(2)))
        return x + self.drop(self.mlp(self.norm2(x))), kept


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """On CPUs never in 16 bits, where it is far slower."""
    dtype = q.dtype
    with torch.autocast("cpu", enabled=False):
        if q.is_cpu and dtype.itemsize == 2:
            q, k, v = q.float(), k.float(), v.float()
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal).to(dtype)
