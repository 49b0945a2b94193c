"""Local learning: how far one comes without a gradient that goes through all layers."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from unlabeled.augmentations import RandomHorizontalFlip
from unlabeled.augmentations.color import rgb_to_grayscale
from unlabeled.core import Batch
from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.open import open_data
from unlabeled.evaluation.layers import Layer, evaluate_stages, table
from unlabeled.evaluation.probe import linear_probe
from unlabeled.objectives.local_rule import learn_from_reward, predict_class
from unlabeled.report import plots
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training.local import kept_bytes
from unlabeled.training.prepare import prepare

TITLE = "Local learning: every stage by itself"
LEAD = (
    "Backpropagation sends an error down through all layers, which no brain is known to do. Here "
    "each stage of a network learns from what it sees itself. Does a hierarchy grow nonetheless?"
)


def photographs() -> Splits:
    """CIFAR-10 in gray, as the paper of CLAPP has STL-10: colors tell one image from another."""
    splits = open_data("cifar10")
    train, test = (replace(part, x=gray(part.x[:])) for part in (splits.train, splits.test))
    return replace(splits, name="cifar10, gray", train=train, test=test)


def gray(x: np.ndarray) -> np.ndarray:
    """LazyImages (N, 3, H, W) of uint8 -> (N, 1, H, W)."""
    parts = (rgb_to_grayscale(part.float()) for part in torch.from_numpy(x).split(5000))
    return torch.cat([part.round().byte() for part in parts]).numpy()


DATA = photographs


CLAIMS: dict[int, str] = {}
MINUTES, QUICK_MINUTES = 6.0, 0.1
WIDTH = 16
RANDOM = 5
"""Random encoders whose mean is compared with."""
PROBED = 10_000
"""Training images whose labels the probes learn from."""
PUBLISHED = {"CLAPP": 0.736, "hinge CPC, end to end": 0.803}
"""On STL-10, Illing et al. 2021, table 1, with VGG-6 and 300 epochs; the gap counts, not these."""
AHEAD: dict[str, Any] = {"prediction_steps": 3, "skip_steps": 1}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLAPP": ("clapp", AHEAD),
    "CLAPP, by the rule": ("clapp", AHEAD | {"rule": "hebbian"}),
    "CPC by stages": ("cpc", AHEAD | {"local": True}),
    "SimCLR by stages": ("simclr", {"local": True}),
    "VICReg by stages": ("vicreg", {"local": True}),
    "BYOL by stages": ("byol", {"local": True}),
    "hinge CPC, end to end": ("cpc", AHEAD | {"objective": "hinge"}),
    "CPC, end to end": ("cpc", AHEAD),
    "CPC v2, end to end": (
        "cpc",
        AHEAD | {"directions": 4, "encoder_args": {"width": WIDTH, "norm": "layer"}},
    ),
    "SimCLR, end to end": ("simclr", {}),
    "supervised": ("supervised", {"augment": RandomHorizontalFlip()}),
}
BOTH = ("simclr", "vicreg", "byol", "cpc")


def options_of(title: str) -> tuple[str, dict[str, Any]]:
    """The method, and what it is trained with: the same network for all."""
    method, options = WAYS[title]
    fast = {"batch_size": 64, "optimizer": "adam", "schedule": "one_cycle", "lr": 1e-3}
    network = {"encoder": "patches", "encoder_args": {"width": WIDTH}}
    return method, network | fast | {"weight_decay": 0.0} | options


def trained(lab: Lab, title: str) -> Run:
    """The run of a way to learn, for the same time as all others; by the rule, for as long as
    without it.
    """
    method, options = options_of(title)
    name = title.replace(", ", "-").replace(" ", "-").lower()
    alike = title.partition(",")[0] if title == "CLAPP, by the rule" else title
    same, their = options_of(alike)
    minutes = QUICK_MINUTES if lab.quick else MINUTES
    epochs = lab.epochs_for(alike, same, minutes, **their)
    return lab.run(name, method, epochs=epochs, **options)


def probed(lab: Lab) -> Splits:
    """The images that probes learn from and are asked about."""
    rows = np.random.default_rng(0).permutation(len(lab.data.train))[:PROBED]
    return replace(lab.data, train=lab.data.train.take(np.sort(rows)))


def l1(lab: Lab) -> Finding:
    data = probed(lab)
    found: dict[str, list[Layer]] = {}
    epochs: dict[str, int] = {}
    for title in WAYS:
        run = trained(lab, title)
        found[title], epochs[title] = (
            evaluate_stages(run.encoder, data),
            run.config["recipe"]["epochs"],
        )
    found["random"], apart_by = random_stages(lab, data)
    found["random, as CPC v2"], _ = random_stages(lab, data, norm="layer")
    clapp = [layer.linear for layer in found["CLAPP"]]
    random = [layer.linear for layer in found["random"]]
    rises = all(a < b for a, b in itertools.pairwise(clapp))
    above = all(a > b for a, b in zip(clapp, random, strict=True))
    told = ", ".join(
        f"{100 * v:.1f} ± {100 * d:.1f}" for v, d in zip(random, apart_by, strict=True)
    )
    last = {title: layers[-1].linear for title, layers in found.items()}
    gap = last["hinge CPC, end to end"] - last["CLAPP"]
    published = PUBLISHED["hinge CPC, end to end"] - PUBLISHED["CLAPP"]
    apart = last["CLAPP"] - last["CLAPP, by the rule"]
    return Finding(
        {
            "layers": {title: table(layers) for title, layers in found.items()},
            "epochs": epochs,
            "clapp_rises": rises,
            "clapp_above_random_everywhere": above,
            "deviation_of_random": apart_by,
            "gap_to_end_to_end": gap,
            "published_on_stl10": PUBLISHED,
            "rule_apart": apart,
        },
        f"All train the same four stages, on overlapping patches of {len(lab.data.train):,} "
        f"gray photographs, for about {QUICK_MINUTES if lab.quick else MINUTES:g} minutes. A "
        "linear decoder reads every stage, pooled over its places, with "
        f"{len(data.train):,} labels.",
        f"CLAPP's stages read {', '.join(f'{100 * v:.1f}' for v in clapp)} %, random weights "
        f"{told} %. Hinge CPC end to end ends "
        f"{100 * gap:.1f} points above CLAPP; on STL-10 {100 * published:.1f} were published. The "
        f"explicit rule, without backpropagation, ends {100 * abs(apart):.1f} points from that.",
        [
            Table(
                "By stage, test accuracy in %",
                ["", *(f"stage {layer.stage}" for layer in found["random"]), "epochs"],
                [
                    [t, *(f"{100 * v.linear:.1f}" for v in layers), str(epochs.get(t, 0))]
                    for t, layers in found.items()
                ],
            )
        ],
        [("every stage", plots.layers_image(found, str(data.target)))],
    )


def random_stages(lab: Lab, data: Splits, **arguments: Any) -> tuple[list[Layer], list[float]]:
    """Stages of encoders that learned nothing: the mean of some, and the deviation of the probe."""
    every = [
        evaluate_stages(lab.random("patches", seed, width=WIDTH, **arguments), data)
        for seed in range(RANDOM)
    ]
    stages = list(zip(*every, strict=True))
    mean = [
        replace(
            same[0],
            linear=float(np.mean([layer.linear for layer in same])),
            gap=float(np.mean([layer.gap for layer in same])),
        )
        for same in stages
    ]
    return mean, [float(np.std([layer.linear for layer in same], ddof=1)) for same in stages]


def l2(lab: Lab) -> Finding:
    few = replace(lab.data, train=lab.data.train.take(np.arange(min(64, len(lab.data.train)))))
    x = to_float(torch.from_numpy(few.train.x[:]), few.range)
    kept: dict[str, dict[str, int]] = {}
    for name in BOTH:
        kept[name] = {}
        for way, local in (("end to end", False), ("by stages", True)):
            encoder = "patches" if name == "cpc" else "resnet18"
            args = {"width": WIDTH if name == "cpc" else 0.25}
            job = prepare(name, few, local=local, encoder=encoder, encoder_args=args)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                views = job.method.views(Batch(x, torch.arange(len(x))))
            kept[name][way] = kept_bytes(job.method, views)
    saved = {name: 1 - f["by stages"] / f["end to end"] for name, f in kept.items()}
    least, most = min(saved, key=lambda n: saved[n]), max(saved, key=lambda n: saved[n])
    return Finding(
        {"kept_bytes": kept, "saved": saved},
        f"What autograd keeps for the gradients of a step of {len(x)} images: of all stages "
        "at once, or of the greediest stage and its head. SimCLR, VICReg and BYOL on a narrow "
        "ResNet-18, CPC on patches.",
        f"By stages saves from {100 * saved[least]:.0f} % ({least}) to {100 * saved[most]:.0f} % "
        f"({most}).",
        [
            Table(
                "Kept for a step, MB",
                ["", "end to end", "by stages", "saved, %"],
                [
                    [n, *(f"{v / 1e6:.1f}" for v in f.values()), f"{100 * saved[n]:.0f}"]
                    for n, f in kept.items()
                ],
            )
        ],
    )


def l3(lab: Lab) -> Finding:
    data = probed(lab)
    y, y_test = (part.factors[str(data.target)] for part in (data.train, data.test))
    encoders = {
        "CLAPP": trained(lab, "CLAPP").encoder,
        "random": lab.random("patches", width=WIDTH),
    }
    found = {}
    for title, encoder in encoders.items():
        z, z_test = lab.features(f"reward {title}", encoder, data)
        found[title] = {
            "reward": float((predict_class(z_test, learn_from_reward(z, y)) == y_test).mean()),
            "labels": linear_probe(z, y, z_test, y_test).test,
        }
    ours = found["CLAPP"]
    return Finding(
        {"read_out": found, "chance": 1 / len(data.classes or np.unique(y))},
        "On frozen features one neuron a class is drawn at a time, and only whether that was right "
        "is told to all: weights change by what came in, what was done, and that one signal.",
        f"From reward alone {100 * ours['reward']:.1f} % are read from CLAPP's features, with "
        f"labels {100 * ours['labels']:.1f} %; from random features "
        f"{100 * found['random']['reward']:.1f} %.",
        [
            Table(
                "Read-outs of frozen features, test accuracy in %",
                ["", "from reward", "from labels"],
                [[t, *(f"{100 * v:.1f}" for v in f.values())] for t, f in found.items()],
            )
        ],
    )


EXPERIMENTS = [
    Experiment("L1", "Stage by stage", "Does the probe rise with depth, and how far?", l1, 36),
    Experiment("L2", "Memory", "What is saved?", l2, 1),
    Experiment("L3", "From reward", "Can a class be learned from praise alone?", l3, 2),
]
