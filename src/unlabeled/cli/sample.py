"""`unlabeled sample`: draw from a generative run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unlabeled.cli.parsing import add_run_arguments, make_parser, parse_args
from unlabeled.errors import UserError

if TYPE_CHECKING:
    pass


def sample_command(argv: list[str]) -> int:
    """`unlabeled sample RUN [--number N] [--ask A] [--out FOLDER]`."""
    parser = make_parser("sample", "What a generative run makes: images, clips, series or text.")
    add_run_arguments(parser)
    parser.add_argument("--number", type=int, default=16, help="how many, of each thing asked for")
    parser.add_argument(
        "--ask",
        type=str,
        action="append",
        help="a class, caption or velocity by its name or number; may be given several times",
    )
    parser.add_argument("--out", type=str, help="a new folder (default: samples in the run folder)")
    parser.add_argument("--begin", type=str, default="", help="of text: its first words")
    parser.add_argument("--length", type=int, default=200, help="of text: further characters")
    parser.add_argument("--seed", type=int, default=0, help="of what is random in them")
    given = parse_args(parser, argv)
    from unlabeled.evaluation.sampling import sample, texts
    from unlabeled.runs.run import load

    run = load(given.run, given.encoder)
    if (said := texts(run, given.number, given.begin, given.length, given.seed)) is not None:
        if given.ask or given.out:
            raise UserError(f"{run.path} writes text, which is printed; leave --ask and --out away")
        print("\n\n".join(said))
        return 0
    if given.begin:
        raise UserError(f"{run.path} writes no text; leave --begin away")
    out = Path(given.out) if given.out else run.path / "samples"
    files = sample(run, given.number, out, given.ask, given.seed)
    print(f"{out}: {len(files)} files, such as {files[-1].name}")
    return 0
