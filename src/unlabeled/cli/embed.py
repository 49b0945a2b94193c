"""`unlabeled embed RUN DATA --out FILE`: write features as .npy, .npz, .parquet or .csv."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import (
    DATA,
    add_opening_arguments,
    add_run_arguments,
    make_parser,
    parse_args,
    take_opening,
)


def embed_command(argv: list[str]) -> int:
    """Compute features."""
    parser = make_parser("embed", "Compute the features of data: one row per sample, in order.")
    add_run_arguments(parser)
    add_opening_arguments(parser)
    parser.add_argument("data", type=str, help=DATA)
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="FILE",
        help="the .npy, .npz, .parquet or .csv file; all but .npy hold names and labels, too",
    )
    parser.add_argument(
        "--devices", type=int, default=1, help="number of GPUs, or of processes on CPUs"
    )
    args = parse_args(parser, argv)
    from unlabeled.errors import plural
    from unlabeled.runs.features import write_features
    from unlabeled.runs.run import load

    run = load(args.run, args.encoder, data=args.data, **take_opening(vars(args)))
    shape = write_features(run, args.data, Path(args.out), args.devices, args.encoder)
    print(f"{args.out}: {plural(shape[0], 'row')} of {plural(shape[1], 'feature')}")
    return 0
