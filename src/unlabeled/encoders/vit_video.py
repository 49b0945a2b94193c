"""A vision transformer on space-time patches of clips, with the blocks of `vit`."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unlabeled.encoders.attention import check_heads
from unlabeled.encoders.base import Encoder
from unlabeled.encoders.vit import TokenPool, map_blocks, positions_for
from unlabeled.errors import UserError


def vit_video(
    channels: int = 3,
    size: tuple[int, int] = (64, 64),
    frames: int = 8,
    tubelet: int = 2,
    patch: int = 0,
    width: int = 192,
    depth: int = 6,
    heads: int = 3,
    drop_path: float = 0.0,
) -> Encoder:
    """Vision transformer of clips (ViViT): `width` features (192), the mean of the patches.

    Patches of several frames attend to each other over space and time (Arnab et al. 2021, model 1);
    positions are fixed. A single frame is taken as a clip that stands still, as V-JEPA does.

    Args:
        size: of the frames; for other sizes the positions are interpolated.
        frames: of a clip; 16 in VideoMAE and V-JEPA.
        tubelet: frames of a patch; 2 in both.
        patch: side of a patch in pixels; an eighth of the frame's by default, 16 in both.
        width: dimension of the tokens.
        depth: number of blocks.
        heads: attention heads of each block.
        drop_path: stochastic depth of the last block, rising linearly from 0.
    """
    patch = patch or max(1, min(size) // 8)
    if not 1 <= patch <= min(size):
        raise UserError(
            f"patches of {patch} pixels do not fit frames of {size[0]}×{size[1]}; give a patch of "
            "at most the frame's side"
        )
    if min(frames, tubelet) < 1 or frames % tubelet:
        raise UserError(
            f"clips of {frames} frames cannot be cut into patches of {tubelet}; give --frames a "
            "multiple of --tubelet"
        )
    check_heads(width, heads)
    first = _TubeletEmbedding(channels, size, frames, tubelet, patch, width)
    blocks = map_blocks(width, depth, heads, drop_path, 0.0, 1e-6)
    return VideoTransformer([first, *blocks], width, frames, tubelet, patch)


class VideoTransformer(Encoder):
    """Stages return maps (B, width, slots · rows, columns) of frames or clips, slot after slot.

    A slot is the frames of a patch. The input is frames (B, C, H, W), or clips (B, T, C, H, W).

    Args:
        stages: the patch embedding, then the blocks.
        dim: dimension of the tokens.
        frames: T, of a clip.
        tubelet: frames of a slot.
        patch: side of a patch in pixels.
    """

    def __init__(
        self, stages: Sequence[nn.Module], dim: int, frames: int, tubelet: int, patch: int
    ) -> None:
        super().__init__(stages, TokenPool(dim, 0, "mean"), dim)
        self.frames, self.tubelet, self.patch = frames, tubelet, patch
        self.slots = frames // tubelet

    def encode_visible(self, x: Tensor, visible: Tensor) -> Tensor:
        """Normalized tokens (B, n, width) of some patches of clips only, by index (B, n)."""
        first, *blocks = self.stages
        tokens = first(x).flatten(2)
        index = visible[:, None].expand(-1, tokens.shape[1], -1)
        tokens = tokens.gather(2, index)[:, :, None]  # (B, width, 1, n)
        for block in blocks:
            tokens = block(tokens)
        return self._normalized(tokens)

    def encode_all(self, x: Tensor) -> Tensor:
        """Normalized tokens of all patches, (B, slots · rows · columns, width)."""
        return self._normalized(self.map(x))

    def over_time(self, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches of all slots (B, slots · n) at places (B, n) of a grid of rows and columns."""
        start = torch.arange(self.slots, device=places.device) * math.prod(grid)
        return (places[:, None] + start[:, None]).flatten(1)

    def _normalized(self, tokens: Tensor) -> Tensor:
        return self.summary.norm(tokens.flatten(2).transpose(1, 2))  # type: ignore[operator]


def require_video_encoder(
    encoder: nn.Module, method: str, shape: tuple[int, int, int]
) -> tuple[VideoTransformer, tuple[int, int]]:
    """The encoder, checked to be one of clips, and rows and columns of patches of a frame.

    Raises:
        UserError: it is another, or a frame is a single patch.
    """
    if not isinstance(encoder, VideoTransformer):
        raise UserError(f"{method} masks patches of clips: use --encoder vit_video")
    grid = shape[1] // encoder.patch, shape[2] // encoder.patch
    if math.prod(grid) < 2:
        raise UserError(
            f"one patch of {encoder.patch} pixels leaves none visible in frames of "
            f"{shape[1]}×{shape[2]}; give a smaller --patch"
        )
    return encoder, grid


def space_time_positions(width: int, slots: int, rows: int, columns: int) -> Tensor:
    """Fixed 3-D sine-cosine position embeddings, as in V-JEPA: (slots, width, rows, columns).

    Slot, row and column have a third of the width each, a multiple of 2 rounded up; what is too
    much is cut off at the end.
    """
    half = math.ceil(width / 6)
    rate = 10_000.0 ** (-torch.arange(half) / half)
    places = torch.meshgrid(*map(torch.arange, (slots, rows, columns)), indexing="ij")
    angles = [rate[:, None, None] * place[:, None] for place in places]  # (slots, half, r, c) each
    return torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1)[:, :width]


class _TubeletEmbedding(nn.Module):
    """Frames (B, C, H, W) or clips (B, T, C, H, W) -> tokens (B, width, slots · rows, columns).

    A convolution over the frames of a slot, which are its channels: a patch of each.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        frames: int,
        tubelet: int,
        patch: int,
        width: int,
    ) -> None:
        super().__init__()
        self.frames, self.tubelet = frames, tubelet
        self.project = nn.Conv2d(channels * tubelet, width, patch, stride=patch)
        self.positions: Tensor
        fixed = space_time_positions(
            width, frames // tubelet, size[0] // patch, size[1] // patch
        ).contiguous()
        self.register_buffer("positions", fixed, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 5 and x.shape[1] != self.frames:
            raise UserError(f"the encoder takes clips of {self.frames} frames, not {x.shape[1]}")
        slots = self.frames // self.tubelet
        if x.ndim == 5:
            x = x.unflatten(1, (slots, self.tubelet)).transpose(2, 3)  # (B, slots, C, tubelet, …)
            maps = self.project(x.flatten(0, 1).flatten(1, 2)).unflatten(0, (-1, slots))
        else:  # all slots show the same
            still = x.repeat_interleave(self.tubelet, 1)
            maps = self.project(still)[:, None].expand(-1, slots, -1, -1, -1)
        maps = maps + positions_for(maps[:, 0], self.positions)  # (B, slots, width, rows, columns)
        return maps.transpose(1, 2).flatten(2, 3)
