"""`unlabeled export`: write the encoder for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlabeled.cli.parsing import add_run_arguments, make_parser, parse_args

if TYPE_CHECKING:
    pass


def export_command(argv: list[str]) -> int:
    """`unlabeled export RUN --to onnx|torchscript|safetensors`."""
    from unlabeled.runs.export import FORMATS, export, tokenizer_beside

    parser = make_parser("export", "The encoder, checked, in a format that needs no unlabeled.")
    add_run_arguments(parser)
    parser.add_argument("--to", choices=FORMATS, required=True, help="the format")
    parser.add_argument("--out", type=str, help="the file to write (default: in the run folder)")
    given = parse_args(parser, argv)
    from unlabeled.runs.run import load

    run = load(given.run, given.encoder)
    out = export(run, given.to, Path(given.out) if given.out else None)
    print(out)
    if run.tokenizer:
        print(f"{tokenizer_beside(out)}: the tokenizer of its texts")
    return 0
