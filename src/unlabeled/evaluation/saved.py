"""Evaluations of a run on several data sets, a file each beside `evaluation.json`."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

from unlabeled.encoders.base import checksum
from unlabeled.errors import UserError, notice
from unlabeled.runs.run import Run
from unlabeled.runs.safety import inside, read_json
from unlabeled.utils.files import short_name, write_json

FOLDER = "evaluations"
IDENTITY = ("data", "test_data", "target")
"""Fields that identify an evaluation of a run; a later one with the same fields replaces it."""


def keep(run: Run, result: dict[str, Any]) -> None:
    """Write what `evaluate` returns as `evaluations/NAME.json`, with a checksum of the weights."""
    path = inside(run.path, f"{FOLDER}/{_file_name(result)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, result | {"weights": checksum(run.encoder)})


def on_other_data(run: Run, result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Results of `evaluate` for the same weights on other data, by the name of the data.

    Args:
        run: the run.
        result: the result to exclude.
    """
    results: dict[str, dict[str, Any]] = {}
    weights, own, other, damaged = checksum(run.encoder), _file_name(result), 0, 0
    for path in sorted(inside(run.path, FOLDER).glob("*.json")):
        if path.name == own:
            continue
        try:
            content = read_json(inside(run.path, f"{FOLDER}/{path.name}"))
            name = ", tested on ".join(
                dict.fromkeys((str(content["data"]), str(content["test_data"])))
            )
        except (UserError, KeyError):
            damaged += 1
            continue
        if content.get("weights") != weights:
            other += 1
            continue
        results[name if name not in results else f"{name} ({content.get('target')})"] = content
    for number, problem in ((other, "of other weights"), (damaged, "damaged")):
        if number:
            notice(
                f"{number} in {run.path / FOLDER} {'is' if number == 1 else 'are'} {problem} and "
                "not shown; evaluate on that data again"
            )
    return results


def _file_name(result: dict[str, Any]) -> str:
    """A readable name; the number makes names unique that differ only in other characters.

    Data is named by its full path, so that different paths to the same data are equal.
    """
    words = [_full(str(result.get(key))) for key in IDENTITY[:2]] + [str(result.get("target"))]
    names = dict.fromkeys(short_name(word) for word in words[:2])
    readable = re.sub(r"[^\w-]+", "-", "-".join(names))[-80:].strip("-")
    return f"{readable}-{zlib.crc32(repr(words).encode(errors='replace')):08x}.json"


def _full(data: str) -> str:
    """Data in files by absolute path, also after the name of a data set; other data unchanged."""
    prefix, colon, rest = data.partition(":")
    path = Path(data).expanduser()
    if path.exists():
        return str(path.resolve())
    return f"{prefix}:{_full(rest)}" if colon and rest else data
