"""Lines of code of each method: no blanks, comments, docstrings. Writes results/lines.json.

    python bench/lines.py

Peers' figures were counted once, in their repositories; this does not count them anew.
"""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path
from typing import Any

from unlabeled.utils.files import write_json

ROOT = Path(__file__).parent.parent
BASE = ("core.py", "learner.py")
IGNORED = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
PEERS = {
    "lightly (its benchmarks)": {
        "simclr": 115,
        "byol": 117,
        "moco": 117,
        "vicreg": 100,
        "dino": 138,
    },
    "solo-learn": {"least": 52, "most": 165, "base": 468},
    "stable-pretraining": {"least": 78, "most": 140, "base": 540},
}


def code_lines(path: Path) -> int:
    """Lines that hold code."""
    source = path.read_text(encoding="utf-8")
    told: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            told |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (*IGNORED, tokenize.ENDMARKER):
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - told)


def main() -> None:
    """Count and write."""
    package = ROOT / "src" / "unlabeled"
    methods = sorted((package / "methods").glob("[a-z]*.py"))
    found: dict[str, Any] = {
        "command": "python bench/lines.py",
        "base": {name: code_lines(package / name) for name in BASE},
        "methods": {path.stem: code_lines(path) for path in methods},
        "peers": PEERS,
    }
    write_json(ROOT / "results" / "lines.json", found)
    for name, count in found["methods"].items():
        print(f"{count:4}  {name}")
    print(f"{sum(found['base'].values()):4}  {' and '.join(BASE)}")


if __name__ == "__main__":
    main()
