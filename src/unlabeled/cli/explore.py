"""`unlabeled explore RUN DATA`: draw a map of the data and find duplicates."""

from __future__ import annotations

from pathlib import Path

from unlabeled.cli.parsing import DATA, add_arguments, add_run_arguments, make_parser, parse_args


def explore_command(argv: list[str]) -> int:
    """Write the page with the map."""
    from unlabeled.report.explore import explore

    parser = make_parser("explore", "Write a page with a map of the data in feature space.")
    add_run_arguments(parser)
    parser.add_argument("data", type=str, help=DATA)
    parser.add_argument(
        "--out", type=str, default="explore.html", metavar="FILE", help="the .html file"
    )
    add_arguments(parser, explore, skip={"run", "data", "out"})
    args = vars(parse_args(parser, argv))
    from unlabeled.runs.run import load

    run, data, out = args.pop("run"), args.pop("data"), Path(args.pop("out"))
    opened = load(run, args.pop("encoder"), data=data, size=args.pop("size"))
    counts = explore(opened, data, out, **args)
    print(
        f"{out}: {counts['images']:,} images, {counts['clusters']} clusters, "
        f"{counts['duplicate_groups']:,} groups of near-duplicates, {counts['outliers']:,} "
        f"outliers, {counts['bytes'] / 1e6:.1f} MB. Open it in a browser."
    )
    return 0
