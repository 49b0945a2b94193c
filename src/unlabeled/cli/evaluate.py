"""`unlabeled evaluate`: measure the quality of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unlabeled.cli.parsing import (
    add_labels_argument,
    add_run_arguments,
    add_test_argument,
    make_parser,
    parse_args,
)

if TYPE_CHECKING:
    from unlabeled.runs.run import Run


def evaluate_command(argv: list[str]) -> int:
    """`unlabeled evaluate RUN [--data D] [--json]`."""
    parser = make_parser("evaluate", "What a run is worth, beside raw pixels and random weights.")
    add_run_arguments(parser)
    parser.add_argument("--data", type=str, help="data to judge it on (default: its training's)")
    add_labels_argument(parser)
    add_test_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--layers", action="store_true", help="every stage by itself: one table, one image"
    )
    given = parse_args(parser, argv)
    from unlabeled.evaluation.evaluate import examine
    from unlabeled.report.page import write_report
    from unlabeled.runs.run import load

    run = load(given.run, given.encoder)
    if given.layers:
        return _evaluate_layers(run, given)
    evaluation = examine(run, given.data, labels_from=given.labels_from, test=given.test)
    result, page = evaluation.table, write_report(run, evaluation)
    if given.json:
        from unlabeled.utils.files import to_json

        print(to_json(result))
    else:
        from unlabeled.report.table import print_table

        print_table(str(run.config["method"]), result)
        print(f"report: {page}")
    return 0


def _evaluate_layers(run: Run, given: Any) -> int:
    """Every stage of a run beside random weights, as JSON, a table and `layers.svg`."""
    from unlabeled.evaluation.evaluate import open_for, random_of
    from unlabeled.evaluation.layers import judge_stages, table
    from unlabeled.report.page import format_figure
    from unlabeled.report.plots import layers_image
    from unlabeled.runs.safety import inside
    from unlabeled.utils.files import to_json, write_bytes, write_json

    splits = open_for(run, given.data, given.labels_from, given.test)
    encoders = {str(run.config["method"]): run.encoder, "random": random_of(run, splits)}
    found = {name: judge_stages(encoder, splits) for name, encoder in encoders.items()}
    told = {name: table(layers) for name, layers in found.items()}
    write_json(inside(run.path, "layers.json"), told)
    image = inside(run.path, "layers.svg")
    write_bytes(image, layers_image(found, str(splits.target)).encode())
    if given.json:
        print(to_json(told))
        return 0
    for name, layers in found.items():
        for layer in layers:
            print(
                f"  {name:12} stage {layer.stage}  {layer.dim:5} features  "
                f"{100 * layer.linear:6.2f} %  gap {format_figure('gap', layer.gap):>6}"
            )
    print(image)
    return 0
