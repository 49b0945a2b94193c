"""`unlabeled views METHOD --data DATA --out FILE`: draw the views that a method is trained on."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from unlabeled.cli.parsing import (
    add_arguments,
    add_opening_arguments,
    make_parser,
    named_method,
    parse_with,
)
from unlabeled.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def views_command(argv: list[str]) -> int:
    """Write the image."""
    name, cls, rest = named_method("views", argv)
    if not inspect.isclass(cls):
        raise UserError(f"{name} is several trainings; draw the views of one method, as simclr")

    def build(data: str, preset: str) -> ArgumentParser:
        parser = make_parser(f"views {name}", f"Draw the views that {name} is trained on.", name)
        parser.add_argument("--data", type=str, required=True, help="as for `unlabeled train`")
        parser.add_argument("--out", type=str, required=True, metavar="FILE", help="a .png file")
        add_opening_arguments(parser, "as for `unlabeled train`")
        add_arguments(parser, cls, skip={"encoder"})
        return parser

    parser, args = parse_with(build, rest)
    out = Path(args.out)
    if out.suffix != ".png":
        raise UserError(f"--out is {out}; give a .png file")
    defaults = {k: p.default for k, p in inspect.signature(cls).parameters.items()}
    values = vars(parser.instantiate(args))
    options = {k: values[k] for k, default in defaults.items() if values.get(k, default) != default}
    from unlabeled.training.drawings import draw_views
    from unlabeled.training.prepare import prepare

    job = prepare(name, args.data, tile=args.tile, max_pixels=args.max_pixels, **options)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_views(job.method, job.splits, out)
    print(out)
    return 0
