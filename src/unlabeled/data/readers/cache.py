"""Cache of decoded images, audio, videos and texts on disk, so that they are decoded once.

An entry is a folder named by a hash of its source. Entries of images contain the pixels, which are
memory-mapped, and an index with their checksum, which is verified if the file has changed. The size
of the cache is bounded: the least recently used entries are removed first.
"""

import contextlib
import csv
import json
import os
import shutil
import socket
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import platformdirs
import psutil

from unlabeled.errors import UserError, notice
from unlabeled.utils.files import locked, write_json

T = TypeVar("T")
DEFAULT_GB = 20.0
SILENT = 64 << 20
"""Bytes of an entry of audio, video or text up to which it is written without a notice."""
DAY = 86_400.0
RESERVED = "reserved.json"
"""File in an incomplete entry: its expected bytes, and the process and host that write it."""

Part = tuple[np.ndarray, list[str | None]]
"""Images of a chunk, and for each of its names the reason why it is missing, or None."""


def folder() -> Path:
    """The folder of the entries: `$UNLABELED_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("UNLABELED_CACHE")
    path = Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("unlabeled")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"decoded images cannot be kept in {path} ({error.strerror}); "
            "set UNLABELED_CACHE to a folder that can be written"
        ) from error
    return path


def limit() -> int:
    """Maximum bytes of the cache: `$UNLABELED_CACHE_GB`, or 20 GB."""
    size = os.environ.get("UNLABELED_CACHE_GB", "")
    try:
        return int(float(size or DEFAULT_GB) * 1e9)
    except (ValueError, OverflowError) as error:
        raise UserError(f"UNLABELED_CACHE_GB is '{size}'; give a number of gigabytes") from error


class Entry:
    """An opened, undamaged entry of images."""

    def __init__(self, path: Path) -> None:
        index = json.loads((path / "index.json").read_text())
        self.path, self.skipped = path, dict(index["skipped"])
        self.names: list[str] = index["names"]
        self.kept = np.asarray(index["kept"], np.int64)
        shape, dtype, checksum = tuple(index["shape"]), np.dtype(index["dtype"]), index["crc32"]
        file, changed = path / "pixels.bin", index["changed"]
        self.pixels = np.memmap(file, dtype, "r", shape=shape)
        if len(self.names) != shape[0]:
            raise ValueError("it has other names")
        if file.stat().st_mtime_ns != changed:
            if zlib.crc32(self.pixels.data) != checksum:
                raise ValueError("its checksum differs")
            with contextlib.suppress(OSError):
                os.utime(file, ns=(changed, changed))
        with contextlib.suppress(OSError):  # it may belong to another user
            os.utime(path)


def find(key: str) -> Entry | None:
    """The entry of images with that key, None if there is none; a damaged one is removed."""
    path = folder() / key
    if not path.is_dir():
        return None
    try:
        return Entry(path)
    except FileNotFoundError:  # another process has just removed it
        return None
    except (ValueError, KeyError, TypeError) as error:
        notice(f"the decoded images in {path} are damaged ({error}); they are made again")
        shutil.rmtree(path, ignore_errors=True)
        return None


def write(key: str, names: list[str], parts: Iterable[Part], expected: int) -> Entry | None:
    """Write an entry of images from parts in the order of `names`; None if no image can be read.

    Raises:
        UserError: the disk has fewer free bytes than expected.
    """
    root = folder()
    free = shutil.disk_usage(root).free
    if expected > free:
        raise UserError(
            f"the decoded images need {expected / 1e9:.1f} GB, but {root} has {free / 1e9:.1f} "
            "GB; set UNLABELED_CACHE to another disk, or take smaller images with --size"
        )

    def fill(aside: Path) -> bool:
        index = _write(aside, names, parts)
        write_json(aside / "index.json", index, indent=None)
        return bool(index["names"])

    path = build(key, fill)
    return None if path is None else Entry(path)


def get_or_build(
    key: str, fill: Callable[[Path], bool], read: Callable[[Path], T], expected: int, what: str
) -> T:
    """Read the entry of that key with `read`, after `fill` has written it if it did not exist.

    Args:
        key: name of the entry.
        fill: writes its files into a folder.
        read: opens these files, and raises an error if they are damaged.
        expected: approximate size in bytes.
        what: a plural noun for messages.

    Raises:
        UserError: the disk has fewer free bytes than expected.
    """
    root = folder()
    if (root / key).is_dir():
        try:
            content = read(root / key)
        except FileNotFoundError:  # another process has just removed it
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            notice(f"the {what} in {root / key} are damaged ({error}); they are made again")
            shutil.rmtree(root / key, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                os.utime(root / key)
            return content
    free = shutil.disk_usage(root).free
    if expected > free:
        raise UserError(
            f"the {what} need {expected / 1e9:.1f} GB, but {root} has {free / 1e9:.1f} GB; set "
            "UNLABELED_CACHE to another disk"
        )
    path = build(key, fill)
    assert path is not None
    size = sum(file.stat().st_size for file in path.iterdir())
    if size > SILENT:
        notice(f"the {what} are kept in {path} ({size / 1e9:.2f} GB), for the next time")
    return read(path)


def build(key: str, fill: Callable[[Path], bool], room: int = 0) -> Path | None:
    """The folder of that key; `fill` writes it under another name, which changes when complete.

    None if `fill` returns False: there is nothing to store. Before, `room` bytes of the cache are
    freed and reserved.
    """
    root, most = folder(), limit()
    if (root / key).is_dir():
        with contextlib.suppress(OSError):
            os.utime(root / key)
        return root / key
    aside = Path(tempfile.mkdtemp(prefix=f"{key}.", suffix=".tmp", dir=root))
    try:
        if room:
            with locked(root / "room.lock"):
                write_json(aside / RESERVED, [room, os.getpid(), socket.gethostname()])
                _bound(root, key, most)
        if not fill(aside):
            return None
        (aside / RESERVED).unlink(missing_ok=True)
        try:
            aside.rename(root / key)
        except OSError:  # another process was faster
            if not (root / key).is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _bound(root, key, most)
    return root / key


def _write(aside: Path, names: list[str], parts: Iterable[Part]) -> dict[str, Any]:
    positions: list[int] = []
    skipped: list[tuple[str, str]] = []
    checksum, seen = 0, 0
    shape, dtype = (), ""
    with (aside / "pixels.bin").open("wb") as file:
        for images, reasons in parts:
            content = np.ascontiguousarray(images)
            file.write(content.data)
            checksum = zlib.crc32(content.data, checksum) if content.size else checksum
            shape, dtype = images.shape[1:], images.dtype.str
            for position, reason in enumerate(reasons, seen):
                if reason is None:
                    positions.append(position)
                else:
                    skipped.append((names[position], reason))
            seen += len(reasons)
    listed = aside / "skipped.csv"
    with listed.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows([("name", "reason"), *skipped])
    return {
        "shape": [len(positions), *shape],
        "dtype": dtype,
        "crc32": checksum,
        "changed": (aside / "pixels.bin").stat().st_mtime_ns,
        "names": [names[i] for i in positions],
        "kept": positions,
        "skipped": skipped,
    }


def _bound(root: Path, newest: str, most: int) -> None:
    """Remove the least recently used entries until the rest fits, and leftovers of killed runs.

    Incomplete entries count with the bytes that they have reserved.
    """
    entries, total = [], 0
    for path in root.iterdir():
        try:
            changed = path.stat().st_mtime
            if path.suffix == ".tmp":
                reserved, is_left = _reserved(path)
                total += reserved
                if is_left or time.time() - changed > DAY:
                    shutil.rmtree(path, ignore_errors=True)
                    total -= reserved
            elif path.is_dir():
                size = sum(file.stat().st_size for file in path.iterdir())
                entries.append((path.name == newest, changed, size, path))
        except FileNotFoundError:  # another process removes entries, too
            continue
    total += sum(size for _, _, size, _ in entries)
    for new, _, size, path in sorted(entries):
        if total <= most or new:
            return
        shutil.rmtree(path, ignore_errors=True)
        total -= size


def _reserved(aside: Path) -> tuple[int, bool]:
    """Bytes that an incomplete entry has reserved, and whether its process has ended."""
    try:
        room, process, host = json.loads((aside / RESERVED).read_text())
    except (OSError, ValueError):
        return 0, False
    return room, host == socket.gethostname() and not psutil.pid_exists(process)
