"""Flags, configuration files and error messages that all commands share."""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
import re
from argparse import SUPPRESS
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabeled import registry
from unlabeled.errors import UserError, suggest

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from unlabeled.core import Method


DATA = (
    "folder or file of samples, .npy or .npz file, a quoted pattern ('photos/*.jpg', "
    "'shards-{000..004}.tar'), shards at an address (http(s)://, s3://, gs://, hf://, such as "
    "'s3://bucket/shards-{000..999}.tar'), or name of a data set"
)
"""Help of the argument DATA."""
WANTED = {
    "<class 'int'>": "a whole number",
    "<class 'float'>": "a number",
    "<class 'dict'>": """JSON, such as '{"width": 64}'""",
    "<class 'list'>": """JSON, such as '["predictor"]'""",
}
"""Type that a flag expects -> in words."""
ALL = "100%"
"""Default of --labels."""


def make_parser(command: str, description: str, method: str = "") -> ArgumentParser:
    """A parser of a command's flags.

    Args:
        command: words after `unlabeled`.
        description: what the command does.
        method: its name, if the flags are those of a method, to be shown in groups.
    """
    from unlabeled.cli.help import Parser

    parser = Parser(
        prog=f"unlabeled {command}", description=" ".join(description.split()),
        exit_on_error=False, allow_abbrev=False,
    )  # fmt: skip
    parser.method = method
    parser.add_argument(  # `main` takes it
        "--quiet", action="store_true", default=SUPPRESS, help="print no progress and no notices"
    )
    if method:
        parser.epilog = "Defaults can depend on the data: add --data DATA to --help to see those."
    return parser


def add_arguments(parser: ArgumentParser, of: Callable[..., Any], skip: set[str]) -> None:
    """Add the parameters of a function or class as flags; booleans as `--x` and `--no-x`."""
    from docstring_parser import parse
    from jsonargparse import ActionYesNo

    parameters = inspect.signature(of).parameters
    if any("Augmentation" in str(p.annotation) for p in parameters.values()):
        augmentations_by_name()  # the parser offers what is imported
    flags = {n: p for n, p in parameters.items() if n not in skip}
    booleans = {n: p for n, p in flags.items() if p.annotation in (bool, "bool")}
    add = parser.add_class_arguments if inspect.isclass(of) else parser.add_function_arguments
    add(of, skip={*skip, *booleans}, as_group=False)
    texts = {p.arg_name: p.description for p in parse(inspect.getdoc(of) or "").params}
    for name, parameter in booleans.items():
        text = " ".join((texts.get(name) or "").split())
        parser.add_argument(f"--{name}", action=ActionYesNo, default=parameter.default, help=text)


def parse_args(parser: ArgumentParser, argv: list[str], defaults: bool = True) -> Any:
    """Parse a command line.

    Args:
        parser: its flags.
        argv: the words.
        defaults: whether flags that are not given have their defaults, or are left out.

    Raises:
        UserError: it is wrong; the message is in the user's words.
    """
    from argparse import ArgumentError

    from jsonargparse import ActionYesNo

    switches = {a.option_strings[0] for a in parser._actions if isinstance(a, ActionYesNo)}
    try:
        args = parser.parse_args(_as_switches(_normalize(argv), switches), defaults=defaults)
    except ArgumentError as error:
        message = _explain(parser, " ".join(str(error).split()))
        more = "" if message.endswith("?") else f" (see {parser.prog} --help)"
        raise UserError(message + more) from error
    if args.get("data") == "":  # a path that is empty would be the folder that one is in
        raise UserError("data is empty; give a folder, a file, or the name of a data set")
    return args


def _normalize(argv: list[str]) -> list[str]:
    """Dashes in flags as underscores, `--value-range -1000,2000` as one word, `--out=~/x` expanded.

    The parser would take the value of the second for a flag; shells expand `--out ~/x` only.
    """
    words: list[str] = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if flag[:2] == "--":
            value = str(Path(value).expanduser()) if value.startswith("~/") else value
            word = flag[:2] + flag[2:].replace("-", "_") + equals + value
        if words and words[-1] == "--value_range":
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


def _as_switches(argv: list[str], switches: set[str]) -> list[str]:
    """`--scratch false` and `--scratch=no` as `--no_scratch`, `--scratch true` as `--scratch`."""
    parts = [w.split("=", 1) if w.partition("=")[0] in switches else [w] for w in argv]
    result: list[str] = []
    for word in itertools.chain.from_iterable(parts):
        if result and result[-1] in switches and word.lower() in ("true", "yes", "false", "no"):
            if word.lower() in ("false", "no"):
                result[-1] = f"--no_{result[-1][2:]}"
        else:
            result.append(word)
    return result


def _explain(parser: ArgumentParser, error: str) -> str:
    """An error of the parser in the user's words."""
    flags = [flag.replace("_", "-") for action in parser._actions for flag in action.option_strings]
    if match := re.match(r"unrecognized arguments: (\S+)", error, re.IGNORECASE):
        word = match[1].partition("=")[0].replace("_", "-")
        if not word.startswith("-"):
            return (
                f"'{match[1]}' is one argument too many; remove it, or quote names with spaces and "
                "patterns such as '*.jpg'"
            )
        return f"there is no option {word}; {suggest(word, flags, 'remove it')}"
    if match := re.match(r"the following arguments are required: (.*)", error):
        needed = match[1].split(", ")
        words = [f"--{name}" if f"--{name}" in flags else name.upper() for name in needed]
        return f"missing argument{'s' * (len(words) > 1)}: {', '.join(words)}"
    if match := re.match(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", error):
        choices = [choice.strip(" '") for choice in match[3].split(",")]
        name = match[1] if match[1].startswith("-") else match[1].upper()
        return f"{name} is '{match[2]}'; {suggest(match[2], choices)}"
    if match := re.search(r"class_path '[\w.]*\.(\w+)': Option '(\w+)' is not", error):
        name, option = match.groups()
        advice = suggest(option, inspect.signature(augmentations_by_name()[name]).parameters)
        return f"the augmentation {name} has no option '{option}'; {advice}"
    if match := re.search(r"Expected a dot import path string: (\S+)", error):
        return (
            f"there is no augmentation '{match[1]}'; {suggest(match[1], augmentations_by_name())}"
        )
    if match := re.match(r"Option '(\w+)' is not accepted", error):  # in a --config file
        names = [flag.lstrip("-").replace("-", "_") for flag in flags]
        return f"there is no option '{match[1]}'; {suggest(match[1], names, 'remove it')}"
    if match := re.search(r"File does not exist: '(.*)'", error):
        return f"the --config file {match[1]} does not exist; check the path"
    if match := re.search(r"Path is not a file: '(.*)'", error):
        return f"--config is {match[1]}, which is no file; give a YAML file"
    if error.startswith("Unexpected config"):
        return "the --config file holds no settings; write lines such as epochs: 100"
    if error.startswith("Problems parsing config"):
        line, column = (re.findall(r"line (\d+), column (\d+)", error) or [("1", "1")])[-1]
        return f"the --config file is not valid YAML at line {line}, column {column}; correct it"
    if match := re.match(r"argument (\S+): expected .*argument", error):
        return f"{match[1].replace('_', '-')} lacks its value; give one"
    match = re.match(r'Parser key "([\w.]+)": Expected a (.*)\. Got value: (.*)', error)
    if not match:
        return error
    name, kind, value = match.groups()
    flag = f"--{name.replace('_', '-')}"
    if kind.startswith("typing.Literal"):
        choices = re.findall(r"'([^']*)'", kind)
        return f"{flag} is '{value}'; {suggest(value, choices)}"
    return f"{flag} is '{value}'; give {WANTED.get(kind, kind)}"


def augmentations_by_name() -> dict[str, type]:
    """Name -> class of all augmentations of the library."""
    from unlabeled import augmentations
    from unlabeled.augmentations import Augmentation
    from unlabeled.cli.help import all_subclasses

    for module in pkgutil.iter_modules(augmentations.__path__, "unlabeled.augmentations."):
        importlib.import_module(module.name)
    return {kind.__name__: kind for kind in all_subclasses(Augmentation)}


def named_method(command: str, argv: list[str]) -> tuple[str, type[Method], list[str]]:
    """The name and class of the method that a command line begins with, and the words after it."""
    if not argv or argv[0].startswith("-"):
        if argv[:1] in (["-h"], ["--help"]):
            print(
                f"usage: unlabeled {command} METHOD --data DATA [options]\n\n"
                "METHOD is one of the following, or ./file.py:Class for one that you wrote.\n"
                f"`unlabeled {command} METHOD --help` shows the options of a method.\n\n"
                + "\n".join(f"  {name:24}{t}" for name, t in registry.listing("methods").items())
            )
            raise SystemExit(0)
        raise UserError(
            f"name a method first, as in unlabeled {command} simclr --data DATA; "
            "`unlabeled list methods` shows all"
        )
    method = registry.find("methods", argv[0])
    if command != "train" or not inspect.isclass(method):  # `train` says so itself
        registry.say_which("methods", argv[0])
    return argv[0], method, argv[1:]


Build = Callable[[str, str], "ArgumentParser"]
"""A function that makes the parser for data of a name and a preset."""


def parse_with(build: Build, argv: list[str]) -> tuple[ArgumentParser, Any]:
    """Parse with defaults that suit the data and the preset, wherever they are named."""

    def value(flag: str, default: str) -> str:
        option = next((b for a, b in itertools.pairwise(argv) if a == flag), default)
        return next((a.partition("=")[2] for a in argv if a.startswith(f"{flag}=")), option)

    expected = value("--data", ""), value("--preset", "auto")
    parser = build(*expected)
    args = parse_args(parser, argv)
    data = args.data, getattr(args, "preset", "auto")
    if data != expected:  # they came from a configuration file
        parser = build(*data)
        args = parse_args(parser, argv)
    return parser, args


def add_evaluation_arguments(parser: ArgumentParser, data: str) -> None:
    """The arguments of commands that evaluate a run on data; `data` is the help of --data."""
    add_run_arguments(parser)
    add_opening_arguments(parser)
    parser.add_argument("--data", type=str, help=data)
    add_labels_argument(parser)
    add_groups_argument(parser)
    add_test_argument(parser)


def add_number_of_labels(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--labels", type=str, default=ALL, metavar="N", help="how many labels: 160, or 1%%"
    )


def add_run_arguments(parser: ArgumentParser) -> None:
    """The arguments of all commands that use a run."""
    parser.add_argument(
        "run",
        type=str,
        help="folder that `unlabeled train` or `unlabeled export --to hf` wrote; or an encoder by "
        "name: timm:NAME, hf:OWNER/NAME, hf:OWNER/NAME@REVISION, a folder of such weights as "
        "timm:FOLDER or hf:FOLDER, or a name in `unlabeled list weights` or `unlabeled list "
        "encoders`",
    )
    parser.add_argument(
        "--encoder", type=str, help="./file.py:Class, if the run's encoder is one that you wrote"
    )
    parser.add_argument(
        "--size",
        type=int,
        help="side in pixels of the images that an encoder by name receives (default: the one "
        "that it was pretrained with, or the data's)",
    )


def add_opening_arguments(parser: ArgumentParser, default: str = "as in the training") -> None:
    """The flags `--tile` and `--max-pixels` of commands that open data."""
    parser.add_argument(
        "--tile",
        type=int,
        metavar="SIDE",
        help="side of the squares that larger images in files are cut into, each a sample "
        f"(default: {default})",
    )
    parser.add_argument(
        "--max_pixels",
        type=int,
        metavar="N",
        help="largest number of pixels of an image in a file; larger images are left out "
        f"(default: {default})",
    )


def take_opening(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments that say how images are opened, taken out of the others."""
    return {name: args.pop(name) for name in ("size", "tile", "max_pixels")}


def refuse_unused(args: dict[str, Any], names: Iterable[str], case: str) -> None:
    """Raise UserError if a flag was given that has no effect in some case."""
    for name in names:
        if args[name] not in (None, False, ALL):
            raise UserError(f"--{name.replace('_', '-')} has no effect {case}; omit it")


def options_of_load(args: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `unlabeled.load` on data; those of `take_opening` are taken out."""
    labels = {name: args.get(name) for name in ("labels_from", "groups_from")}
    return take_opening(args) | labels


def add_labels_argument(parser: ArgumentParser) -> None:
    """The flag `--labels-from`."""
    parser.add_argument(
        "--labels_from",
        type=str,
        help="labels of samples in files: 'folders' (the name of each sample's folder), a .csv or "
        ".tsv (labels.csv:COLUMN chooses a column), a .npy, or a column of a table",
    )


def add_groups_argument(parser: ArgumentParser) -> None:
    """The flag `--groups-from`."""
    parser.add_argument(
        "--groups_from",
        type=str,
        help="what samples have in common, such as a patient, a scene or a speaker, in any form of "
        "--labels-from: samples of a group are never on both sides of the split, and intervals are "
        "over groups",
    )


def add_test_argument(parser: ArgumentParser) -> None:
    """The flag `--test`."""
    parser.add_argument(
        "--test", type=str, help="other data to test on; all of --data is then used for training"
    )
