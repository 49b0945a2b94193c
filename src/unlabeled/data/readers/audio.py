"""Read audio: folders of recordings, and arrays with their sample rate.

Recordings are float32 (N, 1, 1, T) in [−1, 1]; shorter ones end in zeros.
"""

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch

from unlabeled.data.dataset import LazyImages, Samples
from unlabeled.data.disk import DiskArray
from unlabeled.data.readers import cache, folders, recordings, source
from unlabeled.data.readers.folders import Listing
from unlabeled.data.readers.labels import add, attach
from unlabeled.data.readers.progress import mapped
from unlabeled.data.readers.recordings import Report
from unlabeled.data.readers.source import CHUNK, stamp
from unlabeled.errors import UserError, notice
from unlabeled.modality import Audio
from unlabeled.utils.files import write_json

ENDINGS = {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf"),
    *(".wave", ".aifc", ".snd", ".w64", ".rf64", ".mp2", ".sph", ".nist"),
}
SECONDS = 4.0
"""Seconds of a piece; longer recordings are cut."""
FEW = 8
"""Number of chunks up to which their headers are read in this process."""
IN_MEMORY = 64 << 20
"""Maximum bytes of decoded recordings that are held in memory; more stay on disk."""
HIGHEST = 16_000
"""Maximum sample rate; recordings in files are resampled to it."""
RATES = (1_000, 192_000)


class Recordings(NamedTuple):
    """Recordings in memory; integers are divided by the largest value of their type."""

    waves: Any  #: (N, T), or N arrays (T,) or (T, channels); channels are averaged
    rate: int  #: samples per second
    labels: Any = None  #: one for each recording, or None


def is_folder_of_audio(path: Path, listing: Listing) -> bool:
    """Whether most of the listed files of a known kind are audio."""
    from unlabeled.data.readers import images

    names = listing.names
    known = {*images.ENDINGS, *source.HEIF, ".tar", *images.TABLES}
    other = sum(kind in known for kind in map(folders.ending, names))
    return len(_recordings(path, names)) > other


def _recordings(path: Path, names: list[str]) -> list[str]:
    return folders.of_kind(names, ENDINGS, folders.is_audio, lambda name: folders.head(path / name))


def as_recordings(data: Any, rate: int) -> Any:
    """Arrays (N, T) or (N, 1, 1, T), or a list of recordings, with labels or without, as
    `Recordings`; other data as it is.
    """
    is_pair = isinstance(data, tuple) and not isinstance(data, Recordings) and len(data) == 2
    waves, y = data if is_pair else (data, None)
    if isinstance(waves, list):
        return Recordings(waves, rate, y)
    if isinstance(waves, np.ndarray | torch.Tensor) and waves.ndim in (2, 4):
        return Recordings(waves.reshape(len(waves), -1), rate, y)
    return data


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
        UserError: they are not audio, or contain NaN.
    """
    own = int(data.rate)
    if not RATES[0] <= own <= RATES[1]:
        raise UserError(f"a sample rate of {own} is out of range; give one from 1000 to 192000")
    opposite = [row for row, wave in enumerate(data.waves) if _cancels(wave)]
    waves = [_resampled(_mono(wave), own, rate or own) for wave in data.waves]
    if opposite:
        notice(_opposite(len(opposite), len(waves), f"number {opposite[0] + 1}"))
    if not waves or not all(map(len, waves)):
        raise UserError("there are no recordings, or empty ones; give at least one sample of each")
    if length:
        _say_cut(sum(len(wave) > length for wave in waves), len(waves), length / (rate or own))
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
    """The recordings of an `.npz` that has a `rate`; None if it has none.

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
    *,
    pieces: bool = True,
    workers: int | None = None,
) -> Samples:
    """Read all recordings of a folder, in the order of their names, mixed to one channel.

    Recordings longer than a piece are cut into pieces, each a sample with the labels of its
    recording, named "a.wav#t=4,8" for seconds 4 to 8. The pieces of a recording are a group, so
    that a split never separates them. A remainder at the end is dropped and reported. Recordings
    are decoded once, into the cache; large data stays there and is read when needed.

    Args:
        path: the folder, searched to any depth.
        length: of the pieces in samples (default: that of the longest recording, at most four
            seconds).
        rate: sample rate to resample to (default: the most common one, at most 16,000).
        labels_from: as for images: "folders", a `.csv` of names and labels, or an array.
        listing: files to read (default: all files of the folder).
        pieces: whether all pieces of a recording are read, or only the first.
        workers: processes that decode (default: one for each core).

    Raises:
        UserError: none can be read, or soundfile is not installed.
    """
    recordings.soundfile()
    listing = listing or folders.walk(path)
    names = _recordings(path, sorted([*listing.names, *listing.broken]))
    listing.broken = sorted({*listing.broken} - {*names})  # reading reports these
    folders.say_links(listing, path)
    others = folders.unread({*listing.names} - {*names}, path, labels_from)
    folders.say_left_out(path, len(names), "audio file", others, listing)
    workers = workers or joblib.cpu_count()
    headers = _headers(path, names, workers)
    heads = {name: head for name, head in headers.items() if not isinstance(head, str)}
    errors = {name: error for name, error in headers.items() if isinstance(error, str)}
    if not heads:
        raise _none_read(path, names, errors)
    rates = Counter(head.rate for head in heads.values())
    goal = rate or min(HIGHEST, rates.most_common(1)[0][0])
    longest = max(head.seconds for head in heads.values())
    length = length or max(1, math.ceil(min(SECONDS, longest) * goal))
    kind = "<f4" if any(head.deep for head in heads.values()) else "<i2"
    form = goal, length, kind, pieces

    def fill(aside: Path) -> bool:
        paths = [path / name for name in heads]
        reports = recordings.decode(paths, list(heads.values()), aside, form, workers)
        content = [asdict(report) for report in reports]
        write_json(aside / "index.json", dict(zip(heads, content, strict=True)), indent=None)
        return True

    def load(folder: Path) -> tuple[dict[str, Report], DiskArray]:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        reports = {name: Report(**report) for name, report in index.items()}
        rows = sum(report.pieces for report in reports.values())
        return reports, DiskArray(folder / "pieces.bin", kind, (rows, 1, 1, length))

    stamps = [[name, *stamp(path / name)] for name in heads]
    key = hashlib.sha256(json.dumps([1, form, stamps]).encode()).hexdigest()[:24]
    seconds = sum(head.seconds for head in heads.values())
    expected = int(seconds * goal) * np.dtype(kind).itemsize if pieces else 0
    reports, waves = cache.get_or_build(
        f"audio-{key}", fill, load, expected, f"recordings of {path}"
    )
    errors |= {name: report.error for name, report in reports.items() if report.error}
    reports = {name: report for name, report in reports.items() if not report.error}
    if not reports:
        raise _none_read(path, names, errors)
    if errors:
        message = f"{len(errors):,} of {len(names):,} recordings cannot be read and are left out"
        examples = [f"{name} ({error})" for name, error in list(errors.items())[:3]]
        notice(f"{message}: {', '.join(examples)}")
    _say(reports, length / goal)
    x = LazyImages(waves, convert=_as_float, dtype=np.float32)  # type: ignore[arg-type]
    modality = Audio(goal, length)
    number = [report.pieces for report in reports.values()]
    first = np.cumsum(number) - number
    samples = Samples(x.take(first), names=list(reports), modality=modality)
    if labels_from is not None:
        rows = {name: row for row, name in enumerate(names)}
        rows_read = np.array([rows[name] for name in reports])
        samples = attach(samples, labels_from, rows_read, names, lambda _: None)
    samples = samples.take(np.repeat(np.arange(len(number)), number))
    samples.x = x if waves.nbytes > IN_MEMORY else x[:]
    if max(number) > 1:
        samples.groups = np.array(samples.names)
        samples.names = [
            f"{name}#t={i * length / goal:g},{(i + 1) * length / goal:g}" if n > 1 else name
            for name, n in zip(reports, number, strict=True)
            for i in range(n)
        ]
    return samples


def _headers(path: Path, names: list[str], workers: int) -> dict[str, recordings.Head | str]:
    """Sample rate, length and depth of each recording, or why it cannot be read."""
    chunks = [names[at : at + CHUNK] for at in range(0, len(names), CHUNK)]
    jobs = (joblib.delayed(recordings.look)([path / name for name in chunk]) for chunk in chunks)
    title = f"looking at {len(names):,} recordings"
    looked = mapped(jobs, len(chunks), title, 1 if len(chunks) < FEW else workers)
    return dict(zip(names, itertools.chain.from_iterable(looked), strict=True))


def recordings_of(samples: Samples) -> bool:
    """Whether the groups of samples are just the recordings that they were cut from."""
    if samples.groups is None or not samples.names:
        return False
    return [name.partition("#t=")[0] for name in samples.names] == samples.groups.tolist()


def _none_read(path: Path, names: list[str], errors: dict[str, str]) -> UserError:
    first = next((f"{name} ({error})" for name, error in errors.items()), "")
    why = f"; the first: {first}" if first else ""
    return UserError(f"none of the {len(names):,} recordings in {path} can be read{why}")


def _say(reports: dict[str, Report], seconds: float) -> None:
    """Notices of recordings that were cut, shortened, clipped, or read from one channel."""
    cut = [report for report in reports.values() if report.pieces > 1]
    ends = [report.dropped for report in reports.values() if report.dropped]
    if cut:
        notice(
            f"{len(cut):,} of {len(reports):,} recordings are longer than {seconds:g} seconds and "
            f"are cut into {sum(report.pieces for report in cut):,} pieces"
        )
    if ends:
        notice(
            f"the ends of {len(ends):,} recordings fill no piece of {seconds:g} seconds and are "
            f"left out, {sum(ends):,.1f} seconds in all"
        )
    if opposite := [name for name, report in reports.items() if report.opposite]:
        notice(_opposite(len(opposite), len(reports), opposite[0]))
    if clipped := sum(report.clipped for report in reports.values()):
        notice(f"{clipped:,} samples beyond the range of 16 bits are clipped")


def _opposite(number: int, total: int, first: str) -> str:
    return (
        f"the channels of {number:,} of {total:,} recordings, such as {first}, cancel each other "
        "out when mixed, so their first channel is taken"
    )


def _say_cut(number: int, total: int, seconds: float) -> None:
    if number:
        notice(
            f"{number:,} of {total:,} recordings are longer than {seconds:g} seconds and are cut "
            "to these; their ends are left out"
        )


def _as_float(x: np.ndarray) -> np.ndarray:
    return x / np.float32(32768) if x.dtype.kind == "i" else x.astype(np.float32)


def fitted(x: np.ndarray, length: int, rate: int) -> np.ndarray:
    """Cut recordings (N, 1, 1, T) to a length, or pad them with zeros at the end.

    A notice counts those that are cut.
    """
    if len(x) and length < x.shape[3]:
        _say_cut(int((lengths(x) > length).sum()), len(x), length / rate)
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
    if wave.ndim == 2 and 0 < len(wave) < wave.shape[1]:
        raise UserError(
            f"a recording of shape {wave.shape} is {len(wave):,} samples of {wave.shape[1]:,} "
            "channels; give (T, channels), its transpose"
        )
    scale = 1 if wave.dtype.kind == "f" else -float(np.iinfo(wave.dtype).min)
    wave = (wave / scale).astype(np.float32)
    if not np.isfinite(wave).all():
        raise UserError("a recording contains NaN or infinite values; remove or replace them")
    if wave.ndim == 1:
        return wave
    return wave[:, 0] if recordings.cancels(wave) else wave.mean(1)


def _cancels(wave: Any) -> bool:
    wave = np.asarray(wave)
    return wave.ndim == 2 and wave.dtype.kind in "if" and wave.any() and recordings.cancels(wave)


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
