"""Decoders of autoencoders, which are discarded after training."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.vocabulary import START
from unlabeled.encoders.attention import TransformerBlock
from unlabeled.encoders.sparse import enlarged, visible_only
from unlabeled.encoders.text import TextEncoder
from unlabeled.encoders.vit import sincos_positions
from unlabeled.encoders.vit_video import space_time_positions
from unlabeled.errors import UserError
from unlabeled.utils.state import eval_mode


def patchify(x: Tensor, side: int) -> Tensor:
    """Pixels of patches without overlap, row by row: (B, C, H, W) -> (B, N, C·side²)."""
    return F.unfold(x, side, stride=side).transpose(1, 2)


def unpatchify(patches: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Undo `patchify`: (B, N, C·side²) -> (B, C, rows·side, columns·side)."""
    size = grid[0] * side, grid[1] * side
    return F.fold(patches.transpose(1, 2), size, side, stride=side)


def normalized_patches(x: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels of each patch less their mean over their deviation, √(variance + 1e-6).

    Returns:
        (B, N, C·side²), and the means and deviations (B, N, 1), in float32.
    """
    patches = patchify(x, side).float()
    mean = patches.mean(2, keepdim=True)
    deviation = (patches.var(2, keepdim=True) + 1e-6).sqrt()
    return (patches - mean) / deviation, mean, deviation


class MAEDecoder(nn.Module):
    """From visible tokens, and a class token if any, to all patches (He et al. 2022, section 3).

    Attention heads have 32 dimensions, as in the authors' code, if these divide the width.

    Args:
        dim: width of the encoder's tokens.
        width: of the decoder's tokens.
        depth: number of blocks.
        patches: N, of an image or a clip.
        pixels: values of a patch.
        positions: fixed position embeddings (N, width) (default: learned ones).
    """

    def __init__(
        self,
        dim: int,
        width: int,
        depth: int,
        patches: int,
        pixels: int,
        positions: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(dim, width), nn.Linear(width, pixels)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions: Tensor
        if positions is None:
            self.positions = nn.Parameter(torch.randn(patches, width) * 0.02)
        else:
            self.register_buffer("positions", positions, persistent=False)
        heads = width // 32 if width % 32 == 0 else 3 if width % 3 == 0 else 1
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, class_token: Tensor | None, tokens: Tensor, visible: Tensor) -> Tensor:
        """Class token (B, dim), tokens (B, dim, n), their positions (B, n) -> (B, N, pixels)."""
        h = self.input(tokens.transpose(1, 2))  # (B, n, width)
        masked = self.mask_token.to(h.dtype).expand(len(h), len(self.positions), -1)
        h = masked.scatter(1, visible[:, :, None].expand_as(h), h) + self.positions
        if class_token is not None:  # it has no position
            h = torch.cat([self.input(class_token)[:, None].to(h.dtype), h], 1)
        return self.output(self.norm(self.blocks(h)[:, -len(self.positions) :]))


class MapDecoder(nn.Module):
    """Predictions at each position of an image from the maps of all stages (hypercolumns).

    Hariharan et al. 2015, "Hypercolumns for Object Segmentation and Fine-grained Localization".

    Args:
        channels: of the map of each stage.
        outputs: values at each position.
        size: rows and columns of positions.
        width: channels of its layers.
    """

    def __init__(
        self, channels: Iterable[int], outputs: int, size: tuple[int, int], width: int
    ) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(nn.Conv2d(each, width, 1) for each in channels)
        self.output = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Conv2d(width, outputs, 1),
        )  # fmt: skip
        self.size = size

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps (B, C', H', W') -> (B, outputs, *size)."""
        h = [layer(each) for layer, each in zip(self.inputs, maps, strict=True)]
        same = [F.interpolate(m, self.size, mode="bilinear", align_corners=False) for m in h]
        return self.output(torch.stack(same).sum(0))


class SentenceDecoder(nn.Module):
    """A GRU that predicts a sentence word by word, given a vector (Kiros et al. 2015).

    Args:
        encoder: whose tokens are predicted.
        width: of its states.
    """

    def __init__(self, encoder: TextEncoder, width: int) -> None:
        super().__init__()
        self.condition = nn.Linear(encoder.dim, width)
        self.gru = nn.GRU(encoder.width + width, width, batch_first=True)
        self.output = nn.Linear(width, encoder.width)

    def forward(self, z: Tensor, ids: Tensor, encoder: TextEncoder) -> Tensor:
        """Negative log-likelihood of each word (B, n), in nats, given features z (B, dim)."""
        start = torch.full_like(ids[:, :1], START)
        h = encoder.embed(torch.cat([start, ids[:, :-1]], 1))  # (B, n, width)
        condition = self.condition(z)[:, None].expand(-1, ids.shape[1], -1).to(h.dtype)
        states = self.gru(torch.cat([h, condition], 2))[0]
        logits = F.linear(self.output(states), encoder.embed.weight).float().flatten(0, 1)
        return F.cross_entropy(logits, ids.flatten(), reduction="none").view(ids.shape)


def stage_decoders(encoder: Any, shape: tuple[int, int, int]) -> list[nn.Module]:
    """A small decoder for each stage of an encoder, from the stage's output to its input.

    Raises:
        UserError: the encoder has no stages.
    """
    if not len(getattr(encoder, "stages", ())):
        raise UserError("this encoder has no stages to train one after another; omit --stacked")
    decoders: list[nn.Module] = []
    with eval_mode(encoder), torch.no_grad():
        x = torch.zeros(2, *shape)
        for stage in encoder.stages:
            y = stage(x)
            decoders.append(_stage_decoder(y, x))
            x = y
    return decoders


def _stage_decoder(y: Tensor, x: Tensor) -> nn.Module:
    """From maps like y to maps like x: enlargement and a convolution, or a linear layer."""
    channels, *size = x.shape[1:]
    if y.shape[2:] == (1, 1):  # the same value everywhere could only be a constant map
        linear = nn.Linear(y.shape[1], x[0].numel())
        return nn.Sequential(nn.Flatten(), linear, nn.Unflatten(1, (channels, *size)))
    convolution = nn.Conv2d(y.shape[1], channels, 3, padding=1)
    return nn.Sequential(nn.Upsample(tuple(size), mode="nearest"), convolution)


class BlockPredictor(nn.Module):
    """From patches of a context to those of blocks elsewhere, by position (I-JEPA, V-JEPA).

    Each block is predicted by itself: mask tokens with the positions of its patches beside the
    patches of the context. Positions are fixed sines and cosines.

    Args:
        dim: width of the encoder's tokens.
        width: of the predictor's tokens, a multiple of 4.
        depth: number of transformer blocks.
        grid: rows and columns of patches of an image, or slots, rows and columns of a clip.
    """

    def __init__(self, dim: int, width: int, depth: int, grid: tuple[int, ...]) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(dim, width), nn.Linear(width, dim)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions: Tensor
        self.register_buffer("positions", fixed_positions(width, grid), persistent=False)
        heads = next(n for n in (width // 32, 3, 1) if n and width % n == 0)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, context: Tensor, blocks: Tensor) -> Tensor:
        """Tokens (B, n, dim), their positions (B, n), those of M blocks (B, M, k).

        Returns:
            predictions (B, M, k, dim).
        """
        seen = self.input(tokens)
        seen = seen + self.positions[context].to(seen.dtype)  # (B, n, width)
        asked = (self.mask_token + self.positions[blocks]).to(seen.dtype)  # (B, M, k, width)
        seen = seen[:, None].expand(-1, blocks.shape[1], -1, -1)
        h = self.blocks(torch.cat([seen, asked], 2).flatten(0, 1))[:, -blocks.shape[2] :]
        return self.output(self.norm(h)).unflatten(0, blocks.shape[:2])


class PyramidDecoder(nn.Module):
    """From visible positions of maps of several resolutions to complete images (SparK).

    Hidden positions of each map get a learned mask token, after a BatchNorm of the visible ones.
    From the coarsest map on, the decoder doubles the resolution and adds the next map, except one
    as fine as the image, which nothing after it would spread to hidden positions.

    Args:
        channels: of each map by its factor, the number of positions on a patch's side, a power of
            2; the coarsest map has 1.
        width: channels at the coarsest map; half as many after each doubling, at least 8.
        patch: side of a patch in pixels, a power of 2.
        pixels: channels of the images.

    Source: Tian et al. 2023, section 3.2 and the authors' code.
    """

    def __init__(self, channels: dict[int, int], width: int, patch: int, pixels: int) -> None:
        super().__init__()
        doublings = patch.bit_length() - 1
        widths = [max(8, width // 2**i) for i in range(doublings + 1)]
        self.factors = sorted(factor for factor in channels if factor < patch)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels[f]) for f in self.factors)
        self.mask_tokens = nn.ParameterList(
            nn.Parameter(torch.randn(channels[f], 1, 1) * 0.02) for f in self.factors
        )
        self.inputs = nn.ModuleList(
            nn.Conv2d(channels[f], widths[f.bit_length() - 1], side, padding=side // 2)
            for f, side in zip(self.factors, [1, *[3] * len(channels)], strict=False)
        )
        self.blocks = nn.ModuleList(_doubling(widths[i], widths[i + 1]) for i in range(doublings))
        self.output = nn.Conv2d(widths[-1], pixels, 1)

    def forward(self, maps: Sequence[Tensor], visible: Tensor) -> Tensor:
        """Maps (B, C', H', W'), coarsest first, visible patches (B, rows, columns) -> images."""
        dense = {}
        for i, factor in enumerate(self.factors):
            with visible_only(visible, self.norms[i]):
                known = self.norms[i](maps[i])
            token = self.mask_tokens[i].to(known.dtype)
            dense[factor] = self.inputs[i](torch.where(enlarged(visible, factor), known, token))
        h = dense[1]
        for i, block in enumerate(self.blocks):
            h = block(h + dense[2**i] if i and 2**i in dense else h)
        return self.output(h)


def _doubling(c_in: int, c_out: int) -> nn.Module:
    """Twice the resolution by a transposed convolution, and two convolutions with BatchNorm."""
    return nn.Sequential(
        nn.ConvTranspose2d(c_in, c_in, 4, 2, 1),
        nn.Conv2d(c_in, c_in, 3, padding=1, bias=False), nn.BatchNorm2d(c_in), nn.ReLU6(),
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out),
    )  # fmt: skip


class PixelHead(nn.Module):
    """AIM's head: residual blocks of an MLP on each patch by itself, then a linear layer to pixels.

    Args:
        dim: width of the encoder's tokens.
        width: of the head's tokens, a multiple of 4; the hidden layers are four times as wide.
        depth: number of blocks.
        grid: rows and columns of patches of an image, whose fixed positions are added first.
        pixels: values of a patch.
    """

    def __init__(self, dim: int, width: int, depth: int, grid: tuple[int, int], pixels: int):
        super().__init__()
        self.input, self.output = nn.Linear(dim, width), nn.Linear(width, pixels)
        self.positions: Tensor
        self.register_buffer("positions", fixed_positions(width, grid), persistent=False)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(),
                nn.Linear(4 * width, width),
            )
            for _ in range(depth)
        )  # fmt: skip
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, N, dim) -> pixels (B, N, pixels)."""
        h = self.input(tokens)
        h = h + self.positions.to(h.dtype)
        for block in self.blocks:
            h = h + block(h)
        return self.output(self.norm(h))


def fixed_positions(width: int, grid: tuple[int, ...]) -> Tensor:
    """Sine-cosine position embeddings (N, width) of the patches of an image or of a clip.

    Args:
        width: of the tokens.
        grid: rows and columns, or slots, rows and columns.
    """
    if len(grid) == 2:
        return sincos_positions(width, grid[0], grid[1])[0].flatten(1).T.contiguous()
    return space_time_positions(width, grid[0], grid[1], grid[2]).movedim(1, 3).flatten(0, 2)
