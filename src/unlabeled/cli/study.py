"""`unlabeled study`: experiments of many runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlabeled import registry
from unlabeled.cli.parsing import make_parser, parse_args

if TYPE_CHECKING:
    pass


def study_command(argv: list[str]) -> int:
    """`unlabeled study NAME [--quick] [--only A,B] [--seeds N] [--resume] --out DIR`."""
    parser = make_parser("study", "Experiments of many runs: each kept, one report page.")
    parser.add_argument("name", type=str, help="a name of `unlabeled list studies`, or ./file.py")
    parser.add_argument("--out", type=str, help="its folder (default: runs/NAME)")
    parser.add_argument(
        "--quick", action="store_true", help="a first look: half the data, few epochs"
    )
    parser.add_argument("--only", type=str, default="", help="experiments, as L6,L8")
    parser.add_argument("--seeds", type=int, default=1, help="of the main encoders")
    parser.add_argument("--resume", action="store_true", help="keep findings that are there")
    given = parse_args(parser, argv)
    from unlabeled.studies.run import run_study

    registry.say_which("studies", given.name)
    study = registry.find("studies", given.name)
    out = Path(given.out or Path("runs") / Path(given.name).stem)
    only = [key for key in given.only.split(",") if key]
    run_study(study, out, quick=given.quick, only=only, seeds=given.seeds, resume=given.resume)
    page = (out / "quick" if given.quick else out) / "report" / "index.html"
    print(f"open the report in a browser: {page.resolve()}")
    return 0
