"""Match the classes of two data sets by name."""

from dataclasses import replace

import numpy as np

from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers.labels import parse_number
from unlabeled.data.split import code_names, keep_labeled, say_unknown, say_untested
from unlabeled.data.targets import Classes, MultiLabel, Numbers, Target
from unlabeled.errors import UserError, notice


def with_classes(
    splits: Splits, part: Samples, target: str | None, name: str
) -> tuple[Samples, Samples]:
    """Restrict training and test parts to common factors, and match their classes by name.

    Classes that only the test part has are added. Labels that look like another kind of target in
    the test part are converted to that of the training part.

    Raises:
        UserError: the test part has no labels of the target, or they cannot be converted.
    """
    ours, theirs = splits.train, dict(part.factors)
    targets_of: dict[str, Target | None] = {factor: part.targets.get(factor) for factor in theirs}
    if splits.target and splits.target not in theirs and target:
        theirs[splits.target] = theirs.pop(target)
        targets_of[splits.target] = targets_of.pop(target)
    if splits.target and splits.target not in theirs:
        raise UserError(
            f"{name} has no labels '{splits.target}', which {splits.name} has; give test data that "
            "has them"
        )
    if lost := sorted(set(ours.factors) - set(theirs)):
        notice(f"{name} does not have {', '.join(lost)}, so that is left out")
    both = [factor for factor in ours.factors if factor in theirs]
    targets = {factor: target for factor, target in ours.targets.items() if factor in both}
    codes: dict[str, np.ndarray] = {}
    for factor in both:
        y, names = ours.factors[factor], ours.class_names(factor)
        try:
            y_test, other = _converted(theirs[factor], targets_of[factor], targets.get(factor))
        except ValueError as error:
            raise UserError(
                f"{factor} holds {error} in {name}, unlike in {splits.name}; write both alike"
            ) from error
        codes[factor] = y_test
        if not names and not other:
            continue
        if y_test.ndim == 2:  # several labels a sample
            codes[factor] = np.zeros((len(y_test), len(names)), np.int64)
            for i, label in enumerate(names):
                if label in other:
                    codes[factor][:, i] = y_test[:, other.index(label)]
            codes[factor][(y_test < 0).all(1)] = -1
            say_unknown([o for o in other if o not in names], len(other), factor, name)
            continue
        names, other = names or code_names(y), other or code_names(y_test)
        if factor in ("shot", "clip"):  # equal names are other videos
            table = np.arange(len(other)) + len(names)
            all_names = names + other
        else:
            present = {other[code] for code in np.unique(y_test[y_test >= 0])}
            added = [c for c in other if c in present and c not in names]
            all_names = names + added
            table = np.array([all_names.index(c) if c in all_names else -1 for c in other])
            if added and factor == splits.target:
                say_unknown(added, len(present), factor, name)
            if factor == splits.target:
                learned = [names[code] for code in np.unique(y[y >= 0])]
                absent = [c for c in learned if c not in present]
                say_untested(absent, len(learned), factor, name)
        targets[factor] = Classes(tuple(all_names))
        codes[factor] = np.where(y_test >= 0, table[np.maximum(y_test, 0)], -1).astype(np.int64)
    train = replace(ours, factors={f: ours.factors[f] for f in both}, targets=targets)
    part = replace(part, factors=codes, targets=dict(targets))
    return train, keep_labeled(part, splits.target, name)


def _converted(
    y: np.ndarray, own: Target | None, wanted: Target | None
) -> tuple[np.ndarray, list[str]]:
    """Labels as another kind of target, and the names of their classes.

    A few samples may show less of a column than many: ages that look like codes of classes, or no
    cell with several labels.

    Raises:
        ValueError: they cannot be converted; the message says what they are.
    """
    names = [] if own is None or isinstance(own, Numbers) else list(own.names)
    if own is None or wanted is None or type(own) is type(wanted):
        return y, names
    if isinstance(own, Classes):
        names = names or code_names(y)
        if isinstance(wanted, MultiLabel):
            marks = (y[:, None] == np.arange(len(names))).astype(np.int64)
            marks[y < 0] = -1
            return marks, names
        numbers = [parse_number(label) for label in names]
        if None not in numbers:
            return np.array([*numbers, np.nan], np.float64)[y], []  # -1 is the last one
        raise ValueError(f"words such as '{names[numbers.index(None)]}'")
    if isinstance(own, Numbers) and isinstance(wanted, Classes):
        known = ~np.isnan(y)
        values, codes = np.unique(y[known], return_inverse=True)
        labels = {parse_number(label): label for label in wanted.names}
        y = np.full(len(y), -1, np.int64)
        y[known] = codes
        return y, [labels.get(value, f"{value:.15g}") for value in values.tolist()]
    raise ValueError("numbers" if isinstance(own, Numbers) else "several labels a sample")
