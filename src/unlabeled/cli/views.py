"""`unlabeled views`: draw what a method sees."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

from unlabeled.cli.parsing import add_arguments, make_parser, named_method, parse_with
from unlabeled.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def views_command(argv: list[str]) -> int:
    """`unlabeled views METHOD --data D --out F.png`."""
    name, cls, rest = named_method("views", argv)
    if not inspect.isclass(cls):
        raise UserError(f"{name} is several trainings; look at the views of one, such as simclr")

    def build(data: str) -> ArgumentParser:
        parser = make_parser(f"views {name}", f"An image of what {name} sees.")
        parser.add_argument("--data", type=str, required=True, help="as for `unlabeled train`")
        parser.add_argument("--out", type=str, required=True, help="the .png file to write")
        add_arguments(parser, cls, skip={"encoder"}, as_group=True)
        return parser

    parser, given = parse_with(build, rest)
    out = Path(given.out)
    if out.suffix != ".png":
        raise UserError(f"--out is {out}; name a .png file")
    untouched = {k: p.default for k, p in inspect.signature(cls).parameters.items()}
    options = {
        k: v
        for k, v in vars(parser.instantiate(given)).items()
        if k in untouched and v != untouched[k]
    }
    from unlabeled.data import open_data
    from unlabeled.encoders.base import build as build_encoder
    from unlabeled.training.drawings import draw_views
    from unlabeled.training.prepare import resolve

    splits = open_data(given.data)
    _, arguments = resolve(cls, splits, options)
    out.parent.mkdir(parents=True, exist_ok=True)
    encoder = cls.encoder_for(type(splits.modality.encoder_input))
    draw_views(cls(build_encoder(encoder, splits.channels, splits.size), **arguments), splits, out)
    print(out)
    return 0
