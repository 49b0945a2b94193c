"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people; white ink on black.

Lake, Salakhutdinov, Tenenbaum 2015, "Human-level concept learning through probabilistic program
induction". The 30 background alphabets (19,280 images) are to train, the 20 evaluation alphabets
(13,180) to test.

No character of the test part is in the training part. So no probe or classifier learned on the one
can name those of the other, and the library refuses to score it: ask instead whether two images
show the same character (verification), or which of 20 does (`one_shot_runs`).
"""

import re
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from unlabeled.augmentations import RandomAffine, RandomCrop
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers import images as encoded
from unlabeled.data.readers.decoding import decode
from unlabeled.data.readers.download import Origin, find, readable, refuse_missing
from unlabeled.data.targets import Classes, Target
from unlabeled.errors import UserError

_FOLDERS = ("Omniglot", "omniglot-py", "omniglot/python", "python")
_ADDRESS = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
ORIGIN = Origin(
    "Omniglot",
    "omniglot",
    _FOLDERS,
    _ADDRESS,
    {
        "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
        "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
    },
)
RUNS = Origin(
    "the one-shot runs of Omniglot",
    "omniglot",
    (*_FOLDERS, "one-shot-classification", "python/one-shot-classification"),
    f"{_ADDRESS}one-shot-classification/",
    {"all_runs.zip": ""},
)
PARTS = ("images_background", "images_evaluation")
SMALL, BITS = "omniglot_28x28.npz", "omniglot_105x105_bits.npz"
RUN_ROWS = "omniglot_oneshot_runs.npz"
SIDE = 105
DRAWERS = 20
BACKGROUND = 19_280
DRAWING = re.compile(r"([^/]+)/(character\d+)/\d+_(\d+)\.png$")
RUN_FILE = re.compile(r"(run\d+)/(class_labels\.txt|(?:training|test)/\w+\.png)$")


def load(location: str | None = None, size: int | None = None) -> Splits:
    """Train on background alphabets, test on others; factors character, alphabet and drawer.

    Rows are sorted by alphabet, character and drawer. The codes of characters and alphabets go
    through both parts, 0–963 and 964–1622, 0–29 and 30–49.

    Args:
        location: the folders or `.zip` files `images_background` and `images_evaluation`, or an
            `.npz` of images 28×28 or of packed bits 105×105; or a folder with them (default:
            searched for or downloaded).
        size: height and width, at most 105, averaged from the 105×105 originals (default: 28,
            and 105 where `location` is the file of those).

    Raises:
        UserError: it is nowhere, damaged, or not there in that size.
    """
    size = size or (SIDE if location is not None and Path(location).name == BITS else 28)
    if not 4 <= size <= SIDE:
        raise UserError(f"size is {size}, but must be from 4 to {SIDE}")
    path = find(ORIGIN, location, _look)
    drawings = _open(path, size)
    targets: dict[str, Target] = {
        "character": Classes(tuple(drawings.characters)),
        "alphabet": Classes(tuple(drawings.alphabets)),
        "drawer": Classes(tuple(str(number) for number in range(1, DRAWERS + 1))),
    }
    samples = Samples(_shown(drawings.images, size), drawings.factors, targets=targets)
    cut, rows = drawings.cut, np.arange(len(samples))
    return Splits(
        "omniglot" if location is None else f"omniglot:{location}",
        samples.take(rows[:cut]),
        samples.take(rows[cut:]),
        target="character",
        augment=RandomAffine(
            degrees=15.0, translate=0.1, scale=(0.8, 1.2), interpolation="bilinear"
        ),
        augment_labeled=RandomCrop(max(1, size // 14)),
    )


class OneShot(NamedTuple):
    """Which of the supports shows the character of each query; rows are of the test part.

    `answer[r, j]` is the position in `support[r]` of the image that goes with `query[r, j]`.
    """

    support: np.ndarray  #: (runs, 20), each of another character of one alphabet
    query: np.ndarray  #: (runs, 20), by another drawer
    answer: np.ndarray  #: (runs, 20)


def one_shot_runs(location: str | None = None) -> OneShot:
    """The 20 official runs of 20-way one-shot classification.

    Args:
        location: `omniglot_oneshot_runs.npz`, or the official `all_runs.zip` or its unpacked folder
            with the images beside it; or a folder with one of them (default: searched for).

    Raises:
        UserError: they are nowhere, or damaged.
    """
    path = find(RUNS, location, _look_for_runs)
    if path.suffix != ".npz":
        near = path.parents[:2] if location is not None else ()
        around = next((str(folder) for folder in near if _look(folder)), None)
        originals = _open(find(ORIGIN, around, _look), SIDE)
        with readable(path, RUNS):
            return _matched(_contents(path, RUN_FILE), originals.images[originals.cut :])
    with readable(path, RUNS), path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
        support, query, answer = (
            npz[key].astype(np.int64) for key in ("support_index", "query_index", "answer")
        )
        first = min(support.min(), query.min())
        if not support.shape == query.shape == answer.shape or first < BACKGROUND:
            raise ValueError("its rows are not those of the evaluation alphabets")
        return OneShot(support - BACKGROUND, query - BACKGROUND, answer)


class _Drawings(NamedTuple):
    images: np.ndarray  #: uint8 (N, 28, 28), or bits (N, 1379) of 105×105
    factors: dict[str, np.ndarray]
    characters: list[str]
    alphabets: list[str]
    cut: int  #: the first row of the test part


def _look(location: Path) -> Path | None:
    """An `.npz`, or the folder around the original files."""
    if location.is_file():
        if location.suffix == ".npz":
            return location
        return _look(location.parent) if location.stem in PARTS else None
    if location.name in PARTS:
        location = location.parent
    names = (SMALL, BITS, *PARTS, *(f"{part}.zip" for part in PARTS))
    return location if any((location / name).exists() for name in names) else None


def _look_for_runs(location: Path) -> Path | None:
    if location.is_file() and location.suffix in (".npz", ".zip"):
        return location
    if (location / "run01").is_dir():
        return location
    names = (RUN_ROWS, "all_runs", "all_runs.zip")
    return next((location / name for name in names if (location / name).exists()), None)


def _open(path: Path, size: int) -> _Drawings:
    """What is there that has at least that size."""
    if path.is_file():
        return _arrays(path, size)
    for name in (SMALL, BITS) if size == 28 else (BITS,):
        if (path / name).is_file():
            return _arrays(path / name, size)
    if not any((path / f"{part}{end}").exists() for part in PARTS for end in ("", ".zip")):
        raise UserError(f"{path / SMALL} has images 28×28, not {size}×{size}; {ORIGIN.remedy}")
    return _originals(path)


def _arrays(path: Path, size: int) -> _Drawings:
    with readable(path, ORIGIN), path.open("rb") as file, np.load(file, allow_pickle=False) as npz:
        images = npz["bits" if "bits" in npz else "images"]
        if images.shape[1:] not in ((28, 28), (-(-(SIDE**2) // 8),)) or images.dtype != "u1":
            raise ValueError(f"its images are {images.dtype} {images.shape}")
        factors = {key: npz[key].astype(np.int64) for key in ("character", "alphabet", "drawer")}
        factors["drawer"] -= 1
        characters, alphabets = (npz[f"{k}_names"].tolist() for k in ("character", "alphabet"))
        split = npz["split"].astype(np.int64)
        counts = len(characters), len(alphabets), DRAWERS, 2
        for codes, count in zip((*factors.values(), split), counts, strict=True):
            if codes.shape != (len(images),) or not np.isin(codes, range(count)).all():
                raise ValueError(f"its labels do not fit its {len(images):,} images")
        if (np.diff(split) < 0).any():
            raise ValueError("its rows are not sorted by split")
    if images.ndim == 3 and size != 28:
        raise UserError(f"{path} has images 28×28, not {size}×{size}; {ORIGIN.remedy}")
    return _Drawings(images, factors, characters, alphabets, int((split == 0).sum()))


def _originals(folder: Path) -> _Drawings:
    """The PNG files, decoded once into the cache."""
    files: dict[tuple[Any, ...], bytes] = {}  # part, alphabet, character, drawer
    for i, part in enumerate(PARTS):
        paths = [p for p in (folder / part, folder / f"{part}.zip") if p.exists()]
        refuse_missing(folder, [] if paths else [f"{part}.zip"])
        with readable(paths[0], ORIGIN):
            contents = _contents(paths[0], DRAWING)
            if not contents:
                raise ValueError("it holds no ALPHABET/characterNN/NNNN_NN.png")
            files |= {(i, *key): content for key, content in contents.items()}
    keys = sorted(files)
    pixels = encoded.decoded([files[key] for key in keys], 1, (SIDE, SIDE), folder)
    ink = np.stack([np.packbits(image < 128) for image in pixels])  # black on white
    characters = {key: code for code, key in enumerate(dict.fromkeys(k[:3] for k in keys))}
    alphabets = {key: code for code, key in enumerate(dict.fromkeys(k[:2] for k in keys))}
    factors = {
        "character": np.array([characters[key[:3]] for key in keys]),
        "alphabet": np.array([alphabets[key[:2]] for key in keys]),
        "drawer": np.array([int(key[3]) - 1 for key in keys]),
    }
    names = [f"{alphabet}/{character}" for _, alphabet, character in characters]
    return _Drawings(
        ink, factors, names, [name for _, name in alphabets], sum(key[0] == 0 for key in keys)
    )


def _contents(location: Path, pattern: re.Pattern[str]) -> dict[tuple[str, ...], bytes]:
    """Files of a folder or a `.zip`, by the groups of the pattern that their paths end with."""
    if location.is_dir():
        paths = {
            path.relative_to(location.parent).as_posix(): path for path in location.rglob("*.*")
        }
        return {m.groups(): p.read_bytes() for n, p in paths.items() if (m := pattern.search(n))}
    with zipfile.ZipFile(location) as archive:
        names = archive.namelist()
        return {m.groups(): archive.read(n) for n in names if (m := pattern.search(n))}


def _shown(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 (N, 1, size, size), ink 255; bits are averaged over the area of a pixel."""
    if images.ndim == 3:
        return images[:, None]
    shown = np.empty((len(images), 1, size, size), np.uint8)
    for row, bits in enumerate(images):
        image = np.unpackbits(bits, count=SIDE**2).reshape(SIDE, SIDE) * np.uint8(255)
        if size != SIDE:
            image = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BOX))
        shown[row, 0] = image
    return shown


def _matched(files: dict[tuple[str, ...], bytes], test: np.ndarray) -> OneShot:
    """Rows of the runs' images, found by their ink among the bits (M, 1379) of the test part.

    A run has `training/classNN.png`, `test/itemNN.png`, and `class_labels.txt` that names both in
    each of its lines.
    """
    images = {key: content for key, content in files.items() if key[1].endswith(".png")}
    pixels, damaged = decode([*images.values()], 1, (SIDE, SIDE), "u1")
    if any(damaged) or not images:
        raise ValueError("some of its images are missing or damaged")
    rows = {bits.tobytes(): row for row, bits in enumerate(test)}
    row_of = {n: rows[np.packbits(x < 128).tobytes()] for n, x in zip(images, pixels, strict=True)}
    runs = []
    for run in sorted({run for run, _ in files}):
        entries = files[run, "class_labels.txt"].decode().split()  # item, class, item, class, …
        paths = [(run, path.partition("/")[2]) for path in entries]
        belongs = dict(zip(paths[::2], paths[1::2], strict=True))
        query, support = sorted(belongs), sorted(set(belongs.values()))
        matches = ([row_of[path] for path in part] for part in (support, query))
        runs.append((*matches, [support.index(belongs[path]) for path in query]))
    return OneShot(*(np.array(part) for part in zip(*runs, strict=True)))
