"""CIFAR-10: 60,000 color photographs 32×32 of ten kinds of things.

Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images". 50,000 images to train
and 10,000 to test.
"""

import io
import pickle
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.augmentations import Compose, RandomCrop, RandomHorizontalFlip, SimCLRAugment
from unlabeled.data.dataset import LazyImages, Samples, Splits
from unlabeled.data.readers import images as encoded
from unlabeled.data.readers.download import Origin, find, readable, refuse_missing
from unlabeled.data.targets import Classes
from unlabeled.errors import notice

ORIGIN = Origin(
    "CIFAR-10",
    "cifar10",
    ("cifar-10", "CIFAR10", "cifar"),
    "https://www.cs.toronto.edu/~kriz/",
    {"cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530"},
)
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
TEST = ("test_batch",)
TENTH = "cifar10_jpeg_10pct.npz"
FORMS = (
    *("cifar-10-batches-bin", "cifar-10-batches-py"),
    *("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"),
    *("cifar10_jpeg.npz", TENTH),
)
ROW = 1 + 3 * 32 * 32
"""Bytes of an image in the binary version: its label, then red, green and blue."""


def load(location: str | None = None) -> Splits:
    """The official split, in the order of the files.

    Args:
        location: the binary or the python version, unpacked or not; an `.npz` of JPEG files; or a
            folder with one of them (default: searched for or downloaded).

    Raises:
        UserError: it is nowhere, or damaged.
    """
    path = find(ORIGIN, location, _look)
    if path.name == TENTH and (location is None or Path(location).name != TENTH):
        notice(f"only a tenth of CIFAR-10 is here, {path}")
    parts = _jpegs(path) if path.suffix == ".npz" else _batches(path)
    train, test = (Samples(x, {"class": y}, targets={"class": Classes(CLASSES)}) for x, y in parts)
    name = "cifar10" if location is None else f"cifar10:{location}"
    return Splits(
        name,
        train,
        test,
        "class",
        # Chen et al. 2020, appendix B.9: crops from 8 % of the area, half the jitter, no blur.
        augment=SimCLRAugment(scale=(0.08, 1.0)),
        # He et al. 2016, section 4.2.
        augment_labeled=Compose([RandomCrop(4), RandomHorizontalFlip()]),
    )


def _look(location: Path) -> Path | None:
    if location.is_file():
        return location.parent if location.name.removesuffix(".bin") in TRAIN + TEST else location
    if any((location / f"{TEST[0]}{ending}").is_file() for ending in ("", ".bin")):
        return location
    return next((location / form for form in FORMS if (location / form).exists()), None)


Part = tuple[np.ndarray | LazyImages, np.ndarray]
"""Images uint8 (N, 3, 32, 32) and labels int64 (N,)."""


def _batches(location: Path) -> list[Part]:
    """Training and test part of the binary or the python version."""
    with readable(location, ORIGIN):
        contents = _contents(location)
    ending = ".bin" if any(name.endswith(".bin") for name in contents) else ""
    parse = _from_binary if ending else _from_pickle
    parts: list[Part] = []
    for names in (TRAIN, TEST):
        names = tuple(name + ending for name in names)
        refuse_missing(location, [name for name in names if name not in contents])
        read = []
        for name in names:
            with readable(location / name, ORIGIN):
                x, y = parse(contents.pop(name))
                read.append((x.reshape(-1, 3, 32, 32), _labels(y, len(x))))
        images, labels = (np.concatenate(held) for held in zip(*read, strict=True))
        parts.append((images, labels))
    return parts


def _contents(location: Path) -> dict[str, bytes]:
    """The batches in a folder or an archive, by name."""
    wanted = {name + ending for name in TRAIN + TEST for ending in ("", ".bin")}
    if location.is_dir():
        return {p.name: p.read_bytes() for p in location.iterdir() if p.name in wanted}
    batches = {}
    with tarfile.open(location, "r:gz") as tar:
        for member in tar:
            if member.isfile() and (name := Path(member.name).name) in wanted:
                content = tar.extractfile(member)
                assert content
                batches[name] = content.read()
    return batches


def _from_binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    if len(content) % ROW:
        raise ValueError(f"{len(content):,} bytes are not a whole number of images")
    rows = np.frombuffer(content, np.uint8).reshape(-1, ROW)
    return rows[:, 1:], rows[:, 0]


class _Array:
    """Replaces numpy's arrays and types when unpickling: it only stores its arguments."""

    def __init__(self, *made_of: Any) -> None:
        self.made_of = made_of

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Inert(pickle.Unpickler):
    """Unpickles untrusted files without calling anything: arrays become `_Array`."""

    def find_class(self, module: str, name: str) -> type[_Array]:
        multiarray = ("numpy.core.multiarray", "numpy._core.multiarray")
        if module == "numpy" and name in ("ndarray", "dtype"):
            return _Array
        if module in multiarray and name == "_reconstruct":
            return _Array
        raise pickle.UnpicklingError(f"it would call {module}.{name}, which makes no array")


def _from_pickle(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    batch = _Inert(io.BytesIO(content), encoding="bytes").load()
    _, shape, dtype, by_column, pixels = batch[b"data"].state
    if dtype.made_of[0] not in ("u1", b"u1") or by_column or shape[1:] != (ROW - 1,):
        raise ValueError("its data is not an array of images")
    return np.frombuffer(pixels, np.uint8).reshape(shape), np.array(batch[b"labels"])


def _labels(y: np.ndarray, images: int) -> np.ndarray:
    if not images or y.shape != (images,) or not np.isin(y, range(len(CLASSES))).all():
        raise ValueError(f"{images:,} images need as many labels from 0 to 9")
    return y.astype(np.int64)


def _jpegs(path: Path) -> list[Part]:
    """Training and test part of an `.npz`, decoded once into the cache.

    It has `train_jpeg`, the files one after another, `train_offsets` (N + 1,) of each and of the
    end, `train_labels` (N,), and the same of `test`.
    """
    contents: list[bytes] = []
    labels = []
    with readable(path, ORIGIN), path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
        for part in ("train", "test"):
            jpeg, ends = npz[f"{part}_jpeg"].tobytes(), npz[f"{part}_offsets"].tolist()
            contents += [jpeg[a:b] for a, b in pairwise(ends)]
            labels.append(_labels(npz[f"{part}_labels"], len(ends) - 1))
    pixels = encoded.decoded(contents, 3, (32, 32), path)
    cut = len(labels[0])
    return [(LazyImages(pixels[:cut]), labels[0]), (LazyImages(pixels[cut:]), labels[1])]
