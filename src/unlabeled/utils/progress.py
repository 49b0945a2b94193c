"""Progress bars and status lines on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib.util import find_spec
from typing import Any, TypeVar

T = TypeVar("T")
DELAY = 3.0
"""Seconds of work before a bar appears."""
_shown: list[bool] = []
"""Settings of the enclosing contexts, the innermost last."""


@contextmanager
def showing(show: bool) -> Iterator[None]:
    """Context that shows progress bars of everything that takes long, or no progress at all."""
    _shown.append(show)
    try:
        yield
    finally:
        _shown.pop()


def is_shown(progress: bool | None = None) -> bool:
    """Whether to show progress: never within `showing(False)`, else as requested.

    Args:
        progress: the caller's request (default: as in the context, and off without one).
    """
    if _shown and not _shown[-1]:
        return False
    return bool(_shown) if progress is None else progress


def can_draw() -> bool:
    """Whether standard error shows bars: on a terminal, or in a notebook with ipywidgets."""
    if sys.stderr is None or sys.stderr.isatty():
        return sys.stderr is not None
    from rich.console import Console

    return Console(stderr=True).is_jupyter and find_spec("ipywidgets") is not None


def line(text: str) -> None:
    """Print a line to standard error, unless nothing is to be shown."""
    if is_shown(True):
        with suppress(OSError):  # the terminal may be closed
            print(text, file=sys.stderr)


def status(doing: str, command: str) -> AbstractContextManager[Any]:
    """Context that shows what a command does, in one line that is replaced, or in several."""
    if is_shown(True) and can_draw():
        from rich.console import Console

        return Console(stderr=True).status(f"{doing} …")
    line(f"{command}: {doing}")
    return nullcontext()


def track(
    items: Iterable[T],
    title: str,
    total: int,
    progress: bool | None = None,
    delay: float = DELAY,
) -> Iterator[T]:
    """Pass items on, with a bar once that takes longer than a few seconds.

    Args:
        items: what is passed on.
        title: before the bar.
        total: number of items.
        progress: whether to show a bar, as for `is_shown`.
        delay: seconds before the bar appears.
    """
    if not (is_shown(progress) and can_draw()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    started = time.monotonic()
    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=total)
    try:
        for done, item in enumerate(items, 1):
            yield item
            bar.update(task, completed=done)
            if not bar.live.is_started and time.monotonic() - started >= delay:
                bar.start()
    finally:
        bar.stop()
