"""Images in files: folders, tar shards (WebDataset), Parquet and Arrow tables.

They are decoded once, by worker processes, into the cache; or, if they are too many, whenever they
are read. What cannot be read is counted, listed and left out.
"""

import functools
import hashlib
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np

from unlabeled.data.dataset import LazyImages, Samples
from unlabeled.data.readers import cache, dicom, folders, labels, parts
from unlabeled.data.readers.decoding import Encoded, Header, decode, look
from unlabeled.data.readers.encoded import EncodedImages
from unlabeled.data.readers.folders import Listing
from unlabeled.data.readers.parts import Opening
from unlabeled.data.readers.source import (
    ARRAYS,
    CHUNK,
    ENDINGS,
    TABLES,
    Source,
    known_endings,
    stamp,
)
from unlabeled.data.readers.tables import table_source
from unlabeled.data.readers.tars import tar_source
from unlabeled.data.values import filled
from unlabeled.errors import UserError, notice
from unlabeled.utils.files import write_json
from unlabeled.utils.progress import can_draw, is_shown

FEW = 512
"""Maximum number of images that are decoded in this process."""
MANY = 2e9
"""Bytes of decoded images from which on images are decoded on the fly."""
LOOKED_AT = 10_000
"""Maximum number of images, evenly spaced, whose headers are read before any is decoded."""
LARGER = "--tile SIZE cuts large images into samples, --max-pixels N admits them as they are"
"""Advice if images are larger than Pillow allows."""
Decode = Literal["auto", "once", "on_the_fly"]
"""When images in files are decoded."""


def read(
    path: Path,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    *,
    labels_from: Any = None,
    workers: int | None = None,
    beside: tuple[str, ...] = (),
    dtype: str | None = None,
    files: list[str] | None = None,
    listing: Listing | None = None,
    decoding: Decode = "once",
    opening: Opening = Opening(),  # noqa: B008  it is frozen
) -> Samples:
    """Read all images of a folder, of tar shards or of tables, in the order of their names.

    They are read as gray if all are gray, else as RGB; as 16-bit if all are 16-bit gray. Floats,
    16-bit colors and other numbers of channels in TIFF, PNG, DICOM and `.npy` are preserved if all
    images agree; otherwise the most common kind is read and the others are left out. Transparent
    images are composited on white, EXIF rotation is applied. Without `size`, images become squares
    of the median of their shorter sides, at most `opening.largest` pixels, cropped at the center.

    Args:
        path: a folder (searched to any depth), or one `.tar`, `.parquet`, `.arrow` or `.feather`.
        channels: 1 or 3, to which images are converted; or another number, which they must have.
        size: height and width.
        labels_from: "folders" (the first folder of a name), a `.csv` of names and labels, an array
            or `.npy` in the order of the names, the column of a table, or the ending of a label
            file in a tar (`cls`).
        workers: processes that decode (default: one for each core).
        beside: endings of files that the caller reads, which are not reported as left out.
        dtype: data type that an encoder was trained on: uint8, mask, uint16 or float32.
        files: the images to read, by their paths in the folder or absolute paths (default: all).
        listing: files to read (default: all files of the folder).
        decoding: once, into the cache; on_the_fly whenever they are read, with random crops from
            the full-size images; auto decodes once what needs less than 2 GB.
        opening: whether images are cut into tiles, and how large they and the samples may be.

    Raises:
        UserError: there are no images, none can be read, or labels do not fit.
    """
    source = source_of(path, listing) if files is None else _listed(path, files)
    names = source.names
    others = folders.unread(source.others, path, labels_from, beside)
    if not names:
        folders.say_left_out(path, 0, "image", others, source.listing)
        raise UserError(
            f"{path} contains no images ({', '.join(sorted(ENDINGS))}), tar shards or tables; "
            "give a folder that does"
        )
    folders.say_links(source.listing, path)
    folders.say_left_out(path, len(names), "image", others, source.listing)
    workers = workers or joblib.cpu_count()
    files, column = names, source.labels
    source, of_file = parts.cut(source, opening, functools.partial(_look_at, workers))
    names = source.names
    looked = _looked(source, workers)
    if not looked:
        raise _none_read(path, names, look([next(iter(source.images()))])[0])
    channels, kind = form(looked, channels, dtype, path)
    if size is None:
        side = min(opening.largest, int(looked["median_side"]))
        size = side, side
        low, high = looked["sides"]
        if low != high or side < low:
            crops = "; --decoding on_the_fly takes random crops from them in full"
            notice(
                f"images of {low} to {high} px a side are all fitted to {side}×{side}; choose with "
                "--size" + (crops if looked["median_side"] > 1.5 * side else "")
            )
    say_kind(looked, kind, "at least " if len(names) > LOOKED_AT else "")
    bytes_in_all = len(names) * channels * math.prod(size) * np.dtype(kind).itemsize
    if source.at and _is_on_the_fly(decoding, bytes_in_all, size):
        selected = np.array([row for row, n in enumerate(names) if n not in looked["unread"]])
        _say_skipped(looked["unread"], len(names))
        at, names_kept = source.at, [names[row] for row in selected]
        x = EncodedImages(lambda row: at(selected[row]), names_kept, channels, size, kind, workers)
        samples = Samples(LazyImages(x), names=names_kept)
    else:
        if decoding == "on_the_fly":
            notice(f"the images in {path} are decoded once: those of tables are read in order only")
        entry = _entry(source, channels, size, kind, workers)
        if entry is None:
            first = next(iter(source.images()))
            raise _none_read(path, names, decode([first], channels, size, kind)[1][0])
        _say_skipped(entry.skipped, len(names), f"; all are listed in {entry.path / 'skipped.csv'}")
        selected = entry.kept
        samples = Samples(filled(LazyImages(entry.pixels)), names=entry.names)
    samples.modality = replace(samples.modality, **opening.of_modality)
    if of_file is not None:
        samples.groups = np.array(files)[of_file[selected]]
        if opening.tile:
            parts.say_empty(samples)
    rows = selected if of_file is None else of_file[selected]
    if labels_from is None:
        return samples
    return labels.attach(samples, labels_from, rows, files, column)


def say_kind(looked: dict[str, Any], kind: str, some: str = "at least ") -> None:
    """Notices of what images lose when they are read as this number type.

    Args:
        looked: summary of their headers.
        kind: number type: u1, u2 or f4.
        some: prefix of counts, if not all headers were read.
    """
    if kind == "u1" and looked["forms"].get("1u2"):
        notice("16-bit images are read as 8-bit ones, so only their high byte is taken")
    if kind == "u1" and looked["cut"]:
        notice(
            f"{some}{looked['cut']:,} color images of 16 bits are read with 8"
            + ("" if "3u2" in looked["forms"] else "; pip install 'unlabeled[tiff]' keeps all")
        )
    if looked["pages"]:
        notice(f"{some}{looked['pages']:,} images have several pages or frames; the first is taken")


def _is_on_the_fly(decoding: Decode, bytes_in_all: float, size: tuple[int, int]) -> bool:
    """Whether images are decoded on the fly; a notice gives the reason."""
    chosen = decoding == "on_the_fly" or (decoding == "auto" and bytes_in_all > MANY)
    if chosen:
        why = f"; decoded once to {size[0]}×{size[1]} they would need {bytes_in_all / 1e9:.1f} GB"
        notice(
            "the images are decoded whenever they are read, and random crops are taken from the "
            "full-size images" + (f"{why} (--decoding once)" if decoding == "auto" else "")
        )
    return chosen


def _say_skipped(skipped: dict[str, str], number: int, listed: str = "") -> None:
    """A notice that counts the images that are left out, by reason."""
    if skipped:
        reasons = Counter(reason.partition(":")[0] for reason in skipped.values())
        counted = ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())
        notice(
            f"{len(skipped):,} of {number:,} images are left out ({counted}), such as "
            f"{', '.join(list(skipped)[:3])}"
            + (f"; {LARGER}" if "enormous" in reasons else "")
            + listed
        )


def _none_read(path: Path, names: list[str], why: object) -> UserError:
    advice = LARGER if str(why).startswith("enormous") else "save them again"
    return UserError(
        f"none of the {len(names):,} images in {path} can be read (the first, {names[0]}, is "
        f"{why}); {advice}"
    )


def decoded(contents: list[bytes], channels: int, size: tuple[int, int], path: Path) -> np.ndarray:
    """Decode the files of a named data set once, into the cache.

    Args:
        contents: of the N files.
        channels: 1 or 3.
        size: height and width.
        path: source of the files, for messages.

    Returns:
        uint8 (N, channels, *size), mapped into memory.

    Raises:
        UserError: one cannot be read.
    """
    names = [str(row) for row in range(len(contents))]
    stamps = [(hashlib.sha256(b"".join(contents)).hexdigest(), *map(len, contents))]
    source = Source(names, stamps, lambda: contents, lambda _: None)
    entry = _entry(source, channels, size, "u1", joblib.cpu_count())
    if entry is None or entry.skipped:
        number = len(entry.skipped) if entry else len(names)
        raise UserError(
            f"{number:,} of the {len(names):,} images in {path} are damaged; "
            "copy or download it again"
        )
    return entry.pixels


def channels_of(path: Path, listing: Listing | None = None) -> int | None:
    """Number of channels that `read` returns by default; None if no header can be read."""
    looked = _looked(source_of(path, listing), joblib.cpu_count())
    return form(looked, None, None, path)[0] if looked else None


def form(
    looked: dict[str, Any], channels: int | None, dtype: str | None, path: Path | str
) -> tuple[int, str]:
    """Number of channels and number type as which images are read, by the counts of each."""
    forms: dict[str, int] = dict(looked["forms"])
    eight = dtype in ("uint8", "mask") or {"1u1", "3u1"} & set(forms)
    if eight and forms.get("3u2") and forms["3u2"] == looked["cut"]:  # PNGs, among 8-bit images
        forms["3u1"] = forms.get("3u1", 0) + forms.pop("3u2")
    if looked["units"] == sum(forms.values()) and "1f4" in forms and channels in (None, 1):
        return 1, "f4"  # which keeps all of them
    usual = {form: n for form, n in forms.items() if form in ("1u1", "3u1", "1u2")}
    other = {form: n for form, n in forms.items() if form not in usual}
    if channels is not None:
        other = {form: n for form, n in other.items() if int(form[:-2]) == channels}
    if sum(usual.values()) >= max(other.values(), default=0) and channels in (None, 1, 3):
        gray = "3u1" not in usual if channels is None else channels == 1
        deep = gray and set(usual) == {"1u2"} and dtype not in ("uint8", "mask")
        return (1 if gray else 3), "u2" if deep else "u1"
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
    """The decoded images in the cache, after decoding if needed; None if none can be read."""
    key = f"{source.stamp[:24]}-{channels}x{size[0]}x{size[1]}-{kind}"
    if entry := cache.find(key):
        return entry
    parts = _mapped(decode, source, workers, "decoding", channels, size, kind)
    expected = len(source.names) * channels * size[0] * size[1] * np.dtype(kind).itemsize
    return cache.write(key, source.names, parts, expected)


def source_of(path: Path, listing: Listing | None = None) -> Source:
    """The images of a folder of files, tar shards or tables, or of the listed ones."""
    root = path if path.is_dir() else path.parent
    shards, images = [path.name], []
    if path.is_dir():
        listing = listing or folders.walk(path)
        there = sorted([*listing.names, *listing.broken])
        images = folders.of_kind(
            there, known_endings(), folders.is_image, lambda name: folders.head(path / name)
        )
        shards = [p for p in listing.names if p.lower().endswith((".tar", *TABLES))]
        if not images and not shards:
            images = [p for p in there if p.lower().endswith(ARRAYS)]
        listing.broken = sorted({*listing.broken} - {*images})  # decoding reports these
    else:
        listing = Listing()
    kinds = {"images": images, "tar": [p for p in shards if p.lower().endswith(".tar")]}
    kinds["tables"] = [p for p in shards if not p.lower().endswith(".tar")]
    if sum(map(bool, kinds.values())) > 1:
        counts = ", ".join(f"{len(held):,} {kind}" for kind, held in kinds.items() if held)
        raise UserError(f"{path} holds {counts} at once; give a folder with one kind of them")
    others = sorted({*listing.names} - {*images, *shards})
    if images:
        source = _listed(root, images)
    elif kinds["tar"]:
        source = tar_source(root, kinds["tar"])
    else:
        source = table_source(root, kinds["tables"])
    listing.special += source.listing.special
    source.others, source.listing = [*others, *source.others], listing
    return source


def _listed(root: Path, files: list[str]) -> Source:
    absolute = root.absolute()
    stamps = (stamp(f"{absolute}/{file}") for file in files)

    def at(row: int) -> Path:
        return root / files[row]

    def labels_of(element: str) -> list[str] | None:
        keyword = element.removeprefix(dicom.PREFIX)
        if not element.startswith(dicom.PREFIX) or not dicom.IS_READ:
            return None
        if not dicom.is_keyword(keyword):
            raise UserError(f"DICOM has no element {keyword}; give one such as dicom:PatientID")
        return [dicom.element(at(row), keyword) for row in range(len(files))]

    return Source(files, stamps, lambda: map(at, range(len(files))), labels_of, at)


def _look_at(workers: int, images: Iterable[Encoded], total: int) -> Iterable[list[Header | str]]:
    return _in_chunks(look, images, total, workers, "looking at")


def _looked(source: Source, workers: int) -> dict[str, Any] | None:
    """Summary of the images' headers, cached; None if no header can be read.

    Of more than `LOOKED_AT` images, that many headers are read, evenly spaced.
    """
    path = cache.folder() / f"{source.stamp[:24]}.json"
    if path.is_file():
        try:
            return dict(json.loads(path.read_text()))
        except ValueError:
            path.unlink()
    if source.headers is not None:
        headers, names = list(source.headers.values()), list(source.headers)
    else:
        step = -(-len(source.names) // LOOKED_AT)
        looks = _mapped(look, source, workers, "looking at", step=step)
        headers, names = [each for part in looks for each in part], source.names[::step]
    looked = summary(headers, names)
    if looked is None:
        return None
    write_json(path, looked)
    return looked


def summary(looked: list[Header | str], names: list[str]) -> dict[str, Any] | None:
    """Counts of the properties in headers, and images without one; None if none has one."""
    headers = [each for each in looked if isinstance(each, Header)]
    if not headers:
        return None
    sides = [side for header in headers for side in header.size]
    return {
        "forms": dict(Counter(f"{header.channels}{header.kind}" for header in headers)),
        "cut": sum(header.cut for header in headers),
        "pages": sum(header.pages for header in headers),
        "units": sum(header.units for header in headers),
        "sides": [min(sides), max(sides)],
        "median_side": statistics.median_low([min(header.size) for header in headers]),
        "unread": {n: each for n, each in zip(names, looked, strict=True) if isinstance(each, str)},
    }


def _mapped(
    task: Callable[..., Any],
    source: Source,
    workers: int,
    verb: str,
    *arguments: Any,
    step: int = 1,
) -> Iterable[Any]:
    """Results of a task on chunks of every `step`th image, by workers, with a progress bar."""
    images = islice(source.images(), 0, None, step)
    total = -(-len(source.names) // step)
    return _in_chunks(task, images, total, workers, verb, *arguments)


def _in_chunks(
    task: Callable[..., Any],
    images: Iterable[Encoded],
    total: int,
    workers: int,
    verb: str,
    *arguments: Any,
) -> Iterable[Any]:
    from rich.console import Console
    from rich.progress import track

    images = iter(images)
    chunks = iter(lambda: list(islice(images, CHUNK)), [])
    jobs = (joblib.delayed(task)(chunk, *arguments) for chunk in chunks)
    workers = 1 if total <= FEW else workers
    return track(
        joblib.Parallel(n_jobs=workers, return_as="generator")(jobs),
        f"{verb} {total:,} images",
        total=-(-total // CHUNK),
        console=Console(stderr=True),
        transient=True,
        disable=not (is_shown(True) and can_draw()),
    )
