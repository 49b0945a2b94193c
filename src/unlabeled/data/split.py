"""Split samples into training, validation and test parts; draw labeled subsets."""

import math
import zlib
from dataclasses import replace

import numpy as np

from unlabeled.augmentations import Compose, SimCLRAugment
from unlabeled.augmentations.audio import AudioAugment, RandomGain
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers import folders, groups
from unlabeled.data.targets import Classes
from unlabeled.data.values import find_value_range
from unlabeled.errors import UserError, notice, plural
from unlabeled.modality import Audio, Images, Pairs, Series, Table, Video

TEST_SHARE = 0.2
"""Share of labeled data for testing, if there is no test set."""
STREAMED_TEST = 10_000
"""Maximum number of streamed samples that are held out for testing."""
SPLIT_SEED = 0
PHOTOGRAPHS = SimCLRAugment(strength=0.25, grayscale=0.1)
"""Augmentation of color images, between SimCLR's for CIFAR-10 (0.5, 0.2), which throws away the
color that tells some classes, and none of the views in gray, with which a histogram of colors is
enough to find the other view (tried on held-out training images of CIFAR-10, one seed)."""
EVALUATED = ("test", "validation")
"""Official splits to test on, the preferred one first."""


def code_names(y: np.ndarray) -> list[str]:
    return [str(code) for code in range(int(y.max(initial=-1)) + 1)]


def keep_labeled(samples: Samples, target: str | None, name: str) -> Samples:
    """The labeled samples, where there is a target."""
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


def say_untested(classes: list[str], number: int, factor: str, name: str) -> None:
    if classes:
        first = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
        notice(
            f"{len(classes):,} of the {number:,} classes of {factor} to learn from "
            f"{'has' if len(classes) == 1 else 'have'} no sample to test on in {name}: {first}"
        )


def say_unknown(classes: list[str], number: int, factor: str, name: str) -> None:
    if classes:
        first = ", ".join(classes[:3]) + (", …" if len(classes) > 3 else "")
        notice(
            f"{len(classes):,} of the {number:,} classes of {factor} to test on in {name} "
            f"{'is' if len(classes) == 1 else 'are'} not among those to learn from: {first}"
        )


def split(
    samples: Samples,
    name: str,
    share: float = TEST_SHARE,
    value_range: tuple[float, float] | None = None,
) -> Splits:
    """Split labeled samples into a training and a test part; unlabeled ones are all for training.

    Official splits by the names are used, whatever the share. Otherwise a sample with a name is
    drawn by its name, so that it stays in its part when others are added or removed; samples
    without names are drawn by a permutation of fixed seed. Frames of a shot stay together, as do
    groups, which are drawn by their names until the share is reached. The test part contains only
    labeled samples and pairs.

    Args:
        samples: the samples.
        name: of the data set.
        share: of the labeled samples, for testing.
        value_range: black and white of images that are not uint8 (default: what they span).
    """
    modality = samples.modality
    if not len(samples):
        raise UserError(f"{name} contains no {modality.noun}; give at least two")
    if isinstance(modality.encoder_input, Images) and samples.x.dtype != np.uint8:
        samples = samples.with_value_range(value_range or find_value_range(samples.x, warn=True))
    one_class = (k for k, v in samples.factors.items() if v.ndim == 1 and v.dtype.kind != "f")
    target = next(one_class, None)
    drawn_by = target or next(iter(samples.factors), None)
    if samples.streamed and drawn_by is None:  # the rows of all would take 8 bytes each
        none = samples.take(np.arange(0))
        return _with_augmentations(Splits(name, samples, none, validation=none))
    parts = _official(samples, name, drawn_by)
    if parts is not None and not len(parts[1]):
        return split(parts[0], name, share, value_range)
    order, n_test = np.arange(len(samples)), 0
    if parts is not None:
        train, test, validation = parts
        parts = groups.separate(train, test, validation, name=name), test, validation
    elif share and isinstance(modality, Video):
        rows, tested = by_shot(samples, share)
        order, n_test = np.concatenate([tested, rows]), len(tested)
        target = "shot" if n_test else None
    elif share and samples.groups is not None and drawn_by is not None:
        rows, tested = by_group(samples, samples.known(drawn_by), share, name)
        parts = samples.take(rows), samples.take(tested), samples.take(order[:0])
        _say_unseen(*parts[:2], target, name)
    elif share and drawn_by is not None and samples.streamed:
        rows, tested = by_shard(samples, samples.known(drawn_by), share, name)
        order, n_test = np.concatenate([tested, rows]), len(tested)
    elif share and (drawn_by is not None or isinstance(modality, Pairs)):
        known = samples.known(drawn_by) if drawn_by else np.ones(len(samples), bool)
        if samples.names:
            drawn = np.array([zlib.crc32(name.encode(errors="replace")) for name in samples.names])
            order = np.argsort(drawn, kind="stable")
            n_test = int((known & (drawn < share * 2**32)).sum())
        else:
            order = np.random.default_rng(SPLIT_SEED).permutation(len(samples))
            n_test = round(share * int(known.sum()))
        n_test = max(1, min(n_test, int(known.sum()) - 1))  # one is left to learn from
        tested = order[known[order]][:n_test]
        order = np.concatenate([tested, order[~np.isin(order, tested)]])
    rows_of_parts = order[n_test:], order[:n_test], order[:0]
    train, test, validation = parts or (samples.take(rows) for rows in rows_of_parts)
    return _with_augmentations(Splits(name, train, test, target, validation=validation))


def _with_augmentations(splits: Splits) -> Splits:
    """The data set with the default augmentations of its kind of samples."""
    modality = splits.modality
    if isinstance(modality, Audio):
        augment = AudioAugment(sample_rate=modality.sample_rate)
        return replace(splits, augment=augment, augment_labeled=RandomGain())
    if isinstance(modality, Series | Table):  # whose methods have views of their own
        return replace(splits, augment=Compose([]), augment_labeled=Compose([]))
    if isinstance(modality, Images) and modality.channels == 3:
        return replace(splits, augment=PHOTOGRAPHS)
    return splits


def _official(
    samples: Samples, name: str, target: str | None
) -> tuple[Samples, Samples, Samples] | None:
    """Training, test and validation part, if the names show official splits.

    The validation part is for testing if the test part is missing or has no labels of the target.
    """
    matches = folders.official(samples.names) if samples.names else None
    if matches is None:
        folders.say_unofficial(samples.names or [], name)
        return None
    kinds = np.array([kind for kind, _, _ in matches])
    parts = {kind: samples.take(np.flatnonzero(kinds == kind)) for kind in ("train", *EVALUATED)}
    folders_of = {
        kind: ", ".join(sorted({folder for own, folder, _ in matches if own == kind})[:3])
        for kind in parts
    }
    for kind in EVALUATED:
        parts[kind] = keep_labeled(parts[kind], target, f"{folders_of[kind]} in {name}")
    used = next((kind for kind in EVALUATED if len(parts[kind])), None)
    train, none = parts["train"], samples.take(np.arange(0))
    test = parts[used] if used else none
    validation = parts["validation"] if used == "test" else none
    message = f"{name} has official splits: {len(train):,} to learn from ({folders_of['train']})"
    if used:
        why = "" if used == "test" else ", as none is for testing"
        message += f", {len(test):,} to test on ({folders_of[used]}{why})"
    else:
        message += "; the others have no labels and are left out"
    if len(validation):
        own = folders_of["validation"]
        message += f", {len(validation):,} for validation are set aside ({own})"
    notice(message)
    if used:
        _say_unseen(train, test, target, name)
    return train, test, validation


def _say_unseen(train: Samples, test: Samples, target: str | None, name: str) -> None:
    """A notice of classes in the test part that are missing in the training part."""
    if target is None or target == "shot" or not isinstance(train.targets.get(target), Classes):
        return
    seen, asked = (np.unique(part.factors[target]) for part in (train, test))
    unseen = [code for code in asked if code >= 0 and code not in seen]
    names = train.class_names(target) or code_names(np.concatenate([seen, asked]))
    say_unknown([names[code] for code in unseen], len(asked), target, name)


def by_group(
    samples: Samples, known: np.ndarray, share: float, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Training rows and test rows: complete groups, in the order of a hash of their names.

    Labeled samples of the test groups are for testing; their unlabeled ones are left out.

    Args:
        samples: with groups.
        known: which of them have a label, (N,).
        share: of the labeled samples, for testing.
        name: of the data set.

    Raises:
        UserError: all labeled samples are of one group.
    """
    codes = samples.group_codes()
    assert codes is not None
    assert samples.groups is not None
    labeled = np.bincount(codes, known)
    first = np.unique(codes, return_index=True)[1]
    labeled = labeled[codes[first]]
    own = [str(samples.groups[i] or (samples.names[i] if samples.names else i)) for i in first]
    order = np.argsort([zlib.crc32(group.encode(errors="replace")) for group in own], kind="stable")
    order = order[labeled[order] > 0]
    if len(order) < 2:
        raise UserError(
            f"all labeled samples of {name} are of one group, so none can be tested on; give "
            "other --groups-from, or name a test set with --test"
        )
    reached = np.cumsum(labeled[order]) / labeled.sum()
    number = min(len(order) - 1, 1 + int(np.abs(reached - share).argmin()))
    is_tested = np.isin(codes, codes[first[order[:number]]])
    rows, tested = np.flatnonzero(~is_tested), np.flatnonzero(is_tested & known)
    left_out = int((is_tested & ~known).sum())
    notice(
        f"{number:,} of {len(first):,} groups of {name} {'is' if number == 1 else 'are'} "
        f"tested on, {plural(len(tested), 'sample')}; no "
        "group is on both sides"
        + (
            f"; {plural(left_out, 'sample')} of these groups without a label "
            f"{'is' if left_out == 1 else 'are'} left out" * (left_out > 0)
        )
    )
    return rows, tested


def by_shard(
    samples: Samples, known: np.ndarray, share: float, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Training rows and test rows of streamed samples: complete shards, drawn with a fixed seed.

    Labeled samples of the test shards are for testing, at most `STREAMED_TEST`; of a single shard,
    the last ones.
    """
    assert samples.streamed
    shards = samples.streamed.shard_of(np.arange(len(samples)))
    least = min(share * known.sum(), STREAMED_TEST)
    if len(samples.streamed.shards) == 1:
        is_tested = np.cumsum(known) > known.sum() - least
        drawn = np.zeros(1, np.int64)
    else:
        order = np.random.default_rng(SPLIT_SEED).permutation(len(samples.streamed.shards))
        labeled = np.bincount(shards, known, len(order))[order]
        number = 1 + int(np.searchsorted(np.cumsum(labeled), least))
        drawn = order[: min(number, len(order) - 1)]
        is_tested = np.isin(shards, drawn)
    rows, tested = np.flatnonzero(~is_tested), np.flatnonzero(is_tested & known)[:STREAMED_TEST]
    notice(
        f"{plural(len(tested), 'sample')} of {plural(len(drawn), 'shard')} of {name} are tested "
        f"on, which nothing learns from{'' if len(drawn) > 1 else ', the last ones'}; give others "
        "with --test"
    )
    return rows, tested


def by_shot(samples: Samples, share: float = TEST_SHARE) -> tuple[np.ndarray, np.ndarray]:
    """Training rows and test rows: complete shots, drawn with a fixed seed."""
    shots = np.unique(samples.factors["shot"])
    order = np.random.default_rng(SPLIT_SEED).permutation(len(shots))
    test_shots = shots[order[: max(1, round(share * len(shots))) if len(shots) > 1 else 0]]
    tested = np.isin(samples.factors["shot"], test_shots)
    return np.flatnonzero(~tested), np.flatnonzero(tested)


def sample_labels(
    y: np.ndarray, labels: str | int | float, seed: int = 0, groups: np.ndarray | None = None
) -> np.ndarray:
    """Rows of a random sample with about the same number of each class, sorted.

    Args:
        y: classes of all rows, (N,); rows of class −1 have no label and are never drawn.
        labels: a number of rows, a share such as 0.01, or "1%".
        seed: of the sample.
        groups: the group of each row, (N,), such as a patient: a second row of a class is drawn
            from a group only after one from every group, since rows of a group are redundant.

    Raises:
        UserError: `labels` is not a number, is fewer than one row a class, or exceeds all rows.
    """
    known = np.flatnonzero(y >= 0)
    if len(known) < len(y):
        groups = None if groups is None else groups[known]
        return known[sample_labels(y[known], labels, seed, groups)]
    text = str(labels).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"labels is '{labels}'; give a number such as 160, or a share such as 1%")
    is_share = text.endswith("%") or (0 < value <= 1 and "." in text)
    number = round(value * len(y)) if is_share else int(value)
    classes = np.unique(y)
    if not len(classes) <= number <= len(y):
        raise UserError(
            f"labels is {labels}, which selects {number:,} of {len(y):,}; select at least "
            f"{len(classes)}, one per class, and at most all"
        )
    order = np.random.default_rng(seed).permutation(len(y))
    # In turn by class: the first row of each class, the second of each, …
    rank = np.empty(len(y), np.int64)
    for c in classes:
        rows = order[y[order] == c]
        if groups is not None:
            rows = rows[np.argsort(_occurrence(groups[rows]), kind="stable")]
        rank[rows] = np.arange(len(rows))
    return np.sort(order[np.argsort(rank[order], kind="stable")][:number])


def _occurrence(values: np.ndarray) -> np.ndarray:
    """How often each value occurred before: a, b, a gives 0, 0, 1."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    before = np.empty(len(values), np.int64)
    before[order] = np.arange(len(values)) - np.repeat(first, counts)
    return before
