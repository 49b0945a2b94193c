"""Files that contain several samples: frames of DICOM, tiles of large images."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unlabeled.data.dataset import Samples, blocks
from unlabeled.data.readers import cache, dicom
from unlabeled.data.readers.decoding import Encoded, File, Header, Part
from unlabeled.data.readers.folders import ending
from unlabeled.data.readers.planes import Box
from unlabeled.data.readers.source import Source
from unlabeled.errors import UserError, notice, plural
from unlabeled.utils.files import write_json

VERSION = 2
"""Version of the parts; cached ones of other versions are made again."""
Look = Callable[[Iterable[Encoded], int], Iterable[list[Header | str]]]
"""A function that reads the headers of that many images, in chunks."""
EMPTY = 0.02
"""Range of the middle 98 % of an empty tile's values, as a fraction of the range of all tiles'."""
EXAMINED = 1_000
"""Maximum number of tiles, evenly spaced, that are read to count the empty ones."""


LARGEST = 64
"""Default maximum side in pixels: what two cores can train on in reasonable time."""


@dataclass(frozen=True)
class Opening:
    """How large images and images of several frames become samples.

    Args:
        tile: side of the squares that larger images are cut into; None cuts none.
        max_pixels: of an image; larger ones are not decoded (default: Pillow's, 178,956,970).
        largest: maximum side of the samples in pixels, where their size is not given.
    """

    tile: int | None = None
    max_pixels: int | None = None
    largest: int = LARGEST

    def __post_init__(self) -> None:
        for name, least in (("tile", 8), ("max_pixels", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} is {value}, but must be at least {least}")

    @property
    def of_modality(self) -> dict[str, Any]:
        """The options that are recorded in the modality of the samples."""
        return {"tile": self.tile, "max_pixels": self.max_pixels}


def cut(source: Source, opening: Opening, look: Look) -> tuple[Source, np.ndarray | None]:
    """The samples in some files, as a new source.

    Args:
        source: the files.
        opening: how they become samples.
        look: reads headers.

    Returns:
        the samples, named `file#frame` or `file#row,column` if a file contains several; and for
        each the row of its file, (N,), or None if each file is one sample.

    Raises:
        UserError: images in tables are to be cut.
    """
    if opening.max_pixels is not None:
        source = _with_limit(source, opening.max_pixels)
    if source.at is None:
        if opening.tile:
            raise UserError("--tile cuts images in files, not those in tables; write them as files")
        return source, None
    rows = list(range(len(source.names)))
    if not opening.tile:
        rows = [r for r in rows if ending(source.names[r]) in (*dicom.ENDINGS, "")]
        if not dicom.IS_READ or not rows:
            return source, None
    source = replace(source, stamps=[(source.stamp,)])  # so that stamps are computed once
    headers = _headers(source, rows, opening, look)
    several = {r: _pieces(h, opening.tile) for r, h in zip(rows, headers, strict=True)}
    several = {r: pieces for r, pieces in several.items() if pieces}
    if not several and not opening.tile:
        return source, None
    if opening.tile:
        named = zip(source.names, headers, strict=True)
        source = replace(source, headers={n: _of_tiles(h, opening.tile) for n, h in named})
    if not several:
        return source, None
    _say(several, headers, rows, opening.tile)
    return _parted(source, several, opening)


Piece = tuple[str, int, Box | None]
"""Suffix of the file name, number of the frame, and box."""


def _pieces(header: Header | str, tile: int | None) -> list[Piece]:
    """The samples in a file; none if it is one sample, or cannot be read."""
    if isinstance(header, str):
        return []
    boxes = _boxes(header.size, tile) if tile else []
    frames = range(header.frames)
    if not boxes:
        return [(f"#{f}", f, None) for f in frames] if header.frames > 1 else []
    several = header.frames > 1
    return [(f"#{f},{name}" if several else f"#{name}", f, b) for f in frames for name, b in boxes]


def _boxes(size: tuple[int, int], tile: int) -> list[tuple[str, Box]]:
    """Squares that cover an image; the last of each row and column may overlap its neighbor."""
    width, height = size
    side = min(tile, width, height)
    if max(width, height) <= tile:
        return []
    tops = [min(side * row, height - side) for row in range(-(-height // side))]
    lefts = [min(side * column, width - side) for column in range(-(-width // side))]
    return [
        (f"{r},{c}", (top, left, side, side))
        for r, top in enumerate(tops)
        for c, left in enumerate(lefts)
    ]


def _of_tiles(header: Header | str, tile: int) -> Header | str:
    """The header of a tile of that image."""
    if isinstance(header, str) or max(header.size) <= tile:
        return header
    side = min(tile, *header.size)
    return header._replace(size=(side, side))


def _with_limit(source: Source, pixels: int) -> Source:
    at, images = source.at, source.images

    def limited(file: Encoded) -> Part:
        return (
            file._replace(max_pixels=pixels)
            if isinstance(file, Part)
            else Part(file, 0, None, pixels)
        )

    return replace(
        source,
        images=lambda: map(limited, images()),
        at=None if at is None else lambda row: limited(at(row)),
        opening=(pixels,),
    )


def _parted(
    source: Source, several: dict[int, list[Piece]], opening: Opening
) -> tuple[Source, np.ndarray]:
    counts = [len(several.get(row, [0])) for row in range(len(source.names))]
    of_file = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum([0, *counts])[:-1]
    at = source.at
    assert at is not None
    names = [
        name + suffix
        for row, name in enumerate(source.names)
        for suffix, _, _ in several.get(row, [("", 0, None)])
    ]

    def part(sample: int) -> Encoded:
        row = int(of_file[sample])
        file: Any = at(row)
        if row not in several:
            return file
        _, frame, box = several[row][sample - int(first[row])]
        path: File = file.file if isinstance(file, Part) else file
        return Part(path, frame, box, opening.max_pixels)

    def images() -> Iterator[Encoded]:
        return map(part, range(len(of_file)))

    parted = replace(
        source,
        names=names,
        images=images,
        at=part,
        opening=(*source.opening, "parts", VERSION, opening.tile),
    )
    return parted, of_file


def _headers(source: Source, rows: list[int], opening: Opening, look: Look) -> list[Header | str]:
    """Headers of those files, cached."""
    at = source.at
    assert at is not None
    key = hashlib.sha256(f"{source.stamp} {opening} {VERSION}".encode()).hexdigest()[:24]
    path = cache.folder() / f"{key}-headers.json"
    if path.is_file():
        try:
            stored = json.loads(path.read_text())
            return [
                h if isinstance(h, str) else Header(h[0], h[1], tuple(h[2]), *h[3:]) for h in stored
            ]
        except (ValueError, TypeError, LookupError):
            path.unlink()
    box = (0, 0, 1, 1) if opening.tile else None

    def images() -> Iterator[Part]:
        for row in rows:
            file: Any = at(row)
            yield Part(getattr(file, "file", file), 0, box, opening.max_pixels)

    headers = [h for part in look(images(), len(rows)) for h in part]
    write_json(path, headers, indent=None)
    return headers


def _say(
    several: dict[int, list[Piece]],
    headers: list[Header | str],
    rows: list[int],
    tile: int | None,
) -> None:
    """A notice of how files become samples."""
    held = sum(map(len, several.values()))
    by_row = dict(zip(rows, headers, strict=True))
    framed = {r: n for r in several if (n := getattr(by_row[r], "frames", 1)) > 1}
    together = "those of a file stay on one side of the split"
    if framed:
        frames = sum(framed.values())
        notice(
            f"{plural(len(framed), 'DICOM file')} of several frames "
            f"{'holds' if len(framed) == 1 else 'hold'} {frames:,}; each is a sample, named "
            f"file#frame; {together}"
        )
    if tile:
        notice(
            f"{len(several):,} of {plural(len(headers), 'image')} "
            f"{'is' if len(several) == 1 else 'are'} larger than {tile}×{tile} and cut into "
            f"{held:,} tiles, named file#row,column; {together}"
        )


def say_empty(samples: Samples) -> None:
    """A notice of the number of empty tiles, all of which are used."""
    rows = np.unique(np.linspace(0, len(samples) - 1, min(EXAMINED, len(samples))).astype(int))
    if not len(rows):
        return
    low, high, spans = np.inf, -np.inf, []
    for part in blocks(samples.x, 64) if len(rows) == len(samples) else _some(samples, rows):
        values = part.reshape(len(part), part.shape[1], -1).astype(np.float32)
        ends = np.nanpercentile(values, [1, 99], axis=2)  # (2, n, C)
        spans.append((ends[1] - ends[0]).max(1))
        low, high = min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values)))
    number = int((np.concatenate(spans) <= EMPTY * (high - low)).sum())
    if number:
        of = f"{len(rows):,} tiles" + (" that were looked at" if len(rows) < len(samples) else "")
        notice(
            f"{number:,} of {of} are empty: their values hardly differ; they are kept, as all are"
        )


def _some(samples: Samples, rows: np.ndarray) -> Iterator[np.ndarray]:
    return (samples.x[rows[start : start + 64]] for start in range(0, len(rows), 64))
