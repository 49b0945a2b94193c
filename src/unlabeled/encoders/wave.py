"""The encoder of audio: strided convolutions of the waveform, and a GRU over the frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.audio import random_crop
from unlabeled.augmentations.base import Augmentation, Compose
from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError

CROP_FRAMES = 32
"""Frames of the crops that predictive methods learn from: 0.32 seconds of 10-ms frames."""


def wave(
    width: int = 64,
    context: int = 256,
    kernels: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    sample_rate: int = 8_000,
) -> Encoder:
    """Strided convolutions over the samples of audio and a GRU: 2·context features (512).

    Each layer has `width` channels and the last 2·width; there is a frame about every 10 ms. Van
    den Oord, Li, Vinyals 2018, section 3.1, whose strides are those at 16 kHz, with normalized
    channels (Rivière et al. 2020). An image is read row by row.

    Args:
        width: channels of the convolutions.
        context: dimension of the GRU's state.
        kernels: length of each convolution's kernel, in samples or frames (default: 10, 8, and 4
            for the others).
        strides: of each convolution (default: 5, 4 and as many of 2 as bring frames nearest to 10
            ms: 5, 4, 2, 2 at 8 kHz).
        sample_rate: samples per second.
    """
    kernels, strides = frame_layout(kernels, strides, sample_rate)
    widths = [1, *[width] * (len(kernels) - 1), 2 * width]
    stages: list[nn.Module] = [
        FrameConv(*layer) for layer in zip(widths, widths[1:], kernels, strides, strict=False)
    ]
    crop_length = CROP_FRAMES * math.prod(strides)
    return Wave([*stages, _FrameGRU(2 * width, context)], [*widths[1:], context], crop_length)


def frame_layout(
    kernels: Sequence[int] | None, strides: Sequence[int] | None, sample_rate: int
) -> tuple[Sequence[int], Sequence[int]]:
    """Kernels and strides of the convolutions, by default those of frames of about 10 ms.

    Raises:
        UserError: there are not as many of one as of the other.
    """
    if strides is None:
        strides = (5, 4, *[2] * max(0, 2 + round(math.log2(sample_rate / 8_000))))
    if kernels is None:
        kernels = (10, 8, *[4] * len(strides))[: len(strides)]
    if len(kernels) != len(strides):
        raise UserError(f"{len(kernels)} kernels need as many strides, not {len(strides)}")
    return kernels, strides


class Wave(Encoder):
    """Stages from audio (B, 1, 1, T) to frames (B, C, 1, T'), each of the samples up to its own.

    Digital silence, such as the padding of short recordings, gives frames of 0 in every stage, and
    is excluded from the features.

    Args:
        stages: convolutions and then the GRU, or a single stage of those.
        widths: channels of each stage.
        crop_length: samples of the crops that predictive methods learn from; 0 is all.
    """

    def __init__(
        self, stages: Sequence[nn.Module], widths: Sequence[int], crop_length: int = 0
    ) -> None:
        super().__init__(stages, MeanAndDeviation(), 2 * widths[-1])
        self.widths, self.crop_length = list(widths), crop_length
        self.latent_dims = self.widths[-2:][0], self.widths[-1]  # of latents and of contexts

    def single_stage(self, stage: int, channels: int, dim: int) -> Wave:
        """One stage, whose frames are latents and contexts; the GRU's latents are its inputs."""
        last = self.stages[stage]
        widths = self.widths[stage - 1 :] if isinstance(last, _FrameGRU) else [channels]
        return Wave([last], widths, self.crop_length)

    def to_grid(self, frames: Tensor) -> Tensor:
        """Frames (B, C, 1, T) as a grid whose rows are predicted in order, (B, C, T, 1)."""
        return frames.transpose(2, 3)

    def latents_and_context(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is predicted z, and from what c: grids of the last two stages."""
        *stages, last = self.stages
        for stage in stages:
            x = stage(x)
        c = self.to_grid(last(x))
        return (self.to_grid(x) if stages or isinstance(last, _FrameGRU) else c), c

    def make_context(self) -> nn.Module:
        """The identity, since the GRU is the context network."""
        return nn.Identity()

    def default_augmentation(self) -> Augmentation:
        """The augmentation of predictive methods: none."""
        return Compose([])

    def segments(self, x: Tensor, samples: int = 0, jitter: Augmentation | None = None) -> Tensor:
        """Random segments (B, 1, 1, samples) of recordings (B, C, H, W), whole if samples is 0."""
        x = random_crop(x, samples)
        return x if jitter is None else jitter(x)


class MeanAndDeviation(nn.Module):
    """Mean and standard deviation over all frames that are not 0: (B, C, H, W) -> (B, 2C)."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).float()
        audible = (x != 0).any(1, keepdim=True)  # (B, 1, T)
        count = audible.sum(2).clamp(min=1)
        mean = x.sum(2) / count
        variance = ((x - mean[:, :, None]) * audible).pow(2).sum(2) / count
        return torch.cat([mean, (variance + 1e-6).sqrt()], 1)


def at_least(x: Tensor, length: int) -> Tensor:
    """Frames (B, C, 1, T), padded with silence at their end where they are fewer than `length`."""
    return F.pad(x, (0, max(0, length - x.shape[3])))


class FrameConv(nn.Module):
    """Convolution, LayerNorm of each frame's channels, ReLU: (B, C, 1, T) -> (B, C', 1, T').

    No norm spans time, which would leak future frames into the context.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = (1, kernel), (1, stride)
        self.convolution = nn.Conv2d(c_in, c_out, self.kernel, self.stride, bias=False)
        self.scale = nn.Parameter(torch.ones(c_out))
        self.shift = nn.Parameter(torch.zeros(c_out))
        self.first = c_in == 1

    def forward(self, x: Tensor) -> Tensor:
        """Inputs shorter than the kernel are padded with silence at their end."""
        if self.first:
            x = x.flatten(1)[:, None, None]  # (B, 1, 1, T)
        x = at_least(x, self.kernel[1])
        audible = (x != 0).any(1, keepdim=True).to(x.dtype)
        audible = F.max_pool2d(audible, self.kernel, self.stride)  # (B, 1, 1, T')
        h = self.convolution(x).permute(0, 2, 3, 1)
        h = F.layer_norm(h, h.shape[3:], self.scale, self.shift).permute(0, 3, 1, 2)
        return h.relu() * audible


class _FrameGRU(nn.Module):
    """A GRU over the frames: (B, C, 1, T) -> (B, C', 1, T); silence stays 0."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.cell = nn.GRU(c_in, c_out, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The state after each frame."""
        states, _ = self.cell(x[:, :, 0].transpose(1, 2))
        return states.transpose(1, 2)[:, :, None] * (x != 0).any(1, keepdim=True)
