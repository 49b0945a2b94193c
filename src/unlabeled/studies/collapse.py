"""Collapse: what keeps each method from it, what shows it, and whether the alarm rings."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from unlabeled.data.dataset import to_float
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.report import plots
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training import health
from unlabeled.training.train import reopen
from unlabeled.utils.files import read_csv

TITLE = "Collapse: the laboratory"
LEAD = (
    "Two views of an image should get the same features. The easiest way is to give all images "
    "the same. Each method has something against that; here it is taken away."
)
DATA = "dsprites"
CLAIMS = {
    8: "Negatives keep SimCLR from collapse; BYOL's slow target does it without them; variance and "
    "covariance terms do in VICReg.",
}
EPOCHS, QUICK_EPOCHS = 12, 4
MARGIN = 0.02
"""A probe at most this much above the random encoder's is not above it: two points."""

FAMILIES: dict[str, dict[str, dict[str, Any]]] = {
    "simclr": {
        "SimCLR": {},
        "without negatives": {"negatives": 0},
    },
    "byol": {
        "BYOL": {},
        "without predictor": {"predictor": False},
        "without stop-gradient": {"stop_gradient": False},
        "τ = 0": {"momentum": 0.0},
    },
    "simsiam": {
        "SimSiam": {},
        "without stop-gradient": {"stop_gradient": False},
    },
    "vicreg": {
        "VICReg": {},
        "without variance": {"variance": 0.0},
        "without covariance": {"covariance": 0.0},
        "without invariance": {"invariance": 0.0},
    },
    "dino": {
        "DINO": {},
        "without centering": {"centering": False},
        "without sharpening": {"sharpening": False},
    },
}


def run_of(lab: Lab, method: str, title: str) -> Run:
    name = title.replace(" = ", "").replace(" ", "-").replace("τ", "tau").lower()
    options = FAMILIES[method][title]
    name = name if not options else f"{method}-{name}"
    return lab.run(name, method, quick_epochs=QUICK_EPOCHS, **{"epochs": EPOCHS} | options)


def judge(lab: Lab, key: str, encoder: nn.Module) -> dict[str, float]:
    """Probe and neighbors of the shape, and the measures that need no labels."""
    y, y_test = (part.factors["shape"] for part in (lab.data.train, lab.data.test))
    z, z_test = lab.features(key, encoder)
    return {
        "probe": linear_probe(z, y, z_test, y_test).test,
        "knn": knn_accuracy(z, y, z_test, y_test),
    } | health.summary(torch.from_numpy(z_test[:2000]))


def first_alarm(rows: list[dict[str, float]]) -> int | None:
    """The epoch after which the training said that it collapsed; None if it never did."""
    for i, row in enumerate(rows):
        if i and health.alarm(row, rows[:i]):
            return int(row["epoch"])
    return None


def history(run: Run) -> list[dict[str, float]]:
    columns = read_csv(run.path / "metrics.csv")
    return [{k: v[i] for k, v in columns.items()} for i in range(len(columns["epoch"]))]


def entropy(lab: Lab, run: Run) -> float:
    """Of what DINO's teacher says of test images, as a share of ln K."""
    method: Any = reopen(run)
    method.progress = 1.0
    x = to_float(torch.from_numpy(lab.data.test.x[:500]), lab.data.range)
    return method.entropy(x)


def of_family(lab: Lab, method: str) -> Finding:
    random = judge(lab, "random", lab.random())
    found: dict[str, dict[str, Any]] = {}
    curves: dict[str, dict[str, tuple[list[float], list[float]]]] = {"std": {}, "spread": {}}
    for title in FAMILIES[method]:
        run = run_of(lab, method, title)
        rows = history(run)
        found[title] = judge(lab, f"{method} {title}", run.encoder) | {
            "loss": rows[-1]["loss"],
            "alarm": first_alarm(rows),
        }
        if "projection_std" in rows[-1]:
            found[title]["projection_std"] = rows[-1]["projection_std"]
        found[title]["collapsed"] = found[title]["probe"] <= random["probe"] + MARGIN
        half = (random["probe"] + found[next(iter(found))]["probe"]) / 2
        found[title]["healthy"] = found[title]["probe"] > half
        if method == "dino":
            found[title]["entropy"] = entropy(lab, run)
        for key, lines in curves.items():
            lines[title] = [r["epoch"] for r in rows], [r[key] for r in rows]
    whole, *ablated = found
    fallen = [title for title in ablated if found[title]["collapsed"]]
    rang = [title for title in found if found[title]["alarm"] is not None]
    missed = [t for t in found if found[t]["collapsed"] and t not in rang]
    false = [t for t in rang if found[t]["healthy"]]
    columns = ["loss", "std", "projection_std", "rankme", "spread"]
    columns += ["entropy"] if method == "dino" else []
    claims: dict[int, tuple[bool | None, str]] = {}
    if method == "simclr":
        told = ", ".join(f"{t}: {100 * f['probe']:.2f} %" for t, f in found.items())
        claims[8] = (bool(fallen) and not found[whole]["collapsed"], told)
    return Finding(
        {"runs": found, "random": random, "missed": missed, "false": false},
        f"{whole} as it is, and without each of the parts that keep it from collapse; "
        f"{QUICK_EPOCHS if lab.quick else EPOCHS} epochs each on the same images. Collapsed "
        f"means that a linear decoder reads the shape no better than from a random encoder "
        f"({100 * random['probe']:.2f} %), healthy that it is nearer to the whole method's.",
        (f"What collapsed: {', '.join(fallen)}. " if fallen else "None of these collapsed. ")
        + f"{whole} itself reaches {100 * found[whole]['probe']:.2f} %. The alarm of the training "
        + (f"rang for: {', '.join(rang)}. " if rang else "rang for none. ")
        + (f"It missed: {', '.join(missed)}. " if missed else "It missed none. ")
        + (f"It was wrong about: {', '.join(false)}." if false else "No healthy run set it off."),
        [
            Table(
                "Probe, measures without labels, and the epoch of the alarm",
                [
                    "",
                    "probe %",
                    "k-NN %",
                    *(c.replace("_", " ") for c in columns),
                    "alarm",
                ],
                [
                    [
                        title,
                        f"{100 * f['probe']:.2f}",
                        f"{100 * f['knn']:.2f}",
                        *(f"{f[c]:.3f}" if c in f else "–" for c in columns),
                        str(f.get("alarm") or "–"),
                    ]
                    for title, f in [*found.items(), ("random", random)]
                ],
            )
        ],
        [(f"{key} by epoch", plots.curves_image(lines, key)) for key, lines in curves.items()],
        claims,
    )


def _experiment(key: str, title: str, question: str, method: str) -> Experiment:
    minutes = 1.8 * len(FAMILIES[method])
    return Experiment(key, title, question, lambda lab: of_family(lab, method), minutes)


EXPERIMENTS = [
    _experiment("C1", "SimCLR", "What are the negatives for?", "simclr"),
    _experiment("C2", "BYOL", "What holds it up without negatives?", "byol"),
    _experiment("C3", "SimSiam", "And without a slow target?", "simsiam"),
    _experiment("C4", "VICReg", "What does each term do?", "vicreg"),
    _experiment("C5", "DINO", "Why center, why sharpen?", "dino"),
]
