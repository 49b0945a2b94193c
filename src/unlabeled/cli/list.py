"""`unlabeled list KIND`: list methods, encoders, datasets, objectives, metrics, ….

KIND may also be augmentations or studies, or weights, which are in the package: `unlabeled:NAME`.
"""

from __future__ import annotations

from unlabeled import registry
from unlabeled.cli.parsing import make_parser, parse_args


def list_command(argv: list[str]) -> int:
    """Print one name a line, with a short description."""
    parser = make_parser("list", "List what is available, one name a line.")
    parser.add_argument("kind", choices=[*registry.KINDS, "weights"], help="what to list")
    kind = parse_args(parser, argv).kind
    if kind == "weights":
        from unlabeled.runs.published import packaged

        names = packaged()
    else:
        names = registry.listing(kind)
    width = max(map(len, names), default=0)
    for name, line in names.items():
        print(f"{name:{width}}  {line}".rstrip())
    return 0
