"""`unlabeled embed RUN DATA --out FILE`: write features as .npy, .npz, .parquet or .csv."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import (
    DATA,
    add_opening_arguments,
    add_run_arguments,
    make_parser,
    options_of_load,
    parse_args,
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
        help="the .npy, .npz, .parquet or .csv file; all but .npy hold names and labels, too; with "
        "--engine ray a folder of .parquet files",
    )
    parser.add_argument(
        "--devices", type=int, default=1, help="number of GPUs, or of processes on CPUs"
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="local, on this machine; or ray, on a Ray cluster ($RAY_ADDRESS), or on this machine "
        "without one, file by file: DATA may be an address such as s3://bucket/photos, and the "
        "same command continues after an interruption",
    )
    args = parse_args(parser, argv)
    from unlabeled.errors import plural
    from unlabeled.runs.features import write_features
    from unlabeled.runs.run import load
    from unlabeled.runs.spread import write_parts

    out = Path(args.out)
    run = load(args.run, args.encoder, data=args.data, **options_of_load(vars(args)))
    if args.engine == "ray":
        shape = write_parts(run, args.data, out, args.devices)
    else:
        shape = write_features(run, args.data, out, args.devices, args.encoder)
    print(f"{args.out}: {plural(shape[0], 'row')} of {plural(shape[1], 'feature')}")
    return 0
