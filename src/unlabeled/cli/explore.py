"""`unlabeled explore`: a map of the data as the encoder sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlabeled.cli.parsing import add_arguments, add_run_arguments, make_parser, parse_args

if TYPE_CHECKING:
    pass


def explore_command(argv: list[str]) -> int:
    """`unlabeled explore RUN DATA --out F.html`."""
    from unlabeled.report.explore import explore

    parser = make_parser("explore", "One page: a map of the images as the encoder sees them.")
    add_run_arguments(parser)
    parser.add_argument("data", type=str, help="as for `unlabeled train`")
    parser.add_argument("--out", type=str, default="explore.html", help="the .html file to write")
    add_arguments(parser, explore, skip={"run", "data", "out"})
    given = vars(parse_args(parser, argv))
    from unlabeled.runs.run import load

    run, data, out = given.pop("run"), given.pop("data"), Path(given.pop("out"))
    told = explore(load(run, given.pop("encoder")), data, out, **given)
    print(
        f"{out}: {told['images']:,} images, {told['clusters']} clusters, "
        f"{told['duplicate_groups']:,} groups of near-duplicates, {told['outliers']:,} outliers, "
        f"{told['bytes'] / 1e6:.1f} MB. Open it in a browser"
    )
    return 0
