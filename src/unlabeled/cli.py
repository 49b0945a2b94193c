"""The command `unlabeled`. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabeled import __version__, registry
from unlabeled.errors import Notice, UserError, is_out_of_memory

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
    """Run a command: 0 when it worked, 2 and one sentence where the user can mend it."""
    command, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command == "--version":
        print(f"unlabeled {__version__}")
        return 0
    if command not in COMMANDS:
        return _fail(f"there is no command '{command}'; choose one of {', '.join(COMMANDS)}")
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", Notice)
    warnings.showwarning = _plain_warning  # type: ignore[assignment]
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return COMMANDS[command]([_underscored(word) for word in rest])
    except UserError as error:
        return _fail(" ".join(str(error).split()))
    except OSError as error:
        return _fail(f"{error}; check the path, its rights and the space left")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return _fail("out of memory: take smaller pictures with --size, or a smaller encoder")
    except KeyboardInterrupt as error:
        print(f"\nunlabeled: {error or 'stopped'}", file=sys.stderr)
        return 130


def _terminate(*_: Any) -> None:
    raise KeyboardInterrupt("stopped by SIGTERM")


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
    own: set[str | int] = set()
    own |= {"data", "encoder", "resume", "labels_from", "progress"} & set(accepted)
    parser.add_function_arguments(phases, skip=own, as_group=False)
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
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--layers", action="store_true", help="every stage by itself: one table, one picture"
    )
    given = _parse_args(parser, argv)
    from unlabeled.run import load

    run = load(given.run, given.encoder)
    if given.layers:
        return _evaluate_layers(run, given)
    result = run.evaluate(given.data, labels_from=given.labels_from)
    if given.json:
        print(json.dumps(result, indent=2))
    else:
        from unlabeled.report.table import print_table

        print_table(str(run.config["method"]), result)
        print(f"report: {run.path / 'report' / 'index.html'}")
    return 0


def _evaluate_layers(run: Run, given: Any) -> int:
    """Every stage of a run beside random weights, as JSON, a table and `layers.svg`."""
    from unlabeled.evaluation.evaluate import open_for, random_of
    from unlabeled.evaluation.layers import judge_stages, table
    from unlabeled.files import write_bytes, write_json
    from unlabeled.report.plots import layers_picture
    from unlabeled.safety import inside

    splits = open_for(run, given.data, given.labels_from)
    encoders = {str(run.config["method"]): run.encoder, "random": random_of(run, splits)}
    found = {name: judge_stages(encoder, splits) for name, encoder in encoders.items()}
    told = {name: table(layers) for name, layers in found.items()}
    write_json(inside(run.path, "layers.json"), told)
    picture = inside(run.path, "layers.svg")
    write_bytes(picture, layers_picture(found, str(splits.target)).encode())
    if given.json:
        print(json.dumps(told, indent=2))
        return 0
    for name, layers in found.items():
        for layer in layers:
            print(
                f"  {name:12} stage {layer.stage}  {layer.dim:5} features  "
                f"{100 * layer.linear:6.2f} %  gap {layer.gap:6.3f}"
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
    parser.add_function_arguments(explore, skip={"run", "data", "out"}, as_group=False)
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
    parser.add_argument("--labels", type=str, default="100%", help="how many: 160, or 1%%")
    _labels_argument(parser)
    parser.add_function_arguments(
        finetune, skip={"run", "data", "labels", "labels_from", "progress"}, as_group=False
    )
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
    parser.add_argument("--out", type=str, default="compare.html", help="the page to write")
    given = _parse_args(parser, argv)
    from unlabeled.report.compare import compare
    from unlabeled.report.table import print_results
    from unlabeled.run import load

    runs = [load(run) for run in given.runs]
    print_results(compare(runs, Path(given.out), given.data, given.labels_from))
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

    study = registry.find("studies", given.name)
    out = Path(given.out or Path("runs") / Path(given.name).stem)
    only = [key for key in given.only.split(",") if key]
    run_study(study, out, quick=given.quick, only=only, seeds=given.seeds, resume=given.resume)
    page = (out / "quick" if given.quick else out) / "report" / "index.html"
    print(f"open the report in a browser: {page.resolve()}")
    return 0


def export_command(argv: list[str]) -> int:
    """`unlabeled export RUN --to onnx|torchscript|safetensors`."""
    from unlabeled.export import FORMATS, export

    parser = _parser("export", "The encoder, checked, in a format that needs no unlabeled.")
    _run_arguments(parser)
    parser.add_argument("--to", choices=FORMATS, required=True, help="the format")
    parser.add_argument("--out", type=str, help="the file to write (default: in the run folder)")
    given = _parse_args(parser, argv)
    from unlabeled.run import load

    out = Path(given.out) if given.out else None
    print(export(load(given.run, given.encoder), given.to, out))
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
        parser.add_class_arguments(cls, skip={"encoder"}, as_group=True)
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

    demo(Path(given.out))
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
    from jsonargparse import ArgumentParser

    return ArgumentParser(prog=f"unlabeled {command}", description=description, exit_on_error=False)


def _parse_args(parser: ArgumentParser, argv: list[str]) -> Any:
    from argparse import ArgumentError

    try:
        return parser.parse_args(argv)
    except ArgumentError as error:
        raise UserError(f"{_plainly(str(error))} (see {parser.prog} --help)") from error


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
    return argv[0], registry.find("methods", argv[0]), argv[1:]


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
    elsewhere = {"method", "data", "encoder", "start", "labels_from", "progress", "options"}
    parser.add_function_arguments(train, skip={*elsewhere, *switches}, as_group=False)
    parser.add_argument("--start", type=str, help="run whose encoder to begin with")
    parser.add_argument(
        "--dry_run", action="store_true", help="say how much memory and time it would take"
    )
    _labels_argument(parser)
    parser.add_class_arguments(Recipe, as_group=True)
    parser.add_class_arguments(cls, skip={"encoder"}, as_group=True)
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
        help="where labels of pictures in files are: folders, a .csv, a .npy, a table's column",
    )


def _underscored(word: str) -> str:
    """`--batch-size` and `--batch_size` are the same flag."""
    flag, equals, value = word.partition("=")
    return flag[:2] + flag[2:].replace("-", "_") + equals + value if flag[:2] == "--" else word


def _plain_warning(message: Any, *_: Any) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _fail(message: str) -> int:
    print(f"unlabeled: {message}", file=sys.stderr)
    return 2
