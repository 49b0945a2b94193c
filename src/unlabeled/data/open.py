"""Open any kind of data as a data set, by dispatching to the readers."""

import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from unlabeled import registry
from unlabeled.data.dataset import LazyImages, Samples, Splits, all_samples, resize, with_frames
from unlabeled.data.matching import with_classes
from unlabeled.data.readers import (
    arrays,
    audio,
    corpus,
    groups,
    images,
    patterns,
    sentences,
    streaming,
    text,
    video,
)
from unlabeled.data.readers.images import Decode
from unlabeled.data.readers.parts import LARGEST, Opening
from unlabeled.data.readers.remote import is_remote
from unlabeled.data.readers.source import TABLES
from unlabeled.data.sets import books
from unlabeled.data.split import TEST_SHARE, split
from unlabeled.data.standardize import Kinds, converted, read_rows, standardized
from unlabeled.data.values import first_of
from unlabeled.errors import UserError, notice, suggest
from unlabeled.modality import Audio, EncoderInput, Images, Pairs, Series, Table, Text

TEXTS = (".txt", ".md", ".rst")
"""Endings of files that are opened as text by default; others need `text:FILE`."""
IN_MEMORY = 1 << 30
"""Maximum bytes of resized images in memory; more are resized whenever they are read."""


def open_data(
    data: Any,
    channels: int | None = None,
    size: int | tuple[int, int] | None = None,
    *,
    like: EncoderInput | None = None,
    labels_from: Any = None,
    workers: int | None = None,
    test: Any = None,
    value_range: tuple[float, float] | None = None,
    groups_from: Any = None,
    decoding: Decode = "auto",
    tile: int | None = None,
    max_pixels: int | None = None,
    largest: int = LARGEST,
    kinds: Kinds = (),
) -> Splits:
    """Open any kind of data as a data set.

    Args:
        data: a name of `unlabeled list datasets`, `NAME:FOLDER`, a folder of images, of tar
            shards, of tables or of recordings, one of those files, a text, a video, a `.npy`, a
            `.npz`, a `.csv`, a pattern of files (`photos/*.jpg`, `shards-{000..004}.tar`),
            `./file.py` with a function `load`, a data frame, an array or tensor of images or of
            clips (N, T, C, H, W), a pair (images, labels), a `Recordings`, a torch Dataset, or a
            finished `Splits`.
        channels: number of channels that images must have.
        size: height and width that images must have, one number if they are equal; others are
            resized.
        like: an encoder's input, such as `run.modality`, to which the data is converted.
        labels_from: source of labels of images in files (default: no labels).
            "folders", a `.csv` or `.tsv` (`labels.csv:breed` chooses a column), an array or `.npy`,
            or the column of a table.
        workers: number of processes that decode files (default: one for each core).
        test: other data to test on; then all of `data` without an official split is for training.
        value_range: black and white of images that are not uint8.
        groups_from: what samples have in common, such as a patient, in any form of `labels_from`:
            samples of a group are never on both sides of a split.
        decoding: when images in files are decoded: once, into the cache; on_the_fly, whenever they
            are read, with random crops from the full-size images; auto: once where that needs less
            than 2 GB.
        tile: side in pixels of the squares that larger images in files are cut into, each a sample
            `file#row,column`; those of a file are a group (default: that of `like`, else none).
        max_pixels: of images in files; larger ones are left out (default: that of `like`, else
            Pillow's limit, 178,956,970).
        largest: maximum side of images in files, in pixels, without `size` and `like`.
        kinds: what is to be learned from, such as `method.modality`: arrays are read as time series
            or tables where that is the only kind.

    Raises:
        UserError: it cannot be opened, or does not fit.
    """
    name, data = name_of(data), _loaded(data)
    size = (size, size) if isinstance(size, int) else size
    if isinstance(like, Text):
        if groups_from is not None:
            raise UserError("texts are not grouped; omit --groups-from")
        splits = reopen_texts(data, like)
        return splits if test is None else with_test(splits, test)
    if named := _named(data):
        splits = named
        if value_range is not None:
            raise UserError(f"{splits.name} has its own range of values; omit --value-range")
        if labels_from is not None:
            raise UserError(f"{splits.name} has its own labels; omit --labels-from")
        if groups_from is not None:
            raise UserError(f"{splits.name} has its own split; omit --groups-from")
    else:
        share = TEST_SHARE if test is None else 0.0
        samples = read_rows(data, like, kinds, labels_from, groups_from)
        if samples is not None and (size or value_range is not None):
            noun = samples.modality.noun
            raise UserError(f"{noun} are standardized, not resized; omit --size and --value-range")
        if samples is None:
            opening = _opening(like, tile, max_pixels, largest)
            samples = _read(
                data, channels, size, like, labels_from, workers, value_range, decoding, opening
            )
            groups.attach(samples, groups_from, data, labels_from)
        is_given = value_range is not None and samples.x.dtype != np.uint8
        if isinstance(like, Images) and samples.x.dtype != np.uint8:
            value_range, is_given = like.value_range, True
        splits = split(samples, name, share, value_range if is_given else None)
        splits = splits if like is not None else standardized(splits)
        splits.labels_from, splits.groups_from = labels_from, groups_from
    parts = ("train", "test", "validation")
    fit: Any = {p: _fit(getattr(splits, p), splits.name, channels, size, like) for p in parts}
    splits = replace(splits, **fit)
    return splits if test is None else with_test(splits, test, labels_from, workers, decoding)


def name_of(data: Any) -> str:
    """Name of data: as the user gives it, or "array"."""
    if not isinstance(data, str | Path):
        return "array"
    is_set = str(data).partition(":")[0] in registry.listing("datasets")
    return f"./{data}" if is_set and isinstance(data, Path) else str(data)


def with_test(
    splits: Splits,
    test: Any,
    labels_from: Any = None,
    workers: int | None = None,
    decoding: Decode = "auto",
) -> Splits:
    """Replace the test part of a data set by other data.

    The other data is opened with the same channels, size, data type, tokens and class names. If it
    has an official split, only its test part is used; of the data set, only the training part, and
    without the groups of the test part.

    Args:
        splits: the training data set.
        test: any kind of data.
        labels_from: source of labels in files; labels in arrays apply only to the training data.
        workers: number of processes that decode files.
        decoding: as for `open_data`.

    Raises:
        UserError: it does not fit, or has no labels where the training data has some.
    """
    name, data = name_of(test), _loaded(test)
    noun, like = splits.modality.noun, splits.modality.encoder_input
    if isinstance(splits.modality, Pairs):
        raise UserError(f"{splits.name} holds pairs, so it cannot be tested on {name}; omit --test")
    if isinstance(like, Text):
        other = reopen_texts(data, like)
        part = all_samples(other)
    else:
        own, grouped = (
            None
            if not isinstance(location, str | Path) or str(location).endswith(".npy")
            else location
            for location in (labels_from, splits.groups_from)
        )
        other = _named(data)  # type: ignore[assignment]
        if other is None:
            samples = read_rows(data, like, (), own, grouped)
            if samples is None:
                shape = like.channels, like.size
                samples = _read(data, *shape, like, own, workers, decoding=decoding)
                groups.attach(samples, grouped, data, own)
            other = split(samples, name, share=0)
        part = _fit(other.test if len(other.test) else other.train, name, like=like)
    train, part = with_classes(splits, part, other.target, name)
    if not (audio.recordings_of(train) and audio.recordings_of(part)):  # names of other files
        train = groups.separate(train, part, name=splits.name)
    set_aside = ", ".join(
        f"the {len(samples):,} for {use}"
        for use, samples in (("testing", splits.test), ("validation", splits.validation))
        if len(samples)
    )
    notice(
        f"{len(train):,} {noun} of {splits.name} are learned from, {len(part):,} of {name} "
        "are tested on" + (f"; of {splits.name} {set_aside} are set aside" if set_aside else "")
    )
    return replace(
        splits, train=train, test=part, validation=train.take(np.arange(0)), test_from=test
    )


def read_data(data: Any, *, like: EncoderInput | None = None, labels_from: Any = None) -> Samples:
    """All samples of any kind of data in their order; of a named set, training before test.

    Args:
        data: as for `open_data`.
        like: an encoder's input, such as `run.modality`, to which the data is converted.
        labels_from: source of labels of files, as for `open_data`.
    """
    data = _loaded(data)
    if isinstance(like, Text):
        if labels_from is not None:
            raise UserError("labels of texts cannot be read from files; omit --labels-from")
        return all_samples(reopen_texts(data, like, tested=False))
    splits = _named(data)
    if splits and labels_from is not None:
        raise UserError(f"{splits.name} has its own labels; omit --labels-from")
    samples = all_samples(splits) if splits else read_rows(data, like, (), labels_from)
    if samples is None:
        samples = _read(data, None, None, like, labels_from)
    return _fit(samples, splits.name if splits else "the data", None, None, like)


def is_program(data: Any) -> bool:
    """Whether data is loaded by a Python file, `./file.py` or `./file.py:load`."""
    return isinstance(data, str) and re.search(r"\.py(:\w+)?$", data) is not None


def _loaded(data: Any) -> Any:
    """The data that a Python file loads; other data unchanged."""
    if not is_program(data):
        return data
    entry = registry.find("datasets", data)
    load = getattr(entry, "load", None) if isinstance(entry, ModuleType) else entry
    if not callable(load):
        raise UserError(f"{data} has no function load(); add one that returns the data")
    return load()


def _named(data: Any) -> Splits | None:
    """A named data set or `Splits`; None for samples in files or arrays."""
    if isinstance(data, Splits):
        return data
    if not isinstance(data, str):
        return _texts(data) if isinstance(data, Path) else None
    name, _, location = data.partition(":")
    if name in registry.listing("datasets"):
        registry.say_which("datasets", data)
        return registry.find("datasets", name).load(location or None)
    return _texts(data)


def _texts(data: str | Path) -> Splits | None:
    """The texts in a file, or files of a pattern, with an ending of text."""
    path = Path(data).expanduser()
    is_text = path.suffix.lower() in TEXTS and (path.is_file() or patterns.is_pattern(path))
    return text.in_pieces(corpus.read(path), str(data)) if is_text else None


def _read(
    data: Any,
    channels: int | None,
    size: tuple[int, int] | None,
    like: EncoderInput | None = None,
    labels_from: Any = None,
    workers: int | None = None,
    value_range: tuple[float, float] | None = None,
    decoding: Decode = "auto",
    opening: Opening | None = None,
) -> Samples:
    dtype, rate, length = None, None, size[1] if size else None
    opening = opening or _opening(like)
    if isinstance(like, Images):
        channels, size, dtype, value_range = like.channels, like.size, like.dtype, like.value_range
    elif isinstance(like, Audio):
        rate, length = like.sample_rate, like.length
        data = audio.as_recordings(data, rate)
    if isinstance(data, audio.Recordings):
        return audio.from_memory(data, labels_from, length, rate)
    if not isinstance(data, str | Path | patterns.Files):
        if getattr(data, "ndim", 0) == 5:
            return video.from_array(data)
        if labels_from is not None:
            data = data, labels_from
        return arrays.from_memory(data, channels, dtype, value_range)
    if is_remote(data):
        samples = streaming.read(data, channels, size, labels_from, workers, dtype, opening)
        return _converted(samples, dtype, value_range)
    path, listing = patterns.find_files(data)
    if path.is_file() and path.suffix.lower() in video.ENDINGS:
        return video.read(path, size)
    if listing and audio.is_folder_of_audio(path, listing):
        return audio.read(path, length, rate, labels_from, listing, workers=workers)
    if listing or (path.is_file() and path.suffix.lower() in (".tar", *TABLES)):
        samples = images.read(
            path,
            channels,
            size,
            labels_from=labels_from,
            workers=workers,
            dtype=dtype,
            listing=listing,
            decoding=decoding,
            opening=opening,
        )
        return _converted(samples, dtype, value_range)
    if path.suffix in (".npy", ".npz") and path.is_file():
        return arrays.read(path, channels, labels_from, dtype, value_range, rate)
    if path.is_file():
        if like is not None and path.suffix.lower() in (".csv", ".tsv"):
            raise UserError(f"{path} holds rows, but the run learned from {like.noun}; give those")
        kinds = ", ".join((".npy", ".npz", ".tar", *TABLES))
        raise UserError(
            f"{path} is not an image, audio, text or video file, nor one of {kinds}; give one of "
            "those, or a folder"
        )
    other = "give a folder of images, a .npy or .npz file, or a name in `unlabeled list datasets`"
    advice = suggest(str(data).partition(":")[0], registry.listing("datasets"), other)
    raise UserError(f"there is no data at '{data}'; {advice}")


def _converted(
    samples: Samples, dtype: str | None, value_range: tuple[float, float] | None
) -> Samples:
    """Convert images to an encoder's input or to the user's value range.

    The first streamed images decide how; others are clipped to the range.
    """
    x = samples.x
    if not (dtype or value_range) or not isinstance(x, LazyImages):
        return samples
    convert, to = arrays.conversion(first_of(x) if x.streamed else x, dtype, value_range)
    x = x.converted(convert, to) if convert else x
    if x.streamed and value_range and to != np.uint8 and (dtype is None or value_range != (0, 1)):
        x = x.converted(partial(arrays.clipped, value_range=value_range), np.float32)
    samples.x = x
    return samples


def _opening(
    like: Any,
    tile: int | None = None,
    max_pixels: int | None = None,
    largest: int = LARGEST,
) -> Opening:
    """Options of opening large images: as given, else those of an encoder's training images."""
    own = like if isinstance(like, Images) else None
    return Opening(
        own.tile if own and tile is None else tile,
        own.max_pixels if own and max_pixels is None else max_pixels,
        largest,
    )


def _fit(
    samples: Samples,
    name: str,
    channels: int | None = None,
    size: tuple[int, int] | None = None,
    like: EncoderInput | None = None,
) -> Samples:
    """Check modality and channels, adapt the size, standardize."""
    is_gray = isinstance(samples.modality.encoder_input, Images) and samples.x.shape[1] == 1
    if isinstance(like, Images) and like.channels == 3 and is_gray:
        notice(f"the images of {name} are gray: red, green and blue all have their values")
        rgb = np.repeat(samples.x[:], 3, 1)
        modality = with_frames(samples.modality, channels=3)
        samples = replace(samples, x=rgb, modality=modality)
    x, received = samples.x, samples.modality.encoder_input
    if like is not None:
        channels, size = like.channels, like.size
        if type(received) is not type(like):
            raise UserError(
                f"{name} holds {samples.modality.noun}, but {like.noun} are needed; "
                f"give {like.noun}"
            )
        if isinstance(like, Series | Table):
            return converted(samples, like)
        if isinstance(received, Audio) and received.sample_rate != like.sample_rate:  # type: ignore[union-attr]
            raise UserError(
                f"{name} has {received.sample_rate:,} samples per second, but "
                f"{like.sample_rate:,} are needed; resample it"  # type: ignore[union-attr]
            )
    if channels and x.shape[1] != channels:
        raise UserError(
            f"{name} has {received.noun} of {x.shape[1]} channels, but {channels} are needed; "
            "convert them, or train an encoder on data like this"
        )
    if size is None or x.shape[2:] == tuple(size):
        return samples
    if isinstance(received, Audio):
        modality = replace(received, length=size[1])
        x = audio.fitted(x[:], size[1], received.sample_rate)
        return replace(samples, x=x, modality=modality)
    if isinstance(received, Text):
        return samples
    if isinstance(x, np.ndarray) and len(x) * math.prod(size) * x.shape[1] * x.itemsize > IN_MEMORY:
        x = LazyImages(x)
    x = replace(x, size=size) if isinstance(x, LazyImages) else resize(x, size)
    return replace(samples, x=x, modality=with_frames(samples.modality, size=size))


def reopen_texts(data: Any, like: Text, tested: bool = True) -> Splits:
    """Texts in the tokens and the shape that an encoder receives.

    Args:
        data: `text:LOCATION`, `sentences:LOCATION`, `books`, a location, texts in a list or array,
            tokens in an array, or splits.
        like: the encoder's input; sentences if it has several.
        tested: whether a part is for testing; else all texts are for training, in order.

    Raises:
        UserError: it is no text, or in other tokens.
    """
    size = like.size
    if isinstance(data, Splits):
        own = data.modality
        if not isinstance(own, Text) or own.tokenizer not in ("", like.tokenizer):
            raise UserError(f"{data.name} is in other tokens than the run's; give the text itself")
        return data
    if isinstance(data, str | Path):
        name, _, location = str(data).partition(":")
        if isinstance(data, str) and name in ("books", "text", "sentences"):
            registry.say_which("datasets", data)
        else:
            name, location = "", str(data)
        read_documents = books.documents if name == "books" else corpus.read
        documents = read_documents(location or None)
        name, tokenizer = str(data), like.tokenizer
        if like.sentences == 1:
            return text.in_pieces(documents, name, like.length, tokenizer=tokenizer, tested=tested)
        return sentences.in_rows(documents, name, *size, tokenizer=tokenizer, tested=tested)
    if isinstance(data, np.ndarray) and data.dtype.kind in "UO":
        data = data.tolist()
    if isinstance(data, np.ndarray | torch.Tensor):
        name, x = "tokens", np.asarray(data)
        if x.dtype.kind not in "iu" or x.shape[1:] != size:
            raise UserError(
                f"tokens are whole numbers (N, {size[0]}, {size[1]}), not {x.dtype} {x.shape}"
            )
    else:
        name, x = "texts", text.read(list(data), like.tokenizer, size)
    return text.splits_of(name, (x.astype(np.int32), [""] * len(x)), (x[:0], []), like)
