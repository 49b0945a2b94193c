"""Split samples into training, validation and test parts; draw labeled subsets."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace

import numpy as np

from unlabeled.augmentations import Augmentation, RandomCrop, SimCLRAugment
from unlabeled.augmentations.audio import AudioAugment, RandomGain
from unlabeled.data.dataset import PARTNER, Samples, Splits, rate_of
from unlabeled.data.readers import folders
from unlabeled.data.values import value_range
from unlabeled.errors import UserError, notice

TEST_SHARE = 0.2
"""Of labeled data without a test set of its own, kept for testing."""
SPLIT_SEED = 0
EVALUATED = ("test", "validation")
"""Official splits that may be tested on, the better one first."""


def code_names(y: np.ndarray) -> list[str]:
    return [str(code) for code in range(int(y.max(initial=-1)) + 1)]


def keep_labeled(samples: Samples, target: str | None, name: str) -> Samples:
    """Those that have a label, where labels are asked for."""
    if target is None or not len(samples):
        return samples
    rows = np.flatnonzero(samples.known(target))
    if len(rows) == len(samples):
        return samples
    notice(
        f"{len(samples) - len(rows):,} of {len(samples):,} samples to test on in {name} have no "
        "label and are left out"
    )
    return samples.take(rows)


def say_unknown(classes: list[str], number: int, factor: str, name: str) -> None:
    if classes:
        shown = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
        notice(
            f"{len(classes):,} of the {number:,} classes of {factor} to test on in {name} are not "
            f"among those to learn from: {shown}"
        )


def split(
    samples: Samples,
    name: str,
    share: float = TEST_SHARE,
    span: tuple[float, float] | None = None,
) -> Splits:
    """Labeled images into train and about that share of test; unlabeled ones all to train.

    Where the names tell of official splits, those are taken, whatever the share. Else an image
    with a name is drawn by its name, so that it stays on its side when others come or go; those
    without by a permutation of fixed seed. Frames stay with those of their shot. The test part is
    drawn from labeled images only; all others are learned from. `span` is black and white where
    they are given.
    """
    if not len(samples):
        raise UserError(f"{name} holds no images (0 samples); give at least one")
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
    views: tuple[Augmentation, Augmentation] = (
        (AudioAugment(), RandomGain()) if rate else (SimCLRAugment(), RandomCrop())
    )
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
        parts[kind] = keep_labeled(parts[kind], target, f"{places[kind]} in {name}")
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
    notice(message)
    if used and target in samples.classes and target not in ("shot", PARTNER):
        seen, asked = (np.unique(part.factors[target]) for part in (train, test))
        unseen = [code for code in asked if code not in seen]
        names = samples.classes.get(target) or code_names(samples.factors[target])
        say_unknown([names[code] for code in unseen], len(asked), target, name)
    return train, test, validation


def by_shot(samples: Samples, share: float = TEST_SHARE) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and rows to test on: whole shots, drawn by a fixed seed."""
    shots = np.unique(samples.factors["shot"])
    order = np.random.default_rng(SPLIT_SEED).permutation(len(shots))
    kept = shots[order[: max(1, round(share * len(shots))) if len(shots) > 1 else 0]]
    tested = np.isin(samples.factors["shot"], kept)
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def sample_labels(y: np.ndarray, labels: str | int | float, seed: int = 0) -> np.ndarray:
    """Rows of a random sample with about the same number of each class, sorted.

    Args:
        y: classes of all rows, (N,); rows of class −1 have no label and are never drawn.
        labels: how many: a number of rows, a share such as 0.01, or "1%".
        seed: of the sample.

    Raises:
        UserError: that is no number, or fewer than one row a class, or more than there are.
    """
    known = np.flatnonzero(y >= 0)
    if len(known) < len(y):
        return known[sample_labels(y[known], labels, seed)]
    text = str(labels).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise UserError(f"'{labels}' labels: give a number, or a share such as 1%") from error
    if not math.isfinite(value):
        raise UserError(f"'{labels}' labels: give a number, or a share such as 1%")
    is_share = text.endswith("%") or (0 < value <= 1 and "." in text)
    number = round(value * len(y)) if is_share else int(value)
    classes = np.unique(y)
    if not len(classes) <= number <= len(y):
        raise UserError(
            f"{labels} of {len(y):,} labels are {number:,}; give at least one of each of the "
            f"{len(classes)} classes and at most all"
        )
    order = np.random.default_rng(seed).permutation(len(y))
    # Deal the rows out class by class: the first of each, the second of each, …
    rank = np.empty(len(y), np.int64)
    for c in classes:
        rows = order[y[order] == c]
        rank[rows] = np.arange(len(rows))
    return np.sort(order[np.argsort(rank[order], kind="stable")][:number])
