"""`unlabeled train`: train an encoder."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from unlabeled.cli.parsing import (
    add_arguments,
    add_labels_argument,
    add_test_argument,
    make_parser,
    named_method,
    parse_args,
    parse_with,
)

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from unlabeled.core import Method


def train_command(argv: list[str]) -> int:
    """`unlabeled train METHOD --data D …`."""
    name, cls, rest = named_method("train", argv)
    if not inspect.isclass(cls):
        return _train_phases(name, cls, rest)
    parser, given = parse_with(lambda data: _train_parser(name, cls, data), rest)
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
    from unlabeled.training.train import plan, train

    if options.pop("dry_run"):
        print(plan(name, **options))
        return 0
    run = train(name, **options)
    if not is_first():
        return 0
    print(f"{run.path}: an encoder of {run.dim} features. What to do next:")
    shown = given.data if " " not in given.data else f"'{given.data}'"
    explore = f"explore {run.path} {shown} --out map.html", "what it sees: a map of the images"
    for command, what in (
        (f"evaluate {run.path}", "what it is worth: a table and a report page"),
        *([explore] if run.of_images else []),
        (f"embed {run.path} {shown} --out features.npz", "one row of features each"),
        (f"export {run.path} --to onnx", "take it away"),
    ):
        print(f"  unlabeled {command:<{44 + len(str(run.path)) // 2}}  {what}")
    return 0


def _train_phases(name: str, phases: Any, argv: list[str]) -> int:
    """A method that is several trainings: its arguments are the flags."""
    accepted = inspect.signature(phases).parameters
    parser = make_parser(f"train {name}", inspect.getdoc(phases).partition("\n\nArgs:")[0])  # type: ignore[union-attr]
    parser.add_argument("--config", action="config", help="YAML file with any of these flags")
    parser.add_argument("--data", type=str, required=True, help="as for other methods")
    if "encoder" in accepted:
        parser.add_argument("--encoder", type=str, default="small", help="as for other methods")
    if "resume" in accepted:
        parser.add_argument("--resume", action="store_true", help="go on where it was stopped")
    if "labels_from" in accepted:
        add_labels_argument(parser)
    if "test" in accepted:
        add_test_argument(parser)
    own = {"data", "encoder", "resume", "labels_from", "test", "progress"} & set(accepted)
    add_arguments(parser, phases, skip=own)
    given = vars(parser.instantiate(parse_args(parser, argv)))
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


def _train_parser(name: str, cls: type[Method], data: str) -> ArgumentParser:
    from unlabeled.core import Recipe
    from unlabeled.training.config import TrainConfig

    parser = make_parser(f"train {name}", inspect.getdoc(cls).partition("\n\nArgs:")[0])  # type: ignore[union-attr]
    parser.add_argument("--config", action="config", help="YAML file with any of these flags")
    parser.add_argument(
        "--data",
        type=str,
        required=True,
        help="folder of images, video, .npy or .npz file, NAME or NAME:FOLDER of a data set",
    )
    parser.add_argument(
        "--encoder",
        type=str,
        help="a name of `unlabeled list encoders`, timm:NAME, hf:NAME, or ./file.py:Net "
        f"(default: {', '.join(f'{cls.encoder_for(m)} for {m.noun}' for m in cls.modality)})",
    )
    switches = {
        "resume": "go on from the last checkpoint",
        "local": "let each stage of the encoder learn by itself, from a head of its own",
        "compile": "fuse the encoder by torch.compile: slow at first, then faster",
    }
    for switch, told in switches.items():
        parser.add_argument(f"--{switch}", action="store_true", help=told)
    elsewhere = {"encoder", "start", "labels_from", "test", "value_range", *switches}
    parser.add_argument("--out", type=str, help="the run folder (default: runs/METHOD)")
    add_arguments(parser, TrainConfig, skip=elsewhere & {f.name for f in fields(TrainConfig)})
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
    add_labels_argument(parser)
    add_test_argument(parser)
    parser.add_class_arguments(Recipe, as_group=True)
    add_arguments(parser, cls, skip={"encoder"}, as_group=True)
    parser.set_defaults({f.name: getattr(cls.recipe, f.name) for f in fields(Recipe)})
    parser.set_defaults(cls.recipes.get(data.partition(":")[0], {}))
    return parser
