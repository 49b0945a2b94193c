"""Tables of numbers and words, a sample in each row: CSV, Parquet, data frames, arrays (N, D)."""

from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.dataset import Samples
from unlabeled.data.readers import arrays, groups, label_tables, labels
from unlabeled.data.readers.source import TABLES
from unlabeled.errors import UserError, notice, plural, suggest
from unlabeled.modality import LETTERS, Column, Table

ENDINGS = (".csv", ".tsv", ".tab", ".psv")
"""Of tables in text, which are opened as tables unasked."""
MOST_WORDS = 50
"""Words of a column that have a value of their own; the commonest in training."""
MOST_VALUES = 8_192
"""Values of an encoded row; their names and scales are kept with each encoder."""
NAMED = 3
"""Columns that a message names at most."""


def read(
    data: Any, like: Table | None, labels_from: Any = None, groups_from: Any = None
) -> Samples:
    """Read a table; numbers and words are not yet encoded, which `convert` does.

    A column whose cells are all numbers, or empty, holds numbers; another one holds words, each a
    category. Columns of labels and groups, and those that name or only count the rows, are not
    learned from. All of this is said.

    Args:
        data: a file, a data frame, an array or tensor (N, D), or a pair of one of these and labels.
        like: what an encoder learned from; its columns are found by name.
        labels_from: the column of the labels, also as `table.csv:column`, an array or a `.npy`.
        groups_from: the column of groups, or their array.

    Raises:
        UserError: it cannot be read, or lacks a column.
    """
    if isinstance(data, tuple) and len(data) == 2:
        data, labels_from = data[0], data[1] if labels_from is None else labels_from
    path = Path(data).expanduser() if isinstance(data, str | Path) else None
    cells, y, is_named = _cells(data, path, like)
    name = path.name if path else "the table"
    if not cells or not len(next(iter(cells.values()))):
        raise UserError(f"{name} has no rows, or no columns; give at least two rows")
    total = len(next(iter(cells.values())))
    known = [column.name for column in like.columns] if like else []
    aside: dict[str, Any] = {}  # columns that are not learned from
    for role, place in (
        ("labels", y if labels_from is None else labels_from),
        ("groups", groups_from),
    ):
        column = _column_of(place, path, cells)
        if column is None:
            aside[role] = ("label", place)
        elif column in known:
            raise UserError(
                f"the encoder learned from the column '{column}', so it can hold no {role}; train "
                f"again with --{role}-from {column}"
            )
        else:
            aside[role] = (column, cells[column])
    taken = {column for column, _ in aside.values()}
    left = {n: v for n, v in cells.items() if n not in taken}
    parsed = {n: _parsed(n, v) for n, v in left.items() if n in known or not like}
    names, parsed = _row_names(left, parsed, like, is_named, total)
    if missing := [n for n in known if n not in parsed]:
        raise UserError(
            f"{name} lacks {plural(len(missing), 'column')} that the encoder learned from: "
            f"{_few(missing)}; add {'it' if len(missing) == 1 else 'them'}, empty where unknown"
        )
    if not parsed:
        raise UserError(f"{name} has no column to learn from; give numbers or words")
    if long := next((n for n in parsed if len(n) > LETTERS), None):
        raise UserError(
            f"the column '{long[:40]}…' of {name} has a name of {len(long):,} letters; shorten it "
            f"to {LETTERS} at most"
        )
    found = [Column(n, words, scale=0) for n, (_, words) in parsed.items()]
    x = np.stack([values for values, _ in parsed.values()], 1)[:, None, None]
    samples = Samples(x, names=names, modality=Table(tuple(found)))
    if like is None:
        _say_columns(name, found, aside["labels"][1] is None)
    elif unknown := [n for n in left if n not in known]:
        notice(
            f"{plural(len(unknown), 'column')} of {name} that the encoder did not learn from "
            f"{'is' if len(unknown) == 1 else 'are'} left out: {_few(unknown)}"
        )
    _say_missing(name, samples)
    label, values = aside["labels"]
    if values is not None:
        values = labels.array(values, total)
        labels.add(samples, {label: values})
    groups.attach(samples, aside["groups"][1], data)
    return samples


def _cells(
    data: Any, path: Path | None, like: Table | None
) -> tuple[dict[str, np.ndarray], Any, bool]:
    """Columns by name, labels that come with them, and whether the names are the table's own."""
    y = None
    if path and path.suffix.lower() in ENDINGS:
        head, rows = label_tables.read_cells(path)
        if head and all(labels.parse_number(cell) is not None for cell in head):
            raise UserError(f"the first row of {path} holds numbers; add a row of names above it")
        columns = [np.array(column, object) for column in zip(*rows, strict=True)]
        return _by_name(head, columns or [np.array([], object) for _ in head], path), None, True
    if path and path.suffix.lower() in TABLES:
        from unlabeled.data.readers.tables import read_values

        return _by_name(*read_values(path), path), None, True
    if path:
        data, y = arrays.loaded(path)
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):  # of pandas, polars, …
        head = list(data.columns)
        return _by_name([str(n) for n in head], [np.asarray(data[n]) for n in head], path), y, True
    x = data.detach().cpu().numpy() if hasattr(data, "detach") else np.asarray(data)
    if x.ndim != 2 or x.dtype.kind not in "buifOUS":
        raise UserError(
            f"an array of {x.dtype} {x.shape} is no table; give (N, columns), or a data frame"
        )
    head = [str(i) for i in range(x.shape[1])]
    if like is not None:
        head = [column.name for column in like.columns]
        if len(head) != x.shape[1]:
            raise UserError(
                f"the array has {plural(x.shape[1], 'column')}, but the encoder learned from "
                f"{len(head):,}; give those, in their order"
            )
    return dict(zip(head, x.T, strict=True)), y, False


def _by_name(
    head: list[str], columns: list[np.ndarray], path: Path | None
) -> dict[str, np.ndarray]:
    head = [name or f"column {i + 1}" for i, name in enumerate(head)]
    if twice := sorted({name for name in head if head.count(name) > 1}):
        raise UserError(f"{path or 'the table'} has two columns '{twice[0]}'; rename one")
    return dict(zip(head, columns, strict=True))


def _column_of(place: Any, path: Path | None, cells: dict[str, Any]) -> str | None:
    """The column that a place of labels or groups names; None of arrays and other files.

    Raises:
        UserError: there is no such column.
    """
    text = str(place) if isinstance(place, str | Path) else ""
    table, column = labels.as_table(text) if text not in cells else (None, None)
    if table and path and table.resolve() == path.resolve():
        text = column or ""
        if not text:
            raise UserError(f"choose the column: {table.name}:COLUMN, {_few(list(cells))}")
    elif not text or text.endswith(".npy"):
        return None
    if text not in cells:
        advice = suggest(text, cells, f"it has {_few(list(cells))}")
        raise UserError(f"the table has no column '{text}'; {advice}")
    return text


def _parsed(name: str, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """A column as float64 with NaN for what is missing: numbers, or the index of their word."""
    if values.dtype.kind in "iuf":
        numbers = values.astype(np.float64)
    else:
        cells = [None if labels.is_missing(v) else v for v in labels.plain(values).tolist()]
        there = [cell for cell in cells if cell is not None]
        as_numbers = [labels.parse_number(cell) for cell in there]
        other = [c for c, number in zip(there, as_numbers, strict=True) if number is None]
        if other:
            if 2 * len(other) < len(there):
                notice(
                    f"{name} holds {plural(len(other), 'word')} beside numbers, such as "
                    f"'{other[0]}', so all its values are words; leave such cells empty to have "
                    "numbers"
                )
            texts = ["" if cell is None else str(cell)[:LETTERS] for cell in cells]
            words = sorted(set(texts) - {""})
            index = {word: i for i, word in enumerate(words)} | {"": np.nan}
            return np.array([index[text] for text in texts], np.float64), tuple(words)
        found = iter(as_numbers)
        numbers = np.array([np.nan if c is None else next(found) for c in cells], np.float64)
    if np.isinf(numbers).any():
        raise UserError(f"the column '{name}' holds infinite values; leave such cells empty")
    return numbers, ()


Parsed = dict[str, tuple[np.ndarray, tuple[str, ...]]]


def _row_names(
    cells: dict[str, np.ndarray], parsed: Parsed, like: Table | None, is_named: bool, total: int
) -> tuple[list[str] | None, Parsed]:
    """The names of the rows, if a column holds some; and the columns to learn from."""
    named = None
    for column, values in cells.items():
        if not is_named or total < 3 or (like and column in parsed):
            continue
        numbers, words = parsed[column] if column in parsed else _parsed(column, values)
        counts = np.sort(numbers) - np.arange(total)
        counted = not words and (set(counts) == {0} or set(counts) == {1})
        if len(words) != total and not counted:
            continue
        named = named or [str(v) for v in values.tolist()]
        if column in parsed:
            notice(f"'{column}' only names the rows: it is different in each and not learned from")
            parsed = {n: v for n, v in parsed.items() if n != column}
    if not like and (empty := [n for n, (v, _) in parsed.items() if np.isnan(v).all()]):
        notice(f"{plural(len(empty), 'column')} without any value left out: {_few(empty)}")
        parsed = {n: v for n, v in parsed.items() if n not in empty}
    return named, parsed


def learn(train: Samples) -> Table:
    """What is learned from: mean and deviation of numbers, and the words, of training rows alone.

    Raises:
        UserError: nothing varies, or there are more values than can be learned from.
    """
    assert isinstance(train.modality, Table)
    found: list[Column] = []
    constant: list[Column] = []
    for values, column in zip(train.x[:].squeeze((1, 2)).T, train.modality.columns, strict=True):
        known = values[~np.isnan(values)]
        if column.words:
            counts = np.bincount(known.astype(int), minlength=len(column.words))
            kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_WORDS])
            words = tuple(column.words[i] for i in kept if counts[i])
            (found if len(words) > 1 else constant).append(Column(column.name, words))
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = (float(known.mean()), float(known.std())) if len(known) else (0.0, 0.0)
        if not np.isfinite([mean, scale]).all():
            raise UserError(f"the column '{column.name}' holds values too large to be squared")
        varies = scale > 1e-12 * abs(mean)
        (found if varies else constant).append(Column(column.name, (), mean, scale))
    if constant:
        notice(
            f"{plural(len(constant), 'column')} the same in all training rows, so left out: "
            f"{_few([column.name for column in constant])}"
        )
    table = Table(tuple(found))
    if not found:
        raise UserError("no column varies in the training rows; give a table with some that do")
    if table.size[1] > MOST_VALUES:
        raise UserError(
            f"a row becomes {table.size[1]:,} values, but at most {MOST_VALUES:,} can be learned "
            "from; keep the columns that vary most"
        )
    return table


def convert(samples: Samples, like: Table) -> np.ndarray:
    """Rows that `read` returned, float32 (N, 1, 1, width), as an encoder learned from them.

    Numbers are standardized, and missing ones 0, which is the mean in training. A word is 1 among
    the words of its column and 0 otherwise; one that is missing or unknown is 0 for all.

    Raises:
        UserError: words stand where numbers were learned.
    """
    assert isinstance(samples.modality, Table)
    rows = samples.x[:].squeeze((1, 2)).T
    own = {c.name: (c.words, v) for c, v in zip(samples.modality.columns, rows, strict=True)}
    out = np.zeros((len(samples), *like.size), np.float32)[:, None]
    start = 0
    for column in like.columns:
        words, values = own[column.name]
        known = ~np.isnan(values)
        if column.words:
            index = {word: i for i, word in enumerate(column.words)}
            if words:
                texts = [words[int(v)] if k else "" for v, k in zip(values, known, strict=True)]
            else:
                texts = [f"{v:.15g}" if k else "" for v, k in zip(values, known, strict=True)]
            codes = np.array([index.get(text, -1) for text in texts], np.int64)
            out[codes >= 0, 0, 0, start + codes[codes >= 0]] = 1
            if (unknown := known & (codes < 0)).any():
                notice(
                    f"{plural(int(unknown.sum()), 'row')} have a word of '{column.name}' that is "
                    f"not among the {len(index):,} commonest in training, such as "
                    f"'{texts[int(unknown.argmax())]}', and count as none"
                )
        elif words:
            raise UserError(
                f"the column '{column.name}' holds words, such as '{words[0]}', but the encoder "
                "learned from its numbers; leave such cells empty"
            )
        else:
            out[known, 0, 0, start] = (values[known] - column.mean) / column.scale
        start += column.width
    return out


def _say_columns(name: str, columns: list[Column], without_labels: bool) -> None:
    of_words = [column.name for column in columns if column.words]
    kinds = f", {len(of_words):,} of words ({_few(of_words)})" if of_words else ", all of numbers"
    advice = "; none is a label: give one with --labels-from COLUMN" if without_labels else ""
    notice(f"{plural(len(columns), 'column')} of {name} to learn from{kinds}{advice}")


def _say_missing(name: str, samples: Samples) -> None:
    assert isinstance(samples.modality, Table)
    missing = np.isnan(samples.x[:]).sum((0, 1, 2))
    parts = []
    for kind, then in (
        ("number", "the training mean takes their place"),
        ("word", "they count as none"),
    ):
        here = {
            column.name: int(number)
            for column, number in zip(samples.modality.columns, missing, strict=True)
            if number and bool(column.words) == (kind == "word")
        }
        if here:
            parts.append(f"{plural(sum(here.values()), kind)} missing ({_few(list(here))}), {then}")
    if parts:
        notice(f"{name}: {'; '.join(parts)}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
