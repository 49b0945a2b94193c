"""The location of encoded images, and what is known of them before they are decoded."""

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
"""Endings that pillow-heif reads, if installed."""
ARRAYS = (".npy",)
"""Endings of arrays, which are images if a folder has no others."""
VERSION = 6
"""Version of the decoding; cached images of other versions are decoded again."""
TABLES = (".parquet", ".arrow", ".feather")
CHUNK = 64
"""Number of images that one task of a worker reads."""
LABEL = 4_000
"""Maximum bytes that are read from a label file or a caption in a tar."""


@dataclass
class Source:
    """Encoded images, and what identifies their content."""

    names: list[str]  #: of all images, in order
    stamps: Iterable[tuple[Any, ...]]  #: path, size and times of change of every file
    images: Callable[[], Iterable[Encoded]]  #: in the order of their names
    labels: Callable[[str], list[str] | None]  #: by the name of a column or ending
    at: Callable[[int], Encoded] | None = None  #: by row; None if they can only be read in order
    others: list[str] = field(default_factory=list)  #: names of files that are not images
    listing: Listing = field(default_factory=Listing)  #: of the folder
    opening: tuple[Any, ...] = ()  #: options of opening that change the images
    headers: dict[str, Header | str] | None = None  #: by file, if all were read

    @functools.cached_property
    def stamp(self) -> str:
        """A hash of the files, their names, and the options of decoding."""
        known = hashlib.sha256(repr((VERSION, *reader(), *self.opening)).encode())
        for part in map(iter, (self.stamps, self.names)):
            while some := list(islice(part, 10_000)):  # of possibly millions
                known.update(repr(some).encode(errors="surrogatepass"))
        return known.hexdigest()


def stamp(path: str | Path) -> tuple[Any, ...]:
    """Absolute path, size and modification times of a file."""
    try:
        known = os.stat(path)  # noqa: PTH116  of many files
    except OSError:  # a broken link, which decoding reports
        return (str(path),)
    return str(path), known.st_size, known.st_mtime_ns, known.st_ctime_ns


def known_endings() -> set[str]:
    further = HEIF if HEIF_IS_READ else ()
    return {*ENDINGS, *further, *(dicom.ENDINGS if dicom.IS_READ else ())}
