"""Find the files of a named data set: in a given folder, in `$UNLABELED_DATA`, or by download."""

import contextlib
import os
import pickle
import struct
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

from unlabeled.data.readers import cache
from unlabeled.errors import UserError, notice
from unlabeled.utils.progress import is_shown

T = TypeVar("T")

DAMAGED = (
    *(OSError, ValueError, EOFError, LookupError, TypeError, AttributeError, OverflowError),
    *(MemoryError, NotImplementedError, RuntimeError, tarfile.TarError, BadZipFile),
    *(pickle.UnpicklingError, struct.error, zlib.error),
)
"""Errors of readers of archives, arrays and pickles on damaged files."""


@dataclass(frozen=True)
class Origin:
    """A data set as published by its authors.

    Args:
        name: for messages, such as CIFAR-10.
        key: value of `--data`, such as cifar10.
        folders: usual names of its folder.
        address: URL of the files, ending with a slash.
        files: their names, and the MD5 of each; empty if none was published.
    """

    name: str
    key: str
    folders: tuple[str, ...]
    address: str
    files: dict[str, str]

    @property
    def remedy(self) -> str:
        """What to download, and from where."""
        return f"download {', '.join(self.files)} from {self.address}"


def find(origin: Origin, location: str | None, look: Callable[[Path], T | None]) -> T:
    """Find or download a data set; returns what `look` returns for the first location that has it.

    The locations are `location` alone if it is given, otherwise `$UNLABELED_DATA`, then earlier
    downloads. Downloads go into the cache, which is bounded: the least recently used are removed.

    Args:
        origin: of the data set.
        location: a file, its folder, or the folder around that.
        look: returns None for a path, existing or not, that does not contain the data set.

    Raises:
        UserError: it is not found and cannot be downloaded.
    """
    if location is not None:
        path = Path(location).expanduser()
        if (result := _below(path, origin, look)) is None:
            what = f"does not contain {origin.name}" if path.exists() else "does not exist"
            raise UserError(f"{location} {what}; {origin.remedy}, and give their folder")
        return result
    data_folder = os.environ.get("UNLABELED_DATA")
    downloads = cache.folder() / f"{origin.key}-download"
    if data_folder and (result := _below(Path(data_folder).expanduser(), origin, look)) is not None:
        return result
    if look(downloads) is None:
        _fetch(origin, downloads)
    with contextlib.suppress(OSError):  # it may be shared by others
        os.utime(downloads)
    if (result := look(downloads)) is None:
        raise UserError(f"{downloads} is damaged; remove it")
    return result


def _below(path: Path, origin: Origin, look: Callable[[Path], T | None]) -> T | None:
    locations = (path, *(path / name for name in (origin.key, *origin.folders)))
    return next((result for p in locations if (result := look(p)) is not None), None)


def _fetch(origin: Origin, folder: Path) -> None:
    """Download every file, checked by its MD5; pooch writes aside and renames."""
    why = "" if all(origin.files.values()) else "no checksum is published"
    if not why:
        import pooch

        pooch.get_logger().setLevel("WARNING")
        message = f"{origin.name} is downloaded from {origin.address} into {folder}"
        notice(message)
        load = pooch.HTTPDownloader(progressbar=is_shown(True) and sys.stderr.isatty())
        try:
            for name, md5 in origin.files.items():
                pooch.retrieve(origin.address + name, f"md5:{md5}", name, folder, downloader=load)
            return
        except ValueError:  # before OSError: some errors of requests are both
            why = "what came has another checksum"
        except OSError as error:
            why = type(error).__name__
    raise UserError(
        f"{origin.name} cannot be downloaded ({why}); {origin.remedy} into {folder}, or into "
        f"another folder and give --data {origin.key}:FOLDER"
    )


@contextlib.contextmanager
def readable(path: Path, origin: Origin) -> Iterator[None]:
    """Raise the errors of a damaged file as a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except DAMAGED as error:
        why = " ".join(str(error).split()).strip(".'\"") or type(error).__name__
        raise UserError(
            f"{path} cannot be read as {origin.name} ({why}); copy or download it again"
        ) from error


def refuse_missing(location: Path, missing: list[str]) -> None:
    """Raise UserError if a location contains some files of a data set, but lacks these."""
    if missing:
        raise UserError(f"{location} lacks {', '.join(missing)}; copy or download it again")
