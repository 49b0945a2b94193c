"""Flags, configuration files and error messages that all subcommands share."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unlabeled import registry
from unlabeled.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from unlabeled.core import Method


def make_parser(command: str, description: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser, DefaultHelpFormatter

    class Help(DefaultHelpFormatter):
        def _expand_help(self, action: Any) -> str:
            text = super()._expand_help(action)  # what is not given has no default to name
            for nothing in (", default: null", " | null", ", null"):
                text = text.replace(nothing, "")
            return text

    return ArgumentParser(
        prog=f"unlabeled {command}",
        description=description,
        exit_on_error=False,
        formatter_class=Help,
    )


def add_arguments(
    parser: ArgumentParser, of: Callable[..., Any], skip: set[str], as_group: bool = False
) -> None:
    """Arguments of a function or class as flags; `--resume` and `--no-resume` for a boolean."""
    from docstring_parser import parse
    from jsonargparse import ActionYesNo

    parameters = inspect.signature(of).parameters
    booleans = {n: p for n, p in parameters.items() if p.annotation in (bool, "bool")}
    booleans = {n: p for n, p in booleans.items() if n not in skip}
    every: set[str | int] = {*skip, *booleans}
    if inspect.isclass(of):
        parser.add_class_arguments(of, skip=every, as_group=as_group)
    else:
        parser.add_function_arguments(of, skip=every, as_group=as_group)
    told = {p.arg_name: p.description for p in parse(inspect.getdoc(of) or "").params}
    for name, parameter in booleans.items():
        text = " ".join((told.get(name) or "").split())
        parser.add_argument(f"--{name}", action=ActionYesNo, default=parameter.default, help=text)


def parse_args(parser: ArgumentParser, argv: list[str]) -> Any:
    from argparse import ArgumentError

    from jsonargparse import ActionYesNo

    switches = {a.option_strings[0] for a in parser._actions if isinstance(a, ActionYesNo)}
    try:
        return parser.parse_args(_as_switches(argv, switches))
    except ArgumentError as error:
        raise UserError(f"{_plainly(str(error))} (see {parser.prog} --help)") from error


def _as_switches(argv: list[str], switches: set[str]) -> list[str]:
    """`--scratch false` and `--scratch=no` are `--no_scratch`, `--scratch true` is `--scratch`."""
    words = list(
        itertools.chain.from_iterable(
            word.split("=", 1) if word.partition("=")[0] in switches else [word] for word in argv
        )
    )
    found: list[str] = []
    for word in words:
        if found and found[-1] in switches and word.lower() in ("true", "yes", "false", "no"):
            if word.lower() in ("false", "no"):
                found[-1] = f"--no_{found[-1][2:]}"
        else:
            found.append(word)
    return found


def _plainly(error: str) -> str:
    """What the parser says of a wrong value, in the words of a user."""
    error = " ".join(error.split())
    if found := re.search(r"class_path 'unlabeled\.views\.(\w+)': Option '(\w+)' is not", error):
        return f"the view {found[1]} has no option '{found[2]}'"
    if found := re.search(r"Expected a dot import path string: (\S+)", error):
        from unlabeled import augmentations

        names = ", ".join(sorted(set(augmentations.__all__) - {"Augmentation"}))
        return f"there is no view '{found[1]}'; choose one of {names}"
    found = re.match(r'Parser key "(\w+)": Expected a (.*)\. Got value: (.*)', error)
    if not found:
        return error
    flag, kind, value = found.groups()
    wanted = {"<class 'int'>": "a whole number", "<class 'float'>": "a number"}.get(kind, kind)
    if kind.startswith("typing.Literal"):
        wanted = "one of " + kind[len("typing.Literal") :].strip("[]").replace("'", "")
    return f"--{flag.replace('_', '-')} is '{value}', but must be {wanted}"


def named_method(command: str, argv: list[str]) -> tuple[str, type[Method], list[str]]:
    """The method that a command line names, and what follows it."""
    if not argv or argv[0].startswith("-"):
        names = ", ".join(registry.listing("methods"))
        line = f"unlabeled {command} METHOD --data D …, METHOD one of {names} or ./file.py:Class"
        if argv[:1] in (["-h"], ["--help"]):
            print(f"usage: {line}\n\nunlabeled {command} METHOD --help tells a method's flags.")
            raise SystemExit(0)
        raise UserError(f"name the method first: {line}")
    found = registry.find("methods", argv[0])
    if command != "train" or not inspect.isclass(found):  # `train` says so itself
        registry.say_which("methods", argv[0])
    return argv[0], found, argv[1:]


def parse_with(
    build: Callable[[str], ArgumentParser], argv: list[str]
) -> tuple[ArgumentParser, Any]:
    """Parse with the defaults that suit the data named, wherever it is named."""
    named = next((b for a, b in itertools.pairwise(argv) if a == "--data"), "")
    named = next((a[7:] for a in argv if a.startswith("--data=")), named)
    parser = build(named)
    given = parse_args(parser, argv)
    if given.data != named:  # it came from a configuration file
        parser = build(given.data)
        given = parse_args(parser, argv)
    return parser, given


def add_run_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="folder that `unlabeled train` wrote")
    parser.add_argument("--encoder", type=str, help="./file.py:Net, where the encoder was your own")


def add_labels_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--labels_from",
        type=str,
        help="where labels of images in files are: folders, a .csv or .tsv (labels.csv:COLUMN "
        "chooses one), a .npy, a table's column",
    )


def add_test_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--test", type=str, help="other data to test on; then all of --data is learned from"
    )
