"""`unlabeled demo`: train on rendered images and open the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlabeled.cli.parsing import make_parser, parse_args
from unlabeled.errors import Stopped

if TYPE_CHECKING:
    pass


def demo_command(argv: list[str]) -> int:
    """`unlabeled demo`."""
    parser = make_parser(
        "demo",
        "Render dSprites, train SimCLR without labels and a supervised net with them, and judge "
        "both beside raw pixels and random weights. Some minutes on two cores; no download.",
    )
    parser.add_argument("--out", type=str, default="runs/demo", help="folder for its runs")
    given = parse_args(parser, argv)
    from unlabeled.studies.demo import demo

    try:
        demo(Path(given.out))
    except Stopped as error:  # a demo always goes on
        raise Stopped(str(error).replace(" with --resume", ""), error.number) from None
    return 0
