"""`unlabeled embed RUN DATA --out FILE`: write features as .npy, .npz or .parquet."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import add_run_arguments, make_parser, parse_args


def embed_command(argv: list[str]) -> int:
    """Compute features."""
    parser = make_parser("embed", "Compute the features of data: one row per sample, in order.")
    add_run_arguments(parser)
    parser.add_argument("data", type=str, help="folder, .npy or .npz file, or name of a data set")
    parser.add_argument(
        "--out", type=str, required=True, metavar="FILE", help="the .npy, .npz or .parquet file"
    )
    parser.add_argument(
        "--devices", type=int, default=1, help="number of GPUs, or of processes on CPUs"
    )
    args = parse_args(parser, argv)
    from unlabeled.runs.features import write_features
    from unlabeled.runs.run import load

    run = load(args.run, args.encoder, data=args.data, size=args.size)
    shape = write_features(run, args.data, Path(args.out), args.devices, args.encoder)
    print(f"{args.out}: {shape[0]} rows of {shape[1]} features")
    return 0
