"""`unlabeled explore RUN DATA`: draw a map of the data and find duplicates."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import (
    DATA,
    add_arguments,
    add_labels_argument,
    add_opening_arguments,
    add_run_arguments,
    make_parser,
    options_of_load,
    parse_args,
)
from unlabeled.errors import plural


def explore_command(argv: list[str]) -> int:
    """Write the page with the map."""
    from unlabeled.report.explore import explore

    parser = make_parser("explore", "Write a page with a map of the data in feature space.")
    add_run_arguments(parser)
    add_opening_arguments(parser)
    parser.add_argument("data", type=str, help=DATA)
    parser.add_argument(
        "--out", type=str, default="explore.html", metavar="FILE", help="the .html file"
    )
    add_labels_argument(parser)
    parser.add_argument(
        "--table",
        type=str,
        metavar="FILE",
        help="also write what was found of each sample to this .csv or .parquet file",
    )
    add_arguments(parser, explore, skip={"run", "data", "out", "labels_from", "table", "progress"})
    args = vars(parse_args(parser, argv))
    from unlabeled.runs.run import load

    run, data, out = args.pop("run"), args.pop("data"), Path(args.pop("out"))
    opened = load(run, args.pop("encoder"), data=data, **options_of_load(args))
    counts = explore(opened, data, out, **args)
    suspects = counts["suspected_labels"]
    print(
        f"{out}: {plural(counts['samples'], 'sample')}, {plural(counts['clusters'], 'cluster')}, "
        f"{plural(counts['duplicate_groups'], 'group')} of near-duplicates, "
        f"{plural(counts['outliers'], 'outlier')}, "
        + (f"{plural(suspects, 'suspected label')}, " if suspects is not None else "")
        + f"{counts['bytes'] / 1e6:.1f} MB. Open it in a browser."
    )
    if counts["suggested"]:
        print("\n".join(["to label next:", *counts["suggested"]]))
    if args["table"]:
        print(f"{args['table']}: a row per sample")
    return 0
