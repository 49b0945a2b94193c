"""Mel spectra and cepstra of audio, the baselines of learned features."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from unlabeled.data.readers.audio import lengths
from unlabeled.errors import UserError

Kind = Literal["mfcc", "mfcc and deltas", "mel"]
CEPSTRA, BANDS = 20, 40


class Spectral(nn.Module):
    """Mean and standard deviation over frames of a recording: (B, C, 1, T) -> (B, dim), by librosa.

    Frames of 32 ms every 10 ms of what comes before the digital silence at the end.

    Args:
        rate: samples a second.
        kind: 20 mel cepstral coefficients (Davis, Mermelstein 1980), these with their first and
            second differences in time, or 40 mel bands in decibel.

    Raises:
        UserError: librosa is not installed.
    """

    def __init__(self, rate: int, kind: Kind = "mfcc") -> None:
        super().__init__()
        try:
            import librosa
        except ModuleNotFoundError as error:
            raise UserError("mel and MFCC need librosa: pip install 'unlabeled[audio]'") from error
        self.librosa: Any = librosa
        self.rate, self.kind = rate, kind
        self.dim = 2 * {"mfcc": CEPSTRA, "mfcc and deltas": 3 * CEPSTRA, "mel": BANDS}[kind]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 1, T) -> (B, dim)."""
        waves = x.mean(1)[:, 0].cpu().numpy()
        window = round(0.032 * self.rate)
        waves = np.pad(waves, ((0, 0), (0, max(0, window - waves.shape[1]))))
        ends = np.maximum(lengths(waves), window)
        rows = [self._frames(wave[:end]) for wave, end in zip(waves, ends, strict=True)]
        statistics = [np.concatenate([f.mean(1), f.std(1)]) for f in rows]  # each (C, T') before
        return torch.from_numpy(np.stack(statistics).astype(np.float32)).to(x.device)

    def _frames(self, wave: np.ndarray) -> np.ndarray:
        """(T,) -> (C, T')."""
        feature = self.librosa.feature
        options: dict[str, Any] = {
            "y": wave,
            "sr": self.rate,
            "n_fft": round(0.032 * self.rate),
            "hop_length": round(0.01 * self.rate),
            "n_mels": BANDS,
        }
        if self.kind == "mel":
            return self.librosa.power_to_db(feature.melspectrogram(**options))
        coefficients = feature.mfcc(n_mfcc=CEPSTRA, **options)
        if self.kind == "mfcc":
            return coefficients
        # for very few frames, the differences are those of a line
        mode = "interp" if coefficients.shape[1] >= 9 else "nearest"
        changes = [feature.delta(coefficients, order=order, mode=mode) for order in (1, 2)]
        return np.concatenate([coefficients, *changes])
