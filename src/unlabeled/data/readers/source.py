"""Where encoded images lie and what is known of them before they are decoded."""

import functools
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from unlabeled.data.readers import dicom
from unlabeled.data.readers.decoding import HEIF_IS_READ, Encoded, Header, reader
from unlabeled.data.readers.folders import Listing

ENDINGS = {
    *(".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff"),
    *(".pgm", ".ppm", ".pbm", ".pnm", ".jp2"),
    *(".apng", ".jfif", ".jfi", ".jif", ".jpe", ".dib", ".j2k", ".jpx", ".jpf", ".j2c"),
}
HEIF = (".heic", ".heif", ".hif")
"""Read where pillow-heif is installed."""
ARRAYS = (".npy",)
"""Images of a folder that holds no others."""
VERSION = 6
"""Of the decoding; another one decodes anew."""
TABLES = (".parquet", ".arrow", ".feather")
CHUNK = 64
"""Images that one task of a worker reads."""
LABEL = 4_000
"""Bytes of a label file that are read; of a caption in a tar, too."""


@dataclass
class Source:
    """Encoded images, and what tells this content from another."""

    names: list[str]  #: of all images, in order
    stamps: Iterable[tuple[Any, ...]]  #: path, size and times of change of every file
    images: Callable[[], Iterable[Encoded]]  #: in the order of their names
    labels: Callable[[str], list[str] | None]  #: by the name of a column or ending
    at: Callable[[int], Encoded] | None = None  #: by row; None where they are read in order only
    others: list[str] = field(default_factory=list)  #: names of files that are no images
    listing: Listing = field(default_factory=Listing)  #: of the folder
    opening: tuple[Any, ...] = ()  #: what is done with the files beside decoding them
    headers: dict[str, Header | str] | None = None  #: by file, where all were looked at

    @functools.cached_property
    def stamp(self) -> str:
        """A hash of what is there, of its names, and of the way it is decoded."""
        known = hashlib.sha256(repr((VERSION, *reader(), *self.opening)).encode())
        for part in map(iter, (self.stamps, self.names)):
            while some := list(islice(part, 10_000)):  # of what may be millions
                known.update(repr(some).encode(errors="surrogatepass"))
        return known.hexdigest()


def stamp(path: str | Path) -> tuple[Any, ...]:
    """An absolute path, its size and its times of change."""
    try:
        known = os.stat(path)  # noqa: PTH116  of many files
    except OSError:  # a link that leads nowhere; decoding will say so
        return (str(path),)
    return str(path), known.st_size, known.st_mtime_ns, known.st_ctime_ns


def known_endings() -> set[str]:
    further = HEIF if HEIF_IS_READ else ()
    return {*ENDINGS, *further, *(dicom.ENDINGS if dicom.IS_READ else ())}
