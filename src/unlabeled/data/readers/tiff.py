"""TIFFs that Pillow cannot read without loss: floats, 16-bit colors, more channels; large ones."""

import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from unlabeled.data.readers.planes import (
    UNREADABLE,
    Box,
    Planes,
    UnfitError,
    inside,
    kind_of,
    on_white,
)

try:
    import tifffile
except ImportError:
    tifffile = None  # type: ignore[assignment]
else:
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # damage is reported by this library

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
NO_TIFF = "TIFF of a kind that pip install 'unlabeled[tiff]' makes readable"
PLAIN = ("MINISBLACK", "RGB")
REGIONS = (*PLAIN, "YCBCR")
"""Photometric interpretations that tifffile decodes to gray or RGB segment by segment."""


@dataclass(frozen=True)
class Stack(Planes):
    """An open TIFF.

    Args:
        series: of tifffile.
        alpha: whether the last channel in the file is alpha.
        limit: maximum pixels that are decoded for a box.
    """

    series: Any = None
    alpha: bool = False
    limit: float = math.inf

    def read(self, box: Box | None = None) -> np.ndarray:
        """Its values, (channels, H, W); of a box only the tiles or strips that it touches."""
        try:
            if box is not None and self.by_region:
                x = self._region(box)
            else:
                x = inside(_channels_first(self.series.asarray(), self.series.axes), box)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise UnfitError(
                "TIFF, compressed as only imagecodecs reads it; pip install 'unlabeled[tiff]'"
            ) from error
        return (on_white(x) if self.alpha else x).astype(self.kind)

    def _region(self, box: Box) -> np.ndarray:
        pages = _pages_of_channels(self.series)
        assert pages is not None
        touched = [(page, number) for page in pages for number in _touched(page.keyframe, box)]
        segment = math.prod(_segment(pages[0].keyframe))
        if segment * len({number for _, number in touched}) > self.limit:
            raise Image.DecompressionBombError
        return np.concatenate([_box_of_page(page, box) for page in pages])


@contextmanager
def opened(source: BinaryIO | Path, limit: float, boxes: bool) -> Iterator[Stack | None]:
    """Open a TIFF that Pillow would not read without loss; None for others and damaged ones.

    Args:
        source: the file.
        limit: maximum pixels that are decoded at once.
        boxes: whether only boxes will be read; then all TIFFs that tifffile can cut are opened.

    Raises:
        UnfitError: it cannot be read.
        DecompressionBombError: it is too large.
    """
    with ExitStack() as stack:
        try:
            planes = _stack(stack.enter_context(tifffile.TiffFile(source)), limit, boxes)
        except (UnfitError, Image.DecompressionBombError):
            raise
        except (tifffile.TiffFileError, *UNREADABLE):
            planes = None
        yield planes


def _stack(tiff: Any, limit: float, boxes: bool) -> Stack | None:
    page, series = tiff.pages[0], tiff.series[0]
    lengths = dict(zip(series.axes, series.shape, strict=True))
    if not {"Y", "X"} <= set(lengths) or series.dtype.kind not in "uif":
        return None
    by_region = boxes and _pages_of_channels(series) is not None
    if page.photometric.name not in (REGIONS if by_region else PLAIN):
        return None
    if {"S", "C"} <= set(lengths):
        raise UnfitError("TIFF with two axes of channels; save one of them")
    channels = lengths.get("S", lengths.get("C", 1))
    alpha = "S" in lengths and any(e.name.endswith("ALPHA") for e in page.extrasamples)
    code = series.dtype.str[1:]
    usual = (code == "u1" and (channels in (1, 3) or alpha)) or (code == "u2" and channels == 1)
    if usual and not by_region:
        return None
    width, height = lengths["X"], lengths["Y"]
    if width * height > limit and not by_region:
        raise Image.DecompressionBombError
    others = math.prod(n for axis, n in lengths.items() if axis not in "YXSC")
    return Stack(
        channels=int(channels or 1) - int(alpha),
        kind=kind_of(series.dtype),
        size=(width, height),
        pages=others > 1,
        by_region=by_region,
        series=series,
        alpha=alpha,
        limit=limit,
    )


def _channels_first(x: np.ndarray, axes: str) -> np.ndarray:
    """Reorder values to (C, H, W); of other axes, the first index."""
    x = x[tuple(slice(None) if axis in "YXSC" else 0 for axis in axes)]
    left = [axis for axis in axes if axis in "YXSC"]
    if len(left) == 2:
        return x[None]
    return np.moveaxis(x, next(i for i, axis in enumerate(left) if axis in "SC"), 0)


def _pages_of_channels(series: Any) -> list[Any] | None:
    """The pages of the channels of the first image; None if channels are not pages."""
    page = series.keyframe
    before = series.axes[: len(series.axes) - len(page.axes)]
    lead = series.shape[: len(before)]
    is_plain = series.axes == before + page.axes and series.shape == lead + page.shape
    if not is_plain or len(series.pages) != math.prod(lead) or page.shaped[1] != 1:
        return None
    along = [range(n) if axis == "C" else [0] for axis, n in zip(before, lead, strict=True)]
    if not before:
        return [series.pages[0]]
    rows = np.ravel_multi_index(np.meshgrid(*along, indexing="ij"), lead).ravel()
    pages = [series.pages[int(row)] for row in rows]
    return None if any(each is None for each in pages) else pages


def _segment(page: Any) -> tuple[int, int]:
    """Height and width of a tile or strip."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _touched(page: Any, box: Box) -> list[int]:
    """Numbers of the tiles or strips, of all planes, that a box touches."""
    top, left, height, width = box
    tall, wide = _segment(page)
    down, across = -(-page.imagelength // tall), -(-page.imagewidth // wide)
    rows = range(top // tall, (top + height - 1) // tall + 1)
    columns = range(left // wide, (left + width - 1) // wide + 1)
    planes = page.shaped[0]
    return [(p * down + r) * across + c for p in range(planes) for r in rows for c in columns]


def _box_of_page(page: Any, box: Box) -> np.ndarray:
    """A box of a page, (C, h, w)."""
    top, left, height, width = box
    keyframe = page.keyframe
    planes, _, _, _, samples = keyframe.shaped
    out = np.full((planes, height, width, samples), keyframe.nodata, keyframe.dtype)
    file = page.parent.filehandle
    for number in _touched(keyframe, box):
        count = page.databytecounts[number]
        content = None if not count else _read(file, page.dataoffsets[number], count)
        segment, (plane, _, y, x, _), _ = keyframe.decode(
            content, number, jpegtables=page.jpegtables, jpegheader=keyframe.jpegheader
        )
        if segment is None:  # a sparse TIFF does not store it
            continue
        first_row, first_column = max(top, y), max(left, x)
        segment = segment[0, first_row - y : top + height - y, first_column - x : left + width - x]
        rows, columns = first_row - top, first_column - left
        target = out[plane, rows : rows + len(segment), columns : columns + segment.shape[1]]
        target[:] = segment
    return out.transpose(0, 3, 1, 2).reshape(planes * samples, height, width)


def _read(file: Any, offset: int, count: int) -> bytes:
    file.seek(offset)
    content: bytes = file.read(count)
    return content
