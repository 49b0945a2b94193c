"""Emoji: 1,870 images 64×64 without skin tones, with names and keywords as captions."""

import json
from pathlib import Path

import numpy as np

from unlabeled.augmentations import ColorJitter, Compose, RandomAffine
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers.download import Origin, find, readable
from unlabeled.data.readers.pairs import with_captions
from unlabeled.data.targets import Classes

IMAGES, CAPTIONS = "emoji64.npz", "captions.json"
ORIGIN = Origin(
    "emoji with captions",
    "emoji",
    ("emoji",),
    "https://github.com/googlefonts/noto-emoji/",
    {IMAGES: "", CAPTIONS: ""},
)
LENGTH, VOCABULARY = 24, 1024


def load(location: str | None = None) -> Splits:
    """Train and test by families; the target is one of nine groups, such as food or flags.

    Images of one family differ in skin tone only, or not at all; those with a tone are left out.
    An image's captions are its name, and its keywords in a row, of which 24 tokens are read.

    Args:
        location: the folder with `emoji64.npz` and `captions.json` (default: searched for).

    Raises:
        UserError: it is nowhere, or damaged.
    """
    folder = find(ORIGIN, location, _look)
    with readable(folder / IMAGES, ORIGIN):
        with (folder / IMAGES).open("rb") as file, np.load(file, allow_pickle=False) as npz:
            x = npz["images"].transpose(0, 3, 1, 2)
            group, subgroup = (npz[k].astype(np.int64) for k in ("group", "subgroup"))
            groups, subgroups = npz["group_names"].tolist(), npz["subgroup_names"].tolist()
            plain, test = ~npz["skin_tone"], npz["is_test"]
        entries = json.loads((folder / CAPTIONS).read_text(encoding="utf-8"))
        names = [str(one["name"]) for one in entries]
        captions = [
            [n, ", ".join(one["keywords"]) or n] for n, one in zip(names, entries, strict=True)
        ]
        if not len(x) == len(captions) == len(group):
            raise ValueError("images and captions are not as many")

    def part(chosen: np.ndarray) -> Samples:
        rows = np.flatnonzero(chosen)
        return Samples(
            np.ascontiguousarray(x[rows]),
            {"group": group[rows], "subgroup": subgroup[rows]},
            [names[r] for r in rows],
            {"group": Classes(tuple(groups)), "subgroup": Classes(tuple(subgroups))},
            partners=rows,  # for now, which image it is
        )

    splits = Splits(
        "emoji" if location is None else f"emoji:{location}",
        part(plain & ~test),
        part(plain & test),
        target="group",
        augment=Compose([RandomAffine(interpolation="bilinear"), ColorJitter(p=0.5)]),
    )
    return with_captions(splits, captions, LENGTH, VOCABULARY)


def _look(location: Path) -> Path | None:
    if location.is_file():
        location = location.parent
    both = (location / IMAGES).is_file() and (location / CAPTIONS).is_file()
    return location if both else None
