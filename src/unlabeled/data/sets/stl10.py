"""STL-10: 113,000 color photographs 96×96 of ten kinds of things, 100,000 of them unlabeled.

Coates, Lee, Ng 2011, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning". 5,000
labeled images to train and 8,000 to test; the unlabeled ones show more kinds of things.
"""

import hashlib
import shutil
import tarfile
from pathlib import Path

import numpy as np

from unlabeled.augmentations import Compose, RandomCrop, RandomHorizontalFlip, SimCLRAugment
from unlabeled.data.dataset import LazyImages, Samples, Splits
from unlabeled.data.readers import cache
from unlabeled.data.readers.download import Origin, find, readable, refuse_missing
from unlabeled.data.targets import Classes
from unlabeled.errors import UserError

ORIGIN = Origin(
    "STL-10",
    "stl10",
    ("stl-10", "STL10", "stl10_binary"),
    "http://ai.stanford.edu/~acoates/stl10/",
    {"stl10_binary.tar.gz": "91f7769df0f17e558f3565bffb0c7dfb"},
)
CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)
ARCHIVE = "stl10_binary.tar.gz"
LABELED = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
UNLABELED = "unlabeled_X.bin"
SHAPE = (3, 96, 96)


def load(location: str | None = None) -> Splits:
    """The labeled images in their official split, or the unlabeled ones; left on disk.

    Labeled and unlabeled images are opened separately: train on `stl10:unlabeled` and evaluate on
    `stl10`.

    Args:
        location: a folder with the binary files, or the `.tar.gz`, which is unpacked into the
            cache. With `/unlabeled` at the end, or `unlabeled` alone, or the file
            `unlabeled_X.bin`: the unlabeled images, all for training (default: searched for or
            downloaded).

    Raises:
        UserError: it is nowhere, or damaged.
    """
    name = "stl10" if location is None else f"stl10:{location}"
    # As for CIFAR-10, in images three times as large.
    labeled = Compose([RandomCrop(12), RandomHorizontalFlip()])
    augment = SimCLRAugment(scale=(0.08, 1.0), blur=0.5)  # SimCLR's, with the blur of larger images
    if location is None or Path(location).name not in ("unlabeled", UNLABELED):
        folder = _folder(location, LABELED)
        parts = [_part(folder, part) for part in ("train", "test")]
        train, test = (
            Samples(x, {"class": y}, targets={"class": Classes(CLASSES)}) for x, y in parts
        )
        return Splits(name, train, test, "class", augment=augment, augment_labeled=labeled)
    around = None if location == "unlabeled" else str(Path(location).parent)
    train = Samples(_images(_folder(around, (UNLABELED,)) / UNLABELED))
    return Splits(name, train, train.take(np.arange(0)), augment=augment, augment_labeled=labeled)


def _folder(location: str | None, needed: tuple[str, ...]) -> Path:
    """The folder of the unpacked binary files."""

    def look(location: Path) -> Path | None:
        if location.is_file():
            return location.parent if location.name in (*LABELED, UNLABELED) else location
        if any((location / name).is_file() for name in needed):
            return location
        return location / ARCHIVE if (location / ARCHIVE).is_file() else None

    archive = find(ORIGIN, location, look)
    folder = archive if archive.is_dir() else _unpacked(archive)
    refuse_missing(archive, [name for name in needed if not (folder / name).is_file()])
    return folder


def _unpacked(archive: Path) -> Path:
    """The binary files of an archive, in an entry of the cache."""

    def fill(folder: Path) -> bool:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and name in (*LABELED, UNLABELED):
                    content = tar.extractfile(member)
                    assert content
                    with (folder / name).open("wb") as file:
                        shutil.copyfileobj(content, file)
        return True

    known = archive.stat()
    if shutil.disk_usage(cache.folder()).free < 1.2 * known.st_size:  # photographs hardly shrink
        raise UserError(
            f"{archive} needs {1.2 * known.st_size / 1e9:.1f} GB unpacked, more than is free in "
            f"{cache.folder()}; set UNLABELED_CACHE to another disk"
        )
    stamp = f"{archive.absolute()} {known.st_size} {known.st_mtime_ns} {known.st_ctime_ns}"
    with readable(archive, ORIGIN):
        folder = cache.build(f"stl10-{hashlib.sha256(stamp.encode()).hexdigest()[:24]}", fill)
    assert folder
    return folder


def _part(folder: Path, part: str) -> tuple[LazyImages, np.ndarray]:
    x, path = _images(folder / f"{part}_X.bin"), folder / f"{part}_y.bin"
    with readable(path, ORIGIN):
        y = np.frombuffer(path.read_bytes(), np.uint8).astype(np.int64) - 1
        if len(y) != len(x) or not np.isin(y, range(len(CLASSES))).all():
            raise ValueError(f"{len(x):,} images need as many labels from 1 to 10")
    return x, y


def _images(path: Path) -> LazyImages:
    """(N, 3, 96, 96), mapped into memory: the files hold each channel column by column."""
    with readable(path, ORIGIN):
        pixels = np.memmap(path, np.uint8, "r")
        if len(pixels) % np.prod(SHAPE):
            raise ValueError(f"{len(pixels):,} bytes are not a whole number of images")
        columns = pixels.reshape(-1, *SHAPE)
    return LazyImages(columns.transpose(0, 1, 3, 2), convert=np.ascontiguousarray)
