"""Encoders of audio with a transformer over frames: of the waveform, or of its mel bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.attention import TransformerBlock, check_heads
from unlabeled.encoders.base import Encoder
from unlabeled.encoders.wave import FrameConv, MeanAndDeviation, at_least, frame_layout
from unlabeled.errors import UserError

FLOOR, CENTER, SCALE = -80.0, -50.0, 20.0
"""In decibel below a sine of amplitude 1: what is as good as silent, and what becomes 0 and 1."""


def wave_transformer(
    width: int = 64,
    context: int = 128,
    depth: int = 4,
    heads: int = 4,
    kernels: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    position_kernel: int = 32,
    sample_rate: int = 8_000,
) -> Encoder:
    """Strided convolutions of the waveform and a transformer: 2·context features (256).

    There is a frame about every 10 ms, as in `wave`, where Baevski et al. 2020 (section 4.2) have
    one every 20 ms. As in their larger model, norms come before attention and MLP and none spans
    time; ReLU stands in place of GELU. An image is read row by row.

    Args:
        width: channels of the convolutions; 512 in the paper.
        context: dimension of the transformer's states; 768 in the paper's Base.
        depth: number of blocks; 12 in the paper's Base.
        heads: attention heads of each block; 8 in the paper's Base, 12 in its code and weights.
        kernels: length of each convolution's kernel, in samples or frames (default: `wave`'s).
        strides: of each convolution (default: `wave`'s).
        position_kernel: frames of the convolution that gives relative positions; 128 in the paper.
        sample_rate: samples per second.
    """
    kernels, strides = frame_layout(kernels, strides, sample_rate)
    widths = [1, *[width] * len(kernels)]
    layers = zip(widths, widths[1:], kernels, strides, strict=False)
    front = [FrameConv(*layer) for layer in layers]
    return FrameTransformer(front, width, context, depth, heads, position_kernel)


def mel_transformer(
    width: int = 64,
    context: int = 128,
    depth: int = 4,
    heads: int = 4,
    bands: int = 40,
    window_ms: float = 25.0,
    hop_ms: float = 10.0,
    strides: Sequence[int] = (2,),
    position_kernel: int = 16,
    sample_rate: int = 8_000,
) -> Encoder:
    """Mel bands of audio, convolutions and a transformer: 2·context features (256).

    Chiu et al. 2022 (section 4) have a Conformer on frames of 40 ms. An image is read row by row.

    Args:
        width: channels of the convolutions.
        context: dimension of the transformer's states.
        depth: number of blocks.
        heads: attention heads of each block.
        bands: number of mel bands; 80 in the paper.
        window_ms: length of the windows of the short-time Fourier transform.
        hop_ms: distance between windows.
        strides: of each convolution, whose kernel is as long, so that a frame is made of as many
            windows as their product; 4 in the paper.
        position_kernel: frames of the convolution that gives relative positions.
        sample_rate: samples per second.
    """
    front: list[nn.Module] = [LogMel(bands, sample_rate, window_ms, hop_ms)]
    widths = [bands, *[width] * len(strides)]
    layers = zip(widths, widths[1:], strides, strides, strict=False)
    front += [FrameConv(*layer) for layer in layers]
    return FrameTransformer(front, widths[-1], context, depth, heads, position_kernel)


class FrameTransformer(Encoder):
    """Frames of audio, then a transformer over them: stages from (B, 1, 1, t) to (B, C, 1, T).

    Digital silence gives frames of 0 in every stage; no other frame attends to them, and they are
    excluded from the features, which are mean and deviation over the others.

    Args:
        front: stages that make the latent frames.
        width: channels of these.
        context: dimension of the states.
        depth: number of transformer blocks.
        heads: attention heads of each.
        position_kernel: frames of the convolution that gives relative positions.
    """

    def __init__(
        self,
        front: Sequence[nn.Module],
        width: int,
        context: int,
        depth: int,
        heads: int,
        position_kernel: int,
    ) -> None:
        check_heads(context, heads)
        network = [
            _FrameEmbedding(width, context, position_kernel),
            *(_FrameBlock(context, heads) for _ in range(depth)),
            _FrameNorm(context),
        ]
        super().__init__([*front, *network], MeanAndDeviation(), 2 * context)
        self.front, self.width, self.context = len(front), width, context
        layers: Any = front[1:]
        self.windows = math.prod(layer.stride[1] for layer in layers)  # of the first stage, a frame

    def audible(self, x: Tensor) -> Tensor:
        """Which latent frames hear more than digital silence, (B, T), of audio (B, C, H, W)."""
        heard = (x.flatten(1)[:, None, None] != 0).float()
        for stage in self.stages[: self.front]:
            layer: Any = stage
            heard = F.max_pool2d(at_least(heard, layer.kernel[1]), layer.kernel, layer.stride)
        return heard[:, 0, 0] > 0

    def latents(self, x: Tensor, start: int = 0) -> Tensor:
        """Latent frames (B, width, 1, T) of audio, or of the map before the stage `start`."""
        for stage in self.stages[start : self.front]:
            x = stage(x)
        return x

    def contexts(
        self, z: Tensor, masked: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        """States (B, T, context) of latent frames (B, width, 1, T).

        Where `masked` (B, T) is true, the mask token (context,) takes the place of the projected
        frame, before positions are added.
        """
        embedding, *blocks = self.stages[self.front :]
        h = embedding(z, masked, mask_token)
        for block in blocks:
            h = block(h)
        return h[:, :, 0].transpose(1, 2)


class LogMel(nn.Module):
    """Mel bands in decibel, shifted and scaled: audio (B, C, H, W) -> (B, bands, 1, T).

    Speech is about 0 ± 1. The numbers are fixed, so that no window depends on others. Windows of
    digital silence are 0.

    Args:
        bands: number of triangular filters.
        sample_rate: samples per second.
        window_ms: length of a window in milliseconds, which is a Hann window.
        hop_ms: distance between windows in milliseconds.
    """

    def __init__(self, bands: int, sample_rate: int, window_ms: float, hop_ms: float) -> None:
        super().__init__()
        window, hop = (max(1, round(ms * sample_rate / 1000)) for ms in (window_ms, hop_ms))
        if window < 4:
            raise UserError(f"windows of {window_ms} ms have {window} samples; give 4 or more")
        self.kernel, self.stride, self.bands = (1, window), (1, hop), bands
        size = 2 ** (1 + math.ceil(math.log2(window)))  # padded, so that no filter is empty
        taper = torch.hann_window(window, dtype=torch.float64)
        frequency, time = (torch.arange(n, dtype=torch.float64) for n in (size // 2 + 1, window))
        angle = torch.outer(frequency, time) * (2 * math.pi / size)
        transform = torch.cat([angle.cos(), angle.sin()]) * (2 * taper / taper.sum())
        self.transform: Tensor
        self.filters: Tensor
        transform = transform.to(torch.float32)[:, None, None]
        self.register_buffer("transform", transform, persistent=False)
        self.register_buffer("filters", mel_filters(bands, size, sample_rate), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = at_least(x.flatten(1)[:, None, None], self.kernel[1])
        audible = F.max_pool2d((x != 0).to(x.dtype), self.kernel, self.stride)  # (B, 1, 1, T)
        with _full_precision(x):
            x = x.to(self.transform.dtype)
            real, imaginary = F.conv2d(x, self.transform, stride=self.stride).chunk(2, 1)
            energy = torch.einsum("bfit,mf->bmit", real**2 + imaginary**2, self.filters)
            decibel = 10 * torch.log10(energy.clamp(min=10 ** (FLOOR / 10)))
        return (decibel - CENTER) / SCALE * audible


def _full_precision(x: Tensor) -> AbstractContextManager[None]:
    """No autocast on the device of x; a network is sketched on "meta", which has none."""
    return nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False)


def mel_filters(bands: int, size: int, sample_rate: int) -> Tensor:
    """Triangular filters, equally wide in mel, as in HTK: (bands, size / 2 + 1).

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987).

    Args:
        bands: number of filters, from 0 to half the sample rate.
        size: of the Fourier transform.
        sample_rate: samples per second.
    """
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    mel = torch.linspace(0, highest, bands + 2, dtype=torch.float64)
    edge = 700 * (10 ** (mel / 2595) - 1)[:, None]
    hertz = torch.arange(size // 2 + 1, dtype=torch.float64) * sample_rate / size
    rise = (hertz - edge[:-2]) / (edge[1:-1] - edge[:-2])
    fall = (edge[2:] - hertz) / (edge[2:] - edge[1:-1])
    return torch.minimum(rise, fall).clamp(min=0).to(torch.float32)


class _FrameEmbedding(nn.Module):
    """Project frames and add relative positions: (B, C, 1, T) -> (B, C', 1, T).

    The positions are a convolution over the projected frames (Baevski et al. 2020, section 2), here
    without weight normalization.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(c_in, c_out, 1)
        groups = math.gcd(16, c_out)
        padding = (0, kernel // 2)
        self.positions = nn.Conv2d(c_out, c_out, (1, kernel), padding=padding, groups=groups)
        nn.init.normal_(self.positions.weight, std=math.sqrt(4 / (kernel * c_out)))
        nn.init.zeros_(self.positions.bias)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, masked: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        audible = _audible(x)
        h = self.project(x)
        if masked is not None and mask_token is not None:
            h = torch.where(masked[:, None, None], mask_token.to(h.dtype)[:, None, None], h)
        h = h * audible
        with _full_precision(x):  # this convolution is slow in bfloat16
            positions = self.positions(h.to(self.positions.weight))[..., : h.shape[3]].to(h.dtype)
        return (h + F.gelu(positions)) * audible


class _FrameBlock(TransformerBlock):
    """Transformer block on frames (B, C, 1, T), of which silent ones are 0 and stay so."""

    def forward(self, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        audible = _audible(x)  # (B, 1, 1, T)
        attended = (audible > 0) | ~(audible > 0).any(3, keepdim=True)  # all where all are silent
        tokens = super().forward(x[:, :, 0].transpose(1, 2), attended)
        return tokens.transpose(1, 2)[:, :, None] * audible


class _FrameNorm(nn.Module):
    """LayerNorm of each frame's channels, (B, C, 1, T); silent frames stay 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.transpose(1, 3)).transpose(1, 3) * _audible(x)


def _audible(x: Tensor) -> Tensor:
    """1 for frames (B, C, 1, T) that are not 0, and 0 for the others, (B, 1, 1, T)."""
    return (x != 0).any(1, keepdim=True).to(x.dtype)
