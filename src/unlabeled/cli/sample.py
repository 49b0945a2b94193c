"""`unlabeled sample RUN`: draw samples from a generative model."""

from __future__ import annotations

from pathlib import Path

from unlabeled import registry
from unlabeled.cli.parsing import add_run_arguments, make_parser, parse_args
from unlabeled.errors import UserError, plural


def sample_command(argv: list[str]) -> int:
    """Write samples to files, or print them if they are text."""
    parser = make_parser("sample", "Draw images, video, audio or text from a generative model.")
    add_run_arguments(parser)
    parser.add_argument("--number", type=int, default=16, help="samples per condition")
    parser.add_argument(
        "--ask",
        type=str,
        action="append",
        metavar="CONDITION",
        help="a class, caption or velocity, by name or number; can be repeated",
    )
    parser.add_argument("--out", type=str, help="a new folder (default: RUN/samples)")
    parser.add_argument("--begin", type=str, default="", metavar="TEXT", help="text to continue")
    parser.add_argument("--length", type=int, default=200, help="characters of text to add")
    parser.add_argument("--seed", type=int, default=0, help="random seed")
    args = parse_args(parser, argv)
    from unlabeled.evaluation.sampling import cannot_sample, sample, texts
    from unlabeled.runs.run import load

    if args.run in registry.listing("encoders") and not Path(args.run).is_dir():
        raise cannot_sample(args.run)
    run = load(args.run, args.encoder)
    lines = texts(run, args.number, args.begin, args.length, args.seed)
    if lines is not None:
        if args.ask or args.out:
            raise UserError(f"{run.path} prints text; omit --ask and --out")
        print("\n\n".join(lines))
        return 0
    if args.begin:
        raise UserError(f"{run.path} does not generate text; omit --begin")
    out = Path(args.out) if args.out else run.path / "samples"
    files = sample(run, args.number, out, args.ask, args.seed)
    print(f"{out}: {plural(len(files), 'file')}, such as {files[-1].name}")
    return 0
