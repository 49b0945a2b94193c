"""What a data set is here, and how any kind of data becomes one. Nobody makes dummy labels."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from unlabeled.augmentations import Augmentation, RandomCrop, SimCLRAugment
from unlabeled.data.targets import Classes, Numbers, Target
from unlabeled.modality import Audio, Images, Modality, Pairs, Text, Video

PARTNER = "partner"
"""The factor that holds what belongs to each image in paired data, (N, …)."""


class LazyImages:
    """Rows of an array that stays where it is, such as on disk: (N, C, H, W).

    They are picked, converted and resized when they are read, by a slice or an array of rows.

    Args:
        base: array (M, C, H, W).
        rows: which of it, in order; all unless given.
        convert: elementwise, from rows of `base` to what is read.
        dtype: what `convert` gives.
        size: height and width of what is read.
    """

    def __init__(
        self,
        base: np.ndarray,
        rows: np.ndarray | None = None,
        convert: Callable[[np.ndarray], np.ndarray] | None = None,
        dtype: Any = None,
        size: tuple[int, int] | None = None,
    ) -> None:
        self.base, self.rows, self.convert = base, rows, convert
        self.dtype = np.dtype(base.dtype if dtype is None else dtype)
        height, width = size or base.shape[2:]
        self.shape = (len(base) if rows is None else len(rows), base.shape[1], height, width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | np.ndarray | list[int]) -> np.ndarray:
        if self.rows is not None:
            rows = self.rows[rows]
        x = np.array(self.base[rows])
        x = self.convert(x) if self.convert else x
        return x if x.shape[2:] == self.shape[2:] else resize(x, self.shape[2:])

    def take(self, rows: np.ndarray) -> LazyImages:
        """Those rows; nothing is read."""
        rows = rows if self.rows is None else self.rows[rows]
        return LazyImages(self.base, rows, self.convert, self.dtype, self.shape[2:])

    def converted(self, convert: Callable[[np.ndarray], np.ndarray], dtype: Any) -> LazyImages:
        """The same as other numbers; nothing is read."""
        return LazyImages(self.base, self.rows, convert, dtype, self.shape[2:])

    def resized(self, size: tuple[int, int]) -> LazyImages:
        """The same in another height and width; nothing is read."""
        return LazyImages(self.base, self.rows, self.convert, self.dtype, size)


def blocks(x: np.ndarray | LazyImages, rows: int = 256) -> Iterator[np.ndarray]:
    """The images, some at a time."""
    return (x[start : start + rows] for start in range(0, len(x), rows))


@dataclass
class Samples:
    """LazyImages, and what is known of them.

    Args:
        x: (N, C, H, W), uint8 in 0..255, or uint16 or float32 in `Splits.range`; `LazyImages` where
            they stay on disk.
        factors: by name, for each image an integer class, −1 without a label, or a float number,
            NaN without one, (N,); empty without labels.
        names: of the images, such as their paths.
        classes: by factor, the names of its classes, where they have any.
        stored: what numbers the images were given as, where `x` does not tell: "mask", 0 and 1;
            "sound 8000", samples of sound at that rate.
    """

    x: np.ndarray | LazyImages
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    names: list[str] | None = None
    classes: dict[str, list[str]] = field(default_factory=dict)
    stored: str = ""

    def __len__(self) -> int:
        return len(self.x)

    def known(self, factor: str) -> np.ndarray:
        """Whether each sample has a label of that factor, (N,) bool."""
        values = self.factors[factor]
        return ~np.isnan(values) if values.dtype.kind == "f" else values >= 0

    def labeled(self, factor: str) -> Samples:
        """Only the samples that have a label of that factor."""
        known = self.known(factor)
        return self if known.all() else self.take(np.flatnonzero(known))

    def take(self, rows: np.ndarray) -> Samples:
        """Those rows, in that order."""
        names = [self.names[i] for i in rows] if self.names else None
        factors = {name: codes[rows] for name, codes in self.factors.items()}
        x = self.x.take(rows) if isinstance(self.x, LazyImages) else self.x[rows]
        return Samples(x, factors, names, dict(self.classes), self.stored)


@dataclass
class Splits:
    """A data set: what is learned from, what is tested on, and what it needs to be understood.

    Args:
        name: as the user would give it.
        train: for learning, and the labels of probes.
        test: whose labels nothing learns from; empty where nothing is known to test.
        target: the factor that probes predict, None without labels.
        classes: names of the target's classes.
        range: black and white of float and uint16 images; uint8 is always 0 and 255.
        augment: the views that suit these images, for methods that compare them.
        augment_labeled: weak ones for training with labels, which no label here depends on.
        numbers: factors that are numbers, with the period of those that go round.
        labels_from: where the labels were said to be, to open it again.
        tokenizer: of texts, as JSON; empty of images alone.
        vocabulary: tokens that it knows.
        validation: neither learned from nor tested on; empty unless there is an official one.
        test_from: other data that the test part was read from, to open it again.
    """

    name: str
    train: Samples
    test: Samples
    target: str | None = None
    classes: list[str] = field(default_factory=list)
    range: tuple[float, float] = (0.0, 1.0)
    augment: Augmentation = field(default_factory=SimCLRAugment)
    augment_labeled: Augmentation = field(default_factory=RandomCrop)
    numbers: dict[str, float | None] = field(default_factory=dict)
    labels_from: Any = None
    tokenizer: str = ""
    vocabulary: int = 0
    validation: Samples = None  # type: ignore[assignment]  # set below
    test_from: Any = None

    def __post_init__(self) -> None:
        """Without a validation part, it is empty."""
        if self.validation is None:
            self.validation = self.train.take(np.arange(0))

    def labeled(self) -> Splits:
        """Samples whose target (else first number) is known, where there is a test part."""
        factor = self.target or next(iter(self.numbers), None)
        if factor is None or not len(self.test):
            return self
        train, test = (part.labeled(factor) for part in (self.train, self.test))
        return replace(self, train=train, test=test)

    @property
    def modality(self) -> Modality:
        """What kind of data it holds."""
        if PARTNER in self.train.factors:
            shape = self.train.factors[PARTNER].shape[2:]
            second = (
                Text(self.vocabulary, shape[-1], tokenizer=self.tokenizer)
                if self.tokenizer
                else Images(1, shape)
            )
            return Pairs(self._images(), second)
        if self.vocabulary:
            return Text(self.vocabulary, self.size[1], self.size[0], self.tokenizer)
        if self.rate:
            return Audio(self.rate, self.size[1], self.channels)
        if {"shot", "frame"} <= set(self.train.factors):
            return Video(self._images())
        return self._images()

    def _images(self) -> Images:
        return Images(self.channels, self.size, self.range, self.stored)

    @property
    def targets(self) -> dict[str, Target]:
        """What can be predicted, by the name of the factor: classes or numbers."""
        targets: dict[str, Target] = {}
        for name, values in self.train.factors.items():
            if name in self.numbers:
                targets[name] = Numbers(self.numbers[name])
            elif name not in (PARTNER, "frame") and values.dtype.kind != "f":
                names = self.train.classes.get(name, [])
                names = self.classes or names if name == self.target else names
                targets[name] = Classes(tuple(names))
        return targets

    @property
    def channels(self) -> int:
        """Of an image."""
        return self.train.x.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self.train.x.shape[2:]

    @property
    def stored(self) -> str:
        """What numbers the images were given as: mask, uint8, uint16 or float32."""
        return self.train.stored or self.train.x.dtype.name

    @property
    def rate(self) -> int | None:
        """Samples a second, of sound; None of images."""
        return rate_of(self.train.stored)

    @property
    def noun(self) -> str:
        """What its rows are called."""
        if self.vocabulary and PARTNER not in self.train.factors:
            return "texts"
        return "recordings" if self.rate else "images"


def rate_of(stored: str | None) -> int | None:
    """Samples a second of what was stored as "sound 8000"; None of images."""
    found = re.fullmatch(r"sound (\d{4,6})", stored or "")
    return int(found[1]) if found else None


def whole(splits: Splits) -> Samples:
    """All rows, train before test."""
    parts = [p for p in (splits.train, splits.validation, splits.test) if len(p)]
    if len(parts) == 1:
        return parts[0]
    factors = {k: np.concatenate([p.factors[k] for p in parts]) for k in parts[0].factors}
    names = [name for p in parts for name in p.names or []]
    x = np.concatenate([p.x[:] for p in parts])
    return Samples(x, factors, names or None, parts[0].classes)


def to_float(x: torch.Tensor, span: tuple[float, float]) -> torch.Tensor:
    """Images as stored -> float with black 0 and white 1; `span` is of all but uint8."""
    low, high = (0.0, 255.0) if x.dtype == torch.uint8 else span
    return (x.float() - low) / max(high - low, 1e-12)


def resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """LazyImages (N, C, H, W) to another height and width, antialiased, of the same type."""
    out = np.empty((*x.shape[:2], *size), x.dtype)
    for start in range(0, len(x), 256):
        part = torch.from_numpy(np.ascontiguousarray(x[start : start + 256])).float()
        part = torch.nn.functional.interpolate(part, size, mode="bilinear", antialias=True)
        part = part.round() if x.dtype.kind == "u" else part
        out[start : start + 256] = part.numpy().astype(x.dtype)
    return out
