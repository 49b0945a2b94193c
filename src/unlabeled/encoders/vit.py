"""Vision transformers (Dosovitskiy et al. 2021), whose attention maps can be plotted.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words". `vit_tiny`, `vit_small` and `vit_base` are
those of timm, DeiT and DINO, with a class token among the patches, and exchange weights with timm.
`vit` is for small images; its class token is added after the last block, as in CaiT (Touvron et al.
2021, "Going deeper with Image Transformers"), so that every block returns a feature map.
"""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.attention import TransformerBlock, check_heads
from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError

Positions = Literal["learned", "sincos"]
Pool = Literal["token", "mean"]


def vit(
    channels: int = 3,
    size: tuple[int, int] = (64, 64),
    patch: int = 0,
    width: int = 192,
    depth: int = 6,
    heads: int = 3,
    drop_path: float = 0.0,
    layer_scale: float = 0.0,
    positions: Positions = "learned",
    pool: Literal["attention", "mean"] = "attention",
) -> Encoder:
    """Vision transformer (ViT) for small images: `width` features (192), the class token.

    Args:
        size: of the images; for other sizes the positions are interpolated.
        patch: side of a patch in pixels; an eighth of the image's by default.
        width: dimension of the tokens.
        depth: number of blocks; DeiT-tiny has 12 of this width.
        heads: attention heads of each block.
        drop_path: stochastic depth of the last block, rising linearly from 0.
        layer_scale: initial factor of residual branches; 0 has none.
        positions: "learned" position embeddings, or fixed "sincos" ones.
        pool: features are a class token by "attention" to the patches, or the normalized "mean" of
            the patches.
    """
    patch = patch or max(1, min(size) // 8)
    check_heads(width, heads)
    stages: list[nn.Module] = [_PatchEmbedding(channels, size, patch, width, positions)]
    stages += map_blocks(width, depth, heads, drop_path, layer_scale, 1e-5)
    mean = pool == "mean"
    summary = TokenPool(width, 0, "mean") if mean else _ClassAttention(width, heads)
    return ViT(stages, summary, width, patch)


def vit_tiny(
    channels: int = 3,
    size: tuple[int, int] = (224, 224),
    patch: int = 0,
    drop_path: float = 0.0,
    layer_scale: float = 0.0,
    registers: int = 0,
    positions: Positions = "learned",
    pool: Pool = "token",
) -> Encoder:
    """ViT-Ti, as in DeiT and timm: 192 features; 12 blocks of 3 heads. Options as `vit_base`."""
    sizes = 192, 12, 3
    return _timm_vit(
        channels, size, patch, sizes, drop_path, layer_scale, registers, positions, pool
    )


def vit_small(
    channels: int = 3,
    size: tuple[int, int] = (224, 224),
    patch: int = 0,
    drop_path: float = 0.0,
    layer_scale: float = 0.0,
    registers: int = 0,
    positions: Positions = "learned",
    pool: Pool = "token",
) -> Encoder:
    """ViT-S, as in DeiT, DINO and timm: 384 features; 12 blocks of 6 heads. Options as `vit_base`.

    MoCo v3's ViT-S has 12 heads.
    """
    sizes = 384, 12, 6
    return _timm_vit(
        channels, size, patch, sizes, drop_path, layer_scale, registers, positions, pool
    )


def vit_base(
    channels: int = 3,
    size: tuple[int, int] = (224, 224),
    patch: int = 0,
    drop_path: float = 0.0,
    layer_scale: float = 0.0,
    registers: int = 0,
    positions: Positions = "learned",
    pool: Pool = "token",
) -> Encoder:
    """ViT-B, as in Dosovitskiy et al. and timm: 768 features; 12 blocks of 12 heads.

    Args:
        size: of the images; for other sizes the positions are interpolated.
        patch: side of a patch in pixels; 16 by default, an eighth of the side below 128 pixels.
        drop_path: stochastic depth of the last block, rising linearly from 0; DINO's 0.1.
        layer_scale: initial factor of residual branches; 0 has none; DINOv2's 1e-5.
        registers: tokens that are discarded at the end; 4 in Darcet et al. 2024.
        positions: "learned" position embeddings as in Dosovitskiy et al. 2021, or fixed "sincos"
            ones as in MAE and MoCo v3.
        pool: features are the class "token", or the "mean" of the patches, then normalized.
    """
    sizes = 768, 12, 12
    return _timm_vit(
        channels, size, patch, sizes, drop_path, layer_scale, registers, positions, pool
    )


def _timm_vit(
    channels: int,
    size: tuple[int, int],
    patch: int,
    sizes: tuple[int, int, int],
    drop_path: float,
    layer_scale: float,
    registers: int,
    positions: Positions,
    pool: Pool,
) -> Encoder:
    width, depth, heads = sizes
    patch = patch or max(1, min(16, min(size) // 8))
    prefix = 1 + registers
    first = _PatchEmbedding(channels, size, patch, width, positions, prefix)
    stages = [first, *map_blocks(width, depth, heads, drop_path, layer_scale, 1e-6)]
    return ViT(stages, TokenPool(width, prefix, pool), width, patch, prefix)


def map_blocks(
    width: int, depth: int, heads: int, drop_path: float, layer_scale: float, eps: float
) -> list[nn.Module]:
    """Blocks with truncated-normal weights; drop-path rises linearly, as in timm."""
    if not 0 <= drop_path < 1:
        raise UserError(f"drop_path is {drop_path}, but must be at least 0 and below 1")
    rates = [drop_path * i / max(1, depth - 1) for i in range(depth)]
    blocks: list[nn.Module] = [
        _MapBlock(width, heads, drop_path=rate, layer_scale=layer_scale, eps=eps) for rate in rates
    ]
    for layer in (m for block in blocks for m in block.modules() if isinstance(m, nn.Linear)):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    return blocks


class ViT(Encoder):
    """Stages return maps of tokens; the summary attends to the last or takes its class token.

    Without class token among the patches a map is (B, width, rows, columns); with one it is a
    single row (B, width, 1, prefix + patches), of which `patch_map` returns the patches.

    Args:
        stages: the patch embedding, then the blocks.
        summary: attention of the class token, or choice of it.
        dim: dimension of the tokens.
        patch: side of a patch in pixels.
        prefix: number of tokens before the patches: the class token and registers.
    """

    def __init__(
        self,
        stages: Iterable[nn.Module],
        summary: nn.Module,
        dim: int,
        patch: int,
        prefix: int = 0,
    ) -> None:
        super().__init__(stages, summary, dim)
        self.patch, self.prefix = patch, prefix

    def attention(self, x: Tensor) -> Tensor:
        """Attention of the class token to each patch in the last block: (B, heads, rows, columns).

        With a class token among the patches, the rest of its attention is to itself and registers.
        Without any, the mean over patches of their attention.
        """
        if isinstance(self.summary, _ClassAttention):
            return self.summary.attend(self.map(x))[0]
        *first, last = self.stages
        tokens = x
        for stage in first:
            tokens = stage(tokens)
        weights = last.weights(tokens.flatten(2).transpose(1, 2))  # type: ignore[operator]
        mean = weights[:, :, 0, self.prefix :] if self.prefix else weights.mean(2)
        return mean.unflatten(2, self._grid(x))

    def patch_map(self, x: Tensor) -> Tensor:
        """The patches of the last map, (B, width, rows, columns)."""
        return self._patches(self.map(x), x)

    def maps_and_features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The patches after the embedding and each block, (B, width, rows, columns) each, and the
        features (B, width).
        """
        maps, features = super().maps_and_features(x)
        return [self._patches(tokens, x) for tokens in maps], features

    def encode_visible(self, x: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, width) and tokens (B, width, n) of some patches only, by index (B, n)."""
        first: Any = self.stages[0]
        tokens = first.patches(x).flatten(2)
        tokens = tokens.gather(2, visible[:, None].expand(-1, tokens.shape[1], -1))[:, :, None]
        tokens = self._through_blocks(first.with_prefix(tokens))  # (B, width, 1, prefix + n)
        return self.summary(tokens), tokens.squeeze(2)[:, :, self.prefix :]

    def encode_patches(
        self, x: Tensor, masked: Tensor | None = None, mask_token: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features (B, width) and normalized patch tokens (B, patches, width).

        Where `masked` (B, patches) is true, the mask token (width,) takes the place of the embedded
        patch, before its position is added.
        """
        first: Any = self.stages[0]
        tokens = self._through_blocks(first.with_prefix(first.patches(x, masked, mask_token)))
        return self.summary(tokens), self.patch_features(tokens.flatten(2)[:, :, self.prefix :])

    def encode_causal(self, x: Tensor, known: Tensor) -> Tensor:
        """Normalized patch tokens (B, patches, width) that see earlier patches and a known prefix.

        Patches are in raster order. Each attends to itself, to all before it and to the first
        `known` (B,) patches of its image (El-Nouby et al. 2024, section 3.2).
        """
        first: Any = self.stages[0]
        tokens = first.with_prefix(first.patches(x))
        number = tokens.flatten(2).shape[2]
        order = torch.arange(number, device=x.device)
        seen = order < (known + self.prefix)[:, None, None]  # (B, 1, L)
        allowed = (order <= order[:, None]) | seen
        tokens = self._through_blocks(tokens, allowed[:, None])
        return self.patch_features(tokens.flatten(2)[:, :, self.prefix :])

    def patch_features(self, patches: Tensor) -> Tensor:
        """Patches (B, width, n) of the last map, normalized as their mean is, (B, n, width)."""
        return self.summary.norm(patches.transpose(1, 2))  # type: ignore[operator]

    def _through_blocks(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.stages[1:]:
            tokens = block(tokens) if mask is None else block(tokens, mask)
        return tokens

    def _patches(self, tokens: Tensor, x: Tensor) -> Tensor:
        return tokens.flatten(2)[:, :, self.prefix :].unflatten(2, self._grid(x))

    def _grid(self, x: Tensor) -> tuple[int, int]:
        return x.shape[2] // self.patch, x.shape[3] // self.patch


def with_patch_features(encoder: nn.Module) -> ViT:
    """The encoder, if it is a transformer whose features are the mean of its patches.

    Raises:
        UserError: it is not, so that what a method of patches trains is not what is used.
    """
    pool = getattr(encoder, "summary", None)
    if isinstance(encoder, ViT) and isinstance(pool, TokenPool) and pool.pool == "mean":
        return encoder
    raise UserError(
        "the method learns features of patches, of which those of an image must be the mean; use a "
        "transformer with it: --encoder vit --pool mean"
    )


class _PatchEmbedding(nn.Module):
    """Images (B, C, H, W) -> a token for each patch with its position, after the prefix if any.

    The position of the class token is a part of it.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        patch: int,
        width: int,
        positions: Positions,
        prefix: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= patch <= min(size):
            raise UserError(
                f"patches of {patch} pixels do not fit images of {size[0]}×{size[1]}; give a patch "
                "of at most the image's side"
            )
        self.project = nn.Conv2d(channels, width, patch, stride=patch)
        rows, columns = size[0] // patch, size[1] // patch
        self.positions: Tensor
        if positions == "learned":
            self.positions = nn.Parameter(_truncated_normal(1, width, rows, columns))
        else:
            self.register_buffer("positions", sincos_positions(width, rows, columns))
        self.prefix = nn.Parameter(_truncated_normal(prefix, width)) if prefix else None

    def patches(
        self, x: Tensor, masked: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        """Images -> tokens (B, width, rows, columns), the mask token where `masked` is true."""
        x = self.project(x)
        if masked is not None and mask_token is not None:
            hidden = masked.view(len(x), 1, *x.shape[2:])
            x = torch.where(hidden, mask_token.to(x.dtype)[:, None, None], x)
        return x + positions_for(x, self.positions)

    def with_prefix(self, tokens: Tensor) -> Tensor:
        """Tokens (B, width, rows, columns) in one row after those of the prefix, if any."""
        if self.prefix is None:
            return tokens
        prefix = self.prefix.T.to(tokens.dtype).expand(tokens.shape[0], -1, -1)  # len is no trace's
        return torch.cat([prefix, tokens.flatten(2)], 2)[:, :, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.with_prefix(self.patches(x))


def positions_for(x: Tensor, positions: Tensor) -> Tensor:
    """Position embeddings (…, width, rows, columns) for tokens of another number of them."""
    if positions.shape[2:] == x.shape[2:] and not torch.jit.is_tracing():  # a trace takes any size
        return positions
    size = x.shape[2:]
    return F.interpolate(positions, size, mode="bicubic", align_corners=False, antialias=True)


class _MapBlock(TransformerBlock):
    """Transformer block on a map of tokens, (B, width, rows, columns)."""

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        tokens = super().forward(x.flatten(2).transpose(1, 2), mask, causal)
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class TokenPool(nn.Module):
    """Normalized class token, or mean of the patches: (B, width, 1, prefix + n) -> (B, width)."""

    def __init__(self, width: int, prefix: int, pool: Pool) -> None:
        super().__init__()
        self.norm, self.prefix, self.pool = nn.LayerNorm(width, 1e-6), prefix, pool

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2)
        chosen = tokens[:, :, 0] if self.pool == "token" else tokens[:, :, self.prefix :].mean(2)
        return self.norm(chosen)


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


def sincos_positions(width: int, rows: int, columns: int) -> Tensor:
    """Fixed 2-D sine-cosine position embeddings, as in MAE and MoCo v3: (1, width, rows, columns).

    Raises:
        UserError: the width is no multiple of 4.
    """
    if width % 4:
        raise UserError(f"width is {width}, but sincos positions need a multiple of 4")
    rate = 10_000.0 ** (-torch.arange(width // 4) / (width // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    # MAE's code names them h and w, but its first half encodes the column.
    angles = [rate[:, None, None] * position for position in (column, row)]
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)])[None]


def _truncated_normal(*shape: int) -> Tensor:
    return nn.init.trunc_normal_(torch.empty(*shape), std=0.02)
