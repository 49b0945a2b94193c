"""`unlabeled export RUN --to FORMAT`: write the encoder for other programs."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import add_run_arguments, make_parser, parse_args
from unlabeled.errors import UserError
from unlabeled.modality import Text


def export_command(argv: list[str]) -> int:
    """Export the encoder."""
    from unlabeled.runs.export import FORMATS, export, tokenizer_beside

    parser = make_parser(
        "export", "Write the encoder in a format that works without unlabeled, and check it."
    )
    add_run_arguments(parser)
    parser.add_argument(
        "--to",
        choices=[*FORMATS, "hf"],
        required=True,
        help="the format; hf is a folder for the Hugging Face Hub, with a model card",
    )
    parser.add_argument(
        "--out",
        type=str,
        metavar="PATH",
        help="the file, or the folder of hf (default: in the run folder)",
    )
    parser.add_argument(
        "--license",
        type=str,
        help="for hf: identifier of the weights' license, such as apache-2.0 (default: none)",
    )
    args = parse_args(parser, argv)
    if args.license is not None and args.to != "hf":
        raise UserError(f"--license is for --to hf; omit it with --to {args.to}")
    from unlabeled.runs.run import load

    run = load(args.run, args.encoder)
    if args.to == "hf":
        print(run.save_pretrained(args.out or run.path / "hf", args.license))
        return 0
    out = export(run, args.to, Path(args.out) if args.out else None)
    print(out)
    if isinstance(run.modality, Text):
        print(f"{tokenizer_beside(out)}: the tokenizer")
    return 0
