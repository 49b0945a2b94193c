"""Read audio: folders of recordings, and arrays with their sample rate.

Recordings are float32 (N, 1, 1, T) in [−1, 1]; shorter ones end in zeros.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unlabeled.data.dataset import Samples
from unlabeled.data.readers import folders, source
from unlabeled.data.readers.folders import Listing
from unlabeled.data.readers.labels import add, attach
from unlabeled.errors import UserError, notice
from unlabeled.modality import Audio

ENDINGS = {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"),
    *(".wave", ".aifc", ".snd", ".w64", ".rf64", ".mp2", ".sph", ".nist"),
}
SECONDS = 4.0
"""Seconds of each recording that are used, from its beginning."""
HIGHEST = 16_000
"""Maximum sample rate; recordings in files are resampled to it."""
RATES = (1_000, 192_000)


class Recordings(NamedTuple):
    """Recordings in memory; integers are divided by the largest value of their type."""

    waves: Any  #: (N, T), or N arrays (T,) or (T, channels); channels are averaged
    rate: int  #: samples per second
    labels: Any = None  #: one for each recording, or None


def is_folder_of_audio(path: Path, listing: Listing) -> bool:
    """Whether most files of a known kind among those listed of a folder are recordings."""
    from unlabeled.data.readers import images

    names = listing.names
    known = {*images.ENDINGS, *source.HEIF, ".tar", *images.TABLES}
    other = sum(kind in known for kind in map(folders.ending, names))
    return len(_recordings(path, names)) > other


def _recordings(path: Path, names: list[str]) -> list[str]:
    return folders.of_kind(names, ENDINGS, folders.is_audio, lambda name: folders.head(path / name))


def from_memory(
    data: Recordings, labels: Any = None, length: int | None = None, rate: int | None = None
) -> Samples:
    """Recordings in memory.

    Args:
        data: the recordings.
        labels: one for each recording, instead of `data.labels`.
        length: of the recordings in samples (default: that of the longest).
        rate: sample rate to resample to (default: not resampled).

    Raises:
        UserError: they are no recordings, or hold NaN.
    """
    own = int(data.rate)
    if not RATES[0] <= own <= RATES[1]:
        raise UserError(f"a rate of {own} samples a second is none; give one from 1000 to 192000")
    waves = [_resampled(_mono(wave), own, rate or own) for wave in data.waves]
    if not waves or not all(map(len, waves)):
        raise UserError("there are no recordings, or empty ones; give at least one sample of each")
    samples = _padded(waves, rate or own, length)
    labels = data.labels if labels is None else labels
    if labels is None:
        return samples
    y = np.asarray(labels)
    if y.shape != (len(waves),):
        raise UserError(
            f"{len(waves)} recordings have labels of shape {y.shape}; give one label per recording"
        )
    add(samples, {"label": y})
    return samples


def from_arrays(content: Any, path: Path) -> Recordings | None:
    """The recordings of an `.npz` that holds a `rate`; None where it holds none.

    They are called `x` or `waves`, their labels `y` or `labels`.
    """
    rate = next((content[k] for k in ("rate", "sample_rate") if k in content), None)
    if rate is None:
        return None
    waves = next((content[k] for k in ("x", "waves") if k in content), None)
    if waves is None or waves.ndim != 2 or rate.size != 1:
        raise UserError(f"{path} has a rate, but no recordings x (N, T); name them so")
    labels = next((content[k] for k in ("y", "labels") if k in content), None)
    return Recordings(waves, int(rate.reshape(())), labels)


def read(
    path: Path,
    length: int | None = None,
    rate: int | None = None,
    labels_from: Any = None,
    listing: Listing | None = None,
) -> Samples:
    """Read all recordings of a folder, in the order of their names, mixed to one channel.

    Args:
        path: the folder, searched to any depth.
        length: of the recordings in samples (default: of the longest, at most four seconds).
        rate: sample rate to resample to (default: the most common one, at most 16,000).
        labels_from: as for images: "folders", a `.csv` of names and labels, or an array.
        listing: what to read of the folder (default: all that is in it).

    Raises:
        UserError: none can be read, or soundfile is not installed.
    """
    try:
        import soundfile
    except ModuleNotFoundError as error:
        raise UserError("reading audio needs soundfile: pip install 'unlabeled[audio]'") from error
    listing = listing or folders.walk(path)
    names = _recordings(path, sorted([*listing.names, *listing.broken]))
    listing.broken = sorted({*listing.broken} - {*names})  # reading says so of these
    folders.say_links(listing, path)
    others = folders.unread({*listing.names} - {*names}, path, labels_from)
    folders.say_left_out(path, len(names), "audio file", others, listing)
    waves, rates, kept, skipped, cut = [], [], [], [], 0
    for row, name in enumerate(names):
        try:
            with soundfile.SoundFile(path / name) as file:
                seconds = SECONDS if length is None or rate is None else length / rate
                frames = int(np.ceil(file.samplerate * seconds))
                wave = _mono(file.read(frames, dtype="float32"))
                if not len(wave):
                    raise ValueError("it is empty")
                cut += file.frames > frames
                waves.append(wave)
                rates.append(int(file.samplerate))
                kept.append(row)
        except (soundfile.SoundFileError, UserError, ValueError) as error:
            skipped.append(f"{name} ({str(error).rstrip('.')})")
    if not waves:
        why = f"; the first: {skipped[0]}" if skipped else ""
        raise UserError(f"none of the {len(names):,} recordings in {path} can be read{why}")
    if skipped:
        message = f"{len(skipped):,} of {len(names):,} recordings cannot be read and are left out"
        notice(f"{message}: {', '.join(skipped[:3])}")
    if cut and length is None:
        message = f"{cut:,} of {len(names):,} recordings are longer than {SECONDS:g} seconds"
        notice(f"{message}: their beginning is kept; cut them for more")
    goal = rate or min(HIGHEST, Counter(rates).most_common(1)[0][0])
    waves = [_resampled(wave, own, goal) for wave, own in zip(waves, rates, strict=True)]
    samples = _padded(waves, goal, length)
    samples.names = [names[row] for row in kept]
    if labels_from is None:
        return samples
    return attach(samples, labels_from, np.array(kept), names, lambda _: None)


def fitted(x: np.ndarray, length: int) -> np.ndarray:
    """Cut recordings (N, 1, 1, T) to a length, or pad them with zeros at the end."""
    x = x[..., :length]
    return np.pad(x, ((0, 0), (0, 0), (0, 0), (0, length - x.shape[3])))


def lengths(x: np.ndarray) -> np.ndarray:
    """Length of each recording (N, 1, 1, T) without the zeros at its end, (N,)."""
    nonzero = x.reshape(len(x), -1) != 0
    return np.where(nonzero.any(1), nonzero.shape[1] - nonzero[:, ::-1].argmax(1), 0)


def _mono(wave: Any) -> np.ndarray:
    """(T,) or (T, channels) of any number type -> (T,) float32."""
    wave = np.asarray(wave)
    if wave.dtype.kind not in "iuf" or wave.ndim not in (1, 2):
        raise UserError(
            f"a recording is (T,) or (T, channels) numbers, not {wave.dtype} "
            f"{wave.shape}; convert it"
        )
    if wave.dtype.kind == "u":
        raise UserError("recordings of unsigned numbers are ambiguous; give int16 or floats")
    scale = 1 if wave.dtype.kind == "f" else -float(np.iinfo(wave.dtype).min)
    wave = (wave / scale).astype(np.float32)
    if not np.isfinite(wave).all():
        raise UserError("a recording contains NaN or infinite values; remove or replace them")
    return wave if wave.ndim == 1 else wave.mean(1)


def _resampled(wave: np.ndarray, rate: int, goal: int) -> np.ndarray:
    if rate == goal:
        return wave
    from scipy.signal import resample_poly

    common = int(np.gcd(rate, goal))
    return resample_poly(wave, goal // common, rate // common).astype(np.float32)


def _padded(waves: Sequence[np.ndarray], rate: int, length: int | None) -> Samples:
    """Recordings of equal length, shorter ones padded with zeros at the end."""
    length = length or max(map(len, waves))
    x = np.zeros((len(waves), 1, 1, length), np.float32)
    for row, wave in enumerate(waves):
        x[row, 0, 0, : len(wave)] = wave[:length]
    return Samples(x, modality=Audio(rate, length))
