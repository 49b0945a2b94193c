"""Groups of samples that must not be split, such as the recordings of a speaker."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.dataset import Samples
from unlabeled.data.readers import folders, images, label_tables, labels
from unlabeled.data.readers.source import TABLES
from unlabeled.errors import UserError, notice

FORMS = "'folders', a .csv or .tsv file, a .npy file, or a column of a table"


def attach(samples: Samples, groups_from: Any, data: Any, labels_from: Any = None) -> None:
    """Give samples their groups, a name for each, "" where it is unknown.

    Args:
        samples: whose `groups` are set.
        groups_from: None, "folders" (the first folder of each name; the second, where the first is
            its label), a `.csv` or `.tsv` (`groups.csv:patient` chooses a column), an array or
            `.npy`, or the column of a table.
        data: what the samples were read from.
        labels_from: where their labels were read from.

    Raises:
        UserError: the groups cannot be read, or do not fit the samples.
    """
    if groups_from is None:
        return
    text = str(groups_from) if isinstance(groups_from, str | Path) else ""
    table, chosen = labels.as_table(text)
    names, pieces = samples.names or [], None
    total = len(samples)
    if samples.groups is not None:  # pieces of recordings, which have their group in common
        names, first, pieces = np.unique(samples.groups, return_index=True, return_inverse=True)  # type: ignore[assignment]
        order = np.argsort(first)
        names, pieces = [str(names[i]) for i in order], np.argsort(order)[pieces]
        total = len(names)
    if not text or text.endswith(".npy"):
        groups = _array(groups_from, text, total)
    elif not names:
        raise UserError(f"these samples have no names, so {text} cannot group them; give an array")
    elif text == "folders":
        groups = _folders(names, second=labels_from == "folders")
    elif table:
        columns, remarks = label_tables.read_table(table, chosen, names)
        if len(columns) != 1:
            raise UserError(
                f"{table} has several columns; choose that of the groups, as in "
                f"{table.name}:{next(iter(columns), 'patient')}"
            )
        groups = next(iter(columns.values())).astype(str)
        if remarks:
            notice("; ".join(remarks))
    else:
        groups = _column(text, data, names)
    groups = np.where(np.isin(groups, list(labels.NO_LABEL)), "", groups)
    if unknown := int((groups == "").sum()):
        notice(f"{unknown:,} of {len(groups):,} samples have no group; each is a group of its own")
    if pieces is not None:
        groups = np.where(groups == "", np.array(names), groups)[pieces]
    samples.groups = groups


def _array(groups_from: Any, text: str, total: int) -> np.ndarray:
    try:
        path = Path(text).expanduser()
        groups = np.load(path, allow_pickle=False) if text else np.asarray(groups_from)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"the groups in {text} cannot be read ({error}); check the path") from error
    if groups.shape != (total,):
        raise UserError(
            f"the groups have shape {groups.shape}, but {total:,} samples are read; give one group "
            "for each"
        )
    return np.array([str(group) for group in groups.tolist()])


def _folders(names: list[str], second: bool) -> np.ndarray:
    """The first folder of each name, or the second: below an official split and a shard."""
    below = [part for _, _, part in folders.official(names) or [("", "", n) for n in names]]
    paths = [
        [f for f in name.split("/")[:-1] if f not in ("", ".") and not folders.SHARD.search(f)]
        for name in below
    ]
    groups = np.array([path[second] if len(path) > second else "" for path in paths])
    if not (groups != "").any():
        which = "in a folder below that of its label" if second else "in a subfolder"
        raise UserError(f"no sample is {which}, so folders cannot be groups; give a .csv of groups")
    return groups


def _column(column: str, data: Any, names: list[str]) -> np.ndarray:
    """Cells of the column of a table that holds the samples."""
    path = Path(data).expanduser() if isinstance(data, str | Path) else None
    cells, source = None, None
    if path and (path.is_dir() or path.suffix.lower() in (".tar", *TABLES)):
        source = images.source_of(path)
        cells = source.labels(column)
    if cells is None or source is None:
        raise UserError(f"there are no groups '{column}' in this data; give {FORMS}")
    by_name = dict(zip(source.names, map(str, cells), strict=True))
    return np.array([by_name[name] for name in names])


def separate(train: Samples, *others: Samples, name: str) -> Samples:
    """The samples to learn from whose group is in none of the other parts.

    Args:
        train: samples to learn from.
        others: further parts.
        name: of the data set.
    """
    if train.groups is None:
        return train
    held = [part.groups[part.groups != ""] for part in others if part.groups is not None]
    shared = np.isin(train.groups, np.concatenate([np.array([], "U1"), *held]))
    if not shared.any():
        return train
    notice(
        f"{int(shared.sum()):,} samples to learn from in {name} are of a group that is tested on, "
        f"such as {_first(train.groups[shared])}, and are left out"
    )
    return train.take(np.flatnonzero(~shared))


def _first(groups: np.ndarray) -> str:
    return re.sub(r"\s+", " ", str(groups[0]))
