"""Signals and closed pipes, as the command answers them."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import sys
import threading
from typing import Any

from unlabeled.errors import Stopped, signal_name
from unlabeled.utils.launch import stop_signals


def say(message: str) -> None:
    """Print to standard error, unless the terminal is gone, as after SIGHUP."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr)


def stop_at_signals(command: str) -> None:
    """Raise `Stopped` on signals other than Ctrl-C, unless they are ignored, as under nohup."""
    for number in stop_signals():
        if number != signal.SIGINT and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, functools.partial(_stop, command))


def _stop(command: str, number: int, frame: Any) -> None:
    raise Stopped(stopped_by(number, command), number)


def stopped_by(number: int, command: str) -> str:
    """The message for a signal that came when no training was running."""
    stopped = f"stopped by {signal_name(number)}"
    if command == "demo":
        return f"{stopped}; run the same command again to continue"
    if command in ("train", "finetune", "study"):
        return f"{stopped}; run the same command with --resume to continue from what was saved"
    return f"{stopped} before it finished; run the command again"


def exit_at_second_interrupt() -> None:
    """End the process at once on a Ctrl-C that follows another signal.

    A thread listens, since Python's own handlers wait until a long operation ends.
    """
    read, write = os.pipe()
    if hasattr(os, "set_blocking"):  # Windows, before Python 3.12, has and needs none
        os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

    def listen() -> None:
        os.read(read, 1)
        while os.read(read, 1)[0] != signal.SIGINT:
            pass
        say("\nunlabeled: stopped at once by a second Ctrl-C; what was saved before is kept")
        os._exit(128 + signal.SIGINT)

    threading.Thread(target=listen, daemon=True).start()


def is_output_closed() -> bool:
    """Whether the output is a closed pipe, which is then replaced by the null device."""
    closed = False
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, AttributeError):  # captured; or no `poll`, on Windows
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLOUT)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
                closed = True
    return closed
