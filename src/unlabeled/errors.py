"""Errors that the user can fix, notices, and how they are worded."""

from __future__ import annotations

import difflib
import signal
import warnings
from collections.abc import Iterable


class UserError(ValueError):
    """An error that the user can fix; the command prints its message and exits with status 2.

    The message is one sentence: what is wrong, with the value, and what to do.
    """


class Notice(UserWarning):
    """Something the user should know; the work continues."""


def notice(message: str) -> None:
    """Warn the user with a `Notice`."""
    warnings.warn(message, Notice, stacklevel=2)  # of this package: others are silenced


class Stopped(KeyboardInterrupt):
    """A signal stopped the work; a training is saved first. The message says how to continue.

    Args:
        message: what was stopped.
        number: number of the signal; the command exits with status 128 + number.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = int(number)


def plural(number: int, noun: str) -> str:
    """A number with its noun, such as "1 image" and "1,200 images".

    Args:
        number: the number.
        noun: the singular, or a plural that ends in s, as a modality has it.
    """
    if noun.endswith("series"):  # one and several alike
        return f"{number:,} {noun}"
    one = noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun
    return f"{number:,} {one if number == 1 else one + 's'}"


def suggest(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """Advice for an unknown name, to end an error message with.

    Args:
        name: what the user wrote.
        names: all valid names.
        otherwise: advice when no valid name is similar; lists them all by default.

    Returns:
        "did you mean X?" with up to three similar names, or else `otherwise`.
    """
    names = list(names)

    def similarity(valid: str) -> float:
        one, other = (text.lower().replace("-", "_") for text in (name, valid))
        contained = len(one) > 2 and one in other
        return max(difflib.SequenceMatcher(None, one, other).ratio(), 0.7 * contained)

    matches = sorted((n for n in names if similarity(n) >= 0.7), key=lambda n: -similarity(n))[:3]
    if matches:
        *first, last = matches
        return f"did you mean {', '.join(first)}{' or ' * bool(first)}{last}?"
    return otherwise or f"choose one of {', '.join(names)}"


def reason(error: BaseException) -> str:
    """The message of an error in one line, or the name of its class if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def signal_name(number: int) -> str:
    """The usual name of a signal: Ctrl-C, SIGTERM, …"""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory"),
    *("bad_alloc", "could not create a memory"),
    *("could not create a primitive", "could not execute a primitive"),  # oneDNN
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or of PyTorch, on any device, means that memory ran out."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or any(text in message for text in OUT_OF_MEMORY)
