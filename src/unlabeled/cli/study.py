"""`unlabeled study NAME`: run a study of many trainings."""

from __future__ import annotations

from pathlib import Path

from unlabeled import registry
from unlabeled.cli.parsing import make_parser, parse_args


def study_command(argv: list[str]) -> int:
    """Run a study."""
    parser = make_parser("study", "Run experiments of many trainings and write one report page.")
    parser.add_argument("name", type=str, help="a name in `unlabeled list studies`, or ./file.py")
    parser.add_argument("--out", type=str, help="its folder (default: runs/NAME)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="use fewer variants, or half the data and few epochs, for a first look",
    )
    parser.add_argument(
        "--only", type=str, default="", metavar="KEYS", help="run only these experiments: L6,L8"
    )
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds of the main encoders")
    parser.add_argument("--resume", action="store_true", help="keep results that are there already")
    args = parse_args(parser, argv)
    from unlabeled.studies.lab import FULL, QUICK
    from unlabeled.studies.run import run_study

    registry.say_which("studies", args.name)
    study = registry.find("studies", args.name)
    out = Path(args.out or Path("runs") / Path(args.name).stem)
    only = [key for key in args.only.split(",") if key]
    scale = QUICK if args.quick else FULL
    run_study(study, out, scale=scale, only=only, seeds=args.seeds, resume=args.resume)
    page = (out / "quick" if args.quick else out) / "report" / "index.html"
    print(f"Open the report in a browser: {page.resolve()}")
    return 0
