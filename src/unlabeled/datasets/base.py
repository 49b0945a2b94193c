"""What a data set is here, and how any kind of data becomes one. Nobody makes dummy labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from unlabeled import registry
from unlabeled.core import Batch
from unlabeled.errors import UserError
from unlabeled.views import Photo, View

TEST_SHARE = 0.2
"""Of labelled data without a test set of its own, kept for testing."""
SPLIT_SEED = 0


@dataclass
class Samples:
    """Pictures, and what is known of them.

    Args:
        x: (N, C, H, W), uint8 in 0..255 or float32 in `Splits.range`.
        factors: by name, an integer class for each picture, (N,); empty without labels.
        names: of the pictures, such as their paths.
        classes: by factor, the names of its classes, where they have any.
    """

    x: np.ndarray
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    names: list[str] | None = None
    classes: dict[str, list[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: np.ndarray) -> Samples:
        """Those rows, in that order."""
        names = [self.names[i] for i in rows] if self.names else None
        factors = {name: codes[rows] for name, codes in self.factors.items()}
        return Samples(self.x[rows], factors, names, self.classes)


@dataclass
class Splits:
    """A data set: what is learnt from, what is tested on, and what it needs to be understood.

    Args:
        name: as the user would give it.
        train: for learning, and the labels of probes.
        test: never seen in training; empty where nothing is known to test.
        target: the factor that probes predict, None without labels.
        classes: names of the target's classes.
        range: black and white of float pictures; uint8 is always 0 and 255.
        augment: the views that suit these pictures.
    """

    name: str
    train: Samples
    test: Samples
    target: str | None = None
    classes: list[str] = field(default_factory=list)
    range: tuple[float, float] = (0.0, 1.0)
    augment: View = field(default_factory=Photo)

    @property
    def channels(self) -> int:
        """Of a picture."""
        return self.train.x.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture."""
        return self.train.x.shape[2:]


def open_data(
    data: Any, channels: int | None = None, size: tuple[int, int] | None = None
) -> Splits:
    """Any kind of data as a data set.

    Args:
        data: a name of `unlabeled list datasets`, `NAME:FOLDER`, a folder of pictures, a `.npy` or
            `.npz` file, `./file.py` with a function `load`, an array or tensor of pictures, a pair
            (pictures, labels), a torch Dataset, or a finished `Splits`.
        channels: that the pictures must have.
        size: height and width that they must have; others are resized.

    Raises:
        UserError: it cannot be opened, or does not fit.
    """
    splits = _named(data)
    if splits is None:
        name = str(data) if isinstance(data, str | Path) else "array"
        splits = split(_read(data, channels, size), name)
    train, test = (_fit(part, splits.name, channels, size) for part in (splits.train, splits.test))
    return replace(splits, train=train, test=test)


def read_data(
    data: Any, channels: int | None = None, size: tuple[int, int] | None = None
) -> Samples:
    """All pictures of any kind of data in their own order; of a named set, train before test."""
    splits = _named(data)
    if splits is None:
        return _fit(_read(data, channels, size), "the data", channels, size)
    parts = [_fit(part, splits.name, channels, size) for part in (splits.train, splits.test)]
    factors = {k: np.concatenate([p.factors[k] for p in parts]) for k in parts[0].factors}
    return Samples(np.concatenate([p.x for p in parts]), factors, classes=parts[0].classes)


def _named(data: Any) -> Splits | None:
    """A data set that brings its own split; None for pictures in files or arrays."""
    if isinstance(data, Splits):
        return data
    if not isinstance(data, str):
        return None
    name, _, place = data.partition(":")
    if name in registry.listing("datasets"):
        return registry.find("datasets", name).load(place or None)
    if re.search(r"\.py(:\w+)?$", data):
        found = registry.find("datasets", data)
        load = getattr(found, "load", None) if isinstance(found, ModuleType) else found
        if not callable(load):
            raise UserError(f"{data} has no function load() that returns pictures; write one")
        loaded = load()
        return loaded if isinstance(loaded, Splits) else open_data(loaded)
    return None


def _read(data: Any, channels: int | None, size: tuple[int, int] | None) -> Samples:
    from unlabeled.datasets import arrays, folder

    if not isinstance(data, str | Path):
        return arrays.from_memory(data, channels)
    path = Path(data).expanduser()
    if path.is_dir():
        return folder.read(path, channels, size)
    if path.suffix in (".npy", ".npz") and path.is_file():
        return arrays.read(path, channels)
    raise UserError(
        f"no data at '{data}': give a folder of pictures, a .npy or .npz file, "
        f"or one of {', '.join(registry.listing('datasets'))}"
    )


def _fit(
    samples: Samples, name: str, channels: int | None, size: tuple[int, int] | None
) -> Samples:
    """Check the channels, adapt the size."""
    if channels and samples.x.shape[1] != channels:
        raise UserError(
            f"{name} has pictures of {samples.x.shape[1]} channels, but {channels} are needed; "
            "convert them, or train an encoder on pictures like these"
        )
    if size and samples.x.shape[2:] != tuple(size):
        return replace(samples, x=resize(samples.x, size))
    return samples


def split(samples: Samples, name: str) -> Splits:
    """Labelled pictures into 80 % train and 20 % test by a fixed seed; unlabelled all to train."""
    if not len(samples):
        raise UserError(f"{name} holds no pictures; give at least one")
    span = (0.0, 1.0) if samples.x.dtype == np.uint8 else value_range(samples.x)
    target = next(iter(samples.factors), None)
    order = np.arange(len(samples))
    n_test = 0
    if target is not None:
        order = np.random.default_rng(SPLIT_SEED).permutation(len(samples))
        n_test = max(1, round(TEST_SHARE * len(samples)))
    train, test = samples.take(order[n_test:]), samples.take(order[:n_test])
    classes = samples.classes.get(target, []) if target else []
    return Splits(name, train, test, target, classes, span)


def value_range(x: np.ndarray) -> tuple[float, float]:
    """Black and white of float pictures: (0, 1) where they stay within, else what they span."""
    low, high = float(x.min()), float(x.max())
    if not np.isfinite([low, high]).all():
        raise UserError("the pictures hold NaN or infinite values; remove or replace those first")
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def to_float(x: torch.Tensor, span: tuple[float, float]) -> torch.Tensor:
    """Pictures as stored -> float with black 0 and white 1; `span` holds for float pictures."""
    low, high = (0.0, 255.0) if x.dtype == torch.uint8 else span
    return (x.float() - low) / max(high - low, 1e-12)


def resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pictures (N, C, H, W) to another height and width, antialiased, of the same type."""
    out = np.empty((*x.shape[:2], *size), x.dtype)
    for start in range(0, len(x), 256):
        part = torch.from_numpy(np.ascontiguousarray(x[start : start + 256])).float()
        part = torch.nn.functional.interpolate(part, size, mode="bilinear", antialias=True)
        part = part.round() if x.dtype == np.uint8 else part
        out[start : start + 256] = part.numpy().astype(x.dtype)
    return out


class _Rows(Dataset):
    """Whole batches of rows at once."""

    def __init__(self, samples: Samples, target: str | None) -> None:
        self.x = samples.x
        self.y = None if target is None else samples.factors[target]

    def __len__(self) -> int:
        return len(self.x)

    def __getitems__(self, rows: list[int]) -> Batch:
        index = np.asarray(rows)
        y = None if self.y is None else torch.from_numpy(self.y[index])
        return Batch(torch.from_numpy(self.x[index]), torch.from_numpy(index), y)


class _Shuffle(Sampler):
    """A permutation by (seed, epoch) alone, so that a resumed run sees what it would have seen."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        return iter(generator.permutation(self.n).tolist())


def loader(samples: Samples, batch_size: int, seed: int, target: str | None = None) -> DataLoader:
    """Shuffled batches; the last one is dropped where it is not full. Labels only with `target`."""
    batch_size = min(batch_size, len(samples))
    return DataLoader(
        _Rows(samples, target),
        batch_size,
        sampler=_Shuffle(len(samples), seed),
        collate_fn=_as_is,  # type: ignore[arg-type]
        drop_last=True,
        generator=torch.Generator(),  # its own, so that the views' draws are left alone
        pin_memory=torch.cuda.is_available(),
    )


def _as_is(batch: Batch) -> Batch:
    return batch
