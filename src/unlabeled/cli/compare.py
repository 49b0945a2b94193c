"""`unlabeled compare`: several runs in one table and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlabeled.cli.parsing import add_labels_argument, add_test_argument, make_parser, parse_args

if TYPE_CHECKING:
    pass


def compare_command(argv: list[str]) -> int:
    """`unlabeled compare RUN RUN …`."""
    parser = make_parser("compare", "Several runs beside each other: one table, one page.")
    parser.add_argument("runs", type=str, nargs="+", help="run folders")
    parser.add_argument("--data", type=str, help="judge all on this (default: as evaluated before)")
    add_labels_argument(parser)
    add_test_argument(parser)
    parser.add_argument("--out", type=str, default="compare.html", help="the page to write")
    given = parse_args(parser, argv)
    from unlabeled.report.compare import compare
    from unlabeled.report.table import print_results
    from unlabeled.runs.run import load

    runs = [load(run) for run in given.runs]
    print_results(compare(runs, Path(given.out), given.data, given.labels_from, given.test))
    print(given.out)
    return 0
