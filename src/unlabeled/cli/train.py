"""`unlabeled train METHOD --data DATA`: train an encoder."""

from __future__ import annotations

import inspect
import json
import shlex
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from unlabeled.cli import parsing
from unlabeled.cli.repeat import expand, say_other
from unlabeled.modality import Images
from unlabeled.utils.progress import is_shown

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from unlabeled.core import Method
    from unlabeled.runs.run import Run


def train_command(argv: list[str]) -> int:
    """Train a method and print what to do next."""
    argv, record = expand(argv)
    name, cls, rest = parsing.named_method("train", argv)
    if not inspect.isclass(cls):
        return _run_pipeline(name, cls, rest)
    parser, args = parsing.parse_with(
        lambda data, preset: _train_parser(name, cls, data, preset), rest
    )
    # Only what was given is passed on, so that the data, the preset and the hardware decide others.
    flags = parsing.parse_args(parser, rest, defaults=False).as_dict()
    options = {
        key: value
        for key, value in parser.instantiate(args).as_dict().items()  # vars() renames `values`
        if key in flags and key != "config"
    }
    from unlabeled.training.train import plan, train
    from unlabeled.utils.launch import is_first

    if options.pop("dry_run", False):
        print(plan(name, **options))
        return 0
    run = train(name, **options)
    if is_first():
        if record:
            config = json.loads((run.path / "config.json").read_text())
            say_other(record, config, run.config["data"] != record["data"])
        _print_next(run, args.data)
    return 0


def _print_next(run: Run, data: str) -> None:
    """Print the run folder, and the commands that usually follow a training."""
    if not is_shown():
        print(run.path)
        return
    folder, data = shlex.quote(str(run.path)), shlex.quote(data)
    explore = f"explore {folder} {data}", "draw a map of the data"
    lines = [
        (f"evaluate {folder}", "measure its quality: a table and a report page"),
        *([explore] if isinstance(run.modality, Images) else []),
        (f"embed {folder} {data} --out features.npz", "compute features"),
        (f"export {folder} --to onnx", "use it in other programs"),
    ]
    width = max(len(command) for command, _ in lines)
    print(f"Trained an encoder of {run.dim} features: {run.path}. What to do next:")
    for command, text in lines:
        print(f"  unlabeled {command:{width}}  {text}")


def _run_pipeline(name: str, pipeline: Any, argv: list[str]) -> int:
    """Run a method that is several trainings; the arguments of its function are the flags."""
    accepted = inspect.signature(pipeline).parameters
    parser = parsing.make_parser(f"train {name}", _description(pipeline), name)
    _add_shared(parser)
    if "encoder" in accepted:
        parser.add_argument("--encoder", type=str, default="small", help=ENCODER)
    if "resume" in accepted:
        parser.add_argument("--resume", action="store_true", help=RESUME)
    if "labels_from" in accepted:
        parsing.add_labels_argument(parser)
    if "test" in accepted:
        parsing.add_test_argument(parser)
    skip = {"data", "encoder", "resume", "labels_from", "test", "progress"} & set(accepted)
    parsing.add_arguments(parser, pipeline, skip=skip)
    args = vars(parser.instantiate(parsing.parse_args(parser, argv)))
    args.pop("config")
    run = pipeline(args.pop("data"), **args)
    figures = json.loads((run.path.parent / f"{name}.json").read_text())
    for key, value in figures.items():
        share = isinstance(value, float) and 0 <= value <= 1 and key not in ("seconds", "loss")
        is_float = isinstance(value, float)
        shown = (
            f"{value:,.0f}" if is_float and value >= 1000 else f"{value:.3g}" if is_float else value
        )
        print(f"  {100 * value:6.2f} %  {key}" if share else f"  {key}: {shown}")
    print(run.path)
    if name == "word2vec" and is_shown():
        print(f"What to do next:\n  unlabeled words {run.path.parent} --nearest WORD")
    return 0


ENCODER = "a name in `unlabeled list encoders`, timm:NAME, hf:NAME, or ./file.py:Class"
RESUME = "continue from the last checkpoint in the run folder"


def _description(of: Any) -> str:
    """The docstring of a method before its arguments."""
    return (inspect.getdoc(of) or "").partition("\n\nArgs:")[0]


def _add_shared(parser: ArgumentParser) -> None:
    """Flags that every method has."""
    parser.add_argument(
        "--config",
        action="config",
        help="YAML file with any of these options, or config.json of a run to repeat",
    )
    parser.add_argument(
        "--data",
        type=str,
        required=True,
        help="folder of images, audio or text; one such file, video, .npy or .npz file; a quoted "
        "pattern ('photos/*.jpg', 'shards-{000..004}.tar'); images in shards at an address "
        "(http(s)://, s3://, gs://, hf://, such as 's3://bucket/shards-{000..999}.tar' or "
        "'hf://datasets/USER/NAME/train-*.parquet'); NAME or NAME:FOLDER of a data set in "
        "`unlabeled list datasets`; ./file.py with a function load()",
    )


def _flags_of(cls: type[Method], data: str, preset: str) -> dict[str, Any]:
    """Defaults of flags that a preset, else the data set, has instead of the method's."""
    from unlabeled.core import Recipe

    other = cls.presets.get(preset) or cls.recipes.get(data.partition(":")[0], {})
    known = {f.name for f in fields(Recipe)} | set(inspect.signature(cls).parameters)
    words = (str, int, float, bool, dict)  # augmentations are not flags of one word
    return {k: v for k, v in other.items() if k in known and isinstance(v, words)}


def _train_parser(name: str, cls: type[Method], data: str, preset: str) -> ArgumentParser:
    from unlabeled.core import Recipe
    from unlabeled.training.config import TrainConfig

    parser = parsing.make_parser(f"train {name}", _description(cls), name)
    _add_shared(parser)
    default = ", ".join(f"{cls.encoder_for(m)} for {m.noun}" for m in cls.modality)
    parser.add_argument("--encoder", type=str, help=f"{ENCODER} (default: {default})")
    parser.add_argument("--resume", action="store_true", help=RESUME)
    parser.add_argument("--out", type=str, help=f"the run folder (default: runs/{name})")
    text_only = {"encoder", "init", "labels_from", "groups_from", "test", "value_range"}
    parsing.add_arguments(parser, TrainConfig, skip=text_only)
    parser.add_argument(
        "--init", type=str, help="run to take the initial weights from, or an encoder by name"
    )
    parser.add_argument(
        "--value_range",
        type=str,
        metavar="LOW,HIGH",
        help="values of black and white in images that are not 8-bit; values outside are clipped "
        "(default: the range of the data)",
    )
    parser.add_argument(
        "--dry_run", action="store_true", help="only estimate memory and time, and write nothing"
    )
    parsing.add_labels_argument(parser)
    parsing.add_groups_argument(parser)
    parsing.add_test_argument(parser)
    parsing.add_arguments(parser, Recipe, skip={"lr"})
    parsing.add_arguments(parser, cls, skip={"encoder"})
    recipe = {f.name: getattr(cls.recipe, f.name) for f in fields(Recipe)}
    recipe |= _flags_of(cls, data, preset)
    known = f"{recipe['lr']:g} for {recipe['optimizer']} with batches of {recipe['batch_size']}"
    parser.add_argument(
        "--lr",
        type=float,
        help=f"peak learning rate (default: {known}, and by --lr-scaling for others)",
    )
    parser.set_defaults({name: value for name, value in recipe.items() if name != "lr"})
    return parser
