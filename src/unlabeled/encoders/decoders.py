"""Decoders of autoencoders, which are discarded after training."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.vocabulary import START
from unlabeled.encoders.attention import TransformerBlock
from unlabeled.encoders.text import TextEncoder
from unlabeled.encoders.vit import sincos_positions
from unlabeled.errors import UserError
from unlabeled.utils.state import eval_mode


class MAEDecoder(nn.Module):
    """From the class token and visible tokens to all patches (He et al. 2022, section 3).

    Args:
        dim: width of the encoder's tokens.
        width: of the decoder's tokens.
        depth: number of blocks.
        patches: N, of an image.
        pixels: values of a patch.
    """

    def __init__(self, dim: int, width: int, depth: int, patches: int, pixels: int) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(dim, width), nn.Linear(width, pixels)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions = nn.Parameter(torch.randn(patches, width) * 0.02)
        heads = 3 if width % 3 == 0 else 1
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, class_token: Tensor, tokens: Tensor, visible: Tensor) -> Tensor:
        """Class token (B, dim), tokens (B, dim, n), their positions (B, n) -> (B, N, pixels)."""
        h = self.input(tokens.transpose(1, 2))  # (B, n, width)
        masked = self.mask_token.to(h.dtype).expand(len(h), len(self.positions), -1)
        h = masked.scatter(1, visible[:, :, None].expand_as(h), h) + self.positions
        first = self.input(class_token)[:, None].to(h.dtype)  # it has no position
        h = self.blocks(torch.cat([first, h], 1))[:, 1:]
        return self.output(self.norm(h))


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
    if not hasattr(encoder, "stages"):
        raise UserError("this encoder has no stages to train one after another; omit --stacked")
    decoders: list[nn.Module] = []
    with eval_mode(encoder), torch.no_grad():
        x = torch.zeros(2, *shape)
        for stage in encoder.stages:
            y = stage(x)
            upsample = nn.Upsample(tuple(x.shape[2:]), mode="nearest")
            convolution = nn.Conv2d(y.shape[1], x.shape[1], 3, padding=1)
            decoders.append(nn.Sequential(upsample, convolution))
            x = y
    return decoders


class BlockPredictor(nn.Module):
    """From patches of a context to those of blocks elsewhere, by position (I-JEPA, section 3).

    Each block is predicted by itself: mask tokens with the positions of its patches beside the
    patches of the context. Positions are fixed sines and cosines.

    Args:
        dim: width of the encoder's tokens.
        width: of the predictor's tokens, a multiple of 4.
        depth: number of transformer blocks.
        grid: rows and columns of patches of an image.
    """

    def __init__(self, dim: int, width: int, depth: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(dim, width), nn.Linear(width, dim)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        self.positions: Tensor
        fixed = sincos_positions(width, *grid)[0].flatten(1).T.contiguous()
        self.register_buffer("positions", fixed, persistent=False)  # (N, width)
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
