"""Random augmentations of audio (B, C, 1, T): a whole batch at once, one draw for each recording.

Digital silence at the end of a short recording stays silent.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from unlabeled.augmentations.base import Augmentation, Compose, random_rows, uniform
from unlabeled.errors import UserError

SAMPLE_RATE = 8_000
"""Samples per second, where nothing else is said."""
N_FFT = 512
"""Window of the phase vocoder's short-time Fourier transform at that rate: 64 ms."""


def audible_mask(x: Float[Tensor, "b c 1 t"]) -> Float[Tensor, "b 1 1 t"]:
    """1 up to the last sample of a recording that is not 0, 0 afterwards."""
    nonzero = (x != 0).any(1, keepdim=True)
    return nonzero.flip(3).cummax(3).values.flip(3).to(x.dtype)


def random_segment(x: Float[Tensor, "b c 1 t"], length: int) -> Float[Tensor, "b c 1 length"]:
    """A random segment of each recording's audible part; from the start where that is shorter.

    Raises:
        UserError: all recordings are shorter than the segment.
    """
    if not 0 < length <= x.shape[3]:
        raise UserError(f"audio of {x.shape[3]} samples has no segments of {length}; give fewer")
    free = (audible_mask(x).sum((1, 2, 3)) - length + 1).clamp(min=1)
    start = (torch.rand(len(x), device=x.device) * free).long()
    index = start[:, None] + torch.arange(length, device=x.device)  # (B, length)
    return x.gather(3, index[:, None, None].expand(-1, x.shape[1], 1, -1))


def random_crop(x: Float[Tensor, "b c h w"], length: int) -> Float[Tensor, "b 1 1 t"]:
    """A random segment of what is read row by row; all of it if the length is 0 or too large."""
    x = x.flatten(1)[:, None, None]
    return random_segment(x, length) if 0 < length < x.shape[3] else x


@dataclass(frozen=True)
class RandomGain(Augmentation):
    """Random gain of each recording.

    Args:
        gain_db: largest gain or attenuation, in dB.
    """

    gain_db: float = 6.0

    def __call__(self, x: Tensor) -> Tensor:
        return x * 10 ** (uniform(x, -self.gain_db, self.gain_db, 1, 1, 1) / 20)


@dataclass(frozen=True)
class WhiteNoise(Augmentation):
    """Add white noise at a random signal-to-noise ratio, except in trailing silence.

    Args:
        min_snr_db: smallest ratio, in dB.
        max_snr_db: largest ratio, in dB.
    """

    min_snr_db: float = 10.0
    max_snr_db: float = 40.0

    def __call__(self, x: Tensor) -> Tensor:
        mask = audible_mask(x)
        rms = (x.pow(2).sum((1, 2, 3)) / (mask.sum((1, 2, 3)) * x.shape[1]).clamp(min=1)).sqrt()
        snr_db = uniform(x, self.min_snr_db, self.max_snr_db, 1, 1, 1)
        level = rms[:, None, None, None] * 10 ** (-snr_db / 20)
        return x + level * torch.randn_like(x) * mask


@dataclass(frozen=True)
class RandomEqualizer(Augmentation):
    """Random gain of each frequency band, as of another microphone.

    Args:
        gain_db: standard deviation of a band's gain, in dB.
        bands: equally spaced on a logarithmic scale over seven octaves, with linear interpolation.
    """

    gain_db: float = 6.0
    bands: int = 8

    def __call__(self, x: Tensor) -> Tensor:
        n = x.shape[3]
        bins = n + 1  # of twice the length, so that the end does not wrap around to the beginning
        octave = 7 + torch.log2(torch.arange(bins, device=x.device).clamp(min=1) / bins)
        band = (octave.clamp(0, 7) / 7 * (self.bands - 1)).clamp(max=self.bands - 1 - 1e-4)
        i, share = band.long(), band.frac()
        gain = self.gain_db * torch.randn(len(x), self.bands, device=x.device)
        curve = gain[:, i] * (1 - share) + gain[:, i + 1] * share  # (B, bins)
        spectrum = torch.fft.rfft(x, 2 * n) * 10 ** (curve[:, None, None] / 20)
        return torch.fft.irfft(spectrum, 2 * n)[..., :n] * audible_mask(x)


@dataclass(frozen=True)
class RandomReverb(Augmentation):
    """Random reverberation: convolution with exponentially decaying noise.

    Args:
        rt60: longest time in which an echo falls by 60 dB, in seconds.
        wet: largest level of the echoes relative to the audio.
        p: probability.
        sample_rate: of the audio, in samples per second.
    """

    rt60: float = 0.3
    wet: float = 0.5
    p: float = 0.5
    sample_rate: int = SAMPLE_RATE

    def __call__(self, x: Tensor) -> Tensor:
        rows = random_rows(x, self.p)
        dry = x[rows]
        if not len(rows):
            return x
        longest = round(self.rt60 * self.sample_rate)
        rt60 = uniform(dry, 0.1 * longest, float(longest), 1, 1, 1)
        time = torch.arange(longest, device=x.device)
        echo = torch.randn(len(dry), 1, 1, longest, device=x.device)
        echo = echo * 10 ** (-3 * time / rt60)
        echo = uniform(dry, 0.0, self.wet, 1, 1, 1) * echo / echo.norm(dim=3, keepdim=True)
        n = x.shape[3] + longest
        wet = torch.fft.irfft(torch.fft.rfft(dry, n) * torch.fft.rfft(echo, n), n)
        out = x.clone()
        out[rows] = (dry + wet[..., : x.shape[3]]) * audible_mask(dry)
        return out


@dataclass(frozen=True)
class TimeStretch(Augmentation):
    """Random change of tempo at the same pitch, keeping the length.

    torchaudio's `TimeStretch` has a fixed rate and works on spectrograms.

    Args:
        max_rate: largest factor by which it is faster or slower.
        sample_rate: of the audio, in samples per second.
    """

    max_rate: float = 1.25
    sample_rate: int = SAMPLE_RATE

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) -> (B, C, 1, T), cut or filled with silence at the end."""
        rate = self.max_rate ** uniform(x, -1.0, 1.0)
        end = audible_mask(x).sum((1, 2, 3)) / rate
        inside = torch.arange(x.shape[3], device=x.device) < end[:, None, None, None]
        return time_stretch(x, rate, n_fft=window_length(self.sample_rate)) * inside


@dataclass(frozen=True)
class PitchShift(Augmentation):
    """Random change of pitch at the same tempo.

    Args:
        n_steps: largest shift up or down, in semitones; torchaudio's is fixed.
        sample_rate: of the audio, in samples per second.
    """

    n_steps: float = 3.0
    sample_rate: int = SAMPLE_RATE

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) -> (B, C, 1, T), by time stretching and then resampling."""
        ratio = 2 ** (uniform(x, -self.n_steps, self.n_steps) / 12)
        n = x.shape[3]
        length = math.ceil(n * 2 ** (self.n_steps / 12)) + 1
        longer = time_stretch(x, 1 / ratio, length, window_length(self.sample_rate))
        time = torch.arange(n, device=x.device) * ratio[:, None]  # (B, T)
        i = time.long()[:, None, None].expand(-1, x.shape[1], 1, -1)
        share = time.frac()[:, None, None]
        resampled = longer.gather(3, i) * (1 - share) + longer.gather(3, i + 1) * share
        return resampled * audible_mask(x)


@dataclass(frozen=True)
class AudioAugment(Augmentation):
    """The default augmentation of audio: equalizer, reverberation, noise and gain.

    It imitates another microphone in another room, which changes no word that is spoken.

    Args:
        p: probability of reverberation.
        sample_rate: of the audio, in samples per second.
    """

    p: float = 0.5
    sample_rate: int = SAMPLE_RATE

    def __call__(self, x: Tensor) -> Tensor:
        reverb = RandomReverb(p=self.p, sample_rate=self.sample_rate)
        steps = [RandomEqualizer(), reverb, WhiteNoise(), RandomGain()]
        return Compose(steps)(x)


def window_length(sample_rate: int) -> int:
    """Samples of the phase vocoder's window: the power of 2 nearest to 64 ms."""
    return int(2 ** round(math.log2(N_FFT * sample_rate / SAMPLE_RATE)))


def time_stretch(
    x: Float[Tensor, "b c 1 t"],
    rate: Float[Tensor, " b"],
    length: int | None = None,
    n_fft: int = N_FFT,
) -> Float[Tensor, "b c 1 length"]:
    """Play `rate` times as fast at the same pitch, by a phase vocoder (Flanagan, Golden 1966).

    Magnitudes are interpolated at the new times; phases advance as fast as in the original.

    Args:
        x: recordings.
        rate: of each.
        length: of the output, in samples; that of the input by default.
        n_fft: length of the window, in samples; windows overlap by three quarters.
    """
    length, hop = length or x.shape[3], n_fft // 4
    flat, rate = x.flatten(0, 2), rate.repeat_interleave(x.shape[1])
    window = torch.hann_window(n_fft, device=x.device)
    spectrum = torch.stft(
        flat, n_fft, hop, window=window, pad_mode="constant", return_complex=True
    )  # (B, F, K)
    frames = spectrum.shape[2]
    time = torch.arange(length // hop + 2, device=x.device) * rate[:, None]  # (B, K')
    i = time.long().clamp(max=frames - 2)[:, None].expand(-1, spectrum.shape[1], -1)
    before, after = spectrum.gather(2, i), spectrum.gather(2, i + 1)
    share = (time[:, None] - i).clamp(max=1)
    magnitude = before.abs() * (1 - share) + after.abs() * share
    magnitude = magnitude * (time[:, None] <= frames - 1)
    center = 2 * math.pi * hop / n_fft * torch.arange(n_fft // 2 + 1, device=x.device)
    extra = after.angle() - before.angle() - center[:, None]
    advance = center[:, None] + extra - 2 * math.pi * (extra / (2 * math.pi)).round()
    start = spectrum[:, :, :1].angle()
    phase = torch.cat([start, start + advance[:, :, :-1].cumsum(2)], 2)
    stretched = torch.istft(torch.polar(magnitude, phase), n_fft, hop, window=window, length=length)
    return stretched.view(*x.shape[:2], 1, length)
