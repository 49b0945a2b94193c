"""Types of prediction targets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Classes:
    """One class for each sample: integers (N,), −1 if unknown.

    Args:
        names: of the classes, by index; empty if unnamed.
    """

    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """One number for each sample: (N,), NaN if unknown.

    Args:
        period: of periodic numbers, such as angles; else None.
    """

    period: float | None = None


@dataclass(frozen=True)
class MultiLabel:
    """Any number of labels for each sample: 0 or 1 for each label, (N, L), −1 if unknown.

    Args:
        names: of the labels, in the order of the columns.
    """

    names: tuple[str, ...] = ()


Target = Classes | Numbers | MultiLabel
