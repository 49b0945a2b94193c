"""The encoder of sound: strided convolutions over the wave, and a memory of what was heard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.audio import piece
from unlabeled.augmentations.base import Augmentation, Compose
from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError


def wave(
    width: int = 64,
    context: int = 256,
    kernels: Sequence[int] = (10, 8, 4, 4),
    strides: Sequence[int] = (5, 4, 2, 2),
) -> Encoder:
    """Strided convolutions over a sound's samples and a GRU: 2·context features (512).

    Each layer has `width` channels and the last 2·width; at 8 kHz there is a frame every 10 ms. Van
    den Oord, Li, Vinyals 2018, section 3.1, with a stride less, since their sound has 16 kHz, and
    with normalized channels (Rivière et al. 2020). An image is read row by row.

    Args:
        width: channels of the convolutions.
        context: of the GRU's state.
        kernels: samples that each convolution sees.
        strides: how far apart.
    """
    if len(kernels) != len(strides):
        raise UserError(f"{len(kernels)} kernels need as many strides, not {len(strides)}")
    widths = [1, *[width] * (len(kernels) - 1), 2 * width]
    stages: list[nn.Module] = [
        _Frames(*layer) for layer in zip(widths, widths[1:], kernels, strides, strict=False)
    ]
    return Wave([*stages, _Memory(2 * width, context)], [*widths[1:], context])


class Wave(Encoder):
    """Stages from sound (B, 1, 1, T) to frames (B, C, 1, T'), each of what was heard until then.

    Digital silence, such as what fills short recordings up, gives frames of 0 in every stage, and
    is left out of the summary.

    Args:
        stages: the last one is the memory, unless it is the only one.
        widths: channels of each stage.
    """

    def __init__(self, stages: Sequence[nn.Module], widths: Sequence[int]) -> None:
        super().__init__(stages, MeanAndDeviation(), 2 * widths[-1])
        self.widths = list(widths)
        self.latent = self.widths[-2:][0], self.widths[-1]  # of what is predicted, and from what

    def alone(self, stage: int, channels: int, dim: int) -> Wave:
        """One stage, which predicts itself; the memory predicts what it gets."""
        last = self.stages[stage]
        widths = self.widths[stage - 1 :] if isinstance(last, _Memory) else [channels]
        return Wave([last], widths)

    def places(self, frames: Tensor) -> Tensor:
        """Frames (B, C, 1, T) in the order in which they are predicted, (B, C, T, 1)."""
        return frames.transpose(2, 3)

    def predicted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is to be predicted z, and from what c: places of the last two stages."""
        *stages, last = self.stages
        for stage in stages:
            x = stage(x)
        c = self.places(last(x))
        return (self.places(x) if stages or isinstance(last, _Memory) else c), c

    def context(self) -> nn.Module:
        """The memory is the context; it needs no other."""
        return nn.Identity()

    def weak(self) -> Augmentation:
        """A view that suits sound unless another is named: none."""
        return Compose([])

    def pieces(self, x: Tensor, samples: int = 0, jitter: Augmentation | None = None) -> Tensor:
        """Pieces of recordings (B, C, H, W), with their samples in a row: (B, 1, 1, samples)."""
        x = x.flatten(1)[:, None, None]
        x = piece(x, samples) if 0 < samples < x.shape[3] else x
        return x if jitter is None else jitter(x)


class MeanAndDeviation(nn.Module):
    """Of all frames but those of 0: (B, C, H, W) -> (B, 2C)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2C)."""
        x = x.flatten(2).float()
        heard = (x != 0).any(1, keepdim=True)  # (B, 1, T)
        count = heard.sum(2).clamp(min=1)
        mean = x.sum(2) / count
        variance = ((x - mean[:, :, None]) * heard).pow(2).sum(2) / count
        return torch.cat([mean, (variance + 1e-6).sqrt()], 1)


class _Frames(nn.Module):
    """Convolution, a LayerNorm of each frame's channels, ReLU: (B, C, 1, T) -> (B, C', 1, T').

    No norm looks along time: it would tell the context what is to come.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = (1, kernel), (1, stride)
        self.convolution = nn.Conv2d(c_in, c_out, self.kernel, self.stride, bias=False)
        self.scale = nn.Parameter(torch.ones(c_out))
        self.shift = nn.Parameter(torch.zeros(c_out))
        self.first = c_in == 1

    def forward(self, x: Tensor) -> Tensor:
        """What is shorter than a kernel is filled up with silence at its end."""
        if self.first:
            x = x.flatten(1)[:, None, None]  # (B, 1, 1, T)
        x = F.pad(x, (0, max(0, self.kernel[1] - x.shape[3])))
        heard = (x != 0).any(1, keepdim=True).to(x.dtype)
        heard = F.max_pool2d(heard, self.kernel, self.stride)  # (B, 1, 1, T')
        h = self.convolution(x).permute(0, 2, 3, 1)
        h = F.layer_norm(h, h.shape[3:], self.scale, self.shift).permute(0, 3, 1, 2)
        return h.relu() * heard


class _Memory(nn.Module):
    """A GRU over the frames: (B, C, 1, T) -> (B, C', 1, T); silence stays 0."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.cell = nn.GRU(c_in, c_out, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """The state after each frame."""
        states, _ = self.cell(x[:, :, 0].transpose(1, 2))
        return states.transpose(1, 2)[:, :, None] * (x != 0).any(1, keepdim=True)
