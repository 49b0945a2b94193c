"""Fine-tune an encoder with a classifier on top, with few or many labels."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unlabeled.augmentations import Augmentation
from unlabeled.data.dataset import Splits
from unlabeled.data.split import code_names, sample_labels
from unlabeled.encoders.base import is_rebuildable, reinitialize
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError
from unlabeled.evaluation import metric
from unlabeled.evaluation.classify import require_classes
from unlabeled.evaluation.evaluate import open_for
from unlabeled.evaluation.probe import linear_probe, refuse_unseen
from unlabeled.evaluation.temperature import fit_temperature
from unlabeled.evaluation.tuning import tune
from unlabeled.runs.classifier import LinearClassifier, save_classifier
from unlabeled.utils.files import write_json
from unlabeled.utils.state import preserve_rng

if TYPE_CHECKING:
    from unlabeled.runs.run import Run

STEPS = 500
"""Minimum number of optimizer steps; the same for fine-tuning and training from scratch."""
BATCH = 64
RATES = {"finetuned": 1e-3, "scratch": 4e-3}
"""Peak learning rates: lower for pretrained than for random weights."""


@preserve_rng()
def finetune(
    run: Run,
    data: Any = None,
    *,
    labels: str | int | float = "100%",
    labels_from: Any = None,
    groups_from: Any = None,
    test: Any = None,
    out: str | Path | None = None,
    epochs: int | None = None,
    lr: float | None = None,
    augment: Augmentation | None = None,
    seed: int = 0,
    scratch: bool = True,
    resume: bool = False,
    progress: bool = True,
) -> tuple[Run, dict[str, Any]]:
    """Fine-tune the encoder with labels, and compare a linear probe and training from scratch.

    All three learn from the same labels and are scored on the same test images. Fine-tuned and
    from scratch take the same number of steps; the test part is used only for measurement.

    Args:
        run: the initial encoder, which is not changed.
        data: labeled data (default: the training's).
        labels: number of training labels, or a share such as "1%"; equally many of each class.
        labels_from: source of labels of images in files, as for `unlabeled.train`.
        groups_from: what samples have in common, as for `unlabeled.train`.
        test: other data to test on, as for `unlabeled.evaluate`.
        out: the new run folder (default: RUN-finetuned).
        epochs: passes over the labeled images (default: as many as make 500 steps, at least 20).
        lr: peak learning rate of fine-tuning (default: 1e-3).
        augment: augmentation for all trainings (default: the data set's for labeled training).
        seed: random seed of the choice of labels, the classifier and the batch order.
        resume: continue an interrupted fine-tuning in the same folder.
        scratch: also train the same network from random weights.
        progress: show bars.

    Returns:
        the fine-tuned run, which has its classifier (`predict`, `predict_proba`), and its figures:
        `finetuned`, `frozen` (a linear probe, whose `penalty` is chosen by cross-validation) and
        `scratch`, accuracies as `{"value", "low", "high"}` with the ends of the 95 % interval.
        Probabilities are calibrated on the labels of an official validation part; without one they
        are as trained, of temperature 1.

    Raises:
        UserError: the data has no labels or no test part, there are too few labels, or epochs or
            the learning rate are not above 0.
    """
    from unlabeled.training.train import train

    for name, given in {"epochs": epochs, "lr": lr}.items():
        if given is not None and given <= 0:
            raise UserError(f"{name} is {given}, but must be above 0")
    opened = open_for(run, data, labels_from, test, groups_from)
    splits = require_classes(opened.labeled(), "fine-tune")
    target = str(splits.target)
    y, y_test = (part.factors[target] for part in (splits.train, splits.test))
    refuse_unseen(y, y_test)
    rows = sample_labels(y, labels, seed, splits.train.group_codes())
    labeled = replace(splits, train=splits.train.take(rows))
    batch = min(BATCH, len(rows))
    steps = max(1, len(rows) // batch)

    def interval(correct: np.ndarray) -> dict[str, Any]:
        return asdict(metric.accuracy(correct, splits.test.group_codes()))

    options: dict[str, Any] = {
        "classes": int(max(y.max(), y_test.max())) + 1,
        "epochs": epochs or max(20, -(-STEPS // steps)),
        "batch_size": batch,
        "schedule": "one_cycle",
        "optimizer": "adamw",
        "weight_decay": 1e-4,
        "augment": augment,
        "seed": seed,
        "resume": resume,
        "progress": progress,
    }
    folder = Path(out).expanduser() if out else run.path.with_name(f"{run.path.name}-finetuned")
    tuned = train(
        "supervised", labeled, init=run, out=folder, lr=lr or RATES["finetuned"], **options
    )
    tuned.classifier = calibrated_head(tuned, splits, options["classes"])
    save_classifier(tuned.classifier, tuned.path)
    z, z_test = (embed(run.encoder, p.x, splits.value_range) for p in (labeled.train, splits.test))
    penalty = tune(z, y[rows], "linear", labeled.train.group_codes()).value
    probe = linear_probe(z, y[rows], z_test, y_test, penalty)
    figures: dict[str, Any] = {
        "labels": len(rows),
        "finetuned": interval(is_correct(tuned, labeled)),
        "frozen": interval(probe.predicted == y_test),
        "penalty": penalty,
    }
    if scratch:
        fresh = _from_scratch(run, labeled, folder / "scratch", options)
        figures["scratch"] = interval(is_correct(fresh, labeled))
    figures |= {
        "data": splits.name,
        "target": target,
        "classes": splits.classes,
        "n_test": len(splits.test),
        "epochs": options["epochs"],
        "seed": seed,
    }
    write_json(folder / "finetuning.json", figures)
    return tuned, figures


def _from_scratch(run: Run, labeled: Splits, out: Path, options: dict[str, Any]) -> Run:
    """The run's network, trained from random weights."""
    from unlabeled.training.train import train

    encoder = run.inputs["encoder"]
    known = is_rebuildable(encoder, run.inputs["args"])
    if not known:
        with preserve_rng(options["seed"]):
            encoder = reinitialize(run.encoder).cpu()
    args = run.inputs["args"] if known else None
    options = options | {"encoder": encoder, "encoder_args": args, "lr": RATES["scratch"]}
    return train("supervised", labeled, out=out, **options)


def calibrated_head(run: Run, splits: Splits, classes: int) -> LinearClassifier:
    """The linear classifier of a run that was just trained.

    Args:
        run: the run.
        splits: its data; the labeled samples of the validation part fit the temperature.
        classes: number of classes.
    """
    assert run.method is not None
    state = run.method.get_submodule("classifier").state_dict()
    weight, bias = (state[name].detach().cpu().float().clone() for name in ("weight", "bias"))
    names = splits.classes or code_names(np.arange(classes))
    head = LinearClassifier(weight, bias, names[:classes], figures={"target": splits.target}).eval()
    held_out = splits.validation.labeled(str(splits.target))
    y = held_out.factors[str(splits.target)]
    known = np.flatnonzero(y < classes)
    if len(known):
        z = embed(run.encoder, held_out.x, splits.value_range)
        head.temperature = fit_temperature(head.logits(z)[known], y[known])
    return head


def accuracy(run: Run, splits: Splits) -> float:
    """Test accuracy of the classifier of a run that was just trained."""
    return float(is_correct(run, splits).mean())


def is_correct(run: Run, splits: Splits) -> np.ndarray:
    """Whether each test sample is classified correctly by a run that was just trained, (m,)."""
    z = torch.from_numpy(embed(run.encoder, splits.test.x, splits.value_range))
    assert run.method is not None
    classifier = run.method.get_submodule("classifier")
    device = next(classifier.parameters()).device
    with torch.no_grad():
        guess = classifier(z.to(device)).argmax(1).cpu().numpy()
    return np.asarray(guess == splits.test.factors[str(splits.target)])
