"""Pictures in files: folders, tar shards (WebDataset), Parquet and Arrow tables.

They are decoded once, by worker processes, into the cache. What cannot be read is counted, listed
and left out.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import tarfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path, PurePosixPath
from typing import Any

import joblib
import numpy as np

from unlabeled.datasets import cache, folders
from unlabeled.datasets.base import Pictures, Samples
from unlabeled.datasets.folders import Listing
from unlabeled.decoding import (
    HEIF_IS_READ,
    Chunk,
    Files,
    Header,
    Held,
    Members,
    decode,
    look,
    reader,
)
from unlabeled.errors import Notice, UserError
from unlabeled.files import write_json

ENDINGS = {
    *(".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".jp2"),
    *(".apng", ".jfif", ".jfi", ".jif", ".jpe", ".dib", ".j2k", ".jpx", ".jpf", ".j2c"),
}
HEIF = (".heic", ".heif", ".hif")
"""Read where pillow-heif is installed."""
TABLES = (".parquet", ".arrow", ".feather")
COLUMNS = ("image", "img", "picture", "jpg", "png", "webp", "bytes", "content")
LARGEST = 96
"""Pixels of a side, unless the user says otherwise: what two cores learn from in good time."""
CHUNK = 64
LABEL = 4_000
"""Bytes of a label file that are read; of a caption in a tar, too."""
FEW = 512
"""Pictures that are not worth starting processes for."""
VERSION = 4
"""Of the decoding; another one decodes anew."""


@dataclass
class Source:
    """Where pictures are: tasks for the workers, and what tells this content from another."""

    names: list[str]  #: of all pictures, in order
    stamps: list[tuple[Any, ...]]  #: path, size and times of change of every file
    chunks: Callable[[], Iterator[Chunk]]
    labels: Callable[[str], list[str] | None]  #: by the name of a column or ending
    others: list[str] = field(default_factory=list)  #: names of files that are no images
    listing: Listing = field(default_factory=Listing)  #: of the folder

    @property
    def stamp(self) -> str:
        """A hash of what is there, of its names, and of the way it is decoded."""
        known = json.dumps([VERSION, *reader(), self.stamps, self.names])
        return hashlib.sha256(known.encode()).hexdigest()


def read(
    path: Path,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    *,
    labels_from: Any = None,
    workers: int | None = None,
    beside: tuple[str, ...] = (),
    stored: str | None = None,
    files: list[str] | None = None,
) -> Samples:
    """All pictures of a folder, of tar shards or of tables, in the order of their names.

    Grey if all of them are, else red, green, blue; 16-bit if all are 16-bit grey. TIFFs of floats,
    of 16-bit colors or of other numbers of channels stay what they are where all are alike; of
    several kinds the commonest is read and the others are left out. Transparent
    pictures are laid on white, EXIF rotation is applied. Without `size`, they become squares of the
    median of their shorter sides, at most 96 pixels, cropped at the centre.

    Args:
        path: a folder (searched to any depth), or one `.tar`, `.parquet`, `.arrow` or `.feather`.
        channels: 1 or 3, whatever the files have; or another number, which they must have.
        size: height and width.
        labels_from: "folders" (the first folder of a name), a `.csv` of names and labels, an array
            or `.npy` in the order of the names, the column of a table, or the ending of a label
            file in a tar (`cls`).
        workers: processes that decode; as many as there are cores unless given.
        beside: endings of files that the caller reads, so that they do not count as left out.
        stored: what numbers an encoder learned from: uint8, mask, uint16 or float32.
        files: the images to read, by their paths in the folder or whole paths; all unless given.

    Raises:
        UserError: there are no pictures, none can be read, or labels do not fit.
    """
    source = _source(path) if files is None else _listed(path, files)
    names = source.names
    others = folders.unread(source.others, path, labels_from, beside)
    if not names:
        folders.say_left_out(path, 0, "image", others, source.listing)
        raise UserError(
            f"{path} holds no pictures ({', '.join(sorted(ENDINGS))}), tar shards or tables; "
            "give a folder that does"
        )
    folders.say_links(source.listing, path)
    folders.say_left_out(path, len(names), "image", others, source.listing)
    workers = 1 if len(names) <= FEW else workers or joblib.cpu_count()
    looked = _looked(source, workers)
    if not looked:
        raise UserError(
            f"none of the {len(names):,} pictures in {path} can be read; the first, {names[0]}, "
            f"is {look(next(source.chunks()))[0]}"
        )
    channels, kind = _form(looked["forms"], channels, stored, path)
    if size is None:
        side = min(LARGEST, int(looked["median_side"]))
        size = side, side
        low, high = looked["sides"]
        if low != high or side < low:
            _tell(
                f"pictures of {low} to {high} px a side are all fitted to {side}×{side}; "
                "choose with --size"
            )
    if kind == "u1" and looked["forms"].get("1u2"):
        _tell("16-bit pictures are read as 8-bit ones, so only their high byte is taken")
    if kind == "u1" and looked["cut"]:
        _tell(
            f"{looked['cut']:,} color images of 16 bits are read with 8; to keep all, save them as "
            "TIFF and pip install 'unlabeled[tiff]'"
        )
    if looked["pages"]:
        _tell(f"{looked['pages']:,} pictures have several pages or frames; the first is taken")
    entry = _entry(source, channels, size, kind, workers)
    if entry is None:
        why = decode(next(source.chunks()), channels, size, kind)[1][0]
        raise UserError(
            f"none of the {len(names):,} pictures in {path} can be read; the first, {names[0]}, "
            f"is {why}"
        )
    _tell_skipped(entry, len(names))
    samples = Samples(Pictures(entry.pixels), names=entry.names)
    if labels_from is None:
        return samples
    from unlabeled.datasets.labels import attach

    return attach(samples, labels_from, entry.kept, names, source.labels)


def decoded(contents: list[bytes], channels: int, size: tuple[int, int], path: Path) -> np.ndarray:
    """Pictures of a known data set that were read already, decoded once into the cache.

    Args:
        contents: the N files, all of them whole.
        channels: 1 or 3.
        size: height and width.
        path: where they come from.

    Returns:
        uint8 (N, channels, *size), mapped into memory.

    Raises:
        UserError: one cannot be read.
    """
    names = [str(row) for row in range(len(contents))]
    source = Source(
        names,
        [(hashlib.sha256(b"".join(contents)).hexdigest(), *map(len, contents))],
        lambda: map(Held, _parts(names), _parts(contents)),
        lambda _: None,
    )
    workers = 1 if len(names) <= FEW else joblib.cpu_count()
    entry = _entry(source, channels, size, "u1", workers)
    if entry is None or entry.skipped:
        number = len(entry.skipped) if entry else len(names)
        raise UserError(
            f"{number:,} of the {len(names):,} pictures in {path} are damaged; "
            "copy or download it again"
        )
    return entry.pixels


def _form(
    forms: dict[str, int], channels: int | None, stored: str | None, path: Path
) -> tuple[int, str]:
    """Number of channels and kind of number that pictures are read as, by how many are of each."""
    usual = {form: n for form, n in forms.items() if form in ("1u1", "3u1", "1u2")}
    other = {form: n for form, n in forms.items() if form not in usual}
    if channels is not None:
        other = {form: n for form, n in other.items() if int(form[:-2]) == channels}
    if sum(usual.values()) >= max(other.values(), default=0) and channels in (None, 1, 3):
        grey = "3u1" not in usual if channels is None else channels == 1
        deep = grey and "1u1" not in usual and stored not in ("uint8", "mask")
        return (1 if grey else 3), "u2" if deep else "u1"
    if not other:
        known = ", ".join(f"{form[:-2]} of {np.dtype(form[-2:])}" for form in forms)
        raise UserError(
            f"the images in {path} have other channels ({known}) than the {channels} that are "
            "needed; convert them, or train an encoder on images like these"
        )
    form = max(other, key=lambda form: other[form])
    return int(form[:-2]), form[-2:]


def _entry(
    source: Source, channels: int, size: tuple[int, int], kind: str, workers: int
) -> cache.Entry | None:
    """The decoded pictures in the cache, put there if need be; None where none can be read."""
    key = f"{source.stamp[:24]}-{channels}x{size[0]}x{size[1]}-{kind}"
    if entry := cache.find(key):
        return entry
    parts = _mapped(decode, source, workers, "decoding", channels, size, kind)
    expected = len(source.names) * channels * size[0] * size[1] * np.dtype(kind).itemsize
    return cache.make(key, source.names, parts, expected)


def _source(path: Path) -> Source:
    root = path if path.is_dir() else path.parent
    shards, pictures = [path.name], []
    listing = Listing()
    if path.is_dir():
        listing = folders.walk(path)
        there = sorted([*listing.names, *listing.broken])
        pictures = folders.of_kind(
            there, _endings(), folders.is_image, lambda name: folders.head(path / name)
        )
        shards = [p for p in listing.names if p.lower().endswith((".tar", *TABLES))]
        listing.broken = sorted({*listing.broken} - {*pictures})  # decoding says so of these
    kinds = {"pictures": pictures, "tar": [p for p in shards if p.lower().endswith(".tar")]}
    kinds["tables"] = [p for p in shards if not p.lower().endswith(".tar")]
    if sum(map(bool, kinds.values())) > 1:
        told = ", ".join(f"{len(held):,} {kind}" for kind, held in kinds.items() if held)
        raise UserError(f"{path} holds {told} at once; give a folder with one kind of them")
    others = sorted({*listing.names} - {*pictures, *shards})
    if pictures:
        source = _listed(root, pictures)
    else:
        source = _tars(root, kinds["tar"]) if kinds["tar"] else _tables(root, kinds["tables"])
    listing.special += source.listing.special
    source.others, source.listing = [*others, *source.others], listing
    return source


def _endings() -> set[str]:
    return ENDINGS | set(HEIF) if HEIF_IS_READ else ENDINGS


def _listed(root: Path, files: list[str]) -> Source:
    return Source(
        files,
        [_stamp(root / file) for file in files],
        lambda: (Files(str(root), part) for part in _parts(files)),
        lambda _: None,
    )


def _parts(names: list[Any]) -> Iterator[tuple[Any, ...]]:
    return (tuple(names[start : start + CHUNK]) for start in range(0, len(names), CHUNK))


def _stamp(path: Path) -> tuple[Any, ...]:
    try:
        known = path.stat()
    except OSError:  # a link that leads nowhere; decoding will say so
        return (str(path.absolute()),)
    return str(path.absolute()), known.st_size, known.st_mtime_ns, known.st_ctime_ns


Place = tuple[int, int]
"""First byte in a file, and number of bytes."""


def _tars(root: Path, shards: list[str]) -> Source:
    """WebDataset: files of one stem belong together, `0001.jpg` and `0001.cls`."""
    pictures: list[tuple[str, str, Place]] = []  # shard, name in it, place
    others: dict[tuple[str, str, str], Place] = {}  # shard, stem, ending
    links: list[str] = []
    for shard in shards:
        try:
            with tarfile.open(root / shard, "r:") as tar:
                places: dict[str, Place] = {}
                for member in tar:
                    name, last = member.name, Path(member.name).name
                    if member.isdir() or last.startswith((".", "__MACOSX")):
                        continue
                    place = member.offset_data, member.size
                    if member.islnk() and member.linkname in places:  # stored once
                        place = places[member.linkname]
                    elif not member.isfile():
                        links.append(name)
                        continue
                    places[name] = place
                    if folders.of_kind([name], _endings(), folders.is_image, _head(tar, place)):
                        pictures.append((shard, name, place))
                    else:
                        stem, ending = _stem(name)
                        others[shard, stem, ending] = place
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(
                f"{root / shard} cannot be read as an uncompressed tar: {error}; unpack or copy "
                "it again"
            ) from error

    def chunks() -> Iterator[Chunk]:
        for shard, held in groupby(pictures, lambda picture: picture[0]):
            for part in _parts(list(held)):
                _, names, places = zip(*part, strict=True)
                yield Members(str(root / shard), names, places)

    def labels(ending: str) -> list[str] | None:
        endings = sorted({ending for _, _, ending in others})
        if ending not in endings:
            told = f"beside its pictures are {', '.join(endings)}" if endings else "it has no files"
            raise UserError(f"there are no labels '{ending}' in this data; {told}")
        found = []
        for shard, held in groupby(pictures, lambda picture: picture[0]):
            with (root / shard).open("rb") as file:
                for _, name, _ in held:
                    place = others.get((shard, _stem(name)[0], ending))
                    file.seek(place[0] if place else 0)
                    told = file.read(min(place[1], LABEL) if place else 0)
                    found.append(told.decode(errors="ignore").strip())
        return found if any(found) else None

    named = [name if len(shards) == 1 else f"{shard}/{name}" for shard, name, _ in pictures]
    left = [f"{stem}.{ending}" if ending else stem for _, stem, ending in others]
    stamps = [_stamp(root / shard) for shard in shards]
    return Source(named, stamps, chunks, labels, left, Listing(special=links))


def _head(tar: tarfile.TarFile, place: Place) -> Callable[[str], bytes]:
    """Reads the first bytes of a member; the archive goes on where it was."""

    def read(_: str) -> bytes:
        assert tar.fileobj
        tar.fileobj.seek(place[0])
        return tar.fileobj.read(min(32, place[1]))

    return read


def _stem(member: str) -> tuple[str, str]:
    """`./a/0001.seg.png` -> (`./a/0001`, `seg.png`)."""
    folder, slash, name = member.rpartition("/")
    stem, _, ending = name.partition(".")
    return folder + slash + stem, ending


def _tables(root: Path, tables: list[str]) -> Source:
    """Parquet or Arrow with a column of encoded pictures, or of paths to them, absolute or from the
    table's folder; rows are read as they are needed.
    """
    names: list[str] = []
    columns: dict[str, str] = {}
    schemas: dict[str, list[str]] = {}
    lengths: dict[str, int] = {}
    stamps: list[tuple[Any, ...]] = []
    for table in tables:
        with _readable(root / table):
            schema, rows = _schema(root / table)
            columns[table] = column = _picture_column(root / table, schema)
            folder = (root / table).parent
            paths = [
                _file(folder, c) for held in _paths(root / table, column, schema) for c in held
            ]
        stamps += [_stamp(root / table), *(_stamp(path) for path in paths if path)]
        schemas[table], lengths[table] = schema.names, rows
        names += [f"{table}#{row}" for row in range(rows)]

    def cells(pick: Callable[[str], str]) -> Iterator[tuple[str, list[Any]]]:
        for table in tables:
            if not pick(table):  # such as labels of a test part
                yield table, [None] * lengths[table]
                continue
            with _readable(root / table):
                for batch in _batches(root / table, pick(table)):
                    yield table, batch.column(0).to_pylist()

    def chunks() -> Iterator[Chunk]:
        ordered = iter(names)
        for table, held in cells(columns.__getitem__):
            folder = (root / table).parent
            contents = tuple(_content(folder, cell) for cell in held)
            yield Held(tuple(islice(ordered, len(contents))), contents)

    def labels(column: str) -> list[str] | None:
        known = dict.fromkeys(name for names in schemas.values() for name in names)
        if column not in known:
            raise UserError(
                f"there are no labels '{column}' in this data; its columns are {', '.join(known)}"
            )
        found = cells(lambda table: column if column in schemas[table] else "")
        return ["" if cell is None else str(cell) for _, held in found for cell in held]

    return Source(names, stamps, chunks, labels)


def _content(folder: Path, cell: Any) -> bytes | Path:
    """Of a cell the encoded picture, or the file that it names; nothing where it has neither."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if isinstance(content, bytes) and content:
        return content
    return _file(folder, cell.get("path") if isinstance(cell, dict) else cell) or b""


def _file(folder: Path, path: Any) -> Path | None:
    """A file named in a table of that folder, whichever slashes it was written with."""
    if not isinstance(path, str) or not path:
        return None
    there = folder / path
    return there if there.exists() else folder / path.replace("\\", "/")


def _paths(table: Path, column: str, schema: Any) -> Iterator[list[Any]]:
    """The paths in the column of pictures, some at a time; none where it holds bytes alone."""
    import pyarrow.types as t

    kind = schema.field(column).type
    if t.is_struct(kind) and any(field.name == "path" for field in kind):
        cells = (batch.column(0) for batch in _batches(table, column, "path"))
        yield from (
            c.field("path").to_pylist() if t.is_struct(c.type) else c.to_pylist() for c in cells
        )
    elif t.is_string(kind) or t.is_large_string(kind):
        yield from (batch.column(0).to_pylist() for batch in _batches(table, column))


@contextmanager
def _readable(table: Path) -> Iterator[None]:
    """What a damaged table brings up, in one sentence."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, KeyError, OSError) as error:
        why = str(error).partition(". ")[0]
        raise UserError(f"{table} cannot be read as a table: {why}; copy it again") from error


def _schema(table: Path) -> tuple[Any, int]:
    """Columns, and number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if table.suffix.lower() == ".parquet":
        with pq.ParquetFile(table) as file:
            return file.schema_arrow, file.metadata.num_rows
    batches = _arrow_batches(table)
    return batches[0].schema if batches else pa.schema([]), sum(map(len, batches))


def _batches(table: Path, column: str, part: str = "") -> Iterator[Any]:
    """One column, some rows at a time; of Parquet that part of its structs only."""
    import pyarrow.parquet as pq

    if table.suffix.lower() == ".parquet":
        with pq.ParquetFile(table) as file:
            yield from file.iter_batches(CHUNK, columns=[f"{column}.{part}" if part else column])
        return
    for batch in _arrow_batches(table):
        for start in range(0, len(batch), CHUNK):
            yield batch.select([column]).slice(start, CHUNK)


def _arrow_batches(table: Path) -> list[Any]:
    """Of an Arrow file or stream, mapped into memory."""
    import pyarrow as pa

    source = pa.memory_map(str(table))
    try:
        file = pa.ipc.open_file(source)
        return [file.get_batch(i) for i in range(file.num_record_batches)]
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all().to_batches()


def _picture_column(path: Path, schema: Any) -> str:
    """The column of encoded pictures: bytes, or a struct of bytes or a path as Hugging Face writes
    it; else one of texts whose first ends as pictures do.
    """
    import pyarrow.types as t

    def holds(kind: Any) -> bool:
        if t.is_struct(kind):
            return any(
                (f.name == "bytes" and holds(f.type)) or (f.name == "path" and is_text(f.type))
                for f in kind
            )
        return t.is_binary(kind) or t.is_large_binary(kind)

    def is_text(kind: Any) -> bool:
        return t.is_string(kind) or t.is_large_string(kind)

    def names_files(column: str) -> bool:
        first = next((c for b in _batches(path, column) for c in b.column(0).to_pylist() if c), "")
        return PurePosixPath(first).suffix.lower() in ENDINGS

    fitting = [field.name for field in schema if holds(field.type)]
    fitting = fitting or [f.name for f in schema if is_text(f.type) and names_files(f.name)]
    if not fitting:
        raise UserError(
            f"{path} has no column of encoded pictures among {', '.join(schema.names) or 'none'}; "
            "give one of bytes, of structs with a field 'bytes' or 'path', or of paths"
        )
    return next((name for name in COLUMNS if name in fitting), fitting[0])


def _looked(source: Source, workers: int) -> dict[str, Any] | None:
    """What the headers say of all pictures together, kept in the cache; None if none has one."""
    path = cache.folder() / f"{source.stamp[:24]}.json"
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
        "forms": dict(Counter(f"{header.channels}{header.kind}" for header in headers)),
        "cut": sum(header.cut for header in headers),
        "pages": sum(header.pages for header in headers),
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

    jobs = (joblib.delayed(task)(chunk, *arguments) for chunk in source.chunks())
    results = joblib.Parallel(n_jobs=workers, return_as="generator")(jobs)
    total = len(source.names)
    quiet = not sys.stderr.isatty()
    tasks = -(-total // CHUNK)
    with Progress(console=Console(stderr=True), transient=True, disable=quiet) as bar:
        shown = bar.add_task(f"{verb} {total:,} pictures", total=tasks)
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
