"""Random changes of sound (B, C, 1, T), batched, one draw for each recording.

The digital silence at the end of a short recording stays silent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unlabeled.augmentations.base import Augmentation, random_rows
from unlabeled.errors import UserError

WINDOW, HOP = 512, 128
"""Samples of the Fourier transforms that tempo and pitch are changed in."""


def audible_mask(x: Float[Tensor, "b c 1 t"]) -> Float[Tensor, "b 1 1 t"]:
    """1 up to the last sample of a recording that is not 0, else 0."""
    loud = (x != 0).any(1, keepdim=True)
    return loud.flip(3).cummax(3).values.flip(3).to(x.dtype)


def random_segment(x: Float[Tensor, "b c 1 t"], length: int) -> Float[Tensor, "b c 1 length"]:
    """So many samples of each, from a random place in what is heard; shorter ones from the start.

    Raises:
        UserError: all recordings are shorter.
    """
    if not 0 < length <= x.shape[3]:
        raise UserError(f"sound of {x.shape[3]} samples has no pieces of {length}; give fewer")
    free = (audible_mask(x).sum((1, 2, 3)) - length + 1).clamp(min=1)
    first = (torch.rand(len(x), device=x.device) * free).long()
    along = first[:, None] + torch.arange(length, device=x.device)  # (B, length)
    return x.gather(3, along[:, None, None].expand(-1, x.shape[1], 1, -1))


@dataclass(frozen=True)
class RandomGain(Augmentation):
    """Louder or softer.

    Args:
        decibel: at most so much, either way.
    """

    decibel: float = 6.0

    def __call__(self, x: Tensor) -> Tensor:
        """One factor for each recording."""
        return x * 10 ** (_draw(x, -self.decibel, self.decibel) / 20)


@dataclass(frozen=True)
class WhiteNoise(Augmentation):
    """White noise.

    Args:
        above: decibel that the sound stands above the noise, at least.
        below: and at most.
    """

    above: float = 10.0
    below: float = 40.0

    def __call__(self, x: Tensor) -> Tensor:
        """Noise where something is heard, by the loudness of each recording."""
        mask = audible_mask(x)
        loud = (x.pow(2).sum((1, 2, 3)) / (mask.sum((1, 2, 3)) * x.shape[1]).clamp(min=1)).sqrt()
        level = loud[:, None, None, None] * 10 ** (-_draw(x, self.above, self.below) / 20)
        return x + level * torch.randn_like(x) * mask


@dataclass(frozen=True)
class RandomEqualizer(Augmentation):
    """Some bands louder, some softer: another microphone, another room.

    Args:
        decibel: deviation of a band.
        bands: equally wide on a logarithmic scale over seven octaves, with lines between them.
    """

    decibel: float = 6.0
    bands: int = 8

    def __call__(self, x: Tensor) -> Tensor:
        """One curve for each recording."""
        n = x.shape[3]
        bins = n + 1  # of twice the length, so that the end does not come round to the beginning
        octave = 7 + torch.log2(torch.arange(bins, device=x.device).clamp(min=1) / bins)
        place = (octave.clamp(0, 7) / 7 * (self.bands - 1)).clamp(max=self.bands - 1 - 1e-4)
        i, share = place.long(), place.frac()
        level = self.decibel * torch.randn(len(x), self.bands, device=x.device)
        curve = level[:, i] * (1 - share) + level[:, i + 1] * share  # (B, bins)
        spectrum = torch.fft.rfft(x, 2 * n) * 10 ** (curve[:, None, None] / 20)
        return torch.fft.irfft(spectrum, 2 * n)[..., :n] * audible_mask(x)


@dataclass(frozen=True)
class RandomReverb(Augmentation):
    """Echoes that fade: noise that dies away exponentially, convolved with the sound.

    Args:
        samples: in which an echo falls by 60 decibel, at most.
        wet: how loud the echoes are beside the sound, at most.
        p: probability of any.
    """

    samples: int = 2400
    wet: float = 0.5
    p: float = 0.5

    def __call__(self, x: Tensor) -> Tensor:
        """Another room for each recording."""
        rows = random_rows(x, self.p)
        dry = x[rows]
        if not len(rows):
            return x
        last = _draw(dry, 0.1 * self.samples, float(self.samples))
        along = torch.arange(self.samples, device=x.device)
        echo = torch.randn(len(dry), 1, 1, self.samples, device=x.device)
        echo = echo * 10 ** (-3 * along / last)
        echo = _draw(dry, 0.0, self.wet) * echo / echo.norm(dim=3, keepdim=True)
        n = x.shape[3] + self.samples
        wet = torch.fft.irfft(torch.fft.rfft(dry, n) * torch.fft.rfft(echo, n), n)
        out = x.clone()
        out[rows] = (dry + wet[..., : x.shape[3]]) * audible_mask(dry)
        return out


@dataclass(frozen=True)
class TimeStretch(Augmentation):
    """Slower or faster at the same pitch.

    Args:
        factor: at most so many times as fast, or as slow.
    """

    factor: float = 1.25

    def __call__(self, x: Tensor) -> Tensor:
        """What becomes too long loses its end, what becomes too short ends in silence."""
        rate = self.factor ** _draw(x, -1.0, 1.0).flatten()
        return _kept(time_stretch(x, rate), audible_mask(x), rate)


@dataclass(frozen=True)
class PitchShift(Augmentation):
    """Higher or lower at the same tempo.

    Args:
        semitones: at most so many, either way.
    """

    semitones: float = 3.0

    def __call__(self, x: Tensor) -> Tensor:
        """Stretched, then played faster, or the other way round."""
        ratio = 2 ** (_draw(x, -self.semitones, self.semitones).flatten() / 12)
        n = x.shape[3]
        longer = time_stretch(x, 1 / ratio, math.ceil(n * 2 ** (self.semitones / 12)) + 1)
        place = torch.arange(n, device=x.device) * ratio[:, None]  # (B, T)
        i = place.long()[:, None, None].expand(-1, x.shape[1], 1, -1)
        share = place.frac()[:, None, None]
        played = longer.gather(3, i) * (1 - share) + longer.gather(3, i + 1) * share
        return played * audible_mask(x)


@dataclass(frozen=True)
class AudioAugment(Augmentation):
    """The same sound by another microphone in another room: what changes no word.

    Args:
        p: probability of echoes.
    """

    p: float = 0.5

    def __call__(self, x: Tensor) -> Tensor:
        """RandomEqualizer, reverberation, noise and gain."""
        for view in (RandomEqualizer(), RandomReverb(p=self.p), WhiteNoise(), RandomGain()):
            x = view(x)
        return x


def time_stretch(
    x: Float[Tensor, "b c 1 t"], rate: Float[Tensor, " b"], length: int | None = None
) -> Float[Tensor, "b c 1 length"]:
    """Played `rate` times as fast, pitch unchanged, by a phase vocoder (Flanagan, Golden 1966).

    Each frame's magnitudes are read at the new time, and its phases go on as fast as they did in
    the original.

    Args:
        x: recordings.
        rate: of each.
        length: samples that are made; as many as there were unless given.
    """
    length = length or x.shape[3]
    flat, rate = x.flatten(0, 2), rate.repeat_interleave(x.shape[1])
    window = torch.hann_window(WINDOW, device=x.device)
    spectrum = torch.stft(
        flat, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True
    )  # (B, F, K)
    frames = spectrum.shape[2]
    place = torch.arange(length // HOP + 2, device=x.device) * rate[:, None]  # (B, K')
    i = place.long().clamp(max=frames - 2)[:, None].expand(-1, spectrum.shape[1], -1)
    before, after = spectrum.gather(2, i), spectrum.gather(2, i + 1)
    share = (place[:, None] - i).clamp(max=1)
    size = before.abs() * (1 - share) + after.abs() * share
    size = size * (place[:, None] <= frames - 1)
    turn = 2 * math.pi * HOP / WINDOW * torch.arange(len(window) // 2 + 1, device=x.device)
    extra = after.angle() - before.angle() - turn[:, None]
    advance = turn[:, None] + extra - 2 * math.pi * (extra / (2 * math.pi)).round()
    start = spectrum[:, :, :1].angle()
    phase = torch.cat([start, start + advance[:, :, :-1].cumsum(2)], 2)
    made = torch.istft(torch.polar(size, phase), WINDOW, HOP, window=window, length=length)
    return made.view(*x.shape[:2], 1, length)


def _kept(x: Tensor, before: Tensor, rate: Tensor) -> Tensor:
    """Silence after the new end of each recording."""
    end = before.sum((1, 2, 3)) / rate
    return x * (torch.arange(x.shape[3], device=x.device) < end[:, None, None, None])


def _draw(x: Tensor, low: float, high: float) -> Tensor:
    """One number for each recording, (B, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(x), 1, 1, 1, device=x.device)
