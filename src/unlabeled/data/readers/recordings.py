"""Decode recordings, once, into pieces of equal length on disk.

They are not read where they are: most formats cannot be entered at any sample without decoding what
is before, and resampling would be repeated in every epoch.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np

from unlabeled.data.readers.progress import mapped
from unlabeled.errors import UserError

BLOCK = 1 << 20
"""Samples that are decoded at once."""
TASK = 600.0
"""Seconds of audio that one task of a worker decodes at least, where files are shorter."""
OPPOSITE = 0.01
"""Energy of a mix relative to its channels, below which they cancel each other out (-20 dB)."""
DEEP = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
"""Kinds of numbers that 16 bits do not hold; they are kept as float32."""


class Head(NamedTuple):
    """What is known of a recording before it is decoded."""

    rate: int
    seconds: float
    deep: bool


@dataclass
class Report:
    """What became of a recording.

    Args:
        error: why it cannot be read, or nothing.
        pieces: number of its pieces.
        dropped: seconds at its end that fill no piece.
        clipped: number of samples beyond ±1 that were clipped.
        opposite: whether its channels cancel each other out, so that the first one is taken.
    """

    error: str = ""
    pieces: int = 0
    dropped: float = 0.0
    clipped: int = 0
    opposite: bool = False


def soundfile() -> Any:
    """The library that decodes.

    Raises:
        UserError: it is not installed.
    """
    try:
        import soundfile as library
    except ModuleNotFoundError as error:
        raise UserError("reading audio needs soundfile: pip install 'unlabeled[audio]'") from error
    return library


def look(paths: Sequence[Path]) -> list[Head | str]:
    """The head of each recording, or why it has none."""
    library = soundfile()
    heads: list[Head | str] = []
    for path in paths:
        try:
            with library.SoundFile(path) as file:
                seconds = file.frames / file.samplerate
                head = Head(int(file.samplerate), seconds, file.subtype in DEEP)
                heads.append(head if file.frames else "it is empty")
        except (library.SoundFileError, ValueError) as error:
            heads.append(str(error).rstrip("."))
    return heads


def decode(
    paths: Sequence[Path],
    heads: Sequence[Head],
    aside: Path,
    form: tuple[int, int, str, bool],
    workers: int,
) -> list[Report]:
    """Write the pieces of all recordings, in order, to `aside/pieces.bin`.

    Args:
        paths: of the recordings.
        heads: of each.
        aside: a folder.
        form: sample rate, length of a piece in samples, numpy's kind of number, and whether all of
            a recording is cut into pieces, or only its beginning is one.
        workers: processes that decode.
    """
    seconds = np.cumsum([min(head.seconds, TASK) for head in heads])
    tasks = np.split(np.arange(len(paths)), np.flatnonzero(np.diff(seconds // TASK)) + 1)
    workers = 1 if seconds[-1] < TASK else workers
    jobs = (
        joblib.delayed(_decode)([paths[row] for row in rows], aside / f"{number}.part", form)
        for number, rows in enumerate(tasks)
    )
    reports = []
    with (aside / "pieces.bin").open("wb") as whole:
        done = mapped(jobs, len(tasks), f"decoding {len(paths):,} recordings", workers)
        for number, part in enumerate(done):
            with (aside / f"{number}.part").open("rb") as file:
                shutil.copyfileobj(file, whole)
            (aside / f"{number}.part").unlink()
            reports += [Report(**report) for report in part]
    return reports


def _decode(
    paths: Sequence[Path], target: Path, form: tuple[int, int, str, bool]
) -> list[dict[str, Any]]:
    library, reports = soundfile(), []
    with target.open("wb") as out:
        for path in paths:
            start, report = out.tell(), Report()
            try:
                with library.SoundFile(path) as file:
                    _write_pieces(file, out, form, report)
            except (library.SoundFileError, UserError, ValueError) as error:
                out.seek(start)
                out.truncate()
                report = Report(str(error).rstrip("."))
            reports.append(asdict(report))
    return reports


def _write_pieces(file: Any, out: Any, form: tuple[int, int, str, bool], report: Report) -> None:
    rate, length, kind, several = form
    rest = np.zeros(0, np.float32)
    for wave in blocks(file, rate, report):
        rest = np.concatenate([rest, wave])
        number = len(rest) // length if several else min(1, len(rest) // length)
        out.write(_as(kind, rest[: number * length], report).tobytes())
        report.pieces += number
        rest = rest[number * length :]
        if report.pieces and not several:
            return
    if not report.pieces and not len(rest):
        raise ValueError("it is empty")
    if report.pieces:
        report.dropped = len(rest) / rate
    else:
        out.write(_as(kind, np.pad(rest, (0, length - len(rest))), report).tobytes())
        report.pieces = 1


def _as(kind: str, wave: np.ndarray, report: Report) -> np.ndarray:
    if np.dtype(kind).kind == "f":
        return wave.astype(kind)
    report.clipped += int((np.abs(wave) > 1).sum())
    return (wave * 32768).round().clip(-32768, 32767).astype(kind)


def blocks(file: Any, rate: int, report: Report) -> Iterator[np.ndarray]:
    """A recording as one channel at a sample rate, block by block, as if resampled at once."""
    from scipy.signal import resample_poly

    common = int(np.gcd(file.samplerate, rate))
    up, down = rate // common, file.samplerate // common
    if up == down:
        yield from _mono_blocks(file, report)
        return
    # Half of resample_poly's filter, in whole steps of `down` samples, of which each gives `up`.
    margin = down * (-(-10 * max(up, down) // (up * down)) + 1)
    buffer, left = np.zeros(0, np.float32), 0
    for wave in _mono_blocks(file, report):
        buffer = np.concatenate([buffer, wave])
        usable = (len(buffer) - margin) // down * down
        if usable <= left:
            continue
        yield _resampled(resample_poly, buffer, up, down)[left * up // down : usable * up // down]
        start = max(0, usable - margin)
        buffer, left = buffer[start:], usable - start
    yield _resampled(resample_poly, buffer, up, down)[left * up // down :]


def _resampled(resample_poly: Any, wave: np.ndarray, up: int, down: int) -> np.ndarray:
    return resample_poly(wave, up, down).astype(np.float32)


def _mono_blocks(file: Any, report: Report) -> Iterator[np.ndarray]:
    """Blocks mixed to one channel; the first audible one shows whether channels cancel out."""
    known = file.channels == 1
    while len(wave := file.read(BLOCK, dtype="float32", always_2d=True)):
        if not np.isfinite(wave).all():
            raise ValueError("it contains NaN or infinite values")
        if not known and wave.any():
            known, report.opposite = True, cancels(wave)
        yield wave[:, 0] if report.opposite else wave.mean(1)


def cancels(wave: np.ndarray) -> bool:
    """Whether the mix of channels (T, C) has next to none of their energy."""
    energy = float(np.square(wave, dtype=np.float64).mean())
    return float(np.square(wave.mean(1), dtype=np.float64).mean()) < OPPOSITE * energy
