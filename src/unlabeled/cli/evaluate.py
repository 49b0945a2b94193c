"""`unlabeled evaluate RUN`: measure the quality of a run and write a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabeled.cli.parsing import (
    add_evaluation_arguments,
    make_parser,
    options_of_load,
    parse_args,
    refuse_unused,
)
from unlabeled.errors import UserError

if TYPE_CHECKING:
    from unlabeled.runs.run import Run


OF_ENCODERS = (
    *("data", "labels_from", "groups_from", "test", "encoder", "size", "tile", "max_pixels"),
    *("penalty", "k", "layers"),
)
"""Flags that have no effect on word vectors."""


def evaluate_command(argv: list[str]) -> int:
    """`unlabeled evaluate RUN [--data D] [--json]`."""
    parser = make_parser("evaluate", "Evaluate a run beside its baselines.")
    add_evaluation_arguments(parser, "data to evaluate it on (default: the training's)")
    parser.add_argument(
        "--penalty",
        type=float,
        help="penalty of the squared weights of linear probes (default: chosen for each encoder by "
        "cross-validation on training labels)",
    )
    parser.add_argument("--k", type=int, help="neighbors that vote in k-NN (default: likewise)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="evaluate every stage of the encoder: a table and an image",
    )
    parser.add_argument(
        "--similarity", type=str, help="for word vectors: pairs of words with people's ratings"
    )
    parser.add_argument(
        "--analogies", type=str, help="for word vectors: analogies as in questions-words.txt"
    )
    args = parse_args(parser, argv)
    if (Path(args.run).expanduser() / "vectors.bin").is_file():
        from unlabeled.evaluation.words import evaluate_words

        refuse_unused(vars(args), OF_ENCODERS, "on word vectors")
        _show(evaluate_words(args.run, args.similarity, args.analogies), args.json)
        return 0
    for name in ("similarity", "analogies"):
        if getattr(args, name):
            raise UserError(f"--{name} is for word vectors, but {args.run} holds none")
    from unlabeled.evaluation.evaluate import measure
    from unlabeled.report.page import write_report
    from unlabeled.runs.run import load

    if args.layers:
        refuse_unused(vars(args), ("penalty", "k"), "with --layers")
    run = load(args.run, args.encoder, data=args.data, **options_of_load(vars(args)))
    if args.layers:
        return _evaluate_layers(run, args)
    evaluation = measure(
        run,
        args.data,
        labels_from=args.labels_from,
        test=args.test,
        groups_from=args.groups_from,
        penalty=args.penalty,
        k=args.k,
    )
    page = write_report(run, evaluation)
    _show(evaluation.to_json(), args.json)
    if not args.json:
        print(f"report: {page}")
    return 0


def _show(result: dict[str, Any], as_json: bool) -> None:
    """Print what an evaluation returned."""
    if as_json:
        from unlabeled.utils.files import to_json

        print(to_json(result))
    else:
        from unlabeled.report.table import print_table

        print_table(result)


def _evaluate_layers(run: Run, args: Any) -> int:
    """Every stage of a run beside random weights, as JSON, a table and `layers.svg`."""
    from unlabeled.evaluation.baselines import random_of
    from unlabeled.evaluation.evaluate import open_for
    from unlabeled.evaluation.layers import evaluate_stages, table
    from unlabeled.evaluation.metrics import metric_of
    from unlabeled.report.plots import layers_image
    from unlabeled.runs.safety import inside
    from unlabeled.utils.files import to_json, write_bytes, write_json

    splits = open_for(run, args.data, args.labels_from, args.test, args.groups_from)
    encoders = {str(run.config["method"]): run.encoder, "random": random_of(run, splits)}
    stages = {name: evaluate_stages(encoder, splits) for name, encoder in encoders.items()}
    result = {name: table(layers) for name, layers in stages.items()}
    write_json(inside(run.path, "layers.json"), result)
    image = inside(run.path, "layers.svg")
    write_bytes(image, layers_image(stages, str(splits.target)).encode())
    if args.json:
        print(to_json(result))
        return 0
    for name, layers in stages.items():
        for layer in layers:
            accuracy = metric_of("linear_probe").format(layer.linear_probe)
            gap = metric_of("similarity_gap_centered").format(layer.similarity_gap_centered)
            print(
                f"  {name:12} stage {layer.stage}  {layer.dim:5} features  linear probe "
                f"{accuracy}  mean-centered gap {gap}"
            )
    print(image)
    return 0
