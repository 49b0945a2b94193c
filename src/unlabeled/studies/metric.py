"""Metric learning: retrieval of classes that were not in the training data."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.data.dataset import Splits
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.evaluation.retrieval import retrieval
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, run_name

TITLE = "Metric learning on characters of unseen alphabets"
LEAD = (
    "Labels say which drawings show the same character. A good metric also groups drawings of "
    "characters of other alphabets. Which loss learns the best one?"
)
DATA = "omniglot"
CLAIMS: dict[int, str] = {}
LOSSES: dict[str, tuple[str, str, tuple[float, ...]]] = {
    "contrastive": ("contrastive", "margin", (0.25, 0.5, 1.0, 1.5)),
    "triplet": ("triplet", "margin", (0.05, 0.1, 0.2, 0.5)),
    "lifted structure": ("lifted_structure", "margin", (0.5, 1.0, 2.0, 4.0)),
    "N-pair": ("n_pair", "regularization", (0.0, 0.001, 0.01, 0.1)),
    "NCE": ("nce", "temperature", (0.05, 0.1, 0.3, 1.0)),
    "InfoNCE": ("info_nce", "temperature", (0.01, 0.03, 0.07, 0.2)),
    "soft nearest neighbor": ("soft_nearest_neighbor", "temperature", (0.03, 0.1, 0.3, 1.0)),
}
"""By title: objective, its hyperparameter and the values that are tried."""
HELD_OUT = 5
"""One in this number of training alphabets is held out for the choice of hyperparameters."""


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    #: the losses that are compared, by title
    losses: Mapping[str, tuple[str, str, tuple[float, ...]]] = field(default_factory=LOSSES.copy)
    widths: tuple[int, int] = (0, 64)  #: dimensions of the projection head; 0 means no head
    epochs: int = 12  #: epochs with the chosen hyperparameters
    choice_epochs: int = 3  #: epochs of each training for the choice
    draws: int = 1000  #: bootstrap draws of the characters


SETTINGS, QUICK = Settings(), Settings(epochs=1, choice_epochs=1)


def divide(data: Splits) -> Splits:
    """Split the training alphabets into a training and a validation part."""
    alphabet = data.train.factors["alphabet"]
    names = np.random.default_rng(0).permutation(np.unique(alphabet))
    held = np.isin(alphabet, names[: max(1, len(names) // HELD_OUT)])
    fit, validation = (data.train.take(np.flatnonzero(rows)) for rows in (~held, held))
    return replace(data, train=fit, test=validation)


def train_with(
    lab: Lab, name: str, title: str, value: float, width: int, epochs: int, data: Splits
) -> nn.Module:
    objective, key, _ = lab.settings.losses[title]
    options: dict[str, Any] = {"objective": objective, "dim": width, "epochs": epochs, key: value}
    return lab.run(name, "metric", data=data, **options).encoder


def choose(lab: Lab, parts: Splits) -> dict[str, list[dict[str, float]]]:
    """Recall@1 on held-out alphabets for each loss, value and width."""
    y = parts.test.factors[str(parts.target)]
    results: dict[str, list[dict[str, float]]] = {}
    for title, (_, key, values) in lab.settings.losses.items():
        results[title] = rows = []
        for value, width in itertools.product(values, lab.settings.widths):
            name = f"choice/{run_name(title)}-{key}-{value}-dim-{width}"
            encoder = train_with(lab, name, title, value, width, lab.settings.choice_epochs, parts)
            z = embed(encoder, parts.test.x, parts.value_range)
            recall = retrieval(z, y, at=(1,))["recall@1"]
            rows.append({"value": value, "dim": width, "recall@1": recall})
    return results


def encoders(lab: Lab, chosen: dict[str, dict[str, float]]) -> dict[str, nn.Module]:
    """Encoders trained with each loss on all training alphabets, and untrained baselines."""
    modules: dict[str, nn.Module] = {}
    for title, row in chosen.items():
        name, value, width = run_name(title), row["value"], int(row["dim"])
        modules[title] = train_with(lab, name, title, value, width, lab.settings.epochs, lab.data)
    shape = lab.data.channels, lab.data.size
    pixels = build("raw", *shape)
    few_pixels = build(nn.Sequential(nn.AdaptiveAvgPool2d(7), pixels), *shape)
    return modules | {"untrained": lab.random(), "pixels": pixels, "pixels, 7×7": few_pixels}


def r1(lab: Lab) -> Finding:
    settings: Settings = lab.settings
    losses = settings.losses
    parts = divide(lab.data)
    grid = choose(lab, parts)
    chosen = {title: max(rows, key=lambda row: row["recall@1"]) for title, rows in grid.items()}
    y = lab.data.test.factors[str(lab.data.target)]
    classes = len(set(y.tolist()))
    results = {}
    for title, encoder in encoders(lab, chosen).items():
        z = embed(encoder, lab.data.test.x, lab.data.value_range)
        results[title] = retrieval(z, y, draws=settings.draws)
    recall = {title: f["recall@1"] for title, f in results.items()}
    baseline = max((name for name in results if name not in losses), key=lambda n: recall[n])
    better = [name for name in losses if results[name]["low"] > results[baseline]["high"]]
    best = max(losses, key=lambda name: recall[name])
    level = [n for n in losses if n != best and results[n]["high"] >= results[best]["low"]]
    others = ("recall@5", "recall@10", "map@r")
    edges = [t for t, row in chosen.items() if at_the_edge(losses[t][2], row["value"])]
    return Finding(
        {
            "test": results,
            "choice": {
                "grid": grid,
                "chosen": chosen,
                "at_the_edge": edges,
                "epochs": settings.choice_epochs,
                "fit_images": len(parts.train),
                "validation_images": len(parts.test),
                "validation_classes": len(np.unique(parts.test.factors[str(parts.target)])),
            },
            "epochs": settings.epochs,
            "interval": f"95 %, percentiles of {settings.draws} bootstrap draws of the characters",
            "classes": classes,
            "images": len(y),
            "chance": _chance(y),
        },
        "Each loss trains the same small encoder with four drawings of each character in a batch. "
        "The margin, temperature or weight of the loss and whether it is computed on a linear "
        f"projection to {settings.widths[1]} dimensions are chosen on {len(parts.test):,} drawings "
        f"of held-out training alphabets ({settings.choice_epochs} epochs each). The final "
        f"training on all training alphabets takes {settings.epochs} epochs. Each of {len(y):,} "
        f"drawings of {classes} characters of unseen alphabets is then a query; neighbors are "
        "ranked by cosine similarity of the features. Intervals are 95 %, by bootstrap over the "
        "characters.",
        f"{best} has the highest recall@1, {_with_interval(results[best])} %"
        + (f"; {', '.join(level)} are within its interval" if level else "")
        + f". The best untrained baseline, {baseline}, has {_with_interval(results[baseline])} %. "
        f"Not above it: {', '.join(sorted(set(losses) - set(better))) or 'none'}."
        + (f" Best values at the edge of those tried: {', '.join(edges)}." if edges else ""),
        [
            Table(
                "Retrieval of drawings of unseen characters, %",
                ["", "recall@1", "recall@5", "recall@10", "mAP@R"],
                [
                    [name, _with_interval(results[name]), *cells]
                    for name, *cells in Table.of(
                        "", others, results, dict.fromkeys(others, ".1%")
                    ).rows
                ],
            ),
            Table(
                "Chosen on held-out training alphabets: recall@1, %",
                ["", "hyperparameter", "values tried", "recall@1 of each", "chosen", "projection"],
                [
                    [
                        title,
                        losses[title][1],
                        ", ".join(f"{value:g}" for value in losses[title][2]),
                        ", ".join(f"{100 * score:.1f}" for score in _best_of_each(rows)),
                        f"{chosen[title]['value']:g}",
                        f"{chosen[title]['dim']:g}" if chosen[title]["dim"] else "none",
                    ]
                    for title, rows in grid.items()
                ],
            ),
        ],
        [("recall@1", plots.bars_image(recall, "recall@1"))],
    )


def at_the_edge(values: tuple[float, ...], value: float) -> bool:
    """Whether a better value may exist beyond the tried ones; none is below 0."""
    return value == values[-1] or (value == values[0] and value > 0)


def _best_of_each(rows: list[dict[str, float]]) -> list[float]:
    """Recall of each value with its better width, in order."""
    values = dict.fromkeys(row["value"] for row in rows)
    return [max(row["recall@1"] for row in rows if row["value"] == value) for value in values]


def _with_interval(result: dict[str, float]) -> str:
    percent = (f"{100 * result[key]:.1f}" for key in ("recall@1", "low", "high"))
    return "{} ({}–{})".format(*percent)


def _chance(y: Any) -> float:
    """Recall@1 of a random ranking."""
    counts = torch.bincount(torch.from_numpy(y)).double()
    return float((counts * (counts - 1)).sum() / (len(y) * (len(y) - 1)))


QUESTION = "Which retrieves drawings of unseen characters best?"
EXPERIMENTS = [Experiment("R1", "Seven losses", QUESTION, r1, 45)]
