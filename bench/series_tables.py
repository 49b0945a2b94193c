"""SCARF on tables and TS2Vec on time series, beside raw values, PCA and random weights.

Each seed draws another split (a fifth is tested on), other random weights and another order. The
scale of each column and everything that is fitted comes from the training part. Settings are chosen
by linear probes on a quarter of the training part of seed 0 that is held out; the test part
chooses nothing. Intervals are Student's, over seeds.

    python bench/series_tables.py
    python bench/series_tables.py --only wine --seeds 2
"""

from __future__ import annotations

import argparse
import copy
import itertools
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from torch import nn

import unlabeled as ul
from unlabeled.core import Batch
from unlabeled.data.dataset import Splits
from unlabeled.data.split import sample_labels
from unlabeled.data.standardize import read_rows, standardized
from unlabeled.encoders.features import build_for
from unlabeled.errors import Notice
from unlabeled.evaluation.metric import Subject
from unlabeled.modality import Series, Table
from unlabeled.training.folder import versions
from unlabeled.training.prepare import prepare
from unlabeled.utils.files import write_json

FEW = 10
"""Labels of a class of the probes with few labels."""
GRIDS: dict[str, dict[str, list[Any]]] = {
    "scarf": {"steps": [200, 800], "corruption_rate": [0.3, 0.6]},
    "ts2vec": {"steps": [100, 300]},
}
"""Settings that are tried; steps are those of the optimizer."""
SMALL: dict[str, dict[str, Any]] = {"scarf": {}, "ts2vec": {"width": 32, "dim": 64}}
"""Arguments of the encoders: the paper's for tables, a tenth of its operations for series."""
KINDS: dict[str, type] = {"scarf": Table, "ts2vec": Series}


def processes(n: int = 600, length: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Series (n, length) of six processes, and which each is, (n,).

    Slow and fast sines, square waves, chirps, and autoregressive processes of order 1 and 2, the
    last of which resonates at the frequency of the slow sines. Phase, frequency, amplitude, offset,
    trend and noise are random and tell nothing.
    """
    rng = np.random.default_rng(seed)
    t, y = np.arange(length), np.arange(n) % 6
    rows = []
    for kind in y:
        phase, slow, fast = (
            rng.random() * 2 * np.pi,
            rng.uniform(0.04, 0.06),
            rng.uniform(0.07, 0.09),
        )
        if kind in (0, 1, 2):
            x = np.sin(2 * np.pi * (fast if kind == 1 else slow) * t + phase)
            x = np.sign(x) if kind == 2 else x
        elif kind == 3:
            x = np.sin(2 * np.pi * (0.03 + 0.035 * t / length) * t + phase)
        else:
            first, second = (0.9, 0.0) if kind == 4 else (1.9 * np.cos(2 * np.pi * slow), -0.9025)
            x = np.zeros(length + 100)
            noise = rng.normal(size=len(x))
            for i in range(2, len(x)):
                x[i] = first * x[i - 1] + second * x[i - 2] + noise[i]
            x = x[100:]
        x = x / x.std() + 0.5 * rng.normal(size=length)
        rows.append(np.exp(0.3 * rng.normal()) * x + rng.normal() + rng.normal() * t / length)
    return np.stack(rows), y


def digits_as_series() -> tuple[np.ndarray, np.ndarray]:
    """The digits of scikit-learn, column by column: 8 timestamps of 8 channels."""
    x, y = datasets.load_digits(return_X_y=True)
    return x.reshape(-1, 8, 8).swapaxes(1, 2), y


DATA: dict[str, tuple[str, Any]] = {
    "breast_cancer": ("scarf", lambda: datasets.load_breast_cancer(return_X_y=True)),
    "processes": ("ts2vec", processes),
    "wine": ("scarf", lambda: datasets.load_wine(return_X_y=True)),
    "digits": ("scarf", lambda: datasets.load_digits(return_X_y=True)),
    "digits_as_series": ("ts2vec", digits_as_series),
}


def drawn(x: np.ndarray, y: np.ndarray, kind: type, seed: int) -> Splits:
    """A random split of the seed; four fifths to learn from."""
    order = np.random.default_rng(seed).permutation(len(x))
    return ul.open_data((x[order], y[order]), kinds=(kind,))


def held_out(x: np.ndarray, y: np.ndarray, kind: type) -> Splits:
    """Of the training part of seed 0, three quarters to learn from and a quarter to choose by."""
    order = np.random.default_rng(0).permutation(len(x))
    train = order[np.random.default_rng(0).permutation(len(x))[round(0.2 * len(x)) :]]
    samples = read_rows((x[train], y[train]), None, (kind,))
    assert samples is not None
    rows, few = np.arange(len(train)), len(train) // 4
    parts = samples.take(rows[few:]), samples.take(rows[:few])
    return standardized(Splits("held out", *parts, target="label"))


def trained(
    method: str, splits: Splits, seed: int, setting: dict[str, Any]
) -> tuple[nn.Module, nn.Module]:
    """The encoder of the method, and the one with the random weights that it began with.

    The method's recipe in a plain loop: the learner also measures health and writes checkpoints
    after each epoch, of which a table of 178 rows has hundreds.
    """
    options = {name: value for name, value in setting.items() if name != "steps"}
    job = prepare(method, splits, seed=seed, encoder_args=SMALL[method], **options)
    learner, recipe, random = job.method, job.recipe, copy.deepcopy(job.method.encoder)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    optimizer = kind(learner.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    x = torch.from_numpy(splits.train.x)
    torch.manual_seed(seed)
    order = torch.zeros(0, dtype=torch.long)
    for _ in range(setting["steps"]):
        if len(order) < recipe.batch_size:
            order = torch.randperm(len(x))
        rows, order = order[: recipe.batch_size], order[recipe.batch_size :]
        optimizer.zero_grad()
        learner.loss(learner.views(Batch(x[rows], rows))).backward()
        optimizer.step()
        with torch.no_grad():
            learner.update()
    return learner.encoder.eval(), random.eval()


def accuracies(name: str, encoder: nn.Module, splits: Splits) -> dict[str, float]:
    """Test accuracy of a linear probe of all and of few labels, and of k-NN."""
    subject = Subject(name, splits, encoder)
    few = splits.train.take(sample_labels(subject.y, FEW * len(np.unique(subject.y))))
    few_subject = Subject(name, Splits("few", few, splits.test, splits.target), encoder)
    return {
        "linear_probe": subject.probe.test,
        "knn": float((subject.knn_predicted == subject.y_test).mean()),
        "linear_probe_few_labels": few_subject.probe.test,
    }


def forest(splits: Splits, seed: int) -> dict[str, float]:
    """A random forest of all training labels, the usual reference for tables."""
    x, x_test = (part.x[:].reshape(len(part), -1) for part in (splits.train, splits.test))
    y, y_test = (part.factors["label"] for part in (splits.train, splits.test))
    model = RandomForestClassifier(200, random_state=seed).fit(x, y)
    return {"linear_probe": float(model.score(x_test, y_test))}


def interval(values: list[float]) -> dict[str, float]:
    """Mean over seeds and its 95 % interval by Student's t."""
    mean = float(np.mean(values))
    half = (
        float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)) if len(values) > 1 else 0.0
    )
    return {"value": mean, "low": mean - half, "high": mean + half}


def measure(name: str, seeds: int) -> dict[str, Any]:
    """Everything about one data set."""
    method, load = DATA[name]
    (x, y), kind, started = load(), KINDS[method], time.process_time()
    tried = []
    inner = held_out(x, y, kind)
    for values in itertools.product(*GRIDS[method].values()):
        options = dict(zip(GRIDS[method], values, strict=True))
        encoder, _ = trained(method, inner, 0, options)
        tried.append(options | {"held_out": accuracies(method, encoder, inner)["linear_probe"]})
    best = max(tried, key=lambda option: option["held_out"])
    chosen = {key: best[key] for key in GRIDS[method]}
    found: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        splits = drawn(x, y, kind, seed)
        encoder, random = trained(method, splits, seed, chosen)
        encoders = {method: encoder, "random": random}
        names = ("raw", "pca", "spectrum") if kind is Series else ("raw", "pca")
        encoders |= {baseline: build_for(baseline, splits) for baseline in names}
        results = {key: accuracies(key, encoder, splits) for key, encoder in encoders.items()}
        results["random_forest"] = forest(splits, seed)
        for key, values_of in results.items():
            for metric, value in values_of.items():
                found.setdefault(key, {}).setdefault(metric, []).append(value)
        print(name, seed, {k: round(v["linear_probe"], 3) for k, v in results.items()}, flush=True)
    gains = {
        other: {
            metric: interval(list(np.subtract(found[method][metric], values)))
            for metric, values in metrics.items()
        }
        for other, metrics in found.items()
        if other != method
    }
    return {
        "method": method,
        "rows": len(x),
        "shape": list(x.shape[1:]),
        "classes": len(np.unique(y)),
        "tested": len(splits.test),
        "tried": tried,
        "chosen": chosen,
        "accuracy": {
            key: {metric: interval(values) for metric, values in metrics.items()}
            for key, metrics in found.items()
        },
        "gain_over": gains,
        "cpu_seconds": round(time.process_time() - started),
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(DATA))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("results/series_tables.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", Notice)
    names = [args.only] if args.only else list(DATA)
    settings = {"seeds": args.seeds, "few_labels_per_class": FEW, "encoder_args": SMALL}
    result: dict[str, Any] = {"settings": settings, "versions": versions(), "data": {}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for name in names:
        result["data"][name] = measure(name, args.seeds)
        write_json(args.out, result)


if __name__ == "__main__":
    main()
