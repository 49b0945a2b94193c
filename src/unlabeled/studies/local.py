"""Local learning: training each stage of an encoder without end-to-end backpropagation."""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from unlabeled.augmentations import RandomHorizontalFlip
from unlabeled.augmentations.color import rgb_to_grayscale
from unlabeled.core import Batch
from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.open import open_data
from unlabeled.evaluation.layers import Layer, evaluate_stages
from unlabeled.evaluation.metric import Value
from unlabeled.modality import Images
from unlabeled.objectives.local_rule import learn_from_reward, predict_class
from unlabeled.report import plots
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, Way, run_name
from unlabeled.training.local import saved_bytes
from unlabeled.training.prepare import prepare

TITLE = "Local learning: training each stage separately"
LEAD = (
    "Backpropagation sends an error signal through all layers, which is biologically implausible. "
    "Here each stage of a network is trained by a loss of its own. Do features still improve with "
    "depth?"
)


def grayscale_cifar10() -> Splits:
    """CIFAR-10 in grayscale, as CLAPP uses STL-10, since colors alone identify an image."""
    splits = open_data("cifar10")
    modality = Images(1, (32, 32))
    train, test = (
        replace(part, x=gray(part.x[:]), modality=modality) for part in (splits.train, splits.test)
    )
    return replace(splits, name="cifar10, gray", train=train, test=test)


def gray(x: np.ndarray) -> np.ndarray:
    """Convert images (N, 3, H, W) of uint8 to grayscale (N, 1, H, W)."""
    parts = (rgb_to_grayscale(part.float()) for part in torch.from_numpy(x).split(5000))
    return torch.cat([part.round().byte() for part in parts]).numpy()


DATA = grayscale_cifar10
CLAIMS: dict[int, str] = {}
PUBLISHED = {"CLAPP": 0.736, "hinge CPC, end to end": 0.803}
"""On STL-10: Illing et al. 2021, table 1, VGG-6, 300 epochs; only the difference is compared."""
AHEAD: dict[str, Any] = {"prediction_steps": 3, "skip_steps": 1}
WAYS: dict[str, Way] = {
    "CLAPP": ("clapp", AHEAD),
    "CLAPP, local rule": ("clapp", AHEAD | {"rule": "hebbian"}),
    "CPC by stages": ("cpc", AHEAD | {"local": True}),
    "SimCLR by stages": ("simclr", {"local": True}),
    "VICReg by stages": ("vicreg", {"local": True}),
    "BYOL by stages": ("byol", {"local": True}),
    "hinge CPC, end to end": ("cpc", AHEAD | {"objective": "hinge"}),
    "CPC, end to end": ("cpc", AHEAD),
    "CPC v2, end to end": ("cpc", AHEAD | {"directions": 4, "encoder_args": {"norm": "layer"}}),
    "SimCLR, end to end": ("simclr", {}),
    "supervised": ("supervised", {"augment": RandomHorizontalFlip()}),
}
LOCAL_METHODS = ("simclr", "vicreg", "byol", "cpc")


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    #: each way of training has the operations of that many epochs of SimCLR, end to end
    epochs: float = 2
    width: int = 16  #: width of the encoder
    #: method and arguments of each way of training, by title
    ways: Mapping[str, Way] = field(default_factory=WAYS.copy)
    random: int = 5  #: random encoders that are averaged as a baseline
    probe_samples: int = 10_000  #: training images of linear probes


SETTINGS, QUICK = Settings(), Settings(epochs=0.1)


def options_of(lab: Lab, title: str) -> Way:
    """Method and arguments of a way of training; the network is the same for all."""
    method, options = lab.settings.ways[title]
    common = {"batch_size": 64, "optimizer": "adam", "schedule": "one_cycle", "lr": 1e-3}
    args = {"width": lab.settings.width} | options.get("encoder_args", {})
    network = {"encoder": "patches", "weight_decay": 0.0}
    return method, network | common | options | {"encoder_args": args}


def trained(lab: Lab, title: str) -> Run:
    """Train with as many operations as all others; CLAPP's rule as many epochs as autograd."""
    method, options = options_of(lab, title)
    counted = options_of(lab, "CLAPP" if title == "CLAPP, local rule" else title)
    reference = options_of(lab, "SimCLR, end to end")
    epochs = lab.epochs_like(lab.settings.epochs, reference, counted)
    return lab.run(run_name(title), method, epochs=epochs, **options)


def probed(lab: Lab) -> Splits:
    """Training and test images of linear probes."""
    rows = np.random.default_rng(0).permutation(len(lab.data.train))[: lab.settings.probe_samples]
    return replace(lab.data, train=lab.data.train.take(np.sort(rows)))


def l1(lab: Lab) -> Finding:
    data = probed(lab)
    results: dict[str, list[Layer]] = {}
    epochs: dict[str, int] = {}
    for title in lab.settings.ways:
        run = trained(lab, title)
        results[title] = evaluate_stages(run.encoder, data)
        epochs[title] = run.config["recipe"]["epochs"]
    results["random"], deviations = random_stages(lab, data)
    results["random, as CPC v2"], _ = random_stages(lab, data, norm="layer")
    clapp, random = (_probes(results[title]) for title in ("CLAPP", "random"))
    rises = all(a < b for a, b in itertools.pairwise(clapp))
    above = all(a > b for a, b in zip(clapp, random, strict=True))
    baseline = ", ".join(
        f"{100 * v:.1f} ± {100 * d:.1f}" for v, d in zip(random, deviations, strict=True)
    )
    last = {title: _probes(layers)[-1] for title, layers in results.items()}
    gap = last["hinge CPC, end to end"] - last["CLAPP"]
    published = PUBLISHED["hinge CPC, end to end"] - PUBLISHED["CLAPP"]
    difference = last["CLAPP"] - last["CLAPP, local rule"]
    shown = Table(
        "Linear probe accuracy by stage, %",
        ["", *(f"stage {layer.stage}" for layer in results["random"]), "epochs"],
        [
            [t, *(f"{100 * v:.1f}" for v in _probes(layers)), str(epochs.get(t, 0))]
            for t, layers in results.items()
        ],
    )
    return Finding(
        {
            "layers": {
                title: [
                    {"stage": v.stage, "dim": v.dim, "linear": probe, "gap": gap}
                    for v, probe, gap in zip(layers, _probes(layers), _gaps(layers), strict=True)
                ]
                for title, layers in results.items()
            },
            "epochs": epochs,
            "clapp_rises": rises,
            "clapp_above_random_everywhere": above,
            "deviation_of_random": deviations,
            "gap_to_end_to_end": gap,
            "published_on_stl10": PUBLISHED,
            "rule_difference": difference,
        },
        f"All train the same four stages on overlapping patches of {len(lab.data.train):,} "
        f"grayscale images with the operations of {lab.settings.epochs:g} epochs of SimCLR. A "
        f"linear probe with {len(data.train):,} labels is trained on every stage, averaged over "
        "positions.",
        f"Linear probe accuracy of CLAPP by stage: {', '.join(f'{100 * v:.1f}' for v in clapp)} %; "
        f"of random weights: {baseline} %. Hinge CPC end to end is {100 * gap:.1f} points better "
        f"than CLAPP at the last stage (published on STL-10: {100 * published:.1f}). CLAPP's local "
        f"rule without backpropagation differs by {100 * abs(difference):.1f} points.",
        [shown],
        [("linear probe accuracy by stage", plots.layers_image(results, str(data.target)))],
    )


def _probes(layers: Iterable[Layer]) -> list[float]:
    return [float(layer.linear_probe.value or 0) for layer in layers]


def _gaps(layers: Iterable[Layer]) -> list[float]:
    gaps = (layer.similarity_gap_centered.value for layer in layers)
    return [math.nan if gap is None else float(gap) for gap in gaps]


def random_stages(lab: Lab, data: Splits, **arguments: Any) -> tuple[list[Layer], list[float]]:
    """Stages of random encoders: mean figures, and standard deviation of the probe accuracy."""
    width = lab.settings.width
    runs = [
        evaluate_stages(lab.random("patches", seed, width=width, **arguments), data)
        for seed in range(lab.settings.random)
    ]
    layers, deviations = [], []
    for same in zip(*runs, strict=True):
        linear = _probes(same)
        means = Value(float(np.mean(linear))), Value(float(np.mean(_gaps(same))))
        layers.append(Layer(same[0].stage, same[0].dim, *means))
        deviations.append(float(np.std(linear, ddof=1)))
    return layers, deviations


def l2(lab: Lab) -> Finding:
    few = replace(lab.data, train=lab.data.train.take(np.arange(min(64, len(lab.data.train)))))
    x = to_float(torch.from_numpy(few.train.x[:]), few.value_range)
    memory: dict[str, dict[str, int]] = {}
    for name in LOCAL_METHODS:
        memory[name] = {}
        for way, local in (("end to end", False), ("by stages", True)):
            encoder = "patches" if name == "cpc" else "resnet18"
            args = {"width": lab.settings.width if name == "cpc" else 0.25}
            job = prepare(name, few, local=local, encoder=encoder, encoder_args=args)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                views = job.method.views(Batch(x, torch.arange(len(x))))
            memory[name][way] = saved_bytes(job.method, views)
    saved = {name: 1 - f["by stages"] / f["end to end"] for name, f in memory.items()}
    least, most = min(saved, key=lambda n: saved[n]), max(saved, key=lambda n: saved[n])
    shown = Table(
        "Memory of a step, MB",
        ["", "end to end", "by stages", "saved, %"],
        [
            [n, *(f"{v / 1e6:.1f}" for v in f.values()), f"{100 * saved[n]:.0f}"]
            for n, f in memory.items()
        ],
    )
    return Finding(
        {"kept_bytes": memory, "saved": saved},
        f"Memory that autograd keeps for the gradients of a step with {len(x)} images: of all "
        "stages, or of the largest stage with its head. SimCLR, VICReg and BYOL with a narrow "
        "ResNet-18, CPC on patches.",
        f"Local learning saves from {100 * saved[least]:.0f} % ({least}) to "
        f"{100 * saved[most]:.0f} % ({most}).",
        [shown],
    )


def l3(lab: Lab) -> Finding:
    data = probed(lab)
    y, y_test = lab.labels(data=data)
    encoders = {
        "CLAPP": trained(lab, "CLAPP").encoder,
        "random": lab.random("patches", width=lab.settings.width),
    }
    results = {}
    for title, encoder in encoders.items():
        z, z_test = lab.features(f"reward {title}", encoder, data)
        results[title] = {
            "reward": float((predict_class(z_test, learn_from_reward(z, y)) == y_test).mean()),
            "labels": lab.probe(f"reward {title}", encoder, data=data).test,
        }
    ours = results["CLAPP"]
    shown = Table.of(
        "Accuracy of readouts of frozen features, %", ["from reward", "from labels"], results, ".1%"
    )
    return Finding(
        {"readout": results, "chance": 1 / len(data.classes or np.unique(y))},
        "On frozen features, the readout samples one class at a time and gets a reward if it is "
        "correct. Weights change by the input, the sampled class and the reward only.",
        f"Accuracy of a readout trained by reward is {100 * ours['reward']:.1f} % on CLAPP's "
        f"features (with labels: {100 * ours['labels']:.1f} %) and "
        f"{100 * results['random']['reward']:.1f} % on random features.",
        [shown],
    )


EXPERIMENTS = [
    Experiment("L1", "Stage by stage", "Does accuracy increase with depth?", l1, 36),
    Experiment("L2", "Memory", "How much does local learning save?", l2, 1),
    Experiment("L3", "Readout by reward", "Can classes be learned from a reward?", l3, 2),
]
