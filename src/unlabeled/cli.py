"""The command `unlabeled`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import json
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabeled import __version__, registry
from unlabeled.errors import (
    Stopped,
    UserError,
    is_out_of_memory,
    reason,
    signal_name,
)
from unlabeled.quiet import only_notices

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from unlabeled.core import Method
    from unlabeled.run import Run

USAGE = """usage: unlabeled COMMAND ...

Learn representations without labels, and see honestly what they are worth.

commands:
  demo                        learn from rendered pictures, open a report: start here
  train METHOD --data D       train an encoder; `unlabeled train METHOD --help` for its flags
  evaluate RUN                probe, neighbours, similarity; a table and a report page
  embed RUN DATA --out F      features of pictures as .npy, .npz or .parquet
  sample RUN --ask A          pictures, clips or text that a generative run makes
  explore RUN DATA --out F.html
                              a map of the pictures, their groups, twins and outliers
  finetune RUN --data D --labels 1%
                              train the encoder further with few or many labels
  compare RUN RUN …           several runs in one table and one page
  study lectures              experiments of many runs, one report page
  export RUN --to onnx|torchscript|safetensors
                              take the encoder away
  words RUN --nearest WORD    ask the vectors that word2vec learnt
  views METHOD --data D --out F.png
                              a picture of what the method sees
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
        return _fail("out of memory: take smaller pictures with --size, or a smaller encoder")


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


def train_command(argv: list[str]) -> int:
    """`unlabeled train METHOD --data D …`."""
    name, cls, rest = _method("train", argv)
    if not inspect.isclass(cls):
        return _train_phases(name, cls, rest)
    parser, given = _parse(lambda data: _train_parser(name, cls, data), rest)
    made = parser.instantiate(given)
    # Whatever the user left alone is not passed on, so that the data set can fill it in.
    untouched = {k: p.default for k, p in inspect.signature(cls).parameters.items()}
    recipe = cls.recipes.get(given.data.partition(":")[0], {})
    options = {
        key: value
        for key, value in made.as_dict().items()  # vars() marks names that a dict has, as `values`
        if key != "config" and (key in recipe or value != untouched.get(key, ...))
    }
    from unlabeled.parallel import is_first
    from unlabeled.training import plan, train

    if options.pop("dry_run"):
        print(plan(name, **options))
        return 0
    run = train(name, **options)
    if not is_first():
        return 0
    print(f"{run.path}: an encoder of {run.dim} features. What to do next:")
    shown = given.data if " " not in given.data else f"'{given.data}'"
    explore = f"explore {run.path} {shown} --out map.html", "what it sees: a map of the pictures"
    for command, what in (
        (f"evaluate {run.path}", "what it is worth: a table and a report page"),
        *([explore] if run.of_pictures else []),
        (f"embed {run.path} {shown} --out features.npz", "one row of features each"),
        (f"export {run.path} --to onnx", "take it away"),
    ):
        print(f"  unlabeled {command:<{44 + len(str(run.path)) // 2}}  {what}")
    return 0


def _train_phases(name: str, phases: Any, argv: list[str]) -> int:
    """A method that is several trainings: its arguments are the flags."""
    accepted = inspect.signature(phases).parameters
    parser = _parser(f"train {name}", inspect.getdoc(phases).partition("\n\nArgs:")[0])  # type: ignore[union-attr]
    parser.add_argument("--config", action="config", help="YAML file with any of these flags")
    parser.add_argument("--data", type=str, required=True, help="as for other methods")
    if "encoder" in accepted:
        parser.add_argument("--encoder", type=str, default="small", help="as for other methods")
    if "resume" in accepted:
        parser.add_argument("--resume", action="store_true", help="go on where it was stopped")
    if "labels_from" in accepted:
        _labels_argument(parser)
    if "test" in accepted:
        _test_argument(parser)
    own = {"data", "encoder", "resume", "labels_from", "test", "progress"} & set(accepted)
    _arguments(parser, phases, skip=own)
    given = vars(parser.instantiate(_parse_args(parser, argv)))
    given.pop("config")
    run = phases(given.pop("data"), **given)
    figures = json.loads((run.path.parent / f"{name}.json").read_text())
    for key, value in figures.items():
        share = isinstance(value, float) and 0 <= value <= 1 and key not in ("seconds", "loss")
        print(f"  {100 * value:6.2f} %  {key}" if share else f"  {key}: {value}")
    print(run.path)
    if name == "word2vec":
        print(f"What to do next:\n  unlabeled words {run.path.parent} --nearest WORD")
    return 0


def evaluate_command(argv: list[str]) -> int:
    """`unlabeled evaluate RUN [--data D] [--json]`."""
    parser = _parser("evaluate", "What a run is worth, beside raw pixels and random weights.")
    _run_arguments(parser)
    parser.add_argument("--data", type=str, help="data to judge it on (default: its training's)")
    _labels_argument(parser)
    _test_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--layers", action="store_true", help="every stage by itself: one table, one picture"
    )
    given = _parse_args(parser, argv)
    from unlabeled.run import load

    run = load(given.run, given.encoder)
    if given.layers:
        return _evaluate_layers(run, given)
    result = run.evaluate(given.data, labels_from=given.labels_from, test=given.test)
    if given.json:
        from unlabeled.files import to_json

        print(to_json(result))
    else:
        from unlabeled.report.table import print_table

        print_table(str(run.config["method"]), result)
        print(f"report: {run.path / 'report' / 'index.html'}")
    return 0


def _evaluate_layers(run: Run, given: Any) -> int:
    """Every stage of a run beside random weights, as JSON, a table and `layers.svg`."""
    from unlabeled.evaluation.evaluate import open_for, random_of
    from unlabeled.evaluation.layers import judge_stages, table
    from unlabeled.files import to_json, write_bytes, write_json
    from unlabeled.report.page import format_figure
    from unlabeled.report.plots import layers_picture
    from unlabeled.safety import inside

    splits = open_for(run, given.data, given.labels_from, given.test)
    encoders = {str(run.config["method"]): run.encoder, "random": random_of(run, splits)}
    found = {name: judge_stages(encoder, splits) for name, encoder in encoders.items()}
    told = {name: table(layers) for name, layers in found.items()}
    write_json(inside(run.path, "layers.json"), told)
    picture = inside(run.path, "layers.svg")
    write_bytes(picture, layers_picture(found, str(splits.target)).encode())
    if given.json:
        print(to_json(told))
        return 0
    for name, layers in found.items():
        for layer in layers:
            print(
                f"  {name:12} stage {layer.stage}  {layer.dim:5} features  "
                f"{100 * layer.linear:6.2f} %  gap {format_figure('gap', layer.gap):>6}"
            )
    print(picture)
    return 0


def embed_command(argv: list[str]) -> int:
    """`unlabeled embed RUN DATA --out F`."""
    parser = _parser("embed", "Features of pictures, one row each, in their order.")
    _run_arguments(parser)
    parser.add_argument("data", type=str, help="folder, .npy, .npz, or the name of a data set")
    parser.add_argument("--out", type=str, required=True, help=".npy, .npz or .parquet file")
    parser.add_argument(
        "--devices", type=int, default=1, help="GPUs, or processes on CPUs, that share the work"
    )
    given = _parse_args(parser, argv)
    from unlabeled.report.features import write_features
    from unlabeled.run import load

    run = load(given.run, given.encoder)
    shape = write_features(run, given.data, Path(given.out), given.devices, given.encoder)
    print(f"{given.out}: {shape[0]} rows of {shape[1]} features")
    return 0


def sample_command(argv: list[str]) -> int:
    """`unlabeled sample RUN [--number N] [--ask A] [--out FOLDER]`."""
    parser = _parser("sample", "What a generative run makes: pictures, clips, series or text.")
    _run_arguments(parser)
    parser.add_argument("--number", type=int, default=16, help="how many, of each thing asked for")
    parser.add_argument(
        "--ask",
        type=str,
        action="append",
        help="a class, caption or velocity by its name or number; may be given several times",
    )
    parser.add_argument("--out", type=str, help="a new folder (default: samples in the run folder)")
    parser.add_argument("--begin", type=str, default="", help="of text: its first words")
    parser.add_argument("--length", type=int, default=200, help="of text: further characters")
    parser.add_argument("--seed", type=int, default=0, help="of what is random in them")
    given = _parse_args(parser, argv)
    from unlabeled.run import load
    from unlabeled.sampling import sample, texts

    run = load(given.run, given.encoder)
    if (said := texts(run, given.number, given.begin, given.length, given.seed)) is not None:
        if given.ask or given.out:
            raise UserError(f"{run.path} writes text, which is printed; leave --ask and --out away")
        print("\n\n".join(said))
        return 0
    if given.begin:
        raise UserError(f"{run.path} writes no text; leave --begin away")
    out = Path(given.out) if given.out else run.path / "samples"
    files = sample(run, given.number, out, given.ask, given.seed)
    print(f"{out}: {len(files)} files, such as {files[-1].name}")
    return 0


def explore_command(argv: list[str]) -> int:
    """`unlabeled explore RUN DATA --out F.html`."""
    from unlabeled.report.explore import explore

    parser = _parser("explore", "One page: a map of the pictures as the encoder sees them.")
    _run_arguments(parser)
    parser.add_argument("data", type=str, help="as for `unlabeled train`")
    parser.add_argument("--out", type=str, default="explore.html", help="the .html file to write")
    _arguments(parser, explore, skip={"run", "data", "out"})
    given = vars(_parse_args(parser, argv))
    from unlabeled.run import load

    run, data, out = given.pop("run"), given.pop("data"), Path(given.pop("out"))
    told = explore(load(run, given.pop("encoder")), data, out, **given)
    print(
        f"{out}: {told['pictures']:,} pictures, {told['clusters']} clusters, "
        f"{told['duplicate_groups']:,} groups of near-duplicates, {told['outliers']:,} outliers, "
        f"{told['bytes'] / 1e6:.1f} MB. Open it in a browser"
    )
    return 0


def finetune_command(argv: list[str]) -> int:
    """`unlabeled finetune RUN --data D [--labels 1%]`."""
    from unlabeled.evaluation.finetune import finetune

    parser = _parser("finetune", "Train an encoder further with labels, beside a fresh start.")
    _run_arguments(parser)
    parser.add_argument("--data", type=str, help="labelled data (default: the run's own)")
    parser.add_argument("--labels", type=str, default="100%", help="how many: 160, or 1%")
    _labels_argument(parser)
    _test_argument(parser)
    _arguments(parser, finetune, skip={"run", "data", "labels", "labels_from", "test", "progress"})
    given = vars(parser.instantiate(_parse_args(parser, argv)))
    from unlabeled.run import load

    run = load(given.pop("run"), given.pop("encoder"))
    tuned, figures = finetune(run, given.pop("data"), **given)
    print(f"{figures['labels']:,} labels, {figures['test_pictures']:,} test pictures:")
    for key, what in (
        ("finetuned", "fine-tuned"),
        ("frozen", "linear probe of the frozen encoder"),
        ("scratch", "the same network from scratch"),
    ):
        if key in figures:
            print(f"  {100 * figures[key]:6.2f} %  {what}")
    print(tuned.path)
    return 0


def compare_command(argv: list[str]) -> int:
    """`unlabeled compare RUN RUN …`."""
    parser = _parser("compare", "Several runs beside each other: one table, one page.")
    parser.add_argument("runs", type=str, nargs="+", help="run folders")
    parser.add_argument("--data", type=str, help="judge all on this (default: as evaluated before)")
    _labels_argument(parser)
    _test_argument(parser)
    parser.add_argument("--out", type=str, default="compare.html", help="the page to write")
    given = _parse_args(parser, argv)
    from unlabeled.report.compare import compare
    from unlabeled.report.table import print_results
    from unlabeled.run import load

    runs = [load(run) for run in given.runs]
    print_results(compare(runs, Path(given.out), given.data, given.labels_from, given.test))
    print(given.out)
    return 0


def study_command(argv: list[str]) -> int:
    """`unlabeled study NAME [--quick] [--only A,B] [--seeds N] [--resume] --out DIR`."""
    parser = _parser("study", "Experiments of many runs: each kept, one report page.")
    parser.add_argument("name", type=str, help="a name of `unlabeled list studies`, or ./file.py")
    parser.add_argument("--out", type=str, help="its folder (default: runs/NAME)")
    parser.add_argument(
        "--quick", action="store_true", help="a first look: half the data, few epochs"
    )
    parser.add_argument("--only", type=str, default="", help="experiments, as L6,L8")
    parser.add_argument("--seeds", type=int, default=1, help="of the main encoders")
    parser.add_argument("--resume", action="store_true", help="keep findings that are there")
    given = _parse_args(parser, argv)
    from unlabeled.studies.study import run_study

    registry.say_which("studies", given.name)
    study = registry.find("studies", given.name)
    out = Path(given.out or Path("runs") / Path(given.name).stem)
    only = [key for key in given.only.split(",") if key]
    run_study(study, out, quick=given.quick, only=only, seeds=given.seeds, resume=given.resume)
    page = (out / "quick" if given.quick else out) / "report" / "index.html"
    print(f"open the report in a browser: {page.resolve()}")
    return 0


def export_command(argv: list[str]) -> int:
    """`unlabeled export RUN --to onnx|torchscript|safetensors`."""
    from unlabeled.export import FORMATS, export, tokenizer_beside

    parser = _parser("export", "The encoder, checked, in a format that needs no unlabeled.")
    _run_arguments(parser)
    parser.add_argument("--to", choices=FORMATS, required=True, help="the format")
    parser.add_argument("--out", type=str, help="the file to write (default: in the run folder)")
    given = _parse_args(parser, argv)
    from unlabeled.run import load

    run = load(given.run, given.encoder)
    out = export(run, given.to, Path(given.out) if given.out else None)
    print(out)
    if run.tokenizer:
        print(f"{tokenizer_beside(out)}: the tokenizer of its texts")
    return 0


def views_command(argv: list[str]) -> int:
    """`unlabeled views METHOD --data D --out F.png`."""
    name, cls, rest = _method("views", argv)
    if not inspect.isclass(cls):
        raise UserError(f"{name} is several trainings; look at the views of one, such as simclr")

    def build(data: str) -> ArgumentParser:
        parser = _parser(f"views {name}", f"A picture of what {name} sees.")
        parser.add_argument("--data", type=str, required=True, help="as for `unlabeled train`")
        parser.add_argument("--out", type=str, required=True, help="the .png file to write")
        _arguments(parser, cls, skip={"encoder"}, as_group=True)
        return parser

    parser, given = _parse(build, rest)
    out = Path(given.out)
    if out.suffix != ".png":
        raise UserError(f"--out is {out}; name a .png file")
    untouched = {k: p.default for k, p in inspect.signature(cls).parameters.items()}
    options = {
        k: v
        for k, v in vars(parser.instantiate(given)).items()
        if k in untouched and v != untouched[k]
    }
    from unlabeled.datasets import open_data
    from unlabeled.encoders.base import build as build_encoder
    from unlabeled.training import draw_views, resolve

    splits = open_data(given.data)
    _, arguments = resolve(cls, splits, options)
    out.parent.mkdir(parents=True, exist_ok=True)
    network = cls.sound_network if splits.rate else cls.network
    draw_views(cls(build_encoder(network, splits.channels, splits.size), **arguments), splits, out)
    print(out)
    return 0


def words_command(argv: list[str]) -> int:
    """`unlabeled words RUN --nearest WORD | --analogy A B C | --similarity F | --analogies F`."""
    parser = _parser("words", "What word vectors know: neighbours, analogies, likeness.")
    parser.add_argument(
        "run", type=str, help="folder of `unlabeled train word2vec`, or its vectors"
    )
    parser.add_argument("--nearest", type=str, help="a word, to see those nearest to it")
    parser.add_argument(
        "--analogy", type=str, nargs=3, metavar=("A", "B", "C"), help="C is to the answer as A to B"
    )
    parser.add_argument("--similarity", type=str, help="file of pairs with people's judgement")
    parser.add_argument("--analogies", type=str, help="file of analogies, as questions-words.txt")
    parser.add_argument("--number", type=int, default=10, help="of words to show")
    given = _parse_args(parser, argv)
    from unlabeled import words

    asked = (given.nearest, given.analogy, given.similarity, given.analogies)
    if not any(asked):
        raise UserError("ask something: --nearest, --analogy, --similarity or --analogies")
    known = words.load(given.run)
    found: list[tuple[str, float]] = []
    if given.nearest:
        found += known.nearest(given.nearest, given.number)
    if given.analogy:
        found += known.analogy(given.analogy, given.number)
    for word, near in found:
        print(f"  {near:6.3f}  {word}")
    if given.similarity:
        told = known.similarity(words.read_pairs(given.similarity))
        print(f"Spearman's rho {told['rho']:.3f}, {100 * told['known']:.0f} % of the pairs known")
    if given.analogies:
        solved = known.analogies(words.read_analogies(given.analogies))
        solved["in all"] = tuple(map(sum, zip(*solved.values(), strict=True)))  # type: ignore[assignment]
        for name, (right, asked_of) in solved.items():
            print(f"  {100 * right / max(1, asked_of):6.2f} %  of {asked_of:6,}  {name}")
    return 0


def list_command(argv: list[str]) -> int:
    """`unlabeled list methods|encoders|datasets|objectives|studies`."""
    parser = _parser("list", "What there is, one name a line.")
    parser.add_argument("kind", choices=registry.KINDS)
    names = registry.listing(_parse_args(parser, argv).kind)
    width = max(map(len, names), default=0)
    for name, line in names.items():
        print(f"{name:{width}}  {line}".rstrip())
    return 0


def demo_command(argv: list[str]) -> int:
    """`unlabeled demo`."""
    parser = _parser(
        "demo",
        "Render dSprites, train SimCLR without labels and a supervised net with them, and judge "
        "both beside raw pixels and random weights. Some minutes on two cores; no download.",
    )
    parser.add_argument("--out", type=str, default="runs/demo", help="folder for its runs")
    given = _parse_args(parser, argv)
    from unlabeled.studies.demo import demo

    try:
        demo(Path(given.out))
    except Stopped as error:  # a demo always goes on
        raise Stopped(str(error).replace(" with --resume", ""), error.number) from None
    return 0


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


def _parser(command: str, description: str) -> ArgumentParser:
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


def _arguments(
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


def _parse_args(parser: ArgumentParser, argv: list[str]) -> Any:
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
        from unlabeled import views

        names = ", ".join(sorted(set(views.__all__) - {"View"}))
        return f"there is no view '{found[1]}'; choose one of {names}"
    found = re.match(r'Parser key "(\w+)": Expected a (.*)\. Got value: (.*)', error)
    if not found:
        return error
    flag, kind, value = found.groups()
    wanted = {"<class 'int'>": "a whole number", "<class 'float'>": "a number"}.get(kind, kind)
    if kind.startswith("typing.Literal"):
        wanted = "one of " + kind[len("typing.Literal") :].strip("[]").replace("'", "")
    return f"--{flag.replace('_', '-')} is '{value}', but must be {wanted}"


def _method(command: str, argv: list[str]) -> tuple[str, type[Method], list[str]]:
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


def _parse(build: Callable[[str], ArgumentParser], argv: list[str]) -> tuple[ArgumentParser, Any]:
    """Parse with the defaults that suit the data named, wherever it is named."""
    named = next((b for a, b in itertools.pairwise(argv) if a == "--data"), "")
    named = next((a[7:] for a in argv if a.startswith("--data=")), named)
    parser = build(named)
    given = _parse_args(parser, argv)
    if given.data != named:  # it came from a configuration file
        parser = build(given.data)
        given = _parse_args(parser, argv)
    return parser, given


def _train_parser(name: str, cls: type[Method], data: str) -> ArgumentParser:
    from unlabeled.core import Recipe
    from unlabeled.training import train

    parser = _parser(f"train {name}", inspect.getdoc(cls).partition("\n\nArgs:")[0])  # type: ignore[union-attr]
    parser.add_argument("--config", action="config", help="YAML file with any of these flags")
    parser.add_argument(
        "--data",
        type=str,
        required=True,
        help="folder of pictures, film, .npy or .npz file, NAME or NAME:FOLDER of a data set",
    )
    parser.add_argument(
        "--encoder",
        type=str,
        help="a name of `unlabeled list encoders`, timm:NAME, hf:NAME, or ./file.py:Net "
        f"(default: {cls.network}; {cls.sound_network} for sound)",
    )
    switches = {
        "resume": "go on from the last checkpoint",
        "local": "let each stage of the encoder learn by itself, from a head of its own",
        "compile": "fuse the encoder by torch.compile: slow at first, then faster",
    }
    for switch, told in switches.items():
        parser.add_argument(f"--{switch}", action="store_true", help=told)
    elsewhere = {
        *("method", "data", "encoder", "start", "labels_from", "test", "progress", "options"),
        "value_range",
    }
    _arguments(parser, train, skip={*elsewhere, *switches})
    parser.add_argument("--start", type=str, help="run whose encoder to begin with")
    parser.add_argument(
        "--value_range",
        type=str,
        metavar="LOW,HIGH",
        help="black and white of images that are not 8-bit; values outside are clipped "
        "(default: what the data spans)",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="say how much memory and time it would take"
    )
    _labels_argument(parser)
    _test_argument(parser)
    parser.add_class_arguments(Recipe, as_group=True)
    _arguments(parser, cls, skip={"encoder"}, as_group=True)
    parser.set_defaults({f.name: getattr(cls.recipe, f.name) for f in fields(Recipe)})
    parser.set_defaults(cls.recipes.get(data.partition(":")[0], {}))
    return parser


def _run_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=str, help="folder that `unlabeled train` wrote")
    parser.add_argument("--encoder", type=str, help="./file.py:Net, where the encoder was your own")


def _labels_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--labels_from",
        type=str,
        help="where labels of pictures in files are: folders, a .csv or .tsv (labels.csv:COLUMN "
        "chooses one), a .npy, a table's column",
    )


def _test_argument(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--test", type=str, help="other data to test on; then all of --data is learned from"
    )


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
