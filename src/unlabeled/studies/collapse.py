"""Collapse: what prevents it in each method, what detects it, and how reliable the alarm is."""

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unlabeled.data.dataset import to_float
from unlabeled.report import plots
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training import health
from unlabeled.training.train import reopen
from unlabeled.utils.files import read_csv

TITLE = "Collapse of joint-embedding methods"
LEAD = (
    "Two views of an image should get the same features. The trivial solution is to give all "
    "images the same features. Each method has components that prevent this; here they are removed."
)
DATA = "dsprites"
CLAIMS = {
    8: "Negatives prevent collapse of SimCLR, the momentum target that of BYOL, and the variance "
    "and covariance terms that of VICReg."
}
MARGIN = 0.02
"""A run has collapsed if its probe is at most this much above that of a random encoder."""


@dataclass(frozen=True)
class Settings:
    """Epochs of each training."""

    epochs: int = 12


SETTINGS, QUICK = Settings(), Settings(epochs=4)

FAMILIES: dict[str, dict[str, dict[str, Any]]] = {
    "simclr": {"SimCLR": {}, "without negatives": {"negatives": 0}},
    "byol": {
        "BYOL": {},
        "without predictor": {"predictor": False},
        "without stop-gradient": {"stop_gradient": False},
        "τ = 0": {"momentum": 0.0},
    },
    "simsiam": {"SimSiam": {}, "without stop-gradient": {"stop_gradient": False}},
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
    return lab.run(name, method, **{"epochs": lab.settings.epochs} | options)


def evaluate(lab: Lab, key: str, encoder: nn.Module) -> dict[str, float]:
    """Linear probe and k-NN accuracy for the shape, and diagnostics without labels."""
    accuracies = {
        "probe": lab.probe(key, encoder, "shape").test,
        "knn": lab.knn(key, encoder, "shape"),
    }
    return accuracies | health.summary(torch.from_numpy(lab.features(key, encoder)[1][:2000]))


def first_alarm(epochs: list[dict[str, float]]) -> int | None:
    """First epoch after which training warned of collapse, or None."""
    for i, epoch in enumerate(epochs):
        if i and health.alarm(epoch, epochs[:i]):
            return int(epoch["epoch"])
    return None


def history(run: Run) -> list[dict[str, float]]:
    columns = read_csv(run.path / "metrics.csv")
    return [{k: v[i] for k, v in columns.items()} for i in range(len(columns["epoch"]))]


def entropy(lab: Lab, run: Run) -> float:
    """Entropy of the outputs of DINO's teacher for test images, as a share of ln K."""
    method: Any = reopen(run)
    x = to_float(torch.from_numpy(lab.data.test.x[:500]), lab.data.value_range)
    return method.entropy(x)


def of_family(lab: Lab, method: str) -> Finding:
    random = evaluate(lab, "random", lab.random())
    results: dict[str, dict[str, Any]] = {}
    curves: dict[str, dict[str, tuple[list[float], list[float]]]] = {"std": {}, "spread": {}}
    for title in FAMILIES[method]:
        run = run_of(lab, method, title)
        epochs = history(run)
        results[title] = evaluate(lab, f"{method} {title}", run.encoder)
        results[title] |= {"loss": epochs[-1]["loss"], "alarm": first_alarm(epochs)}
        if "projection_std" in epochs[-1]:
            results[title]["projection_std"] = epochs[-1]["projection_std"]
        results[title]["collapsed"] = results[title]["probe"] <= random["probe"] + MARGIN
        half = (random["probe"] + results[next(iter(results))]["probe"]) / 2
        results[title]["healthy"] = results[title]["probe"] > half
        if method == "dino":
            results[title]["entropy"] = entropy(lab, run)
        for key, lines in curves.items():
            lines[title] = [e["epoch"] for e in epochs], [e[key] for e in epochs]
    complete, *ablated = results
    collapsed = [title for title in ablated if results[title]["collapsed"]]
    alarmed = [title for title in results if results[title]["alarm"] is not None]
    missed = [t for t in results if results[t]["collapsed"] and t not in alarmed]
    false = [t for t in alarmed if results[t]["healthy"]]
    columns = ["loss", "std", "projection_std", "rankme", "spread"]
    columns += ["entropy"] if method == "dino" else []
    titles = ["linear probe %", "k-NN %", *(c.replace("_", " ") for c in columns), "alarm"]
    formats = {"probe": ".2%", "knn": ".2%"} | dict.fromkeys(columns, ".3f") | {"alarm": "d"}
    claims: dict[int, tuple[bool | None, str]] = {}
    if method == "simclr":
        accuracies = ", ".join(f"{t}: {100 * f['probe']:.2f} %" for t, f in results.items())
        claims[8] = (bool(collapsed) and not results[complete]["collapsed"], accuracies)
    caption = "Linear probe, k-NN, diagnostics without labels, and epoch of the alarm"
    table = Table.of(caption, titles, results | {"random": random}, formats)
    return Finding(
        {"runs": results, "random": random, "missed": missed, "false": false},
        f"{complete}, and the same method without each of the components that prevent collapse, "
        f"{lab.settings.epochs} epochs each on the same images. Collapsed means that the linear "
        f"probe is no better than for a random encoder ({100 * random['probe']:.2f} %), healthy "
        "that it is closer to the complete method.",
        f"Collapsed: {', '.join(collapsed) or 'none'}. {complete} reaches "
        f"{100 * results[complete]['probe']:.2f} %. Alarm during training: "
        f"{', '.join(alarmed) or 'none'}. Missed: {', '.join(missed) or 'none'}. False alarms: "
        f"{', '.join(false) or 'none'}.",
        [table],
        [(f"{key} by epoch", plots.curves_image(lines, key)) for key, lines in curves.items()],
        claims,
    )


QUESTIONS = {
    "simclr": "What are negatives for?",
    "byol": "What prevents collapse without negatives?",
    "simsiam": "And without a momentum target?",
    "vicreg": "What does each term contribute?",
    "dino": "Why centering and sharpening?",
}
EXPERIMENTS = [
    Experiment(f"C{n}", next(iter(FAMILIES[method])), question,
               functools.partial(of_family, method=method), 1.8 * len(FAMILIES[method]))
    for n, (method, question) in enumerate(QUESTIONS.items(), 1)
]  # fmt: skip
