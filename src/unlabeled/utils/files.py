"""Atomic writing and tolerant reading of files."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import math
import os
import secrets
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unlabeled.errors import Notice, UserError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks and their encodings; those of UTF-32 begin like those of UTF-16."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; a link of that name is replaced, never followed."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Context for one thread of one process at a time; the lock file is created and stays.

    There is no such lock on Windows, where the guarded work may be done twice.
    """
    with path.open("wb") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX)  # the system releases it when the process ends
        yield


@contextmanager
def reserved(folder: Path) -> Iterator[None]:
    """Context with a folder, made if need be, that one process at a time trains in.

    There is no such lock on Windows and on some network disks.

    Raises:
        UserError: another process has reserved it.
    """
    if not fcntl or folder.is_file():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, if killed
    except BlockingIOError as error:
        os.close(descriptor)
        raise UserError(
            f"another process is training in {folder}; wait until it ends, or choose another --out"
        ) from error
    except OSError:  # a disk without locks
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def to_json(content: Any, indent: int | None = 2) -> str:
    """Convert to JSON; NaN and infinite numbers become null."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return json.dumps(plain(content), indent=indent, allow_nan=False)


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write a JSON file with `to_json`."""
    write_bytes(path, (to_json(content, indent) + "\n").encode())


def write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    """Write rows of numbers, columns in the order of the last row; missing values are empty."""
    columns = list(dict.fromkeys(key for row in reversed(rows) for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def as_utf8(names: list[str]) -> list[str]:
    """Names of files with ? in place of bytes that are not UTF-8, which a table cannot hold."""
    valid = [name.encode("utf-8", "replace").decode() for name in names]
    if changed := [name for name, other in zip(valid, names, strict=True) if name != other]:
        message = f"files have names that are not UTF-8, such as {changed[0]} ({len(changed):,} of "
        warnings.warn(f"{message}{len(names):,}): ? stands for such bytes; rename them", Notice, 2)
    return valid


def read_text(path: Path) -> str:
    """Read a text file, plain or `.gz`, as UTF-8, or as UTF-16 or UTF-32 if it begins with a mark.

    Raises:
        UserError: the file has another encoding or is not text.
    """
    return "".join(text_blocks(path))


def text_blocks(path: Path, size: int = 1 << 20) -> Iterator[str]:
    """What `read_text` reads, in blocks of about `size` bytes.

    Raises:
        UserError: the file has another encoding or is not text.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            content = file.read(size)
            name = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
            decoder = codecs.getincrementaldecoder(name)()
            while content:
                following = file.read(size)
                text = decoder.decode(content, final=not following)
                if "\0" in text:
                    raise UserError(
                        f"{path} cannot be read as text: it contains zero bytes, like binary files "
                        "and UTF-16 without a mark; save it as UTF-8"
                    )
                yield text
                content = following
    except (UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} cannot be read as text: {error}; save it as UTF-8") from error
    if name not in ("utf-8", "utf-8-sig"):
        warnings.warn(f"{path} is read as {name.upper()}, as its first bytes say", Notice, 2)


def read_csv(path: Path) -> dict[str, list[float]]:
    """Read columns of numbers; empty cells are NaN.

    Raises:
        UserError: a cell is not a number.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {k: [float(r[k] or "nan") for r in rows] for k in (rows[0] if rows else {})}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it") from error


def short_name(data: str) -> str:
    """Name of data on a page, which may be shared: of an absolute path only its end.

    Of a pattern, its end begins with the folder before it: `photos/*.jpg`.
    """
    prefix, colon, rest = data.partition(":")
    if colon and Path(rest).is_absolute():
        return f"{prefix}:{short_name(rest)}"
    *folders, name = Path(data).parts or ("",)
    if not folders or not Path(data).is_absolute():
        return data
    parts = [*folders, name][1:]
    first = next((i for i, part in enumerate(parts) if set(part) & set("*?[{")), len(parts))
    return "/".join(parts[max(0, first - 1) :])
