"""The command that is running, for the records of its runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_current: ContextVar[str] = ContextVar("command", default="Python")


def current() -> str:
    """The command line as typed into a shell; "Python" if a program calls the library."""
    return _current.get()


@contextmanager
def running(words: list[str]) -> Iterator[None]:
    """Context in which `unlabeled` runs with these arguments."""
    token = _current.set(shlex.join(["unlabeled", *words]))
    try:
        yield
    finally:
        _current.reset(token)
