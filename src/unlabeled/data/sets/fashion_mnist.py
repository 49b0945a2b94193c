"""Fashion-MNIST: 70,000 gray images 28×28 of ten kinds of clothes.

Xiao, Rasul, Vollgraf 2017. 60,000 images to train and 10,000 to test.
"""

import gzip
from pathlib import Path

import numpy as np

from unlabeled.augmentations import RandomCrop, RandomResizedCrop
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers.download import Origin, find, readable, refuse_missing
from unlabeled.data.targets import Classes

ORIGIN = Origin(
    "Fashion-MNIST",
    "fashion_mnist",
    ("fashion-mnist", "FashionMNIST", "FashionMNIST/raw", "fashion", "raw"),
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)
CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def load(location: str | None = None) -> Splits:
    """The official split, in the order of the files.

    Args:
        location: a folder with the four idx files, zipped or not, or one of them. Searched for or
            downloaded without.

    Raises:
        UserError: it is nowhere, or damaged.
    """
    folder = find(ORIGIN, location, _look)
    parts = [_part(folder, name) for name in ("train", "t10k")]
    train, test = (Samples(x, {"class": y}, targets={"class": Classes(CLASSES)}) for x, y in parts)
    name = "fashion_mnist" if location is None else f"fashion_mnist:{location}"
    return Splits(
        name,
        train,
        test,
        "class",
        augment=RandomResizedCrop(scale=(0.3, 1.0)),
        augment_labeled=RandomCrop(2),
    )


def _look(location: Path) -> Path | None:
    folder = location.parent if location.is_file() and "ubyte" in location.name else location
    return folder if any(_file(folder, name) for name in ORIGIN.files) else None


def _file(folder: Path, name: str) -> Path | None:
    """The file of that official name, zipped or not; some copies spell it with a dot."""
    plain = name.removesuffix(".gz")
    names = (name, plain, plain.replace("-idx", ".idx"))
    return next((folder / n for n in names if (folder / n).is_file()), None)


def _part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 28, 28) and labels (N,)."""
    names = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
    files = [_file(folder, name) for name in names]
    refuse_missing(folder, [n for n, path in zip(names, files, strict=True) if path is None])
    images, labels = (path for path in files if path)
    with readable(images, ORIGIN):
        x = _read(images, 3)
        if x.shape[1:] != (28, 28):
            raise ValueError(f"its images are {x.shape[1:]}, not (28, 28)")
    with readable(labels, ORIGIN):
        y = _read(labels, 1)
        if len(y) != len(x) or y.max() >= len(CLASSES):
            raise ValueError(f"{len(x):,} images need as many labels from 0 to 9")
    return x[:, None], y.astype(np.int64)


def _read(path: Path, axes: int) -> np.ndarray:
    """An idx file: a magic number, the length of each axis (big-endian), then the bytes."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    magic, *shape = np.frombuffer(content, ">u4", 1 + axes).tolist()
    if magic != 0x0800 + axes:  # unsigned bytes, number of axes
        raise ValueError(f"it begins with {magic:#x}, not {0x0800 + axes:#x}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
