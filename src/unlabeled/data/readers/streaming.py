"""Images in remote shards: tar (WebDataset) and Parquet, by fsspec.

webdataset keeps no state within an epoch; mosaicml-streaming and litdata resume within one, but
only on shards in their own formats. Here a resumed run must give the same bytes from plain tar and
Parquet, so this is fsspec, pyarrow and an index of each shard: once the images of every shard are
counted, the order of an epoch is a function of its seed (`streamed.StreamedImages`).
"""

import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import joblib
import numpy as np

from unlabeled.data.dataset import LazyImages, Samples
from unlabeled.data.readers import cache, labels
from unlabeled.data.readers.decoding import Part, look
from unlabeled.data.readers.images import form as common_form
from unlabeled.data.readers.images import say_kind, summary
from unlabeled.data.readers.parts import Opening
from unlabeled.data.readers.remote import REQUESTS, SHARDS, RemoteFiles, ending, get_or_build
from unlabeled.data.readers.source import CHUNK, LABEL
from unlabeled.data.readers.streamed import Shard, StreamedImages
from unlabeled.data.readers.tables import content_of, image_column, readable
from unlabeled.data.readers.tars import say_torn, scan, stem
from unlabeled.errors import UserError, notice, plural, suggest
from unlabeled.utils.files import locked, write_json
from unlabeled.utils.progress import track

T = TypeVar("T")
VERSION = 1
"""Version of the cached form of a shard; shards of other versions are copied again."""
SHUFFLED, SHUFFLED_BYTES = 16, 4e9
"""Maximum number of shards, and of their bytes, whose images are shuffled together."""
LOOKED_AT = 256
"""Number of images of the first shard whose headers are read."""
DOWNLOADS = 4
"""Maximum number of shards that are copied in parallel."""
COUNTS = ("sizes.json", "_info.json")
"""Files that may list the number of samples of each tar shard."""


class Counted(NamedTuple):
    """Content of a shard, known before it is copied."""

    number: int  #: of images
    torn: str  #: why it is truncated; "" if it is complete
    labels: list[str] | None  #: of its images, if requested


def read(
    pattern: str,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    labels_from: Any = None,
    workers: int | None = None,
    dtype: str | None = None,
    opening: Opening = Opening(),  # noqa: B008  it is frozen
) -> Samples:
    """Open images that are copied shard by shard when needed, and decoded on the fly.

    Args:
        pattern: address of tar or Parquet files, with braces or wildcards, or of their folder.
        channels: 1 or 3, to which images are converted; or another number, which they must have.
        size: height and width (default: the median of the shorter sides of the first images, at
            most `opening.largest`).
        labels_from: ending of label files in the tars (`cls`), column of the tables, or an array or
            `.npy` in the order of the shards.
        workers: number of threads that decode (default: one for each core).
        dtype: data type that an encoder was trained on: uint8, mask, uint16 or float32.
        opening: limits on the sizes of images and samples.

    Raises:
        UserError: there are no readable images, or tiles are requested.
    """
    files = RemoteFiles(pattern)
    by_name = _check_shards(files, pattern, labels_from)
    counted = _counts(files, by_name)
    torn = {name: c.torn for name, c in zip(files.names, counted, strict=True) if c.torn}
    counts = np.array([c.number for c in counted], np.int64)
    if not counts.any():
        why = next(iter(torn.values()), "they hold none")
        raise UserError(f"there are no images in {pattern} ({why}); only images are streamed")
    say_torn(torn, len(files))
    contents, names = _copied(files, int(np.flatnonzero(counts)[0]), _first)
    heads = look([Part(content, max_pixels=opening.max_pixels) for content in contents])
    looked = summary(heads, names)
    if looked is None:
        raise UserError(
            f"none of the first {len(names):,} images in {pattern} can be read (the first is "
            f"{heads[0]}); save them again"
        )
    if opening.tile and looked["sides"][1] > opening.tile:
        raise UserError(
            f"--tile cuts images in files on this disk, not those in {pattern}; download them, or "
            "write tiles into the shards"
        )
    channels, kind = common_form(looked, channels, dtype, pattern)
    say_kind(looked, kind)
    if size is None:
        side = min(opening.largest, int(looked["median_side"]))
        size = side, side
        low, high = looked["sides"]
        if low != high or side < low:
            notice(f"batches have images of {side}×{side}; choose with --size")
    window = min(SHUFFLED_BYTES, cache.limit() / 3) / max(1.0, files.mean_size)
    window = max(1, min(SHUFFLED, len(files), int(window)))
    x = StreamedImages(
        lambda number: _copied(files, number, Shard),
        files.names,
        counts,
        window,
        channels,
        size,
        kind,
        workers or joblib.cpu_count(),
        _downloads(files),
        opening.max_pixels,
    )
    notice(
        f"{plural(len(files), 'shard')}{_bytes(files)} with {len(x):,} images are streamed: "
        "decoded whenever they are read, random crops taken from the full-size images, shuffled "
        f"among {plural(window, 'shard')} at a time; the cache keeps at most "
        f"{cache.limit() / 1e9:g} GB (UNLABELED_CACHE_GB)"
    )
    samples = Samples(LazyImages(x))
    samples.modality = replace(samples.modality, **opening.of_modality)
    if labels_from is None:
        return samples
    all_labels = [label for c in counted for label in c.labels or []]
    return labels.attach(
        samples, labels_from, np.arange(len(x)), [""] * len(x), lambda _: all_labels or None
    )


def _check_shards(files: RemoteFiles, pattern: str, labels_from: Any) -> str:
    """Column or ending that labels are read from, or "" for an array or none.

    Raises:
        UserError: the files are no shards of one kind, or the labels elsewhere.
    """
    kinds = {ending(name) for name in files.names}
    if len(kinds) != 1 or not kinds <= set(SHARDS):
        named = ", ".join(sorted(kinds)) or "nothing"
        raise UserError(
            f"'{pattern}' names {named}, but only images in .tar or in .parquet are streamed, of "
            "one kind at a time; download other data and give its folder"
        )
    member = str(labels_from) if isinstance(labels_from, str | Path) else ""
    if member == "folders" or labels.as_table(member)[0]:
        raise UserError(
            f"labels of streamed images are a column of the tables, the ending of files in the "
            f"tars (cls) or an array, not '{member}'; give one of those"
        )
    return "" if member.endswith(".npy") else member


def _bytes(files: RemoteFiles, number: int | None = None) -> str:
    """Approximate bytes of that many files (default: all), for messages."""
    total = files.mean_size * (len(files) if number is None else number)
    many = f"{total / 1e9:,.1f} GB" if total >= 1e9 else f"{total / 1e6:,.1f} MB"
    return f" ({many})" if total else ""


def _downloads(files: RemoteFiles) -> int:
    """Number of shards that are copied in parallel and fit the cache."""
    return max(1, min(DOWNLOADS, int(cache.limit() / 3 / max(1.0, files.mean_size))))


def _index(folder: Path) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((folder / "index.json").read_text())
    return index


def _first(folder: Path) -> tuple[list[bytes], list[str]]:
    """The first encoded images of a shard, and their names."""
    index, shard = _index(folder), Shard(folder)
    names = index["names"][:LOOKED_AT]
    return [shard.image(number) for number in range(len(names))], names


def _counts(files: RemoteFiles, labels_from: str) -> list[Counted]:
    """Number of images of each shard, and their labels; cached.

    They are read from footers of tables and from files beside tars; other tars are read once.
    """
    is_tar = ending(files.names[0]) == ".tar"
    if is_tar and not labels_from and (known := _stated(files)):
        return known
    key = files.stamp("counts", VERSION, labels_from)
    record, counted = cache.folder() / f"stream-{key}.jsonl", dict[int, Counted]()
    with locked(record.with_suffix(".lock")):
        if record.is_file():
            lines = record.read_text().splitlines(keepends=True)
            for line in lines:
                if line.endswith("\n"):  # else the process was killed while writing
                    number, *values = json.loads(line)
                    counted[number] = Counted(*values)
        missing = [number for number in range(len(files)) if number not in counted]
        if missing and is_tar:
            what = "counted and their labels read" if labels_from else "counted"
            spared = (
                "" if labels_from else "; a sizes.json beside them with their numbers spares it"
            )
            notice(
                f"the images of {plural(len(missing), 'shard')} are {what} once, for which all are "
                f"read through{_bytes(files, len(missing))}{spared}"
            )
        count = _counted_tar if is_tar else _counted_table
        with (
            ThreadPoolExecutor(_downloads(files) if is_tar else REQUESTS) as pool,
            record.open("a") as file,
        ):
            results = pool.map(lambda number: (number, count(files, number, labels_from)), missing)
            title = f"counting the images of {plural(len(missing), 'shard')}"
            try:
                for number, result in track(results, title, len(missing)):
                    counted[number] = result
                    file.write(json.dumps([number, *result]) + "\n")
                    file.flush()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [counted[number] for number in range(len(files))]


def _stated(files: RemoteFiles) -> list[Counted] | None:
    """Numbers of samples in a file beside tar shards, if it lists all of them."""
    for name in COUNTS:
        content = files.beside(name)
        content = content if isinstance(content, dict) else {}
        splits = content.get("splits")
        for split in splits.values() if isinstance(splits, dict) else ():
            lengths = zip(split.get("filenames", []), split.get("shard_lengths", []), strict=False)
            content |= dict(lengths)
        values = [content.get(file.partition("?")[0].rpartition("/")[2]) for file in files.names]
        if all(isinstance(number, int) for number in values):
            del content
            each = {
                number: Counted(number, "", None) for number in set(values) if number is not None
            }
            return [each[number] for number in values]
    return None


def _counted_tar(files: RemoteFiles, number: int, labels_from: str) -> Counted:
    def count(folder: Path) -> Counted:
        index = _index(folder)
        if not labels_from:
            return Counted(len(index["names"]), index["torn"], None)
        others = {(before, end): span for before, end, *span in index["others"]}
        endings = sorted({end for _, end in others})
        if labels_from not in endings and index["names"]:
            what = f"beside its images are {', '.join(endings)}" if endings else "it has no files"
            raise UserError(f"there are no labels '{labels_from}' in {files.names[number]}; {what}")
        texts = []
        with (folder / "data").open("rb") as file:
            for name in index["names"]:
                start, length = others.get((stem(name)[0], labels_from), (0, 0))
                file.seek(start)
                texts.append(file.read(min(length, LABEL)).decode(errors="ignore").strip())
        return Counted(len(texts), index["torn"], texts)

    return _copied(files, number, count)


def _counted_table(files: RemoteFiles, number: int, labels_from: str) -> Counted:
    import pyarrow as pa

    try:
        with _table(files, number) as table:
            if not labels_from:
                return Counted(table.metadata.num_rows, "", None)
            if labels_from not in table.schema_arrow.names:
                advice = suggest(labels_from, table.schema_arrow.names)
                raise UserError(
                    f"there is no column '{labels_from}' in {files.names[number]}; {advice}"
                )
            cells = table.read([labels_from]).column(0).to_pylist()
            return Counted(len(cells), "", ["" if c is None else str(c) for c in cells])
    except pa.ArrowException as error:
        return Counted(0, str(error).partition(". ")[0], [] if labels_from else None)


@contextmanager
def _table(files: RemoteFiles, number: int) -> Iterator[Any]:
    """Open a table remotely to read its footer and columns, or a copy if that fails."""
    import pyarrow.parquet as pq

    with files.open(number) as file:
        if file.seekable():
            with pq.ParquetFile(file) as table:
                yield table
            return
    with _copied(files, number, lambda folder: pq.ParquetFile(folder / "data"), True) as table:
        yield table


def _copied(files: RemoteFiles, number: int, read: Callable[[Path], T], table: bool = False) -> T:
    """Read the cached folder of a shard: its encoded images in `data`, their positions in
    `index.json`.

    Args:
        files: the shards.
        number: of the shard.
        read: opens the folder.
        table: whether `data` is the table itself.
    """
    name = files.names[number]
    is_tar = ending(name) == ".tar"

    def fill(folder: Path) -> None:
        files.copy(number, folder / "data")
        if is_tar:
            result = scan(folder / "data")
            index = {
                "names": [name for name, _ in result.images],
                "starts": [member.start for _, member in result.images],
                "lengths": [member.length for _, member in result.images],
                "others": [[*key, m.start, m.length] for key, m in result.others.items()],
                "torn": result.torn,
            }
        elif not table:
            index = _unpacked(folder, name)
        if is_tar or not table:
            write_json(folder / "index.json", index, indent=None)

    try:
        size = files.info(number).get("size") or files.mean_size
    except FileNotFoundError as error:
        raise UserError(f"there is no {name} any more; training cannot go on") from error
    room = math.ceil(1.1 * size * (1 if is_tar or table else 2)) + (1 << 16)
    return get_or_build(files.key(number, VERSION, table), fill, read, room)


def _unpacked(folder: Path, name: str) -> dict[str, Any]:
    """Replace the table `data` by the images of its column, one after another."""
    import pyarrow.parquet as pq

    raw = (folder / "data").rename(folder / "raw.parquet")
    starts, lengths = [], []
    torn = ""
    with readable(raw), pq.ParquetFile(raw) as table, (folder / "data").open("wb") as file:
        column = image_column(raw, table.schema_arrow)
        for batch in table.iter_batches(CHUNK, columns=[column]):
            for cell in batch.column(0).to_pylist():
                content = content_of(folder, cell)
                content = content if isinstance(content, bytes) else b""
                starts.append(file.tell())
                lengths.append(file.write(content))
    raw.unlink()
    names = [f"{name.rpartition('/')[2]}#{row}" for row in range(len(starts))]
    return {"names": names, "starts": starts, "lengths": lengths, "others": [], "torn": torn}
