"""Open any kind of data as a data set: the one dispatcher."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from unlabeled import registry
from unlabeled.data.dataset import PARTNER, LazyImages, Samples, Splits, rate_of, resize, whole
from unlabeled.data.readers import arrays, audio, bpe, corpus, images, sentences, text, video
from unlabeled.data.sets import books
from unlabeled.data.split import TEST_SHARE, code_names, keep_labeled, say_unknown, split
from unlabeled.errors import UserError, notice, suggest


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
        data: a name of `unlabeled list datasets`, `NAME:FOLDER`, a folder of images, of tar
            shards, of tables or of recordings, one of those files, a video, a `.npy` or `.npz`,
            `./file.py` with a function `load`, an array or tensor of images or of clips
            (N, T, C, H, W), a pair (images, labels), a `Sound`, a torch Dataset, or a finished
            `Splits`.
        channels: that the images must have.
        size: height and width that they must have; others are resized.
        labels_from: where labels of images in files are; nothing is taken for a label unasked.
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
        other = reopen_texts(data, splits.tokenizer, splits.size)
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
    notice(
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
        notice(f"{name} does not have {', '.join(lost)}, so that is left out")
    both = [factor for factor in ours.factors if factor in theirs]
    known: dict[str, list[str]] = {}
    codes: dict[str, np.ndarray] = {}
    for factor in both:
        y, y_test = ours.factors[factor], theirs[factor]
        codes[factor] = y_test
        names, other = (list(own.get(factor) or []) for own in (ours.classes, classes))
        if not names and not other:
            continue
        names, other = names or code_names(y), other or code_names(y_test)
        if factor in ("shot", "clip"):  # equal names are other videos
            table = np.arange(len(other)) + len(names)
            known[factor] = names + other
        else:
            present = {other[code] for code in np.unique(y_test[y_test >= 0])}
            added = [c for c in other if c in present and c not in names]
            known[factor] = names + added
            table = np.array([known[factor].index(c) if c in known[factor] else -1 for c in other])
            if added and factor == splits.target:
                say_unknown(added, len(present), factor, name)
        codes[factor] = np.where(y_test >= 0, table[np.maximum(y_test, 0)], -1).astype(np.int64)
    train = replace(
        ours, factors={f: ours.factors[f] for f in both}, classes=dict(ours.classes) | known
    )
    part = Samples(part.x, codes, part.names, dict(known), part.stored)
    return train, keep_labeled(part, splits.target, name)


def read_data(
    data: Any,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    stored: str | None = None,
    value_range: tuple[float, float] | None = None,
) -> Samples:
    """All images of any kind of data in their own order; of a named set, train before test.

    `stored` and `value_range` are what the encoder learned from, as `arrays.conversion` takes it.
    """
    data = _loaded(data)
    splits = _named(data)
    if splits is None:
        samples = _read(data, channels, size, stored=stored, span=value_range)
        return _fit(samples, "the data", channels, size)
    return _fit(whole(splits), splits.name, channels, size)


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
        raise UserError(f"{data} has no function load() that returns images; write one")
    return load()


def _named(data: Any) -> Splits | None:
    """A data set that brings its own split; None for images in files or arrays."""
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
    rate, length = rate_of(stored), size[1] if size else None
    if rate and not isinstance(data, str | Path | audio.Sound) and np.ndim(data) == 2:
        data = audio.Sound(data, rate)
    if isinstance(data, audio.Sound):
        return audio.from_memory(data, labels_from, length, rate)
    if not isinstance(data, str | Path):
        if getattr(data, "ndim", 0) == 5:
            return video.from_array(data)
        if labels_from is not None:
            data = data, labels_from
        return arrays.from_memory(data, channels, stored, span)
    path = Path(data).expanduser()
    if path.is_file() and path.suffix.lower() in video.ENDINGS:
        return video.read(path, size)
    if path.is_dir() and audio.is_folder_of_sound(path):
        return audio.read(path, length, rate, labels_from)
    if path.is_dir() or (path.is_file() and path.suffix.lower() in (".tar", *images.TABLES)):
        samples = images.read(
            path, channels, size, labels_from=labels_from, workers=workers, stored=stored
        )
        if (stored or span) and isinstance(samples.x, LazyImages):
            convert, dtype = arrays.conversion(samples.x, stored, span)
            samples.x = samples.x.converted(convert, dtype) if convert else samples.x
        return samples
    if path.suffix in (".npy", ".npz") and path.is_file():
        return arrays.read(path, channels, labels_from, stored, span)
    if re.match(r"\w+://", str(data)):
        raise UserError(f"'{data}' is on the network; download it first and give its folder")
    if path.is_file():
        kinds = ", ".join((".npy", ".npz", ".tar", *images.TABLES))
        raise UserError(f"{path} is none of {kinds}; give a folder of images or one of those")
    other = "give a folder of images, a .npy or .npz file, or a name in `unlabeled list datasets`"
    advice = suggest(str(data), registry.listing("datasets"), other)
    raise UserError(f"there is no data at '{data}'; {advice}")


def _fit(
    samples: Samples, name: str, channels: int | None, size: tuple[int, int] | None
) -> Samples:
    """Check the channels, adapt the size."""
    x = samples.x
    if channels and x.shape[1] != channels:
        raise UserError(
            f"{name} has images of {x.shape[1]} channels, but {channels} are needed; "
            "convert them, or train an encoder on images like these"
        )
    if size and rate_of(samples.stored) and x.shape[3] != size[1]:
        return replace(samples, x=audio.fitted(x[:], size[1]))
    if size and x.shape[2:] != tuple(size):
        return replace(samples, x=x.resized(size) if isinstance(x, LazyImages) else resize(x, size))
    return samples


def reopen_texts(data: Any, tokenizer: str, size: tuple[int, int], tested: bool = True) -> Splits:
    """Texts in another data set's tokens and shape: sentences where that has several rows.

    Args:
        data: `text:PLACE`, `sentences:PLACE`, `books`, a place, texts in a list, or splits.
        tokenizer: as JSON.
        size: sentences, and tokens of each.
        tested: whether a part is kept for testing; else the texts stay in their order.

    Raises:
        UserError: it is no text, or in other tokens.
    """
    if isinstance(data, Splits):
        if data.tokenizer not in ("", tokenizer):
            raise UserError(f"{data.name} is in other tokens than the run's; give the text itself")
        return data
    if isinstance(data, str | Path):
        name, _, place = str(data).partition(":")
        if isinstance(data, str) and name in ("books", "text", "sentences"):
            registry.say_which("datasets", data)
        else:
            name, place = "", str(data)
        read_documents = books.documents if name == "books" else corpus.read
        documents = read_documents(place or None)
        if size[0] == 1:
            return text.in_pieces(documents, str(data), size[1], tokenizer=tokenizer, tested=tested)
        return sentences.in_rows(documents, str(data), *size, tokenizer=tokenizer, tested=tested)
    rows, none = text.read(list(data), tokenizer, size), np.zeros((0, 1, *size), np.uint16)
    return text.splits_of(
        "texts", (rows, [""] * len(rows)), (none, []), bpe.open_tokenizer(tokenizer)
    )
