"""Read labels, which are classes, numbers or missing, from arrays, folders and tables."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.dataset import Samples
from unlabeled.data.readers import folders
from unlabeled.data.readers.label_tables import as_column, read_table, unreadable
from unlabeled.data.targets import Classes, MultiLabel, Numbers, Target
from unlabeled.errors import UserError, notice

FORMS = "'folders', a .csv or .tsv file, a .npy file, or a column of a table"
TABLES = (".csv", ".tsv", ".tab", ".psv", ".txt")
SEVERAL = "|;"
"""Separators of several labels in a cell."""
NO_LABEL = {
    *("", "NaN", "nan", "-NaN", "-nan", "NAN", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>"),
    *("NULL", "null", "None", "NaT"),
}
"""Words that stand for a missing value, as pandas reads and writes them."""
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d{1,2}|\d{4,})")
DIGIT, FEW_CODES, EACH, FILLED = 9, 20, 5, 0.8
"""Thresholds of `_are_codes`, which decides whether integers are classes."""
MANY = 100
"""Number of labels above which cells with several of them may be texts."""


def add(
    samples: Samples, labels: dict[str, Any], words: bool = False, beside: Sequence[str] = ()
) -> None:
    """Add factors to samples: classes as codes, −1 if missing, or numbers, NaN if missing.

    A missing label is −1 among integers (unless some are lower), NaN among floats, None, and in
    text an empty cell or one of `NO_LABEL`. Words and booleans are classes. Numbers are classes if
    they look like codes: integers that are from 0 to 9, or count from 0 or 1 with at most a fifth
    missing, or have at most 20 values with 5 samples each on average. Other numbers, such as ages,
    are numbers. Words are multi-label if some contain several labels, such as `cat|dog`, as are
    arrays (N, L) of 0 and 1. Factors of fewer than two classes are left out. Notices report each
    of these decisions.

    Args:
        samples: the samples, whose `factors` and `targets` are extended.
        labels: by the name of a factor, a label for each sample, (N,) or (N, L), of any type.
        words: whether all nonempty labels are names of classes, even if they look like numbers.
        beside: further remarks about samples without labels.

    Raises:
        UserError: numbers and words are mixed, or some numbers are infinite.
    """
    counts: dict[int, list[str]] = defaultdict(list)
    marked: set[str] = set()
    for name, values in labels.items():
        factor = _factor(name, np.asarray(values), words, marked)
        if factor is not None:
            samples.factors[name], samples.targets[name] = factor
            counts[int(samples.known(name).sum())].append(name)
    counted = [
        f"{n:,} of {len(samples):,} samples have labels ({', '.join(names)}), "
        "the others are kept without one" + " (-1 means no label)" * bool(marked & {*names})
        for n, names in counts.items()
        if n < len(samples)
    ]
    if counted or beside:
        notice("; ".join([*counted, *beside]))


def _factor(
    name: str, values: np.ndarray, words: bool, marked: set[str]
) -> tuple[np.ndarray, Target] | None:
    """Codes of classes, numbers, or 0 and 1 by label; None if there are fewer than two classes.

    The name is added to `marked` where -1 stood for a missing label.
    """
    values = plain(values)
    if values.ndim == 2 and (values.sum(1) == 1).all() and (values >= 0).all():
        notice(f"{name} is one-hot, so it is read as {values.shape[1]:,} classes")
        values = values.argmax(1)
    if values.ndim == 2:
        return values.astype(np.int64), MultiLabel(tuple(map(str, range(values.shape[1]))))
    if not words and values.dtype.kind in "UO" and (several := _several(name, values)):
        return several
    known, numbers = (values != "", None) if words else _parsed(name, values)
    if numbers is not None and not (numbers[known] % 1).any() and not (numbers[known] < -1).any():
        marked |= {name} if (numbers[known] == -1).any() else set()
        known &= numbers != -1
    there = values[known]
    if len(there) and numbers is not None and not _are_codes(numbers[known]):
        notice(
            f"{name} holds numbers, not classes, so its R² is measured and no classes are learned "
            f"from it; for classes write its values as words, such as '{name} {there[0]}'"
        )
        return np.where(known, numbers, np.nan), Numbers()
    if numbers is not None and values.dtype.kind in "fO":
        there = numbers[known].astype(np.int64)
    try:
        classes, codes = np.unique(there, return_inverse=True)
    except TypeError as error:
        raise UserError(f"labels are numbers or words, one of each kind: {error}") from error
    if len(classes) < 2:
        why = f"{classes[0]}" if len(there) else "none"
        why += ", as -1 means no label" if numbers is not None and len(there) < len(values) else ""
        notice(f"{name}: all labels are the same ({why}), so they are left out")
        return None
    full = np.full(len(values), -1, np.int64)
    full[known] = codes
    return full, Classes(tuple(map(str, classes)))


def _several(name: str, values: np.ndarray) -> tuple[np.ndarray, MultiLabel] | None:
    """0 or 1 by label, (N, L), −1 for empty cells; None if no cell contains several labels.

    Cells are texts instead if nearly all of many labels occur once.
    """
    cells = ["" if is_missing(v) else str(v) for v in values.tolist()]
    mark = next((mark for mark in SEVERAL if any(mark in cell for cell in cells)), None)
    if mark is None:
        return None
    split = [{label.strip() for label in cell.split(mark)} - {""} for cell in cells]
    counts = Counter(chain.from_iterable(split))
    labels, single = sorted(counts), sum(n == 1 for n in counts.values())
    if len(labels) > MANY and single > FILLED * len(labels):
        notice(
            f"{name} has '{mark}' in its cells, but {single:,} of the {len(labels):,} parts occur "
            "only once, so each cell is read as one label"
        )
        return None
    notice(
        f"{name} holds several labels a sample (separated by '{mark}'), so it is multi-label: mean "
        f"average precision over its {len(labels):,} labels is measured, and no classes are learned"
    )
    index = {label: column for column, label in enumerate(labels)}
    codes = np.zeros((len(split), len(labels)), np.int64)
    for row, own in zip(codes, split, strict=True):
        row[[index[label] for label in own] if own else slice(None)] = 1 if own else -1
    return codes, MultiLabel(tuple(labels))


def _parsed(name: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Which values are present, (N,), and all as numbers, NaN if missing; None if words."""
    kind = values.dtype.kind
    if kind in "iuf":
        numbers = values.astype(np.float64)
        known = ~np.isnan(numbers)
    else:
        cells = [None if is_missing(v) else v for v in values.tolist()]
        known = np.array([cell is not None for cell in cells], bool)
        there = [cell for cell in cells if cell is not None]
        of_words = [isinstance(cell, str) for cell in there]
        if any(of_words) and not all(of_words):
            raise UserError(
                f"labels are numbers or words, one of each kind, but {name} has "
                f"{there[of_words.index(True)]!r} beside {there[of_words.index(False)]!r}"
            )
        parsed = [parse_number(cell) for cell in there]
        if not there or any(number is None for number in parsed):
            return known, None
        numbers = np.full(len(values), np.nan)
        numbers[known] = np.array(parsed, np.float64)
    if np.isinf(numbers).any():
        raise UserError(f"{name} holds infinite values; leave them empty where there is no label")
    return known, numbers


def plain(values: np.ndarray) -> np.ndarray:
    """Bytes as strings, dates and durations as objects, None if missing; others as they are."""
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind in "mM":  # of nanoseconds, numpy would make whole numbers
        kind = "datetime64" if values.dtype.kind == "M" else "timedelta64"
        return values.astype(f"{kind}[us]").astype(object)
    return values


def is_missing(value: Any) -> bool:
    """Whether a cell holds no value."""
    if isinstance(value, float):
        return bool(np.isnan(value))
    return value is None or str(value).strip() in NO_LABEL


def parse_number(value: Any) -> float | None:
    """A number, or a string that represents one; else None."""
    if isinstance(value, str):
        value = DECIMAL_COMMA.sub(r"\1.\2", value.strip())
        return float(value) if NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | np.number):
        return None
    return float(value)


def _are_codes(numbers: np.ndarray) -> bool:
    """Whether numbers look like codes of classes, as documented in `add`."""
    if (numbers % 1).any():
        return False
    distinct = np.unique(numbers)
    low, high = distinct[0], distinct[-1]
    if low in (0, 1) and len(distinct) >= FILLED * (high - low + 1):
        return True
    few = len(distinct) <= FEW_CODES and len(numbers) >= EACH * len(distinct)
    return bool(few or 0 <= low <= high <= DIGIT)


def attach(
    samples: Samples,
    labels_from: Any,
    kept: np.ndarray,
    names: list[str],
    column: Callable[[str], list[str] | None],
) -> Samples:
    """The samples with their labels as factors; samples without a label are included, see `add`.

    Args:
        samples: the readable samples.
        labels_from: as in `images.read`.
        kept: the row of each among all samples, (N,).
        names: of all samples.
        column: returns the labels of all samples in a column, or None if there is no such column.

    Raises:
        UserError: the labels cannot be read, or do not fit the samples.
    """
    text = str(labels_from) if isinstance(labels_from, str | Path) else ""
    table, chosen = as_table(text)
    beside: list[str] = []
    if not text or text.endswith(".npy"):
        labels = {"label": array(labels_from, len(names))}
    elif text == "folders":
        labels = {"label": np.array(folders.labels(names))}
    elif table:
        labels, beside = read_table(table, chosen, names)
    else:
        cells = column(text)
        if cells is None:
            raise UserError(f"there are no labels '{text}' in this data; give {FORMS}")
        labels = {text: as_column(cells)}
    kept_labels = {factor: values[kept] for factor, values in labels.items()}
    add(samples, kept_labels, text in ("folders", "txt"), beside)  # .txt are captions
    return samples


def as_table(text: str) -> tuple[Path | None, str | None]:
    """`labels.csv` or `labels.csv:breed` -> the file, and the column that was chosen."""
    for ending in TABLES:
        match = re.fullmatch(rf"(.*{re.escape(ending)})(?::(.+))?", text, re.IGNORECASE)
        path = Path(match[1]).expanduser() if match else None
        if match and path and (ending != ".txt" or path.is_file()):
            return path, match[2]
    return None, None


def array(labels: Any, total: int) -> np.ndarray:
    """Labels in memory or in a `.npy`, one for each of all samples.

    Raises:
        UserError: they cannot be read, or are not as many.
    """
    path = Path(labels).expanduser() if isinstance(labels, str | Path) else None
    try:
        values = np.load(path, allow_pickle=False) if path else np.asarray(labels)
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, error) from error
    if values.shape != (total,) and not is_multi_label(values, total):
        raise UserError(
            f"the labels have shape {values.shape}, but there are {total:,} samples, including "
            "damaged ones; give one label for each, in their order"
        )
    return values


def is_multi_label(values: np.ndarray, total: int) -> bool:
    """Whether values are 0 or 1 (or −1 if unknown) for each of several labels, (N, L)."""
    several = values.ndim == 2 and len(values) == total and values.shape[1] > 1
    return several and values.dtype.kind in "bif" and bool(np.isin(values, (-1, 0, 1)).all())
