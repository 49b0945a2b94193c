"""Train a classifier on frozen features, and keep it with the encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from unlabeled.data.dataset import Splits
from unlabeled.data.split import code_names, sample_labels
from unlabeled.data.targets import MultiLabel
from unlabeled.encoders.features import (
    Standardized,
    deviations,
    embed,
    mean_of,
    refuse_not_finite,
)
from unlabeled.errors import UserError, notice
from unlabeled.evaluation.calibration import expected_calibration_error
from unlabeled.evaluation.evaluate import open_for
from unlabeled.evaluation.intervals import Groups
from unlabeled.evaluation.metric import accuracy, most_frequent
from unlabeled.evaluation.probe import logistic_regression, refuse_unseen
from unlabeled.evaluation.temperature import fit_temperature
from unlabeled.evaluation.tuning import DEFAULTS, MANY, Kind, held_out, least, settings_for
from unlabeled.modality import Text
from unlabeled.runs.classifier import Classifier, KNNClassifier, LinearClassifier
from unlabeled.runs.run import Run
from unlabeled.utils.files import write_bytes, write_json

FINAL_TOLERANCE = 3e-5
"""Tolerance of the logistic regression of the final classifier."""


def classify(
    run: Run,
    data: Any = None,
    *,
    labels_from: Any = None,
    groups_from: Any = None,
    kind: Kind = "linear",
    labels: str | int | float = "100%",
    test: Any = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> Run:
    """Train a classifier on the features of a frozen encoder, and measure it on test data.

    The penalty of the linear classifier (multinomial logistic regression) or the number of
    neighbors, and the temperature that calibrates probabilities, minimize the cross-entropy in
    cross-validation on the training labels. The test part is used only for measurement.

    Args:
        run: the encoder; it is not changed.
        data: labeled data (default: the training's).
        labels_from: source of labels of samples in files, as for `unlabeled.train`.
        groups_from: what samples have in common, as for `unlabeled.train`.
        kind: linear, or the votes of the nearest labeled samples.
        labels: number of training labels, or a share such as "1%"; equally many of each class.
        test: other data to test on, as for `unlabeled.evaluate`.
        out: the folder of the model, which `unlabeled.load` opens (default: none is written).
        seed: random seed of the choice of labels and of the folds.

    Returns:
        a run with the encoder and the classifier: `predict`, `predict_proba`, and `classifier`,
        whose `figures` are `accuracy` and `expected_calibration_error` on the test part with 95 %
        intervals, `most_frequent_class`, the share of the most frequent class of the training part
        there, and its settings.

    Raises:
        UserError: the data has no classes or no test part, there are too few labels, or the folder
            is not empty.
    """
    folder = None if out is None else Path(out).expanduser()
    if folder is not None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; choose an empty folder with --out")
    opened = open_for(run, data, labels_from, test, groups_from)
    splits = require_classes(opened.labeled(), "classify")
    target = str(splits.target)
    y, y_test = (part.factors[target] for part in (splits.train, splits.test))
    refuse_unseen(y, y_test)
    rows = sample_labels(y, labels, seed, splits.train.group_codes())
    few = replace(splits, train=splits.train.take(rows))
    z, z_test = (embed(run.encoder, part.x, splits.value_range) for part in (few.train, few.test))
    known, codes = np.unique(y[rows], return_inverse=True)
    all_names = splits.classes or code_names(y)
    names = [all_names[code] for code in known]
    classifier, setting = train_classifier(z, codes, names, kind, seed, few.train.group_codes())
    figures: dict[str, Any] = {
        "data": splits.name,
        "target": target,
        "labels": len(rows),
        "penalty" if kind == "linear" else "neighbors": setting,
        "seed": seed,
        "n_test": len(y_test),
    }
    index = np.full(int(max(y.max(), y_test.max())) + 1, -1)
    index[known] = np.arange(len(known))
    classifier.figures = figures | measure_classifier(
        classifier, z_test, codes, index[y_test], splits.test.group_codes()
    )
    model = Run(
        folder or run.path.with_name(f"{run.path.name}-classifier"),
        copy.deepcopy(run.encoder),
        run.config,
        run.inputs,
        run.data,
        tokenizer=run.modality.tokenizer if isinstance(run.modality, Text) else "",
        classifier=classifier,
    )
    if folder is not None:
        write_model(model)
    return model


def measure_classifier(
    classifier: Classifier,
    z: Float[np.ndarray, "m d"],
    y: Int[np.ndarray, " n"],
    y_test: Int[np.ndarray, " m"],
    groups: Groups = None,
) -> dict[str, Any]:
    """Accuracy and calibration on test features, and accuracy of the most common class.

    Args:
        classifier: the classifier.
        z: features of test samples.
        y: training classes.
        y_test: classes of the test samples; −1 for classes not in training.
        groups: of the test samples, for the intervals.
    """
    logits = classifier.logits(z).astype(np.float64)
    probability = np.exp(logits - logits.max(1, keepdims=True))
    probability /= probability.sum(1, keepdims=True)
    commonest = most_frequent(y)
    return {
        "accuracy": asdict(accuracy(probability.argmax(1) == y_test, groups)),
        "most_frequent_class": {"class": classifier.classes[commonest]}
        | asdict(accuracy(y_test == commonest, groups)),
        "expected_calibration_error": asdict(
            expected_calibration_error(probability, y_test, groups)
        ),
    }


def require_classes(splits: Splits, purpose: str) -> Splits:
    """Return the data unchanged if it has one class for each sample and a test part.

    Raises:
        UserError: it does not.
    """
    target = splits.target
    if target is None and splits.numbers:
        raise UserError(
            f"{', '.join(splits.numbers)} of {splits.name} holds numbers, but classes are needed "
            f"to {purpose}; write them as words to have them as classes"
        )
    if target is None or not len(splits.test):
        raise UserError(
            f"{splits.name} has no labels to {purpose} with; give them with --labels-from"
        )
    if isinstance(splits.targets.get(target), MultiLabel):
        raise UserError(
            f"{target} of {splits.name} holds several labels for each sample, but one class for "
            f"each is needed to {purpose}; give other labels with --labels-from"
        )
    return splits


def write_model(run: Run) -> None:
    """Write the folder of a run that has a classifier: encoder, classifier, configuration."""
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.path / "config.json", run.config)
    if isinstance(run.modality, Text):
        write_bytes(run.path / "tokenizer.json", run.modality.tokenizer.encode())
    run.save()


def train_classifier(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    classes: Sequence[str],
    kind: Kind = "linear",
    seed: int = 0,
    groups: Groups = None,
) -> tuple[Classifier, int | float]:
    """A calibrated classifier on features, and its penalty or number of neighbors.

    Each setting is trained on four fifths of the labels and scored on the others, in five folds;
    its temperature is fitted to those scores, and the setting with the least cross-entropy is
    trained on all. Of more than 2,000 labels, settings are tried on 2,000, and the temperature is
    fitted on a held-out fifth of all. Complete groups are held out.

    Args:
        z: features.
        y: classes, from 0 to K − 1, each of which occurs.
        classes: names of the K classes.
        kind: "linear" or "knn".
        seed: of the folds.
        groups: the group of each sample, (n,); complete groups are held out.

    Raises:
        UserError: there is only one class, or some features are NaN or infinite.
    """
    refuse_not_finite(z)
    if len(classes) < 2:
        raise UserError("all labels to learn from are the same class; give labels of at least two")
    settings = settings_for(kind, len(y))
    scores, answers = held_out(z, y, kind, settings, groups, seed)
    if not len(answers):
        one = "label" if groups is None else "group"
        notice(
            f"each class has one {one}, so no setting can be tried and probabilities are not "
            f"calibrated; give at least two {one}s of a class"
        )
        return fit(z, y, classes, kind, DEFAULTS[kind]), DEFAULTS[kind]
    best, temperature = least(scores, answers)
    setting = settings[best]
    classifier = fit(z, y, classes, kind, setting)
    if len(y) > MANY:
        (part,), answers = held_out(z, y, kind, [setting], groups, seed, folds=1, many=len(y))
        if len(answers):  # none where all groups of the fifth have classes of their own
            temperature = fit_temperature(part, answers)
    classifier.temperature = temperature
    return classifier, setting


def fit(
    z: Float[np.ndarray, "n d"],
    y: Int[np.ndarray, " n"],
    classes: Sequence[str],
    kind: Kind,
    setting: int | float,
    tolerance: float = FINAL_TOLERANCE,
) -> Classifier:
    """A classifier of temperature 1.

    Args:
        z: features.
        y: classes, from 0 to K − 1, each of which occurs.
        classes: names of the K classes.
        kind: "linear" or "knn".
        setting: the penalty of the squared weights on standardized features, or the number of
            neighbors.
        tolerance: as of `logistic_regression`.
    """
    if kind == "knn":
        return KNNClassifier(torch.from_numpy(z), torch.from_numpy(y), int(setting), classes).eval()
    mean = mean_of(z)
    std = deviations(z, mean)
    varies = np.isfinite(std)
    weight, bias = np.zeros((z.shape[1], len(classes))), np.log(np.bincount(y) / len(y))
    if varies.any():
        scaled = Standardized(z, mean, std)
        w, bias = logistic_regression(scaled, y, float(setting), tolerance)
        weight[varies] = w / std[varies, None]
        bias = bias - mean @ weight
    w32, b32 = (torch.from_numpy(v.astype(np.float32)) for v in (weight.T.copy(), bias))
    return LinearClassifier(w32, b32, classes).eval()
