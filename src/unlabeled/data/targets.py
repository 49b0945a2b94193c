"""What a factor of a data set is, as something to predict."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Classes:
    """One class for each sample: integers (N,), −1 where it is unknown.

    Args:
        names: of the classes, by their number; empty where they have none.
    """

    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Numbers:
    """One number for each sample: (N,), NaN where it is unknown.

    Args:
        period: of numbers that repeat, such as angles; None of others.
    """

    period: float | None = None


@dataclass(frozen=True)
class MultiLabel:
    """Any number of labels for each sample: 0 or 1 for each label, (N, L), −1 where unknown.

    Args:
        names: of the labels, in the order of the columns.
    """

    names: tuple[str, ...] = ()


Target = Classes | Numbers | MultiLabel
