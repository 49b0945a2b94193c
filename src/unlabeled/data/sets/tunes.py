"""Tunes: short melodies, each played by several instruments of a small synthesizer.

Which recordings are of one tune the synthesizer knows; no human labels are in it.
"""

import numpy as np

from unlabeled.augmentations.audio import AudioAugment
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.split import SPLIT_SEED
from unlabeled.data.targets import Classes, Target
from unlabeled.errors import UserError
from unlabeled.modality import Audio

RATE, NOTES, NOTE = 8000, 8, 1600
"""Samples a second, notes of a tune, and samples of each: 0.2 seconds."""
SCALE = np.array([60, 62, 64, 65, 67, 69, 71, 72])
"""C major, as MIDI has it: 69 is 440 Hz."""
TEST_SHARE, HARMONICS = 0.2, 10


def melodies(tunes: int) -> np.ndarray:
    """Notes of each tune as MIDI numbers, (tunes, 8); steps of at most a fourth."""
    rng = np.random.default_rng(SPLIT_SEED)
    location = np.empty((tunes, NOTES), np.int64)
    location[:, 0] = rng.integers(0, len(SCALE), tunes)
    for i in range(1, NOTES):
        moved = location[:, i - 1] + rng.integers(-3, 4, tunes)
        location[:, i] = np.where((moved < 0) | (moved >= len(SCALE)), location[:, i - 1], moved)
    return SCALE[location]


def play(notes: np.ndarray, instrument: int) -> np.ndarray:
    """A tune (8,) on an instrument: float32 (8 · 1600,) in [−1, 1].

    An instrument is the strengths of ten harmonics, how fast a note rises and fades, its vibrato,
    and its breath.
    """
    rng = np.random.default_rng([SPLIT_SEED, instrument])
    strength = rng.gamma(0.7, size=HARMONICS) / np.arange(1, HARMONICS + 1) ** rng.uniform(0, 1.2)
    strength /= strength.sum()
    rise, fade = rng.uniform(0.005, 0.05), rng.uniform(0.05, 1.0)
    depth, speed, breath = rng.uniform(0, 0.006), rng.uniform(4, 7), rng.uniform(0, 0.02)
    time = np.arange(NOTE) / RATE
    shape = np.minimum(1, time / rise) * np.exp(-time / fade) * np.minimum(1, (0.2 - time) / 0.01)
    drift = depth * np.sin(2 * np.pi * speed * time) / (2 * np.pi * speed)
    order = np.arange(1, HARMONICS + 1)[:, None]
    phase = rng.uniform(0, 2 * np.pi, (HARMONICS, 1))
    heard = []
    for note in notes:
        hertz = 440 * 2 ** ((note - 69) / 12)
        below = order * hertz < RATE / 2  # nothing above half the rate
        waves = (
            strength[:, None] * below * np.sin(2 * np.pi * order * hertz * (time + drift) + phase)
        )
        heard.append(shape * (waves.sum(0) + breath * rng.normal(size=NOTE)))
    wave = np.concatenate(heard)
    return (0.8 * wave / np.abs(wave).max()).astype(np.float32)


def load(location: str | None = None, tunes: int = 400, instruments: int = 10) -> Splits:
    """Tunes of 1.6 seconds at 8 kHz; factors tune and instrument.

    A fifth of the tunes, and other instruments than those of the training, are to test: what is
    asked there is to find a tune again on another instrument.

    Args:
        location: there is none; tunes are synthesized.
        tunes: how many.
        instruments: that play each of them; of each part by itself.

    Raises:
        UserError: a location was given, or there are too few tunes.
    """
    if location is not None:
        raise UserError(f"tunes are synthesized; omit ':{location}'")
    if tunes < 10 or instruments < 2:
        raise UserError("give at least ten tunes and two instruments")
    notes, cut = melodies(tunes), round((1 - TEST_SHARE) * tunes)
    parts = []
    for first, last, band in ((0, cut, 0), (cut, tunes, instruments)):
        tune, instrument = (
            codes.ravel()
            for codes in np.meshgrid(
                np.arange(first, last), np.arange(band, band + instruments), indexing="ij"
            )
        )
        x = np.stack([play(notes[t], int(i)) for t, i in zip(tune, instrument, strict=True)])
        factors = {"tune": tune, "instrument": instrument}
        targets: dict[str, Target] = {"tune": Classes(), "instrument": Classes()}
        modality = Audio(RATE, x.shape[1])
        parts.append(Samples(x[:, None, None], factors, targets=targets, modality=modality))
    return Splits("tunes", parts[0], parts[1], "tune", augment=AudioAugment())
