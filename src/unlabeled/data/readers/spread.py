"""Split many local or remote files into parts that are read independently."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from unlabeled.data.readers import audio, folders, patterns
from unlabeled.data.readers.folders import HIDDEN, Listing
from unlabeled.data.readers.source import TABLES, known_endings
from unlabeled.errors import UserError, notice, plural, reason

FILES = 512
"""Number of image files of a part; each tar shard or table is a part."""


@dataclass(frozen=True)
class Parts:
    """Files of a folder, in parts.

    Args:
        root: the folder, or its address.
        names: paths of the files of each part, relative to the root.
    """

    root: str
    names: list[list[str]]

    def prefix(self, part: int) -> str:
        """Prefix of the names of samples in a tar shard, if it is one of several."""
        first, *others = self.names[part]
        is_shard = not others and first.lower().endswith(".tar")
        return f"{first}/" if is_shard and len(self.names) > 1 else ""


def list_parts(data: str | Path, files: int = FILES) -> Parts:
    """List images, tar shards or tables in parts; nothing is opened.

    Args:
        data: a folder, a file or a pattern; or an address for fsspec, such as `s3://bucket/photos`
            or `gs://bucket/shards-{000..127}.tar`.
        files: number of image files of a part.

    Raises:
        UserError: there are none, or they cannot be listed.
    """
    root, listing = _remote(str(data)) if "://" in str(data) else _local(data)
    head = (lambda name: b"") if "://" in root else (lambda name: folders.head(Path(root) / name))
    shards = [n for n in listing.names if n.lower().endswith((".tar", *TABLES))]
    images = folders.of_kind(listing.names, known_endings(), folders.is_image, head)
    if not images and not shards:
        raise UserError(
            f"{data} holds no images, tar shards or tables, which --engine ray reads; omit --engine"
        )
    if images and shards:
        raise UserError(
            f"{data} holds {len(images):,} images and {len(shards):,} tar shards or tables at "
            "once; give one kind of them"
        )
    others = sorted({*listing.names} - {*images, *shards})
    noun = "image" if images else "shard"
    folders.say_left_out(Path(str(data)), len(images or shards), noun, others, listing)
    starts = range(0, len(images), files)
    return Parts(root, [images[i : i + files] for i in starts] or [[name] for name in shards])


def _local(data: str | Path) -> tuple[str, Listing]:
    path, listing = patterns.find_files(data)
    if listing is None and path.is_file():
        path, listing = path.parent, Listing([path.name])
    if listing is None:
        raise UserError(
            f"--engine ray reads folders and patterns of files, and {data} is none; omit --engine"
        )
    if audio.is_folder_of_audio(path, listing):
        raise UserError(f"{data} holds recordings, which --engine ray does not read; omit --engine")
    return str(path.absolute()), listing


def _remote(address: str) -> tuple[str, Listing]:
    """The address of the common folder of all files, and their paths relative to it."""
    names: list[str] = []
    root = None
    addresses = patterns.expand_braces(address)
    try:
        for each in addresses:
            system, path = _system(each)
            if glob.has_magic(path):
                names += system.glob(path)
            elif system.isfile(path):
                names.append(path)
            else:
                names += system.find(path)
                root = path.rstrip("/") if each == address else None
    except (OSError, ImportError, ValueError) as error:
        raise UserError(
            f"{address} cannot be listed ({reason(error)}); check the address and your "
            "credentials, and install what fsspec needs for it"
        ) from error
    if not names:
        raise UserError(f"there is nothing at {address}; check the address")
    if root is None:
        root = os.path.commonpath([str(PurePosixPath(name).parent) for name in names])
        notice(f"'{address}' matches {plural(len(names), 'file')}")
    below = {name[len(root) :].lstrip("/") for name in names}
    shown = sorted(name for name in below if not _is_hidden(name))
    return system.unstrip_protocol(root), Listing(shown)


def _system(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    system, path = url_to_fs(address)
    return system, str(path)


def _is_hidden(name: str) -> bool:
    words = name.split("/")
    return any(w.startswith((".", "__MACOSX")) for w in words) or words[-1].lower() in HIDDEN


def fetch(root: str, names: list[str], folder: Path) -> patterns.Files:
    """Files of a part, downloaded into a folder if they are remote.

    Raises:
        UserError: they cannot be downloaded.
    """
    if "://" not in root:
        return patterns.Files(Path(root), names)
    try:
        system, path = _system(root)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        system.get([f"{path}/{name}" for name in names], [str(folder / name) for name in names])
    except (OSError, ImportError, ValueError) as error:
        raise UserError(
            f"{names[0]} and {len(names) - 1:,} other files cannot be downloaded from {root} "
            f"({reason(error)}); run the command again to continue"
        ) from error
    return patterns.Files(folder, names)
