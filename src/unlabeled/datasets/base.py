"""What a data set is here, and how any kind of data becomes one. Nobody makes dummy labels."""

from __future__ import annotations

import math
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from unlabeled import registry
from unlabeled.datasets import folders
from unlabeled.errors import Notice, UserError
from unlabeled.views import Photo, RandomCrop, View
from unlabeled.views.sound import Gain, Room

TEST_SHARE = 0.2
"""Of labelled data without a test set of its own, kept for testing."""
SPLIT_SEED = 0
EVALUATED = ("test", "validation")
"""Official splits that may be tested on, the better one first."""
PARTNER = "partner"
"""The factor that holds what belongs to each picture in paired data, (N, …)."""


class Pictures:
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

    def take(self, rows: np.ndarray) -> Pictures:
        """Those rows; nothing is read."""
        rows = rows if self.rows is None else self.rows[rows]
        return Pictures(self.base, rows, self.convert, self.dtype, self.shape[2:])

    def converted(self, convert: Callable[[np.ndarray], np.ndarray], dtype: Any) -> Pictures:
        """The same as other numbers; nothing is read."""
        return Pictures(self.base, self.rows, convert, dtype, self.shape[2:])

    def resized(self, size: tuple[int, int]) -> Pictures:
        """The same in another height and width; nothing is read."""
        return Pictures(self.base, self.rows, self.convert, self.dtype, size)


def blocks(x: np.ndarray | Pictures, rows: int = 256) -> Iterator[np.ndarray]:
    """The pictures, some at a time."""
    return (x[start : start + rows] for start in range(0, len(x), rows))


@dataclass
class Samples:
    """Pictures, and what is known of them.

    Args:
        x: (N, C, H, W), uint8 in 0..255, or uint16 or float32 in `Splits.range`; `Pictures` where
            they stay on disk.
        factors: by name, for each picture an integer class, −1 without a label, or a float number,
            NaN without one, (N,); empty without labels.
        names: of the pictures, such as their paths.
        classes: by factor, the names of its classes, where they have any.
        stored: what numbers the pictures were given as, where `x` does not tell: "mask", 0 and 1;
            "sound 8000", samples of sound at that rate.
    """

    x: np.ndarray | Pictures
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
        x = self.x.take(rows) if isinstance(self.x, Pictures) else self.x[rows]
        return Samples(x, factors, names, dict(self.classes), self.stored)


@dataclass
class Splits:
    """A data set: what is learnt from, what is tested on, and what it needs to be understood.

    Args:
        name: as the user would give it.
        train: for learning, and the labels of probes.
        test: whose labels nothing learns from; empty where nothing is known to test.
        target: the factor that probes predict, None without labels.
        classes: names of the target's classes.
        range: black and white of float and uint16 pictures; uint8 is always 0 and 255.
        augment: the views that suit these pictures, for methods that compare them.
        augment_labeled: weak ones for training with labels, which no label here depends on.
        numbers: factors that are numbers, with the period of those that go round.
        labels_from: where the labels were said to be, to open it again.
        tokenizer: of texts, as JSON; empty of pictures alone.
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
    augment: View = field(default_factory=Photo)
    augment_labeled: View = field(default_factory=RandomCrop)
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
    def channels(self) -> int:
        """Of a picture."""
        return self.train.x.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a picture."""
        return self.train.x.shape[2:]

    @property
    def stored(self) -> str:
        """What numbers the pictures were given as: mask, uint8, uint16 or float32."""
        return self.train.stored or self.train.x.dtype.name

    @property
    def rate(self) -> int | None:
        """Samples a second, of sound; None of pictures."""
        return rate_of(self.train.stored)

    @property
    def noun(self) -> str:
        """What its rows are called."""
        if self.vocabulary and PARTNER not in self.train.factors:
            return "texts"
        return "recordings" if self.rate else "pictures"


def rate_of(stored: str | None) -> int | None:
    """Samples a second of what was stored as "sound 8000"; None of pictures."""
    found = re.fullmatch(r"sound (\d{4,6})", stored or "")
    return int(found[1]) if found else None


def open_data(
    data: Any,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    *,
    labels_from: Any = None,
    workers: int | None = None,
    stored: str | None = None,
    test: Any = None,
    value_range: tuple[float, float] | None = None,
) -> Splits:
    """Any kind of data as a data set.

    Args:
        data: a name of `unlabeled list datasets`, `NAME:FOLDER`, a folder of pictures, of tar
            shards, of tables or of recordings, one of those files, a film, a `.npy` or `.npz`,
            `./file.py` with a function `load`, an array or tensor of pictures or of clips
            (N, T, C, H, W), a pair (pictures, labels), a `Sound`, a torch Dataset, or a finished
            `Splits`.
        channels: that the pictures must have.
        size: height and width that they must have; others are resized.
        labels_from: where labels of pictures in files are; nothing is taken for a label unasked.
            "folders", a `.csv` or `.tsv` (`labels.csv:breed` chooses a column), an array or `.npy`,
            or the column of a table.
        workers: processes that decode files; as many as there are cores unless given.
        stored: what numbers the encoder learned from, as `arrays.conversion` takes it.
        value_range: black and white of images that are not uint8: the encoder's, or the user's.
        test: other data to test on; then all of `data` that has no official split is learned from.

    Raises:
        UserError: it cannot be opened, or does not fit.
    """
    name = name_of(data)
    data = _loaded(data)
    splits = _named(data)
    if splits is None:
        share = TEST_SHARE if test is None else 0.0
        samples = _read(data, channels, size, labels_from, workers, stored, value_range)
        given = value_range if stored is None and samples.x.dtype != np.uint8 else None
        splits = split(samples, name, share, given)
        splits.labels_from = labels_from
    elif value_range is not None and stored is None:
        raise UserError(f"{splits.name} has its own range of values; omit --value-range")
    elif labels_from is not None:
        raise UserError(f"{splits.name} has its own labels; leave labels_from away")
    parts = (splits.train, splits.test, splits.validation)
    train, held, apart = (_fit(part, splits.name, channels, size) for part in parts)
    splits = replace(splits, train=train, test=held, validation=apart)
    return splits if test is None else with_test(splits, test, labels_from, workers)


def name_of(data: Any) -> str:
    """What data is called: as the user gives it, or "array"."""
    if not isinstance(data, str | Path):
        return "array"
    is_set = str(data).partition(":")[0] in registry.listing("datasets")
    return f"./{data}" if is_set and isinstance(data, Path) else str(data)


def with_test(
    splits: Splits, test: Any, labels_from: Any = None, workers: int | None = None
) -> Splits:
    """A data set with other data as its test part.

    That is opened as the data set is: with its channels, size, kind of numbers, tokens and classes,
    by name. Of data that has an official split, only the test part is taken, and of the data set
    only the training part.

    Args:
        splits: what is learned from.
        test: any kind of data.
        labels_from: where labels of files are; labels in arrays belong to the training data alone.
        workers: processes that decode files.

    Raises:
        UserError: it does not fit, or has no labels where the training data has some.
    """
    name, data = name_of(test), _loaded(test)
    if splits.tokenizer:
        if PARTNER in splits.train.factors:
            raise UserError(
                f"{splits.name} has captions, so it cannot be tested on {name}; omit it"
            )
        from unlabeled.datasets.text import reopen

        other = reopen(data, splits.tokenizer, splits.size)
        part = whole(other)
    else:
        own = labels_from if isinstance(labels_from, str | Path) else None
        own = None if str(own).endswith(".npy") else own
        other = _named(data) or split(
            _read(data, splits.channels, splits.size, own, workers, splits.stored, splits.range),
            name,
            share=0,
        )
        part = _fit(
            other.test if len(other.test) else other.train, name, splits.channels, splits.size
        )
    if rate_of(part.stored) != splits.rate:
        raise UserError(f"{name} and {splits.name} are not both audio of one rate; give data alike")
    train, part = _with_classes(splits, part, other.target, name)
    classes = train.classes.get(splits.target, []) if splits.target else []
    apart = ", ".join(
        f"the {len(samples):,} for {use}"
        for use, samples in (("testing", splits.test), ("validation", splits.validation))
        if len(samples)
    )
    _say(
        f"{len(train):,} {splits.noun} of {splits.name} are learned from, {len(part):,} of {name} "
        "are tested on" + (f"; of {splits.name} {apart} are set aside" if apart else "")
    )
    unseen = train.take(np.arange(0))
    return replace(
        splits, train=train, test=part, classes=classes, validation=unseen, test_from=test
    )


def _with_classes(
    splits: Splits, part: Samples, target: str | None, name: str
) -> tuple[Samples, Samples]:
    """Training part and another one, their classes matched by name; only factors that both have.

    Where the other one has classes that are not known to the training part, they are added.
    """
    ours, theirs = splits.train, dict(part.factors)
    classes = dict(part.classes)
    if splits.target and splits.target not in theirs and target:
        theirs[splits.target] = theirs.pop(target)
        classes[splits.target] = classes.pop(target, [])
    if splits.target and splits.target not in theirs:
        raise UserError(
            f"{name} has no labels '{splits.target}', which {splits.name} has; give test data that "
            "has them"
        )
    if lost := sorted(set(ours.factors) - set(theirs)):
        _say(f"{name} does not have {', '.join(lost)}, so that is left out")
    both = [factor for factor in ours.factors if factor in theirs]
    known: dict[str, list[str]] = {}
    codes: dict[str, np.ndarray] = {}
    for factor in both:
        y, y_test = ours.factors[factor], theirs[factor]
        codes[factor] = y_test
        names, other = (list(own.get(factor) or []) for own in (ours.classes, classes))
        if not names and not other:
            continue
        names, other = names or _numbers(y), other or _numbers(y_test)
        if factor in ("shot", "clip"):  # equal names are other films
            table = np.arange(len(other)) + len(names)
            known[factor] = names + other
        else:
            present = {other[code] for code in np.unique(y_test[y_test >= 0])}
            added = [c for c in other if c in present and c not in names]
            known[factor] = names + added
            table = np.array([known[factor].index(c) if c in known[factor] else -1 for c in other])
            if added and factor == splits.target:
                _say_unknown(added, len(present), factor, name)
        codes[factor] = np.where(y_test >= 0, table[np.maximum(y_test, 0)], -1).astype(np.int64)
    train = replace(
        ours, factors={f: ours.factors[f] for f in both}, classes=dict(ours.classes) | known
    )
    part = Samples(part.x, codes, part.names, dict(known), part.stored)
    return train, _labeled(part, splits.target, name)


def _numbers(y: np.ndarray) -> list[str]:
    return [str(code) for code in range(int(y.max(initial=-1)) + 1)]


def _labeled(samples: Samples, target: str | None, name: str) -> Samples:
    """Those that have a label, where labels are asked for."""
    if target is None or not len(samples):
        return samples
    rows = np.flatnonzero(samples.known(target))
    if len(rows) == len(samples):
        return samples
    _say(
        f"{len(samples) - len(rows):,} of {len(samples):,} samples to test on in {name} have no "
        "label and are left out"
    )
    return samples.take(rows)


def _say_unknown(classes: list[str], number: int, factor: str, name: str) -> None:
    if classes:
        shown = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
        _say(
            f"{len(classes):,} of the {number:,} classes of {factor} to test on in {name} are not "
            f"among those to learn from: {shown}"
        )


def _say(message: str) -> None:
    warnings.warn(message, Notice, stacklevel=3)


def read_data(
    data: Any,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    stored: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> Samples:
    """All pictures of any kind of data in their own order; of a named set, train before test.

    `stored` and `value_range` are what the encoder learned from, as `arrays.conversion` takes it.
    """
    data = _loaded(data)
    splits = _named(data)
    if splits is None:
        samples = _read(data, channels, size, stored=stored, span=value_range)
        return _fit(samples, "the data", channels, size)
    return _fit(whole(splits), splits.name, channels, size)


def whole(splits: Splits) -> Samples:
    """All rows, train before test."""
    parts = [p for p in (splits.train, splits.validation, splits.test) if len(p)]
    if len(parts) == 1:
        return parts[0]
    factors = {k: np.concatenate([p.factors[k] for p in parts]) for k in parts[0].factors}
    names = [name for p in parts for name in p.names or []]
    x = np.concatenate([p.x[:] for p in parts])
    return Samples(x, factors, names or None, parts[0].classes)


def is_program(data: Any) -> bool:
    """Whether it names a file of Python that loads the data, `./file.py` or `./file.py:load`."""
    return isinstance(data, str) and re.search(r"\.py(:\w+)?$", data) is not None


def _loaded(data: Any) -> Any:
    """What a file of Python gives; other data as it is."""
    if not is_program(data):
        return data
    found = registry.find("datasets", data)
    load = getattr(found, "load", None) if isinstance(found, ModuleType) else found
    if not callable(load):
        raise UserError(f"{data} has no function load() that returns pictures; write one")
    return load()


def _named(data: Any) -> Splits | None:
    """A data set that brings its own split; None for pictures in files or arrays."""
    if isinstance(data, Splits):
        return data
    if not isinstance(data, str):
        return None
    name, _, place = data.partition(":")
    if name in registry.listing("datasets"):
        registry.say_which("datasets", data)
        return registry.find("datasets", name).load(place or None)
    return None


def _read(
    data: Any,
    channels: int | None,
    size: tuple[int, int] | None,
    labels_from: Any = None,
    workers: int | None = None,
    stored: str | None = None,
    span: tuple[float, float] | None = None,
) -> Samples:
    from unlabeled.datasets import arrays, encoded, sound, video

    rate, length = rate_of(stored), size[1] if size else None
    if rate and not isinstance(data, str | Path | sound.Sound) and np.ndim(data) == 2:
        data = sound.Sound(data, rate)
    if isinstance(data, sound.Sound):
        return sound.from_memory(data, labels_from, length, rate)
    if not isinstance(data, str | Path):
        if getattr(data, "ndim", 0) == 5:
            return video.from_array(data)
        if labels_from is not None:
            data = data, labels_from
        return arrays.from_memory(data, channels, stored, span)
    path = Path(data).expanduser()
    if path.is_file() and path.suffix.lower() in video.ENDINGS:
        return video.read(path, size)
    if path.is_dir() and sound.is_folder_of_sound(path):
        return sound.read(path, length, rate, labels_from)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in (".tar", *encoded.TABLES)):
        samples = encoded.read(
            path, channels, size, labels_from=labels_from, workers=workers, stored=stored
        )
        if (stored or span) and isinstance(samples.x, Pictures):
            convert, dtype = arrays.conversion(samples.x, stored, span)
            samples.x = samples.x.converted(convert, dtype) if convert else samples.x
        return samples
    if path.suffix in (".npy", ".npz") and path.is_file():
        return arrays.read(path, channels, labels_from, stored, span)
    if re.match(r"\w+://", str(data)):
        raise UserError(f"'{data}' is on the network; download it first and give its folder")
    if path.is_file():
        kinds = ", ".join((".npy", ".npz", ".tar", *encoded.TABLES))
        raise UserError(f"{path} is none of {kinds}; give a folder of pictures or one of those")
    raise UserError(
        f"no data at '{data}': give a folder of pictures, a .npy or .npz file, "
        f"or one of {', '.join(registry.listing('datasets'))}"
    )


def _fit(
    samples: Samples, name: str, channels: int | None, size: tuple[int, int] | None
) -> Samples:
    """Check the channels, adapt the size."""
    x = samples.x
    if channels and x.shape[1] != channels:
        raise UserError(
            f"{name} has pictures of {x.shape[1]} channels, but {channels} are needed; "
            "convert them, or train an encoder on pictures like these"
        )
    if size and rate_of(samples.stored) and x.shape[3] != size[1]:
        from unlabeled.datasets.sound import fitted

        return replace(samples, x=fitted(x[:], size[1]))
    if size and x.shape[2:] != tuple(size):
        return replace(samples, x=x.resized(size) if isinstance(x, Pictures) else resize(x, size))
    return samples


def split(
    samples: Samples,
    name: str,
    share: float = TEST_SHARE,
    span: tuple[float, float] | None = None,
) -> Splits:
    """Labelled pictures into train and about that share of test; unlabelled ones all to train.

    Where the names tell of official splits, those are taken, whatever the share. Else a picture
    with a name is drawn by its name, so that it stays on its side when others come or go; those
    without by a permutation of fixed seed. Frames stay with those of their shot. The test part is
    drawn from labeled pictures only; all others are learned from. `span` is black and white where
    they are given.
    """
    if not len(samples):
        raise UserError(f"{name} holds no pictures (0 samples); give at least one")
    rate = rate_of(samples.stored)
    if span is None:
        plain = rate or samples.x.dtype == np.uint8
        span = (0.0, 1.0) if plain else value_range(samples.x, warn=True)
    classes_of = [name for name, codes in samples.factors.items() if codes.dtype.kind != "f"]
    target = next(iter(classes_of), None)
    drawn_by = target or next(iter(samples.factors), None)
    parts = _official(samples, name, drawn_by)
    if parts is not None and not len(parts[1]):
        return split(parts[0], name, share, span)
    order = np.arange(len(samples))
    n_test = 0
    if parts is not None:
        pass
    elif share and {"shot", "frame"} <= set(samples.factors):
        from unlabeled.datasets.video import by_shot

        rows, tested = by_shot(samples, share)
        order, n_test = np.concatenate([tested, rows]), len(tested)
        target = "shot" if n_test else None
    elif drawn_by is not None and share:
        known = samples.known(drawn_by)
        if samples.names:
            drawn = np.array([zlib.crc32(name.encode(errors="replace")) for name in samples.names])
            order = np.argsort(drawn, kind="stable")
            n_test = int((known & (drawn < share * 2**32)).sum())
        else:
            order = np.random.default_rng(SPLIT_SEED).permutation(len(samples))
            n_test = round(share * int(known.sum()))
        n_test = max(1, n_test)
        tested = order[known[order]][:n_test]
        order = np.concatenate([tested, order[~np.isin(order, tested)]])
    places = order[n_test:], order[:n_test], order[:0]
    train, test, validation = parts or (samples.take(place) for place in places)
    classes = samples.classes.get(target, []) if target else []
    views: tuple[View, View] = (Room(), Gain()) if rate else (Photo(), RandomCrop())
    numbers: dict[str, float | None] = {n: None for n in samples.factors if n not in classes_of}
    splits = Splits(name, train, test, target, classes, span, *views, validation=validation)
    return replace(splits, numbers=numbers)


def _official(
    samples: Samples, name: str, target: str | None
) -> tuple[Samples, Samples, Samples] | None:
    """Parts to learn from, to test on and to set aside, where the names tell of official splits.

    Without a test part that has labels, if labels are asked for, the validation part is tested on;
    without either there is none to test on.
    """
    found = folders.official(samples.names) if samples.names else None
    if found is None:
        folders.say_unofficial(samples.names or [], name)
        return None
    kinds = np.array([kind for kind, _, _ in found])
    parts = {kind: samples.take(np.flatnonzero(kinds == kind)) for kind in ("train", *EVALUATED)}
    places = {
        kind: ", ".join(sorted({place for own, place, _ in found if own == kind})[:3])
        for kind in parts
    }
    for kind in EVALUATED:
        parts[kind] = _labeled(parts[kind], target, f"{places[kind]} in {name}")
    used = next((kind for kind in EVALUATED if len(parts[kind])), None)
    train, none = parts["train"], samples.take(np.arange(0))
    test = parts[used] if used else none
    validation = parts["validation"] if used == "test" else none
    message = f"{name} has official splits: {len(train):,} to learn from ({places['train']})"
    if used:
        message += f", {len(test):,} to test on ({places[used]}"
        message += ")" if used == "test" else ", as none is for testing)"
    else:
        message += "; the others have no labels and are left out"
    if len(validation):
        message += f", {len(validation):,} for validation are set aside ({places['validation']})"
    _say(message)
    if used and target in samples.classes and target not in ("shot", PARTNER):
        seen, asked = (np.unique(part.factors[target]) for part in (train, test))
        unseen = [code for code in asked if code not in seen]
        names = samples.classes.get(target) or _numbers(samples.factors[target])
        _say_unknown([names[code] for code in unseen], len(asked), target, name)
    return train, test, validation


def value_range(x: np.ndarray | Pictures, warn: bool = False) -> tuple[float, float]:
    """Black and white of pictures that are not uint8.

    Floats: (0, 1) where they stay within, else what they span. uint16: 0 and the largest value of
    the fewest bits that hold them, such as 4095 for a camera of 12 bits.

    Args:
        x: pictures (N, C, H, W).
        warn: whether to say so where values far from all others decide it.

    Raises:
        UserError: there are NaN or infinite values.
    """
    low, high = math.inf, -math.inf
    some = []
    thinned = max(1, math.prod(x.shape) // 1_000_000)
    for part in blocks(x):
        ends = float(part.min()), float(part.max())
        if not np.isfinite(ends).all():
            raise UserError("the pictures hold NaN or infinite values; remove or replace those")
        low, high = min(low, ends[0]), max(high, ends[1])
        some.append(part.ravel()[::thinned])
    if warn and (x.dtype == np.uint16 or low < 0 or high > 1):
        _say_stray(x, np.concatenate(some), low, high)
    if x.dtype == np.uint16:
        return 0.0, float(2 ** max(8, int(high).bit_length()) - 1)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def as_range(given: str | tuple[float, float] | None) -> tuple[float, float] | None:
    """A range of values as the user gives it, such as "0,4095".

    Raises:
        UserError: it is no such range.
    """
    if given is None:
        return None
    try:
        low, high = map(float, given.split(",") if isinstance(given, str) else given)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"--value-range is '{given}', but must be LOW,HIGH, such as 0,4095")
    return low, high


def _say_stray(x: np.ndarray | Pictures, some: np.ndarray, low: float, high: float) -> None:
    """Say so where the smallest or largest value lies far from all others, such as a "no data".

    Far is farther than 99.8 % of the others reach from end to end.
    """
    others = some[(some != low) & (some != high)]
    if not others.size:
        return
    start, end = (float(q) for q in np.quantile(others, [0.001, 0.999]))
    far = [v for v in (low, high) if v and not 2 * start - end <= v <= 2 * end - start]
    if far and end > start:
        counted = " and ".join(
            f"{v:g} ({sum(int((part == v).sum()) for part in blocks(x)):,} times)" for v in far
        )
        _say(
            f"black and white are set by {counted}, while nearly all other values lie from "
            f"{start:g} to {end:g}; if that means no data, give --value-range={start:g},{end:g}"
        )


def to_float(x: torch.Tensor, span: tuple[float, float]) -> torch.Tensor:
    """Pictures as stored -> float with black 0 and white 1; `span` is of all but uint8."""
    low, high = (0.0, 255.0) if x.dtype == torch.uint8 else span
    return (x.float() - low) / max(high - low, 1e-12)


def resize(x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pictures (N, C, H, W) to another height and width, antialiased, of the same type."""
    out = np.empty((*x.shape[:2], *size), x.dtype)
    for start in range(0, len(x), 256):
        part = torch.from_numpy(np.ascontiguousarray(x[start : start + 256])).float()
        part = torch.nn.functional.interpolate(part, size, mode="bilinear", antialias=True)
        part = part.round() if x.dtype.kind == "u" else part
        out[start : start + 256] = part.numpy().astype(x.dtype)
    return out
