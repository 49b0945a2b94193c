"""`unlabeled demo`: train on rendered images and write a report; start here."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import make_parser, parse_args
from unlabeled.errors import Stopped


def demo_command(argv: list[str]) -> int:
    """Run the demo."""
    parser = make_parser(
        "demo",
        "Render dSprites, train SimCLR without labels and a supervised network with labels, and "
        "compare both with raw pixels and random weights. Takes some minutes on two cores and "
        "downloads nothing.",
    )
    parser.add_argument("--out", type=str, default="runs/demo", help="folder for its runs")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="train nothing: evaluate the encoder that comes with the package, in a minute or two",
    )
    args = parse_args(parser, argv)
    from unlabeled.studies.demo import demo

    try:
        demo(Path(args.out), args.quick)
    except Stopped as error:  # a demo always resumes
        raise Stopped(str(error).replace(" with --resume", ""), error.number) from None
    return 0
