"""Digits seen and heard: scikit-learn's images with the Free Spoken Digit Dataset.

Image and recording of a pair show the same digit; labels are not used in training. Speakers and
images of the test part do not occur in the training part.
"""

import numpy as np

from unlabeled.augmentations import RandomAffine, RandomCrop
from unlabeled.data.dataset import Samples, Splits, resize
from unlabeled.data.sets import spoken_digits
from unlabeled.data.targets import Classes
from unlabeled.modality import Images, Pairs

HELD_OUT = (4, 5)
"""Speakers of the test part."""
TEST_SHARE = 0.2
SOUNDS = 8
"""Number of recordings paired with each training image; test images have one."""
BANDS, FRAMES = 32, 32
SIDE = 16
"""Side of the images, enlarged from 8×8 so that encoders have maps to pool."""
WINDOW, SECONDS = 256, 0.7


def load(location: str | None = None) -> Splits:
    """Images (N, 1, 16, 16) with spectrograms (N, recordings, 32, 32) of bytes as partners.

    Args:
        location: of the recordings, as `spoken_digits` takes it (default: searched for).

    Raises:
        UserError: it is nowhere, or damaged.
    """
    from sklearn.datasets import load_digits

    sounds, spoken, speaker = recordings(location)
    images, digit = load_digits(return_X_y=True)
    x = (images / 16 * 255).round().astype(np.uint8).reshape(-1, 1, 8, 8)
    x = resize(x, (SIDE, SIDE))
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    cut = round(TEST_SHARE * len(x))
    heard = np.isin(speaker, HELD_OUT)

    def part(rows: np.ndarray, voices: np.ndarray, number: int) -> Samples:
        drawn = np.empty((len(rows), number), int)
        for d in range(10):
            here = digit[rows] == d
            pool = np.flatnonzero(voices & (spoken == d))
            drawn[here] = rng.choice(pool, (here.sum(), number))
        return Samples(
            x[rows],
            {"digit": digit[rows].astype(np.int64)},
            targets={"digit": Classes(tuple(map(str, range(10))))},
            modality=Pairs(Images(1, (SIDE, SIDE)), Images(1, (BANDS, FRAMES))),
            partners=sounds[drawn],
        )

    return Splits(
        "audiovisual_digits" if location is None else f"audiovisual_digits:{location}",
        part(order[cut:], ~heard, SOUNDS),
        part(order[:cut], heard, 1),
        target="digit",
        augment=RandomAffine(
            degrees=15.0, translate=0.1, scale=(0.9, 1.1), interpolation="bilinear"
        ),
        augment_labeled=RandomCrop(1),
    )


def recordings(location: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spectrograms (N, 32, 32) uint8, digits (N,) and speakers (N,)."""
    splits = spoken_digits.load(location)
    parts = (splits.train, splits.test)
    sounds = [spectrogram(wave[0, 0], spoken_digits.RATE) for part in parts for wave in part.x[:]]
    digit, speaker = (
        np.concatenate([part.factors[factor] for part in parts]) for factor in ("digit", "speaker")
    )
    return np.stack(sounds), digit, speaker


def spectrogram(sound: np.ndarray, rate: int) -> np.ndarray:
    """Loudness in bands of equal width on the mel scale over time, in bytes: (32, 32).

    The loudest part of `SECONDS` seconds; 60 dB below the loudest band is 0.
    """
    long = int(SECONDS * rate)
    x = np.pad(sound.astype(np.float64), (0, max(0, long - len(sound))))
    energy = np.cumsum(np.concatenate([[0.0], x**2]))
    first = int(np.argmax(energy[long:] - energy[:-long]))
    x = np.pad(x[first : first + long], WINDOW // 2)
    starts = np.linspace(0, long, FRAMES).astype(int)
    frames = np.stack([x[s : s + WINDOW] for s in starts]) * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames)) ** 2  # (frames, bins)
    bands = np.log10(power @ filters(rate) + 1e-9).T  # (bands, frames)
    return (255 * ((bands - bands.max()) / 6 + 1).clip(0, 1)).round().astype(np.uint8)


def filters(rate: int) -> np.ndarray:
    """Triangles over the bins, of equal width on the mel scale: (bins, bands)."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, rate / 2, WINDOW // 2 + 1)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    return np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clip(0)
