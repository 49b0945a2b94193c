"""The command `unlabeled`: finds the file of a command and runs it.

`cli/foo.py` with a function `foo_command` and a docstring that begins "`unlabeled foo ARGUMENTS`:
what it does." is the command `foo`. Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import functools
import importlib
import re
import signal
import sys
from pathlib import Path

from unlabeled.cli.signals import (
    exit_at_second_interrupt,
    is_output_closed,
    say,
    stop_at_signals,
    stopped_by,
)
from unlabeled.errors import Stopped, UserError, is_out_of_memory, reason, suggest
from unlabeled.utils.command import running
from unlabeled.utils.launch import is_first
from unlabeled.utils.progress import showing
from unlabeled.utils.quiet import only_notices
from unlabeled.version import __version__

ORDER = (
    *("demo", "train", "evaluate", "embed", "explore", "classify", "predict"),
    *("finetune", "compare", "sample", "export", "words", "views", "study", "list"),
)
"""Commands in the order in which a newcomer meets them; others follow by name."""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status.

    0 on success; 2, with one sentence, for an error that the user can fix; 128 plus the number of a
    signal, after running work is saved: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP; 141,
    silently, if the output is a closed pipe.
    """
    words = sys.argv[1:] if argv is None else argv
    is_quiet = "--quiet" in words
    command, *rest = [word for word in words if word != "--quiet"] or ["--help"]
    if argv is None:
        exit_at_second_interrupt()
    try:
        with showing(not is_quiet):
            status = _run(command, rest, is_quiet)
        if sys.stdout:
            sys.stdout.flush()
        return status
    except SystemExit as stop:  # of help, and of rich on a closed pipe
        if not is_output_closed() and not isinstance(stop.__context__, BrokenPipeError):
            raise
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Stopped) else signal.SIGINT
        if is_first():
            say(f"\nunlabeled: {error if str(error) else stopped_by(number, command)}")
        return 128 + number
    except OSError as error:
        if not is_output_closed():
            problem = f"{error.filename}: {error.strerror}" if error.filename else reason(error)
            return _fail(f"{problem}; check the path, its permissions and the free space")
    return 128 + getattr(signal, "SIGPIPE", 13)


def _run(command: str, argv: list[str], is_quiet: bool) -> int:
    """Run a command by name; errors that the user can fix become one sentence."""
    if command in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if command == "--version":
        print(f"unlabeled {__version__}")
        return 0
    if command not in commands():
        return _fail(f"there is no command '{command}'; {suggest(command, commands())}")
    only_notices(not is_quiet and is_first())  # those of other processes are the same
    stop_at_signals(command)
    module = importlib.import_module(f"unlabeled.cli.{command}")
    try:
        with running([command, *argv]):
            return getattr(module, f"{command}_command")(argv)
    except UserError as error:
        return _fail(_with_flag(reason(error), argv))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail("out of memory; use smaller images (--size) or a smaller encoder (--encoder)")


@functools.cache
def commands() -> dict[str, tuple[str, str]]:
    """Command -> (how to call it, what it does), from the docstrings of the files here."""
    matches = {}
    for path in Path(__file__).parent.glob("*.py"):
        start = rf'"""`unlabeled ({path.stem}\b[^`]*)`: (.*?)\.("""|\n\n)'
        if match := re.match(start, path.read_text(encoding="utf-8"), re.DOTALL):
            matches[path.stem] = match[1], " ".join(match[2].split())
    rank = {name: i for i, name in enumerate(ORDER)}
    return dict(sorted(matches.items(), key=lambda item: (rank.get(item[0], 99), item[0])))


USAGE = """usage: unlabeled COMMAND ...

Learn representations of images, audio, text, video, time series and tables without labels.

commands:
{}

Run `unlabeled COMMAND --help` for the options of a command, and
`unlabeled train METHOD --help` for those of a method (`unlabeled list methods`).
With --quiet, a command prints results and errors only: no progress and no notices.
`unlabeled --version` prints the version.
"""


def usage() -> str:
    """The text of `unlabeled --help`."""
    lines = []
    for call, text in commands().values():
        gap = " " * (29 - len(call)) if len(call) < 28 else "\n" + " " * 31
        lines.append(f"  {call}{gap}{text}")
    return USAGE.format("\n".join(lines))


def _with_flag(message: str, argv: list[str]) -> str:
    """A message that begins with the name of an option, as the user typed it: `--batch-size`."""
    name = message.partition(" ")[0]
    for flag in (word.partition("=")[0] for word in argv):
        if flag.startswith("--") and flag[2:].replace("-", "_") == name:
            return flag + message[len(name) :]
    return message


def _fail(message: str) -> int:
    say(f"unlabeled: {message}")
    return 2
