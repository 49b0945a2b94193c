"""`unlabeled classify RUN --labels-from FILE --out FOLDER`: train a classifier on features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabeled.cli.parsing import (
    add_arguments,
    add_evaluation_arguments,
    add_number_of_labels,
    make_parser,
    options_of_load,
    parse_args,
    refuse_unused,
)
from unlabeled.errors import UserError, plural

if TYPE_CHECKING:
    from unlabeled.runs.run import Run


def classify_command(argv: list[str]) -> int:
    """Train a classifier and print how good it is, or suggest samples to label."""
    from unlabeled.evaluation.classify import classify

    parser = make_parser(
        "classify",
        "Train a classifier on the features of a frozen encoder, and write it with the encoder "
        "into a folder for `unlabeled predict`.",
    )
    add_evaluation_arguments(parser, "labeled data (default: that of the run)")
    add_arguments(
        parser,
        classify,
        skip={"run", "data", "labels", "labels_from", "groups_from", "test", "out"},
    )
    add_number_of_labels(parser)
    parser.add_argument(
        "--suggest",
        type=int,
        metavar="N",
        help="train nothing, but write a .csv of N samples to label next: typical ones of the "
        "clusters with the fewest labels, and uncertain ones once there are 10 labels a class",
    )
    parser.add_argument(
        "--out",
        type=str,
        help="the folder of the model (default: RUN-classifier); with --suggest, the .csv file "
        "(default: suggest.csv)",
    )
    args = vars(parse_args(parser, argv))
    from unlabeled.runs.run import load

    data = args.pop("data")
    run = load(args.pop("run"), args.pop("encoder"), data=data, **options_of_load(args))
    if (number := args.pop("suggest")) is not None:
        refuse_unused(args, ("labels", "test", "groups_from"), "with --suggest")
        return _suggest(run, data, number, args)
    args["out"] = args["out"] or run.path.with_name(f"{run.path.name}-classifier")
    model = classify(run, data, **args)
    assert model.classifier
    figures = model.classifier.figures
    setting = "penalty" if "penalty" in figures else "neighbors"
    print(
        f"{plural(figures['labels'], 'label')} of {len(model.classifier.classes)} classes, "
        f"{setting} {figures[setting]:g}, {plural(figures['n_test'], 'test sample')}:"
    )
    commonest = figures["most_frequent_class"]
    print(f"  {_percent(figures['accuracy'])}  accuracy")
    print(f"  {_percent(commonest)}  always '{commonest['class']}', the most frequent class")
    error = _percent(figures["expected_calibration_error"])
    temperature = model.classifier.temperature
    print(f"  {error}  expected calibration error, at temperature {temperature:.2f}")
    print(model.path)
    return 0


def _suggest(run: Run, data: str | None, number: int, args: dict[str, Any]) -> int:
    """Write names of samples, with an empty column for their labels."""
    from unlabeled.evaluation.suggest import suggest
    from unlabeled.runs.predict import write_table

    out = Path(args["out"] or "suggest.csv")
    if out.suffix != ".csv":
        raise UserError(f"--out is {out}; with --suggest, give a .csv file")
    if out.exists():
        raise UserError(f"{out} exists, perhaps with labels; choose another --out")
    names = suggest(run, data, number, labels_from=args["labels_from"], seed=args["seed"])
    write_table(out, {"name": names, "label": [""] * number})
    samples = plural(number, "sample")
    print(f"{out}: {samples} to label, those of clusters with the fewest labels first")
    return 0


def _percent(value: dict[str, Any]) -> str:
    bounds = f"({100 * value['low']:.1f}–{100 * value['high']:.1f})"
    return f"{100 * value['value']:6.2f} % {bounds:13}"
