"""Settings of probes and classifiers, chosen by cross-validation on training labels alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from unlabeled.encoders.features import refuse_not_finite, standardize
from unlabeled.evaluation.intervals import Groups
from unlabeled.evaluation.knn import NEIGHBORS, nearest, votes
from unlabeled.evaluation.probe import logistic_path, principal_axes
from unlabeled.evaluation.temperature import cross_entropy, fit_temperature

Kind = Literal["linear", "knn"]

SETTINGS: dict[Kind, tuple[int | float, ...]] = {
    "linear": (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0),
    "knn": (1, 5, 10, 20, 50, 100, 200),
}
"""Penalties of the squared weights, and numbers of neighbors, that are tried."""
DEFAULTS: dict[Kind, int | float] = {"linear": 1.0, "knn": NEIGHBORS}
"""The setting where there are too few labels to try any."""
RIDGE = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0)
"""Penalties of ridge regression that are tried."""
FOLDS = 5
MANY = 2000
"""Samples from which on settings are tried on that many of them."""
TOLERANCE = 1e-3
"""Of logistic regression where settings are tried."""

Scores = Float[np.ndarray, "s m k"]


@dataclass(frozen=True)
class Setting:
    """A setting of a probe, and how it was chosen."""

    name: str  #: "penalty" or "neighbors"
    value: int | float
    folds: int = 0  #: of the cross-validation; 0 where it was given, or labels are too few to try
    samples: int = 0  #: training samples that it was chosen on

    def to_json(self) -> dict[str, int | float]:
        """The setting by its name, and how it was chosen."""
        return {self.name: self.value, "folds": self.folds, "samples": self.samples}

    def __str__(self) -> str:
        """Such as "penalty 10"."""
        return f"{self.name} {self.value:g}"


def tune(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    kind: Kind,
    groups: Groups = None,
    seed: int = 0,
) -> Setting:
    """The penalty of a linear probe, or the number of neighbors, of the least cross-entropy.

    Args:
        z: features of the training part.
        y: their classes; −1 where there is none.
        kind: "linear" or "knn".
        groups: the group of each sample; groups are held out as a whole.
        seed: of the folds.
    """
    name = "penalty" if kind == "linear" else "neighbors"
    known = y >= 0
    settings = settings_for(kind, int(known.sum()))
    groups = None if groups is None else groups[known]
    scores, answers = held_out(z[known], y[known], kind, settings, groups, seed)
    if not len(answers):
        return Setting(name, DEFAULTS[kind])
    best = least(scores, answers)[0]
    return Setting(name, settings[best], FOLDS, min(MANY, int(known.sum())))


def tune_labels(
    z: Float[np.ndarray, "n d"], y: Int[np.ndarray, "n l"], groups: Groups = None, seed: int = 0
) -> Setting:
    """The penalty of linear probes of several labels, one each, of the least cross-entropy.

    Args:
        z: features of the training part.
        y: 0 or 1 for each label.
        groups: the group of each sample; groups are held out as a whole.
        seed: of the folds.
    """
    rows = _sample(len(z), seed)
    z, y, penalties = z[rows], y[rows], SETTINGS["linear"]
    fold = fold_of(np.zeros(len(z), np.int64), None if groups is None else groups[rows], seed)
    scores, answers = [np.zeros((len(penalties), 0, 2))], [y[:0, 0]]
    for i in range(FOLDS):
        learned, tested = np.flatnonzero(fold != i), np.flatnonzero(fold == i)
        some = [column for column in y.T if len(np.unique(column[learned])) > 1]
        if not len(tested) or not some:
            continue
        a, b = (part.astype(np.float32) for part in standardize(z[learned], z[tested]))
        axes = principal_axes(a)
        for column in some:
            path = logistic_path(a, column[learned], penalties, TOLERANCE, axes)
            scores.append(np.stack([b @ weight + bias for weight, bias in path]))
            answers.append(column[tested])
    if len(answers) == 1:
        return Setting("penalty", DEFAULTS["linear"])
    best = least(np.concatenate(scores, 1), np.concatenate(answers))[0]
    return Setting("penalty", penalties[best], FOLDS, len(rows))


def tune_ridge(
    z: Float[np.ndarray, "n d"], t: Float[np.ndarray, "n k"], groups: Groups = None, seed: int = 0
) -> Setting:
    """The penalty of ridge regression of the least squared error.

    Args:
        z: features of the training part.
        t: their targets.
        groups: the group of each sample; groups are held out as a whole.
        seed: of the folds.
    """
    rows = _sample(len(z), seed)
    z, t = z[rows], t[rows]
    fold = fold_of(np.zeros(len(z), np.int64), None if groups is None else groups[rows], seed)
    errors, held = np.zeros(len(RIDGE)), 0
    for i in range(FOLDS):
        learned, tested = fold != i, fold == i
        if not tested.any() or learned.sum() < 2:  # fewer groups, or samples, than folds
            continue
        a, b = standardize(z[learned], z[tested])
        if not a.shape[1]:
            continue
        held += 1
        axes, variance = principal_axes(a)
        center = t[learned].mean(0)
        target = axes.T @ (a.T @ (t[learned] - center))
        for s, penalty in enumerate(RIDGE):
            weights = target / (len(a) * variance + penalty)[:, None]
            errors[s] += ((center + b @ axes @ weights - t[tested]) ** 2).sum()
    if not held:
        return Setting("penalty", DEFAULTS["linear"])
    return Setting("penalty", RIDGE[int(errors.argmin())], FOLDS, len(rows))


def settings_for(kind: Kind, n: int) -> Sequence[int | float]:
    """The settings to try on n samples: of neighbors, no more than there are to learn from."""
    if kind == "linear":
        return SETTINGS[kind]
    return [k for k in SETTINGS[kind] if k == 1 or k < n * (1 - 1 / FOLDS)]


def held_out(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    kind: Kind,
    settings: Sequence[int | float],
    groups: Groups = None,
    seed: int = 0,
    folds: int = FOLDS,
    many: int = MANY,
) -> tuple[Scores, Int[np.ndarray, " m"]]:
    """Scores of samples by classifiers that did not learn from them, for each setting.

    A linear classifier learns from others of the same `many` samples, neighbors are looked for
    among all samples of the other folds. A class that is in none of these is not scored.

    Args:
        z: features.
        y: their classes.
        kind: of the classifier.
        settings: penalties or numbers of neighbors.
        groups: the group of each sample; groups are held out as a whole.
        seed: of the folds.
        folds: how many of the five are held out, one after the other.
        many: samples at most that are scored.

    Returns:
        logits of the K classes that occur, and the true classes, from 0 to K − 1.
    """
    refuse_not_finite(z)
    classes, y = np.unique(y, return_inverse=True)
    rows = _sample(len(z), seed, many)
    if kind == "linear":
        z, y, rows = z[rows], y[rows], np.arange(len(rows))
        groups = None if groups is None else groups[_sample(len(groups), seed, many)]
    fold = fold_of(y, groups, seed)
    function: Callable[..., Scores] = _linear if kind == "linear" else _knn
    scores, answers = [np.zeros((len(settings), 0, len(classes)))], [y[:0]]
    for i in range(folds):
        learned = np.flatnonzero(fold != i)
        present, codes = np.unique(y[learned], return_inverse=True)
        tested = rows[(fold[rows] == i) & np.isin(y[rows], present)]
        if len(tested) and len(present) > 1:
            part = np.full((len(settings), len(tested), len(classes)), -np.inf)
            part[:, :, present] = function(z[learned], codes, z[tested], settings)
            scores.append(part)
            answers.append(y[tested])
    return np.concatenate(scores, 1), np.concatenate(answers)


def least(scores: Scores, y: Int[np.ndarray, " m"]) -> tuple[int, float]:
    """Which setting has the least cross-entropy at its best temperature, and that temperature."""
    temperatures = [fit_temperature(part, y) for part in scores]
    losses = [cross_entropy(part / t, y) for part, t in zip(scores, temperatures, strict=True)]
    best = int(np.argmin(losses))
    return best, temperatures[best]


def fold_of(
    y: Int[np.ndarray, " n"], groups: Groups = None, seed: int = 0
) -> Int[np.ndarray, " n"]:
    """The fold in which each sample is held out; −1 for one that is always learned from.

    Every class keeps a sample in each of the folds to learn from, so one with a single label is
    never held out. Groups are held out as a whole, each in the fold that has the fewest samples of
    its classes so far.

    Args:
        y: classes, from 0 to K − 1.
        groups: the group of each sample.
        seed: of the order.
    """
    rng = np.random.default_rng(seed)
    fold = np.full(len(y), -1)
    if groups is None:
        order = rng.permutation(len(y))
        for c in range(int(y.max(initial=-1)) + 1):
            rows = order[y[order] == c]
            if len(rows) > 1:
                fold[rows] = (np.arange(len(rows)) + c) % FOLDS
        return fold
    codes = np.unique(groups, return_inverse=True)[1]
    counts = np.zeros((codes.max() + 1, y.max() + 1))
    np.add.at(counts, (codes, y), 1)
    order = rng.permutation(len(counts))
    of_group, held = np.zeros(len(counts), np.int64), np.zeros((FOLDS, counts.shape[1]))
    for group in order[np.argsort(-counts[order].sum(1), kind="stable")]:
        same = held @ counts[group]
        of_group[group] = np.lexsort((held.sum(1), same))[0]
        held[of_group[group]] += counts[group]
    return of_group[codes]


def _sample(n: int, seed: int, many: int = MANY) -> Int[np.ndarray, " m"]:
    """Rows that settings are tried on."""
    return np.random.default_rng(seed).permutation(n)[:many]


def _linear(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    z_test: Float[np.ndarray, "m d"],
    penalties: Sequence[int | float],
) -> Scores:
    a, b = (part.astype(np.float32) for part in standardize(z, z_test))
    if not a.shape[1]:
        return np.tile(np.log(np.bincount(y) / len(y)), (len(penalties), len(b), 1))
    path = logistic_path(a, y, penalties, TOLERANCE)
    return np.stack([b @ weight + bias for weight, bias in path])


def _knn(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    z_test: Float[np.ndarray, "m d"],
    numbers: Sequence[int | float],
) -> Scores:
    similarity, rows = (torch.from_numpy(p) for p in nearest(z, z_test, int(max(numbers))))
    labels, k = torch.from_numpy(y)[rows], int(y.max()) + 1
    parts = [votes(similarity[:, : int(n)], labels[:, : int(n)], k) for n in numbers]
    smooth = [(part + 1 / (n * k)).log() for part, n in zip(parts, numbers, strict=True)]
    return torch.stack(smooth).double().numpy()
