"""`unlabeled export RUN --to FORMAT`: write the encoder for other programs."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import add_run_arguments, make_parser, parse_args
from unlabeled.modality import Text


def export_command(argv: list[str]) -> int:
    """Export the encoder."""
    from unlabeled.runs.export import FORMATS, export, tokenizer_beside

    parser = make_parser(
        "export", "Write the encoder in a format that works without unlabeled, and check it."
    )
    add_run_arguments(parser)
    parser.add_argument("--to", choices=FORMATS, required=True, help="the format")
    parser.add_argument(
        "--out", type=str, metavar="FILE", help="the file (default: in the run folder)"
    )
    args = parse_args(parser, argv)
    from unlabeled.runs.run import load

    run = load(args.run, args.encoder)
    out = export(run, args.to, Path(args.out) if args.out else None)
    print(out)
    if isinstance(run.modality, Text):
        print(f"{tokenizer_beside(out)}: the tokenizer")
    return 0
