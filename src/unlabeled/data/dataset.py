"""What a data set is: samples of one modality, with factors and targets, in parts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from unlabeled.augmentations import Augmentation, RandomCrop, SimCLRAugment
from unlabeled.augmentations.full_size import FullSize
from unlabeled.data.readers.encoded import EncodedImages
from unlabeled.data.readers.streamed import StreamedImages
from unlabeled.data.targets import Numbers, Target
from unlabeled.modality import Images, Modality, Pairs, Video

AT_ONCE = 1 << 26
"""Values of images at most that are converted or resized at once: 256 MB as floats."""


@dataclass(eq=False)
class LazyImages:
    """Images (N, C, H, W) on disk.

    They are selected, converted and resized when read, by a slice or an array of rows.

    Args:
        base: array (M, C, H, W), or encoded images with the same interface.
        rows: rows of `base`, in order (default: all).
        convert: elementwise conversion of rows of `base`.
        dtype: data type that `convert` returns.
        size: height and width of the images.
    """

    base: np.ndarray | EncodedImages
    rows: np.ndarray | None = None
    convert: Callable[[np.ndarray], np.ndarray] | None = None
    dtype: Any = None
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Set data type and size to those of the array by default."""
        self.dtype = np.dtype(self.base.dtype if self.dtype is None else self.dtype)
        rows = self.base if self.rows is None else self.rows
        self.shape = (len(rows), self.base.shape[1], *(self.size or self.base.shape[2:]))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: int | slice | np.ndarray | list[int]) -> np.ndarray:
        if isinstance(rows, int | np.integer):
            return self[[int(rows)]][0]
        if self.shape[2:] == self.base.shape[2:]:
            return self._read(rows if self.rows is None else self.rows[rows])
        rows = (np.arange(len(self)) if self.rows is None else self.rows)[rows]
        x = np.empty((len(rows), *self.shape[1:]), self.dtype)
        step = _at_once(self.base.shape[1:])
        for start in range(0, len(rows), step):
            part = self._read(rows[start : start + step])
            x[start : start + step] = resize(part, self.shape[2:])
        return x

    def _read(self, rows: slice | np.ndarray | list[int]) -> np.ndarray:
        """Rows of `base`, converted, in their own size."""
        x = np.array(self.base[rows])
        return self.convert(x) if self.convert else x

    @property
    def is_full_size(self) -> bool:
        """Whether random crops can be taken from full-size images in the files."""
        return isinstance(self.base, EncodedImages) and self.shape[1:] == self.base.shape[1:]

    @property
    def streamed(self) -> StreamedImages | None:
        """The remote shards that contain the images; None for other images."""
        return self.base if isinstance(self.base, StreamedImages) else None

    def full_size(self, rows: np.ndarray, value_range: tuple[float, float]) -> FullSize:
        """A batch of full-size images, rows (B,); requires `is_full_size`."""
        assert isinstance(self.base, EncodedImages)
        rows = rows if self.rows is None else self.rows[rows]
        return self.base.full_size(rows, value_range, self.convert)

    def converted(
        self, convert: Callable[[np.ndarray], np.ndarray], dtype: Any = None
    ) -> LazyImages:
        """The same images with another elementwise conversion, to `dtype` (default: unchanged)."""
        both = convert if self.convert is None else functools.partial(_after, self.convert, convert)
        return replace(self, convert=both, dtype=self.dtype if dtype is None else dtype)

    def take(self, rows: np.ndarray) -> LazyImages:
        """The images of those rows; nothing is read."""
        return replace(self, rows=rows if self.rows is None else self.rows[rows])


def _after(
    first: Callable[[np.ndarray], np.ndarray],
    second: Callable[[np.ndarray], np.ndarray],
    x: np.ndarray,
) -> np.ndarray:
    return second(first(x))


def blocks(x: np.ndarray | LazyImages, rows: int | None = None) -> Iterator[np.ndarray]:
    """The images, `rows` at a time (default: 256, or fewer large ones)."""
    rows = rows or _at_once(x.shape[1:])
    return (x[start : start + rows] for start in range(0, len(x), rows))


def _at_once(shape: tuple[int, ...]) -> int:
    """Number of images of that shape that are held in memory at once."""
    return max(1, min(256, AT_ONCE // max(1, math.prod(shape))))


@dataclass
class Samples:
    """Samples of one modality, and what is known about them.

    Args:
        x: images and audio (N, C, H, W), uint8 in 0..255, or uint16 or float32 in the modality's
            `value_range`; `LazyImages` where they stay on disk; tokens int32 (N, S, L).
        factors: by name, for each sample an integer class, −1 without a label, or a float number,
            NaN without one, (N,); empty without labels.
        names: of the samples, such as their paths.
        targets: by factor, how it is predicted; other factors only describe the samples.
        modality: of the samples (default: images with the shape of `x`).
        partners: of pairs, one or more partners of each sample, (N, K, …).
        groups: names of what samples have in common, such as a patient, (N,) of str, "" if
            unknown; a group is never split.
    """

    x: np.ndarray | LazyImages
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    names: list[str] | None = None
    targets: dict[str, Target] = field(default_factory=dict)
    modality: Modality = None  # type: ignore[assignment]  # set below
    partners: np.ndarray = None  # type: ignore[assignment]  # of pairs only
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Set the modality to images by default."""
        if self.modality is None:
            channels, *size = self.x.shape[1:]
            self.modality = Images(channels, (size[0], size[1]), dtype=self.x.dtype.name)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def streamed(self) -> StreamedImages | None:
        """The remote shards that contain the samples; None for other samples."""
        return self.x.streamed if isinstance(self.x, LazyImages) else None

    def spread(self, number: int) -> np.ndarray:
        """Evenly spaced rows; of streamed samples the first ones, which are in few shards."""
        number = min(number, len(self))
        if self.streamed:
            return np.arange(number)
        return np.linspace(0, len(self) - 1, number).astype(int)

    def known(self, factor: str) -> np.ndarray:
        """Whether each sample has a label of that factor, (N,) bool."""
        values = self.factors[factor]
        known: np.ndarray = ~np.isnan(values) if values.dtype.kind == "f" else values >= 0
        return known if known.ndim == 1 else np.asarray(known.all(1))

    def labeled(self, factor: str) -> Samples:
        """Only the samples that have a label of that factor."""
        known = self.known(factor)
        return self if known.all() else self.take(np.flatnonzero(known))

    def group_codes(self) -> np.ndarray | None:
        """The index of each sample's group, (N,); a sample without a group is its own group."""
        if self.groups is None:
            return None
        codes = np.unique(self.groups, return_inverse=True)[1]
        alone = self.groups == ""
        return np.where(alone, codes.max(initial=0) + 1 + np.cumsum(alone), codes)

    def class_names(self, factor: str | None) -> list[str]:
        """Names of the classes of a factor; empty if it has none."""
        target = self.targets.get(factor) if factor else None
        return [] if target is None or isinstance(target, Numbers) else list(target.names)

    def with_value_range(self, value_range: tuple[float, float]) -> Samples:
        """The same images or frames with another black and white; other samples as they are."""
        return replace(self, modality=with_frames(self.modality, value_range=value_range))

    def take(self, rows: np.ndarray) -> Samples:
        """The samples of those rows, in that order."""
        return replace(
            self,
            x=self.x.take(rows) if isinstance(self.x, LazyImages) else self.x[rows],
            factors={name: values[rows] for name, values in self.factors.items()},
            names=[self.names[i] for i in rows] if self.names else None,
            targets=dict(self.targets),
            partners=None if self.partners is None else self.partners[rows],
            groups=None if self.groups is None else self.groups[rows],
        )


@dataclass
class Splits:
    """A data set: training, validation and test samples.

    Args:
        name: as in `--data`.
        train: for training, and for the labels of probes.
        test: only for testing; may be empty.
        target: the main target, which probes predict; None without labels.
        augment: default augmentation for these samples, for methods that compare views.
        augment_labeled: a weak augmentation for supervised training, which preserves labels.
        labels_from: source of the labels, for reopening.
        validation: neither for training nor for testing; empty unless there is an official split.
        test_from: other data that the test part was read from, for reopening.
        groups_from: source of the groups, for reopening.
    """

    name: str
    train: Samples
    test: Samples
    target: str | None = None
    augment: Augmentation = field(default_factory=SimCLRAugment)
    augment_labeled: Augmentation = field(default_factory=RandomCrop)
    labels_from: Any = None
    validation: Samples = None  # type: ignore[assignment]  # set below
    test_from: Any = None
    groups_from: Any = None

    def __post_init__(self) -> None:
        """Set the validation part to an empty one by default."""
        if self.validation is None:
            self.validation = self.train.take(np.arange(0))

    def labeled(self) -> Splits:
        """Only samples whose target (else first number) is known, if there is a test part."""
        factor = self.target or next(iter(self.numbers), None)
        if factor is None or not len(self.test):
            return self
        return replace(self, train=self.train.labeled(factor), test=self.test.labeled(factor))

    def with_value_range(self, value_range: tuple[float, float]) -> Splits:
        """The same with another black and white of images that are not uint8."""
        parts = ("train", "test", "validation")
        return replace(self, **{p: getattr(self, p).with_value_range(value_range) for p in parts})

    @property
    def modality(self) -> Modality:
        """Modality of the samples."""
        return self.train.modality

    @property
    def noun(self) -> str:
        """Plural noun of its samples, for messages."""
        return self.modality.noun

    @property
    def targets(self) -> dict[str, Target]:
        """Targets by the name of the factor."""
        return self.train.targets

    @property
    def classes(self) -> list[str]:
        """Names of the classes of the main target; empty if there are none."""
        return self.train.class_names(self.target)

    @property
    def numbers(self) -> list[str]:
        """Names of the numeric targets."""
        return [name for name, target in self.targets.items() if isinstance(target, Numbers)]

    @property
    def channels(self) -> int:
        """Channels of an encoder's input."""
        return self.modality.encoder_input.channels

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an encoder's input."""
        return self.modality.encoder_input.size

    @property
    def value_range(self) -> tuple[float, float]:
        """Black and white of float and uint16 samples; uint8 is always 0 and 255."""
        return self.modality.encoder_input.value_range


def with_frames(modality: Any, **changes: Any) -> Any:
    """The modality with another size or value range of its images or frames; others as they are."""
    if isinstance(modality, Images):
        return replace(modality, **changes)
    if isinstance(modality, Video):
        return Video(replace(modality.frames, **changes))
    if isinstance(modality, Pairs):
        return Pairs(with_frames(modality.first, **changes), modality.second)
    return modality


def all_samples(splits: Splits) -> Samples:
    """The samples of all parts, training before validation before test."""
    parts = [p for p in (splits.train, splits.validation, splits.test) if len(p)]
    if len(parts) == 1:
        return parts[0]
    x = _joined([p.x for p in parts])
    factors = {k: np.concatenate([p.factors[k] for p in parts]) for k in parts[0].factors}
    names = [name for p in parts for name in p.names or []] or None
    grouped = all(p.groups is not None for p in parts)
    groups = np.concatenate([p.groups for p in parts]) if grouped else None
    partners: Any = None  # a test part may have fewer of each
    return replace(parts[0], x=x, factors=factors, names=names, partners=partners, groups=groups)


def _joined(parts: list[np.ndarray | LazyImages]) -> np.ndarray | LazyImages:
    """Concatenate parts; parts of one array on disk stay on disk."""
    lazy = [part for part in parts if isinstance(part, LazyImages)]
    if len(lazy) < len(parts) or any(part.base is not lazy[0].base for part in lazy):
        return np.concatenate([part[:] for part in parts])
    rows = [np.arange(len(p.base)) if p.rows is None else p.rows for p in lazy]
    return replace(lazy[0], rows=np.concatenate(rows))


def to_input(x: torch.Tensor, value_range: tuple[float, float]) -> torch.Tensor:
    """Convert stored samples to the input of encoders: tokens to int64, others to floats."""
    if isinstance(x, FullSize):
        return x
    return x.long() if x.dtype == torch.int32 else to_float(x, value_range)


def to_float(x: torch.Tensor, value_range: tuple[float, float]) -> torch.Tensor:
    """Scale images to floats, black 0 and white 1; `value_range` has both unless uint8."""
    low, high = (0.0, 255.0) if x.dtype == torch.uint8 else value_range
    return (x.float() - low) / max(high - low, 1e-12)


def resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize images (N, C, H, W) with antialiasing; the data type is unchanged."""
    out = np.empty((*x.shape[:2], *size), x.dtype)
    step = _at_once(x.shape[1:])
    for start in range(0, len(x), step):
        part = torch.from_numpy(np.ascontiguousarray(x[start : start + step])).float()
        part = torch.nn.functional.interpolate(part, size, mode="bilinear", antialias=True)
        part = part.round() if x.dtype.kind == "u" else part
        out[start : start + step] = part.numpy().astype(x.dtype)
    return out
