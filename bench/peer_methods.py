"""Write the table of methods beside those of other libraries into docs/peers.md.

Which method is here comes from the registry; which ones others have, with the file that shows it,
from `peer_methods.json`, written by hand on the date that stands there.

python bench/peer_methods.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unlabeled import registry

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "peers.md"
SOURCES = Path(__file__).with_suffix(".json")


def filled(text: str, sources: dict[str, Any] | None = None) -> str:
    """The page with its marked blocks regenerated.

    Args:
        text: of docs/peers.md.
        sources: content of `peer_methods.json` (default: of the file).

    Raises:
        SystemExit: a source names a method that is not registered, or an unknown library.
    """
    sources = sources or json.loads(SOURCES.read_text(encoding="utf-8"))
    listed = sorted(registry.listing("methods"))
    if unknown := [name for name in sources["methods"] if name not in listed]:
        raise SystemExit(f"{', '.join(unknown)} in {SOURCES.name} is no method; give its name here")
    peers = sources["repositories"]
    for name, files in (sources["methods"] | sources["others"]).items():
        if unknown := [peer for peer in files if peer not in peers]:
            raise SystemExit(f"{', '.join(unknown)}, given for {name}, has no repository")
    here = {name: sources["methods"].get(name, {}) for name in listed}
    blocks = {
        "summary": summary(here, sources),
        "here": table({f"[`{n}`](methods/{n}.md)": f for n, f in here.items()}, peers, True),
        "others": table(sources["others"], peers, False),
    }
    for name, block in blocks.items():
        begin, end = f"<!-- {name}:begin -->\n", f"\n<!-- {name}:end -->"
        before, _, rest = text.partition(begin)
        text = before + begin + block + end + rest.partition(end.lstrip())[2]
    return text


def summary(here: dict[str, dict[str, str]], sources: dict[str, Any]) -> str:
    """How many of the methods each library has."""
    counts = ", ".join(
        f"[{peer}](https://github.com/{repository}) {sum(peer in files for files in here.values())}"
        for peer, repository in sources["repositories"].items()
    )
    return (
        f"As of {sources['date']}, of the {len(here)} methods here: {counts}. "
        f"{len(sources['others'])} methods of theirs are not here."
    )


def table(rows: dict[str, dict[str, str]], peers: dict[str, str], ours: bool) -> str:
    """A row for each method: a check mark, linked to the file, for each library that has it."""
    head = ["method", *peers, *(["unlabeled"] if ours else [])]
    lines = [head, ["---", *[":-:"] * (len(head) - 1)]]
    for title, files in rows.items():
        cells = [
            f"[✓](https://github.com/{repository}/blob/HEAD/{files[peer]})" if peer in files else ""
            for peer, repository in peers.items()
        ]
        lines.append([title, *cells, *(["✓"] if ours else [])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
