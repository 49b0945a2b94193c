"""Measure how long the notebooks of the lectures take.

python bench/notebooks.py          # or some: 06-simclr 07-simclr-invariance

Each is executed from top to bottom in a fresh process and an empty folder. Writes
results/notebooks.json; `python bench/readme.py` then fills docs/lectures/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "lectures"
RESULT = ROOT / "results" / "notebooks.json"
CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TAGS = re.compile(r":tags: \[(.*)\]\n")


def names() -> list[str]:
    """Names of all notebooks, in order."""
    return sorted(path.stem for path in FOLDER.glob("[0-9][0-9]-*.md"))


def cells(name: str) -> list[tuple[set[str], str]]:
    """Tags and code of each cell of a notebook."""
    results = []
    for body in CELL.findall((FOLDER / f"{name}.md").read_text(encoding="utf-8")):
        tags = TAGS.match(body)
        results.append((set(tags[1].split(", ")) if tags else set(), TAGS.sub("", body, count=1)))
    return results


def execute(name: str) -> None:
    """Run all cells, the solution as well, as Jupyter does."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    for _, code in cells(name):
        exec(compile(code, f"{name}.md", "exec"), scope)  # the document is ours


def joined(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Times that were measured before beside the new ones, without those of removed notebooks.

    Raises:
        SystemExit: they were measured under other conditions.
    """
    seconds = {n: s for n, s in old.get("seconds", {}).items() if n in names()}
    if set(seconds) <= set(new["seconds"]):
        return new
    if differing := [key for key in ("cores", "versions") if old[key] != new[key]]:
        raise SystemExit(f"{' and '.join(differing)} differ from those before: run all notebooks")
    return new | {"seconds": dict(sorted((seconds | new["seconds"]).items()))}


def main() -> None:
    """Run the notebooks one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", help="notebooks, such as 06-simclr (default: all)")
    parser.add_argument("--show", action="store_true", help="show what the cells print")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    chosen = args.name or names()
    if unknown := [name for name in chosen if name not in names()]:
        raise SystemExit(f"no notebook {unknown[0]}; there are {', '.join(names())}")
    if args.child:
        return execute(chosen[0])
    from unlabeled.training.folder import versions
    from unlabeled.utils.files import write_json

    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            line = [sys.executable, str(Path(__file__).resolve()), "--child", name]
            subprocess.run(
                line, cwd=folder, check=True, stdout=None if args.show else subprocess.DEVNULL
            )
            seconds = round(time.perf_counter() - started, 1)
        print(f"{name}: {seconds:.0f} seconds", flush=True)
        new = {"seconds": {name: seconds}, "cores": os.cpu_count(), "versions": versions()}
        old = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        write_json(RESULT, joined(old, new))  # what is measured stays if the next one is stopped


if __name__ == "__main__":
    main()
