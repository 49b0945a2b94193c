"""Files that are either there in full or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import secrets
from pathlib import Path
from typing import Any

from unlabeled.errors import UserError


def write_bytes(path: Path, content: bytes) -> None:
    """Write aside, then rename. A link of that name is replaced, never followed."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """As JSON."""
    write_bytes(path, (json.dumps(content, indent=indent) + "\n").encode())


def write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    """Rows of numbers, the columns in the order of the last row's; what a row lacks is empty."""
    columns = list(dict.fromkeys(key for row in reversed(rows) for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_csv(path: Path) -> dict[str, list[float]]:
    """Columns of numbers; an empty cell is NaN.

    Raises:
        UserError: a cell is no number.
    """
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {k: [float(r[k] or "nan") for r in rows] for k in (rows[0] if rows else {})}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it") from error
