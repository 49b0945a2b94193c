"""Pictures in files: folders, tar shards (WebDataset), Parquet and Arrow tables.

They are decoded once, by worker processes, into the cache. What cannot be read is counted, listed
and left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import sys
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import joblib

from unlabeled.datasets import cache
from unlabeled.datasets.base import Pictures, Samples
from unlabeled.decoding import (
    Cells,
    Chunk,
    Files,
    Header,
    Members,
    arrow_batches,
    decode,
    look,
    read_column,
)
from unlabeled.errors import Notice, UserError
from unlabeled.files import write_json

ENDINGS = {
    *(".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".jp2"),
}
TABLES = (".parquet", ".arrow", ".feather")
COLUMNS = ("image", "img", "picture", "jpg", "png", "webp", "bytes", "content")
LARGEST = 96
"""Pixels of a side, unless the user says otherwise: what two cores learn from in good time."""
CHUNK = 64
FEW = 512
"""Pictures that are not worth starting processes for."""
VERSION = 1
"""Of the decoding; another one decodes anew."""


@dataclass
class Source:
    """Where pictures are: tasks for the workers, and what tells this content from another."""

    chunks: list[Chunk]
    stamps: list[tuple[Any, ...]]  #: path, size and time of change of every file
    labels: Callable[[str], list[str] | None]  #: by the name of a column or ending

    @property
    def names(self) -> list[str]:
        """Of all pictures, in order."""
        return [name for chunk in self.chunks for name in chunk.names]


def read(
    path: Path,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    *,
    labels_from: Any = None,
    workers: int | None = None,
) -> Samples:
    """All pictures of a folder, of tar shards or of tables, in the order of their names.

    Grey if all of them are, else red, green, blue; 16-bit if all are 16-bit grey. Transparent
    pictures are laid on white, EXIF rotation is applied. Without `size`, they become squares of the
    median of their shorter sides, at most 96 pixels, cropped at the centre.

    Args:
        path: a folder (searched to any depth), or one `.tar`, `.parquet`, `.arrow` or `.feather`.
        channels: 1 or 3, whatever the files have.
        size: height and width.
        labels_from: "folders" (the first folder of a name), a `.csv` of names and labels, an array
            or `.npy` in the order of the names, the column of a table, or the ending of a label
            file in a tar (`cls`).
        workers: processes that decode; as many as there are cores unless given.

    Raises:
        UserError: there are no pictures, none can be read, or labels do not fit.
    """
    if channels not in (None, 1, 3):
        raise UserError(
            f"pictures in files have 1 or 3 channels, but {channels} are needed; give an array"
        )
    source = _source(path)
    names = source.names
    if not names:
        raise UserError(
            f"{path} holds no pictures ({', '.join(sorted(ENDINGS))}), tar shards or tables; "
            "give a folder that does"
        )
    workers = 1 if len(names) <= FEW else workers or joblib.cpu_count()
    stamp = hashlib.sha256(json.dumps([VERSION, source.stamps, len(names)]).encode()).hexdigest()
    looked = _looked(stamp, source, workers)
    if not looked:
        raise UserError(
            f"none of the {len(names):,} pictures in {path} can be read; the first, {names[0]}, "
            f"is {look(source.chunks[0])[0]}"
        )
    if channels is None:
        channels = 1 if looked["grey"] else 3
    if size is None:
        side = min(LARGEST, int(looked["median_side"]))
        size = side, side
        low, high = looked["sides"]
        if low != high or side < low:
            _tell(
                f"pictures of {low} to {high} px a side are all fitted to {side}×{side}; "
                "choose with --size"
            )
    deep = channels == 1 and looked["deep"]
    key = f"{stamp[:24]}-{channels}x{size[0]}x{size[1]}{'-16bit' if deep else ''}"
    entry = cache.find(key)
    if entry is None:
        parts = _mapped(decode, source, workers, "decoding", channels, size, deep)
        expected = len(names) * channels * size[0] * size[1] * (2 if deep else 1)
        entry = cache.make(key, names, parts, expected)
    if entry is None:
        raise UserError(f"none of the {len(names):,} pictures in {path} can be read")
    _tell_skipped(entry, len(names))
    samples = Samples(Pictures(entry.pixels), names=entry.names)
    if labels_from is None:
        return samples
    from unlabeled.datasets.labels import attach

    return attach(samples, labels_from, entry.kept, names, source.labels)


def _source(path: Path) -> Source:
    if path.is_dir():
        found = sorted(_walk(path))
        pictures = [p for p in found if Path(p).suffix.lower() in ENDINGS]
        if pictures:
            chunks: list[Chunk] = [Files(str(path), part) for part in _parts(pictures)]
            return Source(chunks, [_stamp(path / p) for p in pictures], lambda _: None)
        shards = [path / p for p in found if p.endswith((".tar", *TABLES))]
    else:
        shards = [path]
    tars = [p for p in shards if p.suffix == ".tar"]
    if tars:
        indexed = [_index_tar(p) for p in tars]
        return Source(
            [chunk for chunks, _ in indexed for chunk in chunks],
            [_stamp(p) for p in tars],
            lambda ending: _beside(indexed, ending),
        )
    tables = [_index_table(p) for p in shards if p.suffix in TABLES]
    return Source(
        [chunk for chunks in tables for chunk in chunks],
        [_stamp(p) for p in shards],
        lambda column: _column(list(chain.from_iterable(tables)), column),
    )


def _walk(folder: Path) -> Iterator[str]:
    """Files below a folder, as relative paths; hidden ones are left alone."""
    for place, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith((".", "__MACOSX"))]
        inner = Path(place).relative_to(folder)
        yield from ((inner / name).as_posix() for name in files if not name.startswith("."))


def _parts(names: list[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(names), CHUNK):
        yield tuple(names[start : start + CHUNK])


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        known = path.stat()
    except OSError:  # a link that leads nowhere; decoding will say so
        return str(path.absolute()), 0, 0
    return str(path.absolute()), known.st_size, known.st_mtime_ns


def _index_tar(path: Path) -> tuple[list[Chunk], dict[tuple[str, str], tuple[int, int]]]:
    """Tasks for the pictures of a shard, and the place of every other file by (stem, ending)."""
    pictures, others = [], {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                place = member.offset_data, member.size
                stem, _, ending = member.name.partition(".")
                if not member.isfile() or Path(member.name).name.startswith("."):
                    continue
                if Path(member.name).suffix.lower() in ENDINGS:
                    pictures.append((member.name, place))
                else:
                    others[stem, ending] = place
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(
            f"{path} cannot be read as an uncompressed tar: {error}; unpack or copy it again"
        ) from error
    chunks: list[Chunk] = []
    for start in range(0, len(pictures), CHUNK):
        names, places = zip(*pictures[start : start + CHUNK], strict=True)
        chunks.append(Members(str(path), names, places))
    return chunks, others


def _beside(indexed: list[Any], ending: str) -> list[str] | None:
    """The content of `stem.ending` for every picture `stem.jpg`; None where one has none."""
    found = []
    for chunks, others in indexed:
        for chunk in chunks:
            with Path(chunk.tar).open("rb") as file:
                for name in chunk.names:
                    place = others.get((name.partition(".")[0], ending))
                    if place is None:
                        return None
                    file.seek(place[0])
                    found.append(file.read(min(place[1], 1000)).decode(errors="replace").strip())
    return found


def _index_table(path: Path) -> list[Chunk]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        else:
            with pa.memory_map(str(path)) as source:
                batches = arrow_batches(source)
                schema = batches[0].schema if batches else pa.schema([])
                groups = [len(batch) for batch in batches]
    except (pa.ArrowException, OSError) as error:
        why = str(error).partition(". ")[0]
        raise UserError(f"{path} cannot be read as a table: {why}; copy it again") from error
    column = _picture_column(path, schema)
    chunks: list[Chunk] = []
    first = 0
    for group, rows in enumerate(groups):
        names = tuple(f"{path.name}#{row}" for row in range(first, first + rows))
        chunks.append(Cells(str(path), names, column, group))
        first += rows
    return chunks


def _picture_column(path: Path, schema: Any) -> str:
    """The column of encoded pictures: bytes, or a struct with them as Hugging Face writes it."""
    import pyarrow.types as t

    def holds(kind: Any) -> bool:
        if t.is_struct(kind):
            return any(f.name == "bytes" and holds(f.type) for f in kind)
        return t.is_binary(kind) or t.is_large_binary(kind)

    fitting = [field.name for field in schema if holds(field.type)]
    if not fitting:
        raise UserError(
            f"{path} has no column of encoded pictures among {', '.join(schema.names) or 'none'}; "
            "give one of bytes, or of structs with a field 'bytes'"
        )
    return next((name for name in COLUMNS if name in fitting), fitting[0])


def _column(chunks: list[Any], column: str) -> list[str] | None:
    try:
        cells = [read_column(Path(c.table), column, c.group) for c in chunks]
    except (KeyError, IndexError):
        return None
    return [str(cell) for part in cells for cell in part]


def _looked(stamp: str, source: Source, workers: int) -> dict[str, Any] | None:
    """What the headers say of all pictures together, kept in the cache; None if none has one."""
    path = cache.folder() / f"{stamp[:24]}.json"
    if path.is_file():
        try:
            return dict(json.loads(path.read_text()))
        except ValueError:
            path.unlink()
    headers = [
        header
        for part in _mapped(look, source, workers, "looking at")
        for header in part
        if isinstance(header, Header)
    ]
    if not headers:
        return None
    sides = [side for header in headers for side in header.size]
    looked = {
        "grey": all(header.grey for header in headers),
        "deep": all(header.deep for header in headers),
        "sides": [min(sides), max(sides)],
        "median_side": statistics.median_low([min(header.size) for header in headers]),
    }
    write_json(path, looked)
    return looked


def _mapped(
    task: Callable[..., Any], source: Source, workers: int, verb: str, *arguments: Any
) -> Iterator[Any]:
    """The task's results on all chunks, in order, by worker processes, with a bar."""
    from rich.console import Console
    from rich.progress import Progress

    jobs = (joblib.delayed(task)(chunk, *arguments) for chunk in source.chunks)
    results = joblib.Parallel(n_jobs=workers, return_as="generator")(jobs)
    total = len(source.names)
    quiet = not sys.stderr.isatty()
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bar:
        shown = bar.add_task(f"{verb} {total:,} pictures", total=len(source.chunks))
        for result in results:
            yield result
            bar.advance(shown)


def _tell_skipped(entry: cache.Entry, total: int) -> None:
    if entry.skipped:
        reasons = Counter(reason.partition(":")[0] for reason in entry.skipped.values())
        counted = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())
        first = ", ".join(list(entry.skipped)[:3])
        _tell(
            f"{len(entry.skipped):,} of {total:,} pictures are left out ({counted}), such as "
            f"{first}; all are listed in {entry.path / 'skipped.csv'}"
        )


def _tell(what: str) -> None:
    warnings.warn(what, Notice, stacklevel=2)
