"""`unlabeled classify RUN --labels-from FILE --out FOLDER`: train a classifier on features."""

from __future__ import annotations

from typing import Any

from unlabeled.cli.parsing import (
    add_arguments,
    add_labels_argument,
    add_run_arguments,
    add_test_argument,
    make_parser,
    parse_args,
)
from unlabeled.errors import UserError


def classify_command(argv: list[str]) -> int:
    """Train a classifier and print how good it is, or suggest samples to label."""
    from unlabeled.evaluation.classify import classify

    parser = make_parser(
        "classify",
        "Train a classifier on the features of a frozen encoder, and write it with the encoder "
        "into a folder for `unlabeled predict`.",
    )
    add_run_arguments(parser)
    parser.add_argument("--data", type=str, help="labeled data (default: that of the run)")
    add_labels_argument(parser)
    add_arguments(parser, classify, skip={"run", "data", "labels", "labels_from", "test", "out"})
    parser.add_argument(
        "--labels", type=str, default="100%", metavar="N", help="how many labels: 160, or 1%%"
    )
    add_test_argument(parser)
    parser.add_argument(
        "--out", type=str, help="the folder of the model; with --suggest, the .csv file"
    )
    args = vars(parse_args(parser, argv))
    from unlabeled.runs.run import load

    data = args.pop("data")
    run = load(args.pop("run"), args.pop("encoder"), data=data, size=args.pop("size"))
    if args["out"] is None:
        raise UserError("missing argument: --out (see unlabeled classify --help)")
    model = classify(run, data, **args)
    assert model.classifier
    figures = model.classifier.figures
    setting = "penalty" if "penalty" in figures else "neighbors"
    print(
        f"{figures['labels']:,} labels of {len(model.classifier.classes)} classes, "
        f"{setting} {figures[setting]:g}, {figures['n_test']:,} test samples:"
    )
    commonest = figures["commonest"]
    print(f"  {_percent(figures['accuracy'])}  accuracy")
    print(f"  {_percent(commonest)}  always '{commonest['class']}', the commonest class")
    error = _percent(figures["expected_calibration_error"])
    temperature = model.classifier.temperature
    print(f"  {error}  expected calibration error, at temperature {temperature:.2f}")
    print(model.path)
    return 0


def _percent(value: dict[str, Any]) -> str:
    bounds = f"({100 * value['low']:.1f}–{100 * value['high']:.1f})"
    return f"{100 * value['value']:6.2f} % {bounds:13}"
