"""Files that are either there in full or not at all."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write aside, then rename."""
    aside = path.with_name(path.name + ".tmp")
    aside.write_bytes(content)
    aside.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Indented JSON."""
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())


def write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    """Rows of numbers, the columns in the order of the last row's; what a row lacks is empty."""
    columns = list(dict.fromkeys(key for row in reversed(rows) for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_csv(path: Path) -> dict[str, list[float]]:
    """Columns of numbers; an empty cell is NaN."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {k: [float(r[k] or "nan") for r in rows] for k in (rows[0] if rows else {})}
