"""`unlabeled compare RUN RUN`: compare encoders in one table and one page."""

from __future__ import annotations

from unlabeled.cli.parsing import (
    add_groups_argument,
    add_labels_argument,
    add_opening_arguments,
    add_test_argument,
    make_parser,
    parse_args,
    take_opening,
)


def compare_command(argv: list[str]) -> int:
    """`unlabeled compare RUN RUN … [--data D] [--out FILE] …`."""
    parser = make_parser(
        "compare",
        "Compare encoders on the same data: metrics with tests of their differences, similarity of "
        "the features, training curves and configurations. Runs that differ only in their seed are "
        "one column, with mean and deviation. What was computed before is not computed again.",
    )
    parser.add_argument(
        "runs",
        type=str,
        nargs="+",
        metavar="RUN",
        help="run folders, or encoders by name: timm:NAME, hf:OWNER/NAME, or a name in "
        "`unlabeled list encoders`, such as histogram; or random: the first trained run's encoder "
        "with random weights",
    )
    parser.add_argument(
        "--data", type=str, help="data to evaluate all on (default: that of the first trained run)"
    )
    add_labels_argument(parser)
    add_groups_argument(parser)
    add_test_argument(parser)
    add_opening_arguments(parser, "as in the training of the first trained run")
    parser.add_argument(
        "--encoder",
        type=str,
        help="./file.py:Class, of the runs whose encoder is one that you wrote",
    )
    parser.add_argument(
        "--size",
        type=int,
        help="side in pixels of the images that encoders by name receive (default: the one that "
        "each was pretrained with, or the data's)",
    )
    parser.add_argument(
        "--out",
        type=str,
        action="append",
        metavar="FILE",
        help="file to write: a page (.html), or a table (.csv, .md, .tex, .json); may be given "
        "several times (default: compare.html)",
    )
    args = parse_args(parser, argv)
    from unlabeled.report.compare import compare
    from unlabeled.report.table import print_comparison

    files = args.out or ["compare.html"]
    result = compare(
        args.runs,
        files,
        args.data,
        labels_from=args.labels_from,
        test=args.test,
        groups_from=args.groups_from,
        encoder=args.encoder,
        **take_opening(vars(args)),
    )
    print_comparison(result)
    for file in files:
        print(file)
    return 0
