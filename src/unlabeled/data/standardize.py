"""Time series and tables: what holds them, and their scales, which training rows alone decide."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers import columns, series
from unlabeled.data.readers.source import TABLES
from unlabeled.errors import UserError
from unlabeled.modality import Modality, Series, Table

Kinds = Sequence[type[Modality]]


def kind_of(data: Any, like: Any = None, kinds: Kinds = ()) -> type[Series] | type[Table] | None:
    """Whether data is read as series or as a table; None where it is anything else.

    Tables in text and data frames always are tables; arrays, and files of arrays, are what the
    encoder or the method learns from.

    Args:
        data: as for `open_data`.
        like: what an encoder receives, where it is known.
        kinds: what a method learns from.
    """
    content = data[0] if isinstance(data, tuple) and len(data) == 2 else data
    if like is not None:
        return next((kind for kind in (Series, Table) if isinstance(like, kind)), None)
    path = Path(content).expanduser() if isinstance(content, str | Path) else None
    if path and not path.is_file():
        return None
    ending = path.suffix.lower() if path else ""
    if ending in columns.ENDINGS or hasattr(content, "columns"):
        return Table
    if not path and isinstance(content, torch.utils.data.Dataset):
        return None
    wanted = tuple(kinds)
    if wanted == (Series,) and (path is None or ending in series.ENDINGS):
        return Series
    if wanted == (Table,) and (path is None or ending in (*series.ENDINGS, *TABLES)):
        return Table
    return None


def read_rows(
    data: Any, like: Any, kinds: Kinds = (), labels_from: Any = None, groups_from: Any = None
) -> Samples | None:
    """Series or a table with labels and groups, not yet standardized; None of other data.

    Args:
        data: as for `open_data`.
        like: what an encoder receives, where it is known.
        kinds: what a method learns from.
        labels_from: where the labels are.
        groups_from: where the groups are.

    Raises:
        UserError: it cannot be read.
    """
    kind = kind_of(data, like, kinds)
    if kind is None:
        return None
    if isinstance(data, str | Path) and not Path(data).expanduser().is_file():
        raise UserError(f"there is no file '{data}'; give a file of {kind.noun}")
    reader: Any = series if kind is Series else columns
    samples: Samples = reader.read(data, like, labels_from, groups_from)
    return samples


def standardized(splits: Splits) -> Splits:
    """Series and tables standardized by their training part; other data as it is."""
    if not is_raw(splits.modality):
        return splits
    learn: Any = series.learn if isinstance(splits.modality, Series) else columns.learn
    like = learn(splits.train)
    parts: Any = {
        part: converted(getattr(splits, part), like) for part in ("train", "test", "validation")
    }
    return replace(splits, **parts)


def converted(samples: Samples, like: Series | Table) -> Samples:
    """Series or rows as an encoder receives them.

    Raises:
        UserError: they were standardized otherwise.
    """
    if samples.modality == like:
        return samples
    if not is_raw(samples.modality):
        raise UserError(
            f"these {like.noun} were standardized by other training rows; give the file or array"
        )
    x = (
        series.convert(samples, like)
        if isinstance(like, Series)
        else columns.convert(samples, like)
    )
    return replace(samples, x=x, modality=like)


def is_raw(modality: Modality) -> bool:
    """Whether series or rows are as they were read."""
    if isinstance(modality, Series):
        return not modality.scales
    return isinstance(modality, Table) and any(not column.scale for column in modality.columns)
