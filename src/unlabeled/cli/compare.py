"""`unlabeled compare RUN RUN`: compare runs in one table and one page."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import add_labels_argument, add_test_argument, make_parser, parse_args


def compare_command(argv: list[str]) -> int:
    """`unlabeled compare RUN RUN …`."""
    parser = make_parser(
        "compare", "Compare the metrics, training curves and configurations of several runs."
    )
    parser.add_argument("runs", type=str, nargs="+", metavar="RUN", help="run folders")
    parser.add_argument("--data", type=str, help="data to evaluate all on (default: as before)")
    add_labels_argument(parser)
    add_test_argument(parser)
    parser.add_argument(
        "--out", type=str, default="compare.html", metavar="FILE", help="the .html file to write"
    )
    args = parse_args(parser, argv)
    from unlabeled.evaluation.evaluate import values_of
    from unlabeled.report.compare import compare
    from unlabeled.report.table import print_results
    from unlabeled.runs.run import load

    runs = [load(run) for run in args.runs]
    results = compare(runs, Path(args.out), args.data, args.labels_from, args.test)
    print_results({name: values_of(result["metrics"]) for name, result in results.items()})
    print(args.out)
    return 0
