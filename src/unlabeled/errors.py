"""What is said to the user: errors they can mend, and notices."""

from __future__ import annotations

import signal
import warnings


class UserError(ValueError):
    """Says in one sentence what is wrong and what to do; the command line exits with code 2."""


class Notice(UserWarning):
    """Something the user should know, in plain words; the work goes on."""


def notice(message: str) -> None:
    """Tell the user something; the work goes on."""
    warnings.warn(message, Notice, stacklevel=2)  # of this package: others are silenced


class Stopped(KeyboardInterrupt):
    """A signal ended the work, a training once it was saved; the message says how to go on.

    Args:
        message: what was stopped.
        number: of the signal; a command exits with 128 more.
    """

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = int(number)


def reason(error: BaseException) -> str:
    """The message of an error in one line; the name of its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def signal_name(number: int) -> str:
    """What the user calls a signal: Ctrl-C, SIGTERM, …"""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch, on any device, or of Python says that memory is out."""
    words = (
        *("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory"),
        *("bad_alloc", "could not create a memory"),
        *(
            "could not create a primitive",
            "could not execute a primitive",
        ),  # oneDNN's way to say it
    )
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
