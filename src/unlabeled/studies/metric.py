"""Metric learning: which loss brings images of classes together that it never saw?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.data.dataset import Splits
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.evaluation.retrieval import retrieval
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table

TITLE = "Metric learning: characters never seen"
LEAD = (
    "Labels say which drawings show the same character. A good distance brings together the "
    "drawings of characters of other alphabets, too. Which of the lectures' losses finds one?"
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
"""By title: objective, its hyperparameter, and the values that are tried."""
WIDTHS = (0, 64)
"""Of the linear projection that is compared in training; 0 compares the features themselves."""
EPOCHS, CHOICE_EPOCHS = 12, 3
HELD_OUT = 5
"""One of so many training alphabets is held out for the choice."""
DRAWS = 1000
"""Of the bootstrap over characters."""


def divide(data: Splits) -> Splits:
    """Training alphabets only: most to fit, some, drawn with seed 0, to choose by."""
    alphabet = data.train.factors["alphabet"]
    names = np.random.default_rng(0).permutation(np.unique(alphabet))
    held = np.isin(alphabet, names[: max(1, len(names) // HELD_OUT)])
    fit, validation = (data.train.take(np.flatnonzero(rows)) for rows in (~held, held))
    return replace(data, train=fit, test=validation)


def train_with(
    lab: Lab, name: str, title: str, value: float, width: int, epochs: int, data: Splits
) -> nn.Module:
    objective, key, _ = LOSSES[title]
    options: dict[str, Any] = {"objective": objective, "dim": width, "epochs": epochs, key: value}
    return lab.run(name, "metric", data=data, quick_epochs=1, **options).encoder


def choose(lab: Lab, parts: Splits) -> dict[str, list[dict[str, float]]]:
    """By loss, the recall@1 of held-out alphabets for each value and width."""
    y = parts.test.factors[str(parts.target)]
    found: dict[str, list[dict[str, float]]] = {}
    for title, (_, key, values) in LOSSES.items():
        found[title] = rows = []
        for value, width in ((value, width) for value in values for width in WIDTHS):
            name = f"choice/{folder_name(title)}-{key}-{value}-dim-{width}"
            encoder = train_with(lab, name, title, value, width, CHOICE_EPOCHS, parts)
            score = retrieval(embed(encoder, parts.test.x, parts.range), y, at=(1,))["recall@1"]
            rows.append({"value": value, "dim": width, "recall@1": score})
    return found


def folder_name(title: str) -> str:
    return title.lower().replace(" ", "-")


def encoders(lab: Lab, chosen: dict[str, dict[str, float]]) -> dict[str, nn.Module]:
    """By loss, trained on all training alphabets, and what needs no training."""
    found: dict[str, nn.Module] = {}
    for title, row in chosen.items():
        name, width = folder_name(title), int(row["dim"])
        found[title] = train_with(lab, name, title, row["value"], width, EPOCHS, lab.data)
    found["untrained"] = lab.random()
    shape = lab.data.channels, lab.data.size
    found["pixels"] = build("raw", *shape)
    found["pixels, 7×7"] = build(
        nn.Sequential(nn.AdaptiveAvgPool2d(7), build("raw", *shape)), *shape
    )
    return found


def shelf(lab: Lab) -> Finding:
    parts = divide(lab.data)
    grid = choose(lab, parts)
    chosen = {title: max(rows, key=lambda row: row["recall@1"]) for title, rows in grid.items()}
    y = lab.data.test.factors[str(lab.data.target)]
    classes = len(set(y.tolist()))
    found = {
        title: retrieval(embed(encoder, lab.data.test.x, lab.data.range), y, draws=DRAWS)
        for title, encoder in encoders(lab, chosen).items()
    }
    plain = max((name for name in found if name not in LOSSES), key=lambda n: found[n]["recall@1"])
    better = [name for name in LOSSES if found[name]["low"] > found[plain]["high"]]
    best = max(LOSSES, key=lambda name: found[name]["recall@1"])
    level = [n for n in LOSSES if n != best and found[n]["high"] >= found[best]["low"]]
    edges = [title for title, row in chosen.items() if at_the_edge(title, row["value"])]
    epochs = (1, 1) if lab.quick else (CHOICE_EPOCHS, EPOCHS)
    return Finding(
        {
            "test": found,
            "choice": {
                "grid": grid,
                "chosen": chosen,
                "at_the_edge": edges,
                "epochs": epochs[0],
                "fit_images": len(parts.train),
                "validation_images": len(parts.test),
                "validation_classes": len(np.unique(parts.test.factors[str(parts.target)])),
            },
            "epochs": epochs[1],
            "interval": f"95 %, percentiles of {DRAWS} bootstrap draws of the characters",
            "classes": classes,
            "images": len(y),
            "chance": _chance(y),
        },
        f"The same small network learns with each loss, four drawings of a character in each "
        f"batch. Each loss's margin, temperature or weight, and whether a linear projection of "
        f"{WIDTHS[1]} numbers is compared in training, are chosen on {len(parts.test):,} drawings "
        f"of training alphabets that are held out, {epochs[0]} epochs each. With the chosen ones "
        f"it learns from all training alphabets for {epochs[1]} epochs. Then each of {len(y):,} "
        f"drawings of {classes} characters of alphabets it never saw asks once for its nearest, by "
        "cosine of the features. Intervals are 95 %, by a bootstrap over the characters.",
        f"{best} finds another drawing of the same character first for "
        f"{_with_interval(found[best])} %"
        + (f", {', '.join(level)} within its interval" if level else "")
        + f"; {plain} for {_with_interval(found[plain])} %. "
        + (
            "Every loss is above what needs no training."
            if len(better) == len(LOSSES)
            else f"Not above {plain}: {', '.join(sorted(set(LOSSES) - set(better)))}."
        )
        + (
            f" The best value lies at the edge of those tried: {', '.join(edges)}." if edges else ""
        ),
        [
            Table(
                "Retrieval among drawings of unseen characters, %",
                ["", "recall@1", "recall@5", "recall@10", "mAP@R"],
                [
                    [
                        name,
                        _with_interval(f),
                        *(f"{100 * f[c]:.1f}" for c in ("recall@5", "recall@10", "map@r")),
                    ]
                    for name, f in found.items()
                ],
            ),
            Table(
                "Chosen on held-out training alphabets: recall@1 there, %",
                ["", "hyperparameter", "values tried", "best of each", "chosen", "projection"],
                [
                    [
                        title,
                        LOSSES[title][1],
                        ", ".join(f"{value:g}" for value in LOSSES[title][2]),
                        ", ".join(f"{100 * score:.1f}" for score in _best_of_each(rows)),
                        f"{chosen[title]['value']:g}",
                        f"{chosen[title]['dim']:g}" if chosen[title]["dim"] else "none",
                    ]
                    for title, rows in grid.items()
                ],
            ),
        ],
        [
            (
                "recall@1",
                plots.bars_image({n: f["recall@1"] for n, f in found.items()}, "recall@1"),
            )
        ],
    )


def at_the_edge(title: str, value: float) -> bool:
    """Whether a better value may lie beyond those tried; a weight of 0 is the end."""
    values = LOSSES[title][2]
    return value == values[-1] or (value == values[0] and value > 0)


def _best_of_each(rows: list[dict[str, float]]) -> list[float]:
    """The better width's recall of each value, in their order."""
    values = dict.fromkeys(row["value"] for row in rows)
    return [max(row["recall@1"] for row in rows if row["value"] == value) for value in values]


def _with_interval(found: dict[str, float]) -> str:
    percent = (f"{100 * found[key]:.1f}" for key in ("recall@1", "low", "high"))
    return "{} ({}–{})".format(*percent)


def _chance(y: Any) -> float:
    """Of naming a drawing of the same character at random."""
    counts = torch.bincount(torch.from_numpy(y)).double()
    return float((counts * (counts - 1)).sum() / (len(y) * (len(y) - 1)))


EXPERIMENTS = [
    Experiment("R1", "Seven losses", "Which finds drawings of characters never seen?", shelf, 45),
]
