"""`unlabeled list`: methods, encoders, data sets, objectives and studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlabeled import registry
from unlabeled.cli.parsing import make_parser, parse_args

if TYPE_CHECKING:
    pass


def list_command(argv: list[str]) -> int:
    """`unlabeled list methods|encoders|datasets|objectives|studies`."""
    parser = make_parser("list", "What there is, one name a line.")
    parser.add_argument("kind", choices=registry.KINDS)
    names = registry.listing(parse_args(parser, argv).kind)
    width = max(map(len, names), default=0)
    for name, line in names.items():
        print(f"{name:{width}}  {line}".rstrip())
    return 0
