"""`unlabeled finetune RUN --data DATA --labels 1%`: train the encoder further with labels."""

from __future__ import annotations

from unlabeled.cli.parsing import (
    add_arguments,
    add_evaluation_arguments,
    add_number_of_labels,
    make_parser,
    options_of_load,
    parse_args,
)
from unlabeled.errors import plural


def finetune_command(argv: list[str]) -> int:
    """Fine-tune a run and print accuracies."""
    from unlabeled.evaluation.finetune import finetune
    from unlabeled.evaluation.metric import Value
    from unlabeled.evaluation.metrics import metric_of

    parser = make_parser(
        "finetune",
        "Train an encoder further with labels, and compare it with a linear probe and with "
        "training from scratch.",
    )
    add_evaluation_arguments(parser, "labeled data (default: that of the run)")
    add_number_of_labels(parser)
    add_arguments(
        parser,
        finetune,
        skip={"run", "data", "labels", "labels_from", "groups_from", "test", "progress"},
    )
    args = vars(parser.instantiate(parse_args(parser, argv)))
    from unlabeled.runs.run import load

    data = args.pop("data")
    run = load(args.pop("run"), args.pop("encoder"), data=data, **options_of_load(args))
    tuned, figures = finetune(run, data, **args)
    tested = plural(figures["n_test"], "test image")
    print(f"{plural(figures['labels'], 'label')}, {tested}:")
    for key, what in (
        ("finetuned", "fine-tuned"),
        ("frozen", "linear probe of the frozen encoder"),
        ("scratch", "the same network from scratch"),
    ):
        if key in figures:
            accuracy = metric_of("linear_probe").format(Value(**figures[key]))
            print(f"  {accuracy:22} {what}")
    print(tuned.path)
    return 0
