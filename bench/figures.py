"""Update figures that are typed into texts after results have changed.

python bench/figures.py

A comment `<!-- figures` below a paragraph or list has a line for each figure in it, in the order of
the text: the number as it is written, then the file and the keys, as in
`40.6 lectures.json/experiments/L1/probe/raw/test`; or, of a number that is no result, what it is
instead. Of a list of values the mean counts. Numbers that are no longer right are replaced, in the
same digits, and printed: read what is written around them.
"""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from typing import Any

from readme import result

DOCS = Path(__file__).parent.parent / "docs"
TEXTS = [*sorted(DOCS.glob("*.md")), *sorted((DOCS / "lectures").glob("*.md"))]
SCALES = (1.0, 100.0, 1e-9)
"""Numbers are written as they are, in percent or in billions."""


def value_of(source: str) -> float | None:
    """The value at a path such as `words.json/experiments/W2`; None if it is not a path."""
    file, *keys = source.split("/")
    if not file.endswith(".json"):
        return None
    value: Any = result(file)
    for key in keys:
        value = value[int(key) if isinstance(value, list) else key]
    return statistics.fmean(value) if isinstance(value, list) else float(value)


def rounded(number: str, value: float) -> str:
    """A value, or minus it, in the scale and the digits of a number; that itself if it is right."""
    digits = len(number.partition(".")[2])
    error = 0.5 * 10.0**-digits + 1e-9
    written = [abs(value) * scale for scale in SCALES]
    near = min(written, key=lambda each: abs(each - float(number)))
    return number if abs(near - float(number)) < error else f"{near:.{digits}f}"


def pattern(number: str) -> str:
    """Finds a number that is not a part of another."""
    return rf"(?<![\d.]){re.escape(number)}(?!\.?\d)"


def updated(part: str) -> tuple[str, list[str]]:
    """A paragraph with its comment, and what has changed."""
    written, comment, lines = part.partition("\n<!-- figures\n")
    start, new_lines, changes = 0, [], []
    for line in lines.splitlines():
        number, _, source = line.partition(" ")
        value = value_of(source) if source and line != "-->" else None
        if value is not None:
            new = rounded(number, value)
            found = re.compile(pattern(number)).search(written, start)
            found = found or re.search(pattern(number), written)
            if found:
                written = written[: found.start()] + new + written[found.end() :]
                start = found.start() + len(new)
            if new != number:
                changes.append(f"{number} -> {new}: {source}")
            line = f"{new} {source}"
        new_lines.append(line)
    return written + comment + "\n".join(new_lines), changes


if __name__ == "__main__":
    for path in TEXTS:
        before = path.read_text(encoding="utf-8")
        parts = [updated(part) if "<!-- figures" in part else (part, [])
                 for part in before.split("\n\n")]  # fmt: skip
        for _, changes in parts:
            for change in changes:
                print(f"{path.name}: {change}")
        after = "\n\n".join(part for part, _ in parts)
        if after.rstrip("\n") != before.rstrip("\n"):
            path.write_text(after.rstrip("\n") + "\n", encoding="utf-8")
