"""The command `unlabeled`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unlabeled.cli.compare import compare_command
from unlabeled.cli.demo import demo_command
from unlabeled.cli.embed import embed_command
from unlabeled.cli.evaluate import evaluate_command
from unlabeled.cli.explore import explore_command
from unlabeled.cli.export import export_command
from unlabeled.cli.finetune import finetune_command
from unlabeled.cli.list import list_command
from unlabeled.cli.sample import sample_command
from unlabeled.cli.study import study_command
from unlabeled.cli.train import train_command
from unlabeled.cli.views import views_command
from unlabeled.cli.words import words_command
from unlabeled.errors import Stopped, UserError, is_out_of_memory, reason, signal_name
from unlabeled.utils.quiet import only_notices
from unlabeled.version import __version__

if TYPE_CHECKING:
    pass

USAGE = """usage: unlabeled COMMAND ...

Learn representations without labels, and see honestly what they are worth.

commands:
  demo                        learn from rendered images, open a report: start here
  train METHOD --data D       train an encoder; `unlabeled train METHOD --help` for its flags
  evaluate RUN                probe, neighbors, similarity; a table and a report page
  embed RUN DATA --out F      features of images as .npy, .npz or .parquet
  sample RUN --ask A          images, clips or text that a generative run makes
  explore RUN DATA --out F.html
                              a map of the images, their groups, twins and outliers
  finetune RUN --data D --labels 1%
                              train the encoder further with few or many labels
  compare RUN RUN …           several runs in one table and one page
  study lectures              experiments of many runs, one report page
  export RUN --to onnx|torchscript|safetensors
                              take the encoder away
  words RUN --nearest WORD    ask the vectors that word2vec learned
  views METHOD --data D --out F.png
                              an image of what the method sees
  list methods|encoders|datasets|objectives|studies

Each command explains itself with --help.  unlabeled --version prints the version.
"""


def main(argv: list[str] | None = None) -> int:
    """Run a command: 0 when it worked, 2 and one sentence where the user can mend it.

    A signal gives 128 and its number, after what was begun is saved: 130 for Ctrl-C, 143 for
    SIGTERM, 129 for SIGHUP. Where nobody reads the output any more, 141, and not a word.
    """
    command, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if argv is None:
        _end_at_second()
    try:
        status = _run(command, rest)
        if sys.stdout:
            sys.stdout.flush()
        return status
    except SystemExit as stop:  # of help, and of rich where nobody reads
        if not _unread() and not isinstance(stop.__context__, BrokenPipeError):
            raise
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        _say(f"\nunlabeled: {error if str(error) else _stopped_by(number, command)}")
        return 128 + number
    except OSError as error:
        if not _unread():
            return _fail(f"{reason(error)}; check the path, its rights and the space left")
    return 128 + getattr(signal, "SIGPIPE", 13)


def _run(command: str, rest: list[str]) -> int:
    """A command; what the user can mend becomes one sentence."""
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command == "--version":
        print(f"unlabeled {__version__}")
        return 0
    if command not in COMMANDS:
        return _fail(f"there is no command '{command}'; choose one of {', '.join(COMMANDS)}")
    only_notices()
    for name in ("SIGTERM", "SIGHUP"):  # Windows has no SIGHUP, and nohup ignores it
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, functools.partial(_terminate, command))
    try:
        return COMMANDS[command](_joined([_underscored(word) for word in rest]))
    except UserError as error:
        return _fail(reason(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail("out of memory: take smaller images with --size, or a smaller encoder")


def _end_at_second() -> None:
    """A Ctrl-C after another signal ends the process at once.

    A thread listens, since Python's own handlers wait for the end of a long operation.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))

    def listen() -> None:
        os.read(read, 1)
        while os.read(read, 1)[0] != signal.SIGINT:
            pass
        _say("\nunlabeled: stopped at once by another Ctrl-C; what was saved before is kept")
        os._exit(128 + signal.SIGINT)

    threading.Thread(target=listen, daemon=True).start()


def _terminate(command: str, number: int, frame: Any) -> None:
    raise Stopped(_stopped_by(number, command), number)


def _stopped_by(number: int, command: str) -> str:
    """What is said where a signal found no training to save."""
    resumed = " with --resume" if command in ("train", "finetune", "study") else ""
    return (
        f"stopped by {signal_name(number)}; the same command{resumed} goes on from what was saved"
        if resumed or command == "demo"
        else f"stopped by {signal_name(number)} before it was done; give the command again"
    )


def _unread() -> bool:
    """Whether the output is a pipe that nobody reads any more; Python then need not write it."""
    unread = False
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, AttributeError):  # captured; or no `poll`, on Windows
            poll = select.poll()
            poll.register(stream.fileno(), select.POLLOUT)
            if any(event & select.POLLERR for _, event in poll.poll(0)):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)
                unread = True
    return unread


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": demo_command,
    "train": train_command,
    "evaluate": evaluate_command,
    "embed": embed_command,
    "sample": sample_command,
    "explore": explore_command,
    "finetune": finetune_command,
    "compare": compare_command,
    "study": study_command,
    "export": export_command,
    "views": views_command,
    "words": words_command,
    "list": list_command,
}


def _underscored(word: str) -> str:
    """`--batch-size` and `--batch_size` are the same flag."""
    flag, equals, value = word.partition("=")
    return flag[:2] + flag[2:].replace("-", "_") + equals + value if flag[:2] == "--" else word


def _joined(words: list[str]) -> list[str]:
    """`--value_range -1000,2000` as one word: the parser would take the value for a flag."""
    at = next((i for i, word in enumerate(words[:-1]) if word == "--value_range"), None)
    return words if at is None else [*words[:at], "=".join(words[at : at + 2]), *words[at + 2 :]]


def _fail(message: str) -> int:
    _say(f"unlabeled: {message}")
    return 2


def _say(message: str) -> None:
    """On standard error, if that is still there: a terminal may have gone, with a SIGHUP."""
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr)
