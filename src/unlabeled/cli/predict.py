"""`unlabeled predict MODEL DATA --out FILE`: write the class of each sample."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import DATA, add_opening_arguments, make_parser, parse_args
from unlabeled.errors import plural


def predict_command(argv: list[str]) -> int:
    """Classify data."""
    parser = make_parser(
        "predict", "Write the most probable class of each sample, and its probability."
    )
    parser.add_argument(
        "model", type=str, help="folder that `unlabeled classify` or `unlabeled finetune` wrote"
    )
    parser.add_argument("data", type=str, help=DATA)
    parser.add_argument(
        "--out", type=str, required=True, metavar="FILE", help="the .csv or .parquet file"
    )
    parser.add_argument(
        "--all_probabilities",
        action="store_true",
        help="add a column with the probability of each class",
    )
    parser.add_argument(
        "--encoder", type=str, help="./file.py:Class, if the run's encoder is one that you wrote"
    )
    add_opening_arguments(parser)
    args = parse_args(parser, argv)
    from unlabeled.runs.predict import write_predictions
    from unlabeled.runs.run import load

    run = load(args.model, args.encoder, data=args.data, tile=args.tile, max_pixels=args.max_pixels)
    n = write_predictions(run, args.data, Path(args.out), args.all_probabilities)
    print(f"{args.out}: {plural(n, 'sample')} of {len(run.require_classifier().classes)} classes")
    return 0
