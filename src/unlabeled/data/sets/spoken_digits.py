"""Spoken digits: 3,000 recordings of ten English digits by six speakers, 8 kHz.

Jackson et al., the Free Spoken Digit Dataset, CC BY-SA 4.0. The official test recordings are takes
0 to 4 of every speaker and digit; the other 45 are to train.
"""

import itertools
import re
from pathlib import Path

import numpy as np

from unlabeled.augmentations.audio import AudioAugment
from unlabeled.data.dataset import Splits
from unlabeled.data.readers import audio
from unlabeled.data.readers.download import Origin, find, readable
from unlabeled.data.targets import Classes

ORIGIN = Origin(
    "the Free Spoken Digit Dataset",
    "spoken_digits",
    ("fsdd", "free-spoken-digit-dataset", "free-spoken-digit-dataset/recordings", "recordings"),
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/",
    {"v1.0.10.zip": ""},
)
PACKED = "fsdd_8khz.npz"
RECORDING = re.compile(r"(\d)_([a-z]+)_(\d+)\.wav")
RATE = 8000
LENGTH = 8000
"""Samples that are kept: one second, longer than 995 of 1,000 recordings."""
TEST_TAKES = 5


def load(location: str | None = None) -> Splits:
    """The official split; factors digit, speaker and take.

    Args:
        location: the folder of the recordings, `DIGIT_SPEAKER_TAKE.wav`, or `fsdd_8khz.npz`
            (default: searched for).

    Raises:
        UserError: it is nowhere, or damaged.
    """
    path = find(ORIGIN, location, _look)
    with readable(path, ORIGIN):
        waves, factors, speakers = _packed(path) if path.is_file() else _recordings(path)
    waves = [wave[:LENGTH] for wave in waves]
    samples = audio.from_memory(audio.Recordings(waves, RATE), length=LENGTH)
    samples.factors = factors
    samples.targets = {
        "digit": Classes(tuple(map(str, range(10)))),
        "speaker": Classes(tuple(speakers)),
        "take": Classes(),
    }
    is_test = factors["take"] < TEST_TAKES
    return Splits(
        "spoken_digits" if location is None else f"spoken_digits:{location}",
        samples.take(np.flatnonzero(~is_test)),
        samples.take(np.flatnonzero(is_test)),
        target="digit",
        augment=AudioAugment(),
    )


def _look(location: Path) -> Path | None:
    if location.is_file():
        return location if location.name == PACKED else None
    if (location / PACKED).is_file():
        return location / PACKED
    return location if location.is_dir() and next(location.glob("[0-9]_*_*.wav"), None) else None


def _packed(path: Path) -> tuple[list[np.ndarray], dict[str, np.ndarray], list[str]]:
    with np.load(path, allow_pickle=False) as npz:
        samples, ends = npz["samples"], npz["offsets"].astype(np.int64)
        speakers = npz["speaker_names"].tolist()
        factors = {key: npz[key].astype(np.int64) for key in ("digit", "speaker", "take")}
    waves = [samples[start:end] for start, end in itertools.pairwise(ends)]
    if any(codes.shape != (len(waves),) for codes in factors.values()):
        raise ValueError(f"its labels do not fit its {len(waves):,} recordings")
    return waves, factors, speakers


def _recordings(folder: Path) -> tuple[list[np.ndarray], dict[str, np.ndarray], list[str]]:
    """The authors' files, sorted by speaker, digit and take."""
    read = audio.read(folder, LENGTH, RATE, pieces=False)
    takes = [match.groups() for name in read.names or [] if (match := RECORDING.fullmatch(name))]
    if len(takes) != len(read):
        raise ValueError("some of its files are not called DIGIT_SPEAKER_TAKE.wav")
    speakers = sorted({speaker for _, speaker, _ in takes})
    keys = [(speakers.index(speaker), int(digit), int(take)) for digit, speaker, take in takes]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    waves = list(read.x[np.array(order)][:, 0, 0])
    speaker, digit, take = np.array([keys[row] for row in order]).T
    return waves, {"digit": digit, "speaker": speaker, "take": take}, speakers
