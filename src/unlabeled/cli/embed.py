"""`unlabeled embed`: compute features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlabeled.cli.parsing import add_run_arguments, make_parser, parse_args

if TYPE_CHECKING:
    pass


def embed_command(argv: list[str]) -> int:
    """`unlabeled embed RUN DATA --out F`."""
    parser = make_parser("embed", "Features of images, one row each, in their order.")
    add_run_arguments(parser)
    parser.add_argument("data", type=str, help="folder, .npy, .npz, or the name of a data set")
    parser.add_argument("--out", type=str, required=True, help=".npy, .npz or .parquet file")
    parser.add_argument(
        "--devices", type=int, default=1, help="GPUs, or processes on CPUs, that share the work"
    )
    given = parse_args(parser, argv)
    from unlabeled.runs.features import write_features
    from unlabeled.runs.run import load

    run = load(given.run, given.encoder)
    shape = write_features(run, given.data, Path(given.out), given.devices, given.encoder)
    print(f"{given.out}: {shape[0]} rows of {shape[1]} features")
    return 0
