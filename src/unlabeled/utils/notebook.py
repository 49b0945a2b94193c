"""Small tables in notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

CELL = "text-align: left; vertical-align: top; padding: .3em .8em"
SMALL = "font-size: .85em; opacity: .75"


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as HTML, escaped; what follows a line break in a cell is small.

    Args:
        caption: above it.
        head: titles of the columns; none for a table without them.
        rows: cells; the first of each row is its title.
    """
    titles = "".join(f'<th scope="col" style="{CELL}">{_cell(text)}</th>' for text in head)
    lines = [f"<thead><tr>{titles}</tr></thead>"] if head else []
    for first, *cells in rows:
        columns = "".join(f'<td style="{CELL}">{_cell(text)}</td>' for text in cells)
        lines.append(f'<tr><th scope="row" style="{CELL}">{_cell(first)}</th>{columns}</tr>')
    text = f'<caption style="text-align: left; {SMALL}">{html.escape(caption)}</caption>'
    return f'<div style="overflow-x: auto"><table>{text}{"".join(lines)}</table></div>'


def _cell(text: str) -> str:
    first, _, rest = (html.escape(part) for part in text.partition("\n"))
    return first + f'<br><span style="{SMALL}">{rest}</span>' * bool(rest)
