"""Decode recordings, once, into pieces of equal length on disk.

Most formats cannot be decoded from an arbitrary sample on, and resampling would be repeated in
every epoch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np

from unlabeled.data.readers.progress import joined
from unlabeled.errors import UserError

BLOCK = 1 << 20
"""Samples that are decoded at once."""
TASK = 600.0
"""Minimum seconds of audio that one task of a worker decodes, if files are shorter."""
OPPOSITE = 0.01
"""Relative energy of a mix below which its channels cancel each other out (-20 dB)."""
DEEP = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")
"""Sample formats of more than 16 bits, which are stored as float32."""


class Head(NamedTuple):
    """Header of a recording, which is read before it is decoded."""

    rate: int
    seconds: float
    deep: bool


@dataclass
class Report:
    """Result of decoding a recording.

    Args:
        error: reason why it cannot be read, or "".
        pieces: number of its pieces.
        dropped: remaining seconds at its end, shorter than a piece.
        clipped: number of samples beyond ±1 that were clipped.
        opposite: whether its channels cancel each other out, so that the first one is taken.
    """

    error: str = ""
    pieces: int = 0
    dropped: float = 0.0
    clipped: int = 0
    opposite: bool = False


def soundfile() -> Any:
    """The library soundfile, which decodes audio.

    Raises:
        UserError: it is not installed.
    """
    try:
        import soundfile as library
    except ModuleNotFoundError as error:
        raise UserError("reading audio needs soundfile: pip install 'unlabeled[audio]'") from error
    return library


def look(paths: Sequence[Path]) -> list[Head | str]:
    """The header of each recording, or the reason why it cannot be read."""
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
        heads: their headers.
        aside: the output folder.
        form: sample rate, length of a piece in samples, numpy's number type, and whether a
            recording is cut into all its pieces, or only the first.
        workers: processes that decode.
    """
    seconds = np.cumsum([min(head.seconds, TASK) for head in heads])
    tasks = np.split(np.arange(len(paths)), np.flatnonzero(np.diff(seconds // TASK)) + 1)
    workers = 1 if seconds[-1] < TASK else workers
    jobs = (
        joblib.delayed(_decode)([paths[row] for row in rows], aside / f"{number}.part", form)
        for number, rows in enumerate(tasks)
    )
    title = f"decoding {len(paths):,} recordings"
    parts = joined(jobs, len(tasks), title, workers, aside / "pieces.bin")
    return [Report(**report) for part in parts for report in part]


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
    """Read a recording as one channel at a sample rate, block by block, as if resampled at once."""
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
    """Whether the mix of channels (T, C) has almost none of their energy."""
    energy = float(np.square(wave, dtype=np.float64).mean())
    return float(np.square(wave.mean(1), dtype=np.float64).mean()) < OPPOSITE * energy
