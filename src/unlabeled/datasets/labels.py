"""Labels for pictures in files, where the user asks for them."""

from __future__ import annotations

import csv
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from unlabeled.datasets import folders
from unlabeled.datasets.base import Samples
from unlabeled.errors import Notice, UserError

FORMS = "'folders', a .csv, an array as .npy, or the column of a table"


def attach(
    samples: Samples,
    labels_from: Any,
    kept: np.ndarray,
    names: list[str],
    column: Callable[[str], list[str] | None],
) -> Samples:
    """Pictures with their labels as factors; those that have none are left out.

    Args:
        samples: the pictures that could be read.
        labels_from: as in `encoded.read`.
        kept: their rows among all, (N,).
        names: of all.
        column: labels of all by the name of a column, or None.

    Raises:
        UserError: the labels cannot be read, or do not fit the pictures.
    """
    place = Path(str(labels_from)) if isinstance(labels_from, str | Path) else None
    if place is None or place.suffix == ".npy":
        found = {"label": _array(labels_from, place, len(names))[kept]}
    elif str(place) == "folders":
        found = {"label": np.array(folders.labels(samples.names or []))}
    elif place.suffix == ".csv":
        found = _table(place, samples.names or [])
    else:
        values = column(str(labels_from))
        if values is None:
            raise UserError(f"there are no labels '{labels_from}' in this data; give {FORMS}")
        found = {str(labels_from): np.array(values)[kept]}
    known = next(iter(found.values())) != ""
    if not known.all():
        told = f"{known.sum():,} of {len(known):,} pictures have labels; the others are left out"
        warnings.warn(told, Notice, stacklevel=2)
    samples = samples.take(np.flatnonzero(known))
    for factor, values in found.items():
        classes, codes = np.unique(values[known], return_inverse=True)
        if len(classes) < 2 or "" in classes:
            why = "is missing for some" if "" in classes else f"is {classes[0]} for all"
            told = f"{factor} {why} pictures, so it is left out"
            warnings.warn(told, Notice, stacklevel=2)
            continue
        samples.factors[factor] = codes.astype(np.int64)
        samples.classes[factor] = [str(name) for name in classes]
    return samples


def _array(given: Any, place: Path | None, total: int) -> np.ndarray:
    try:
        values = np.load(place, allow_pickle=False) if place else np.asarray(given)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"the labels in {place} cannot be read: {error}") from error
    if values.shape != (total,):
        raise UserError(
            f"the labels are {values.shape}, but there are {total:,} pictures, damaged ones "
            "counted; give one label for each, in the order of their names"
        )
    return values


def _table(place: Path, names: list[str]) -> dict[str, np.ndarray]:
    """The first column names a picture, by its path in the folder or by its file name."""
    try:
        with place.open(newline="", encoding="utf-8-sig") as file:
            head, *rows = [row for row in csv.reader(file) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"the labels in {place} cannot be read: {error}") from error
    if len(head) < 2 or any(len(row) != len(head) for row in rows):
        raise UserError(
            f"{place} must have a head and rows as long: the name of a picture, then its labels"
        )
    by_name: dict[str, list[str]] = {}
    for row in rows:
        name = PurePosixPath(row[0].replace("\\", "/")).as_posix()
        if by_name.setdefault(name, row[1:]) != row[1:]:
            raise UserError(f"{place} gives '{name}' two different labels; keep one")
    alike = Counter(PurePosixPath(name).name for name in names)
    blank = [""] * (len(head) - 1)
    found = []
    for name in names:
        last = PurePosixPath(name).name
        if name not in by_name and last in by_name and alike[last] > 1:
            raise UserError(f"{place} names '{last}', but {alike[last]} are called so; give paths")
        found.append(by_name.get(name) or by_name.get(last) or blank)
    if all(values == blank for values in found):
        raise UserError(
            f"{place} names none of the pictures: its first is '{rows[0][0] if rows else ''}', "
            f"theirs is '{names[0]}'"
        )
    return {factor: np.array([v[i] for v in found]) for i, factor in enumerate(head[1:])}
