"""Text tables of labels: their cells, and the row of each sample by its name."""

import csv
import io
import re
import unicodedata
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np

from unlabeled.errors import UserError, notice, suggest

SEPARATORS = ",;\t|"
LONG = 100
"""Letters of a cell above which it is a text rather than a label."""


def read_table(
    path: Path, chosen: str | None, names: list[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The columns of labels, a string or "" for each name, and remarks on rows without a match.

    The column that matches the most names is the one of the names; see `_match`.
    """
    head, rows = read_cells(path)
    chosen = None if chosen is None else unicodedata.normalize("NFC", chosen)
    if chosen is not None and chosen not in head:
        raise UserError(f"{path} has no column '{chosen}'; {suggest(chosen, filter(None, head))}")
    own = {_stem(_key(name)): name for name in names}
    if any(_stem(_key(cell)) in own and "." in cell for cell in head):
        raise UserError(
            f"the first row of {path} names a sample; add a header above it: file,label"
        )
    columns = [[_key(row[i]) for row in rows] for i in range(len(head))]
    exact = {_key(name) for name in names}
    scores = [
        (len(own.keys() & {_stem(k) for k in keys}), len(exact & set(keys)), -i)
        for i, keys in enumerate(columns)
    ]
    matched, _, location = max(scores)
    if not matched:
        raise _no_match(path, rows[0][0] if rows else "", names)
    if chosen is not None and head[-location] == chosen:
        raise UserError(f"'{chosen}' of {path} names the samples; choose another column")
    shown = [i for i in range(len(head)) if head[i] == chosen]
    if chosen is None:
        shown = [
            i for i in range(len(head)) if i != -location and head[i] not in ("", "Unnamed: 0")
        ]
        # Columns of other names or of row numbers are not labels.
        each = [i for i in shown if len(rows) > 2 and len(set(columns[i])) == len(rows)]
        each = [i for i in each if scores[i][0] > matched / 2 or _counts(columns[i])]
        if each and len(each) < len(shown):
            which = ", ".join(head[i] for i in each)
            notice(
                f"{which} of {path.name} is different in every row, so it is not used as a label"
            )
            shown = [i for i in shown if i not in each]
    labels = [[row[i] for i in shown] for row in rows]
    row_of = _match(path, names, columns[-location], [tuple(cells) for cells in labels])
    if not any(row is not None for row in row_of):
        raise _no_match(path, rows[0][-location], names)
    used = {columns[-location][row] for row in row_of if row is not None}
    unused = [
        row[-location] for row, key in zip(rows, columns[-location], strict=True) if key not in used
    ]
    bare = [name for name, row in zip(names, row_of, strict=True) if row is None]
    beside = []
    if unused:
        beside.append(
            f"{len(unused):,} of {len(rows):,} rows of {path.name} name no sample, such as "
            f"'{unused[0]}'"
        )
    if bare:
        beside.append(f"{len(bare):,} of {len(names):,} samples have no row, such as '{bare[0]}'")
    columns_of = {
        head[i]: as_column(["" if row is None else labels[row][j] for row in row_of])
        for j, i in enumerate(shown)
    }
    return columns_of, beside


def as_column(cells: list[str]) -> np.ndarray:
    """Cells as an array, of objects if some are long: strings would all take as much memory."""
    return np.array(cells, object if max(map(len, cells), default=0) > LONG else str)


def _no_match(path: Path, first: str, names: list[str]) -> UserError:
    return UserError(
        f"{path} has no label for any image: its first name is '{first}', the first image is "
        f"'{names[0]}'; give the names of the images"
    )


def read_cells(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a text table, in any usual encoding and with any usual separator."""

    def fits(table: list[list[str]]) -> tuple[bool, int]:
        """Whether all rows have the same number of cells, more than one; and that number."""
        width = len(table[0]) if table else 0
        return width > 1 and all(len(row) == width for row in table), width

    try:
        text = _decoded(path)
        first, _, rest = text.partition("\n")
        separators = SEPARATORS
        if match := re.fullmatch(r'"?sep=(.)"?\r?', first):  # by Excel
            separators, text = match[1], rest
        tables = (  # one after the other, since they may be large
            [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=s) if any(row)]
            for s in separators
        )
        head, *rows = max(tables, key=fits) or [[]]
    except (OSError, csv.Error) as error:
        raise unreadable(path, error) from error
    if len(head) < 2 or any(len(row) != len(head) for row in rows):
        raise UserError(
            f"{path} must have a header and rows of the same length; give a table with both"
        )
    return [cell.strip() for cell in head], [[cell.strip() for cell in row] for row in rows]


def _decoded(path: Path) -> str:
    """Text as UTF-8 or UTF-16, else as Windows-1252; normalized (NFC)."""
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", errors="replace")
    elif content.startswith(b"\0"):
        text = content.decode("utf-16-be", errors="replace")
    elif b"\0" in content[:200]:
        text = content.decode("utf-16-le", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            notice(f"{path} is not UTF-8, so it is read as Latin-1 (Windows-1252)")
            text = content.decode("cp1252", errors="replace")
    return unicodedata.normalize("NFC", text)


def _key(name: str) -> str:
    """A name for comparison: normalized (NFC), with forward slashes, without `./`."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/")
    return PurePosixPath(name).as_posix() if name else ""


def _stem(key: str) -> str:
    """The last part of a path without its ending."""
    return _without_ending(key.rpartition("/")[2])


def _without_ending(key: str) -> str:
    return re.sub(r"(?<=[^/])\.[A-Za-z][A-Za-z0-9]{1,4}$", "", key)


def _counts(cells: list[str]) -> bool:
    """Whether cells are the numbers of the rows, from 0 or 1."""
    if not all(cell.isdecimal() for cell in cells):
        return False
    numbers = sorted(map(int, cells))
    return numbers in (list(range(len(cells))), list(range(1, len(cells) + 1)))


def _match(
    path: Path, names: list[str], keys: list[str], labels: list[tuple[str, ...]]
) -> list[int | None]:
    """The row of each name: by the same path, else by a path of which the other is the end, else
    likewise without file endings.

    Raises:
        UserError: a name has different rows, or a row matches several names.
    """
    rows: dict[str, int] = {}
    for i, key in enumerate(keys):
        if key and labels[rows.setdefault(key, i)] != labels[i]:
            raise UserError(f"{path} gives '{key}' two different labels; keep one")
    own = [_key(name) for name in names]
    row_of = [rows.get(name) for name in own]
    for form in (str, _without_ending):
        used = set(row_of)
        left = {key: row for key, row in rows.items() if row not in used}
        by_last = defaultdict(set)
        for key, row in left.items():
            for text in {key, form(key)}:
                by_last[text.rpartition("/")[2]].add((f"/{text}", row))
        owners: dict[int, list[str]] = defaultdict(list)
        for i, name in enumerate(own):
            full_path = f"/{form(name)}"
            fitting = {
                row
                for text, row in by_last.get(full_path.rpartition("/")[2], ())
                if row_of[i] is None and (full_path.endswith(text) or text.endswith(full_path))
            }
            if len({labels[row] for row in fitting}) > 1:
                raise UserError(f"{path} gives '{name}' two different labels; keep one")
            if fitting:
                row_of[i] = min(fitting)
                owners[min(fitting)].append(name)
        for row, several in owners.items():
            if len(several) > 1:
                raise UserError(
                    f"{path} names '{keys[row]}', but {len(several)} have that name; give paths"
                )
    return row_of


def unreadable(path: Path | None, error: Exception) -> UserError:
    """The error for labels in a file that cannot be read."""
    why = getattr(error, "strerror", None) or error
    return UserError(f"the labels in {path} cannot be read ({why}); check the path and the file")
