"""`unlabeled finetune`: train an encoder further with labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unlabeled.cli.parsing import (
    add_arguments,
    add_labels_argument,
    add_run_arguments,
    add_test_argument,
    make_parser,
    parse_args,
)

if TYPE_CHECKING:
    pass


def finetune_command(argv: list[str]) -> int:
    """`unlabeled finetune RUN --data D [--labels 1%]`."""
    from unlabeled.evaluation.finetune import finetune

    parser = make_parser("finetune", "Train an encoder further with labels, beside a fresh start.")
    add_run_arguments(parser)
    parser.add_argument("--data", type=str, help="labeled data (default: the run's own)")
    parser.add_argument("--labels", type=str, default="100%", help="how many: 160, or 1%")
    add_labels_argument(parser)
    add_test_argument(parser)
    add_arguments(
        parser, finetune, skip={"run", "data", "labels", "labels_from", "test", "progress"}
    )
    given = vars(parser.instantiate(parse_args(parser, argv)))
    from unlabeled.runs.run import load

    run = load(given.pop("run"), given.pop("encoder"))
    tuned, figures = finetune(run, given.pop("data"), **given)
    print(f"{figures['labels']:,} labels, {figures['n_test']:,} test images:")
    for key, what in (
        ("finetuned", "fine-tuned"),
        ("frozen", "linear probe of the frozen encoder"),
        ("scratch", "the same network from scratch"),
    ):
        if key in figures:
            print(f"  {100 * figures[key]:6.2f} %  {what}")
    print(tuned.path)
    return 0
