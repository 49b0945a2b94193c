"""The lecture's day on dSprites: ten questions, from pixels to biased data.

Neuromatch Academy's self-supervised day, retold with encoders that are trained here.
"""

from __future__ import annotations

import copy
import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled.augmentations import (
    Augmentation,
    Compose,
    GaussianBlur,
    GaussianNoise,
    RandomAffine,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation90,
)
from unlabeled.data.bias import Rule, biased, control
from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.split import sample_labels
from unlabeled.encoders.base import build
from unlabeled.evaluation import rsa
from unlabeled.evaluation.baselines import FITTED_DIM, FITTED_ROWS
from unlabeled.evaluation.factors import probe_factors
from unlabeled.evaluation.few_labels import few_labels
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import Probe, linear_probe
from unlabeled.report import plots
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training.health import alpha_req, feature_std, lidar, rankme
from unlabeled.training.train import reopen

TITLE = "Learning representations: the lecture’s experiments"
LEAD = (
    "White squares, ellipses and hearts, each of six sizes, forty orientations and 32×32 places. "
    "What does an encoder have to learn so that the simplest decoder can say which shape it sees?"
)
DATA = "dsprites"
CLAIMS = {
    1: "Good representations make a linear decoder succeed where pixels fail.",
    2: "Supervised training induces invariance.",
    3: "Random projections help but are not enough.",
    4: "Good reconstruction does not give good features.",
    5: "Which affine transformations matter depends on the invariance wanted.",
    6: "SimCLR with a linear classifier matches supervised training.",
    7: "SimCLR's representation is as invariant as the supervised one.",
    8: "Negatives keep SimCLR from collapse.",
    9: "Pretraining cuts the labels needed to a tenth.",
    10: "Generative models take over the bias of the data, invariance learning may not.",
    12: "Single-layer methods (PCA, ICA, clustering) fail at object identity.",
}
CHANCE = 1 / 3
LENET_SIMCLR: dict[str, Any] = {"encoder": "lenet", "epochs": 40, "lr": 2e-3, "temperature": 0.2}
HEARTS_LEFT = Rule("shape", "x", {2: (0, 9), 1: (11, 20), 0: (22, 31)})
SQUARES_LEFT = Rule("shape", "x", {0: (0, 9), 1: (11, 20), 2: (22, 31)})
LABELS = (6, 30, 160, 800, 1600, 3200, 6400, 16000)
END_TO_END = (800, 1600, 3200, 6400)
END_TO_END_VIEWS: dict[str, Augmentation] = {
    "end to end, plain": Compose([]),
    "end to end, views": RandomAffine(),
}
BATCH = 500


# ---- encoders ------------------------------------------------------------------------------------


def supervised(lab: Lab, seed: int = 0) -> nn.Module:
    return lab.run("supervised", "supervised", seed, quick_epochs=3).encoder


def supervised_lenet(lab: Lab, seed: int = 0) -> nn.Module:
    options: dict[str, Any] = {"encoder": "lenet", "epochs": 30, "lr": 2e-3}
    return lab.run("supervised-lenet", "supervised", seed, quick_epochs=3, **options).encoder


def simclr(lab: Lab, seed: int = 0) -> nn.Module:
    return lab.run("simclr", "simclr", seed, quick_epochs=4).encoder


def simclr_lenet(lab: Lab, seed: int = 0) -> nn.Module:
    return lab.run("simclr-lenet", "simclr", seed, quick_epochs=4, **LENET_SIMCLR).encoder


def vae(lab: Lab, seed: int = 0) -> nn.Module:
    return lab.run("vae", "vae", seed, quick_epochs=5, encoder="lenet").encoder


def random_net(lab: Lab, seed: int = 0, name: str = "small") -> nn.Module:
    return lab.random(name, seed)


def fitted(lab: Lab, name: str) -> nn.Module:
    """Raw pixels, PCA, ICA or k-means, which no seed changes."""
    if name == "raw":
        return build("raw", lab.data.channels, lab.data.size)
    encoder = build(name, lab.data.channels, lab.data.size, dim=FITTED_DIM)
    few = to_float(torch.from_numpy(lab.data.train.x[:FITTED_ROWS]), lab.data.range)
    encoder.summary.fit(few)  # type: ignore[operator, union-attr]
    return encoder


def z_of(lab: Lab, name: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of an encoder of this file by its name, train and test."""
    if name in ("raw", "pca", "ica", "kmeans"):
        return lab.features(name, fitted(lab, name))
    makers: dict[str, Callable[[Lab, int], nn.Module]] = {
        "supervised": supervised,
        "supervised, LeNet": supervised_lenet,
        "SimCLR": simclr,
        "SimCLR, LeNet": simclr_lenet,
        "VAE": vae,
        "random": random_net,
        "random, LeNet": functools.partial(random_net, name="lenet"),
    }
    return lab.features(f"{name} {seed}", makers[name](lab, seed))


def probe(lab: Lab, name: str, seed: int = 0) -> Probe:
    """Linear probe of the shape."""
    z, z_test = z_of(lab, name, seed)
    return linear_probe(z, shapes(lab.data)[0], z_test, shapes(lab.data)[1])


def shapes(splits: Splits) -> tuple[np.ndarray, np.ndarray]:
    return splits.train.factors["shape"], splits.test.factors["shape"]


def seeds_of(lab: Lab, name: str) -> list[int]:
    """The lab's seeds, for what has more than one."""
    several = name in ("supervised", "SimCLR", "VAE", "random")
    return lab.seeds if several else [0]


def percent(values: float | Sequence[float]) -> str:
    """Mean ± standard deviation of shares, in per cent."""
    values = [values] if isinstance(values, float) else list(values)
    mean = f"{100 * statistics.mean(values):.2f}"
    return f"{mean} ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else mean


def number(values: float | Sequence[float]) -> str:
    """Mean ± standard deviation."""
    values = [values] if isinstance(values, float) else list(values)
    mean = f"{round(statistics.mean(values), 3) + 0.0:.3f}"  # + 0.0: no minus before a zero
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def mean(values: Sequence[float]) -> float:
    return statistics.mean(values)


def probed(lab: Lab, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Train and test accuracy of the linear probe, by encoder, a value for each seed."""
    found = {}
    for name in names:
        probes = [probe(lab, name, seed) for seed in seeds_of(lab, name)]
        found[name] = {"train": [p.train for p in probes], "test": [p.test for p in probes]}
    return found


def probe_table(found: dict[str, dict[str, list[float]]], caption: str) -> Table:
    rows = [[name, percent(f["train"]), percent(f["test"])] for name, f in found.items()]
    return Table(caption, ["", "train %", "test %"], rows)


def gaps(lab: Lab, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Same shape − other shape on the test images, by encoder and kind of similarity."""
    y = shapes(lab.data)[1]
    kinds: tuple[rsa.Kind, ...] = ("cosine", "centered", "pearson")
    return {
        name: {
            kind: [rsa.gap(z_of(lab, name, seed)[1], y, kind).gap for seed in seeds_of(lab, name)]
            for kind in kinds
        }
        for name in names
    }


def gap_table(found: dict[str, dict[str, list[float]]]) -> Table:
    return Table(
        "Similarity of test images, same shape − other shape",
        ["", "cosine", "cosine, mean taken off", "Pearson"],
        [
            [name, *(number(f[k]) for k in ("cosine", "centered", "pearson"))]
            for name, f in found.items()
        ],
    )


def matrices(
    lab: Lab, names: Sequence[str], factor: str = "shape"
) -> list[tuple[str, bytes | str]]:
    """Similarity matrices of 300 test images, sorted by a factor."""
    rows = np.sort(np.random.default_rng(0).permutation(len(lab.data.test))[:300])
    order = np.argsort(lab.data.test.factors[factor][rows], kind="stable")
    return [
        (f"{name}, sorted by {factor}", plots.similarity_image(z_of(lab, name)[1][rows], order))
        for name in names
    ]


def histograms(lab: Lab, names: Sequence[str]) -> list[tuple[str, bytes | str]]:
    y = shapes(lab.data)[1]
    return [
        (f"{name}: similarity of pairs", plots.histogram_image(z_of(lab, name)[1], y))
        for name in names
    ]


def factor_gaps(splits: Splits, z_test: np.ndarray) -> dict[str, float]:
    """For each factor, how much more alike images are that share it: 0 where it is ignored."""
    return {
        factor: rsa.gap(z_test, codes, "centered").gap
        for factor, codes in splits.test.factors.items()
    }


# ---- experiments ---------------------------------------------------------------------------------


def l1(lab: Lab) -> Finding:
    found = probed(lab, ["supervised", "raw", "pca", "ica", "kmeans", "random"])
    good, raw = mean(found["supervised"]["test"]), found["raw"]["test"][0]
    single = {k: found[k]["test"][0] for k in ("pca", "ica", "kmeans")}
    best = max(single, key=lambda k: single[k])
    return Finding(
        {"probe": found, "chance": CHANCE},
        "A linear decoder (logistic regression, to convergence) reads the shape from raw pixels, "
        "from what PCA, ICA and k-means make of them, and from the features of an encoder that was "
        "trained with labels.",
        f"From pixels it names {percent(raw)} % of the test images rightly, near the chance of "
        f"33.3 %, from the supervised features {percent(good)} %. The best of the single-layer "
        f"methods, {best}, comes to {percent(single[best])} %.",
        [probe_table(found, "Linear decoding of the shape")],
        claims={
            1: (good - raw > 0.5, f"{percent(good)} % against {percent(raw)} %"),
            12: (single[best] < 0.6, f"at most {percent(single[best])} %, by {best}"),
        },
    )


def l2(lab: Lab) -> Finding:
    names = ["supervised", "supervised, LeNet", "raw"]
    found = gaps(lab, names)
    factors = {name: factor_gaps(lab.data, z_of(lab, name)[1]) for name in names}
    trained, lenet, raw = (found[name]["cosine"] for name in names)
    others = {k: v for k, v in factors["supervised"].items() if k != "shape"}
    kept = max(others, key=lambda k: others[k])
    return Finding(
        {"gaps": found, "factor_gaps": factors},
        "The similarity of all pairs of test images, by the cosine of their features. Those of "
        "the pooled net are never negative and point the same way in part whatever they show; with "
        "their mean taken off, they can be compared with the LeNet's, which have both signs.",
        f"Images of one shape are more alike than images of two by {number(lenet)} in the "
        f"supervised LeNet and by {number(found['supervised']['centered'])} (mean-centered) in the "
        f"pooled net, in pixels by {number(raw)}. Of the other factors the pooled net keeps most "
        f"of {kept}, by {factors['supervised'][kept]:.3f}, beside "
        f"{factors['supervised']['shape']:.3f} "
        "for the shape.",
        [
            gap_table(found),
            Table(
                "By factor: how much more alike images are that share it (mean taken off)",
                ["", *lab.data.test.factors],
                [[name, *(number(v) for v in f.values())] for name, f in factors.items()],
            ),
        ],
        matrices(lab, names)
        + matrices(lab, ["supervised"], "scale")
        + matrices(lab, ["supervised"], "x")
        + histograms(lab, names),
        {2: (mean(lenet) > 0.5, f"gap {number(lenet)} (LeNet), {number(trained)} (pooled)")},
    )


def in_train_mode(encoder: nn.Module, x: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Features with BatchNorm using each batch's own statistics."""
    encoder = copy.deepcopy(encoder).train()  # its running statistics move
    with torch.no_grad():
        parts = [
            encoder(to_float(torch.from_numpy(x[i : i + BATCH]), span)).numpy()
            for i in range(0, len(x), BATCH)
        ]
    return np.concatenate(parts)


def l3(lab: Lab) -> Finding:
    found = probed(lab, ["random", "random, LeNet", "raw", "supervised"])
    gap = gaps(lab, ["random", "random, LeNet", "raw"])
    y, y_test = shapes(lab.data)
    modes = {}
    for name in ("small", "lenet"):
        encoder = random_net(lab, 0, name)
        parts = (lab.data.train.x[:], lab.data.test.x[:])
        z, z_test = (in_train_mode(encoder, x, lab.data.range) for x in parts)
        modes[name] = linear_probe(z, y, z_test, y_test).test
    random = mean(found["random"]["test"])
    rows = [
        ["random, eval mode", percent(found["random"]["test"])],
        ["random, BatchNorm in train mode", percent(modes["small"])],
        ["random LeNet, eval mode", percent(found["random, LeNet"]["test"])],
        ["random LeNet, BatchNorm in train mode", percent(modes["lenet"])],
    ]
    return Finding(
        {"probe": found, "gaps": gap, "train_mode": modes},
        "The same networks with random weights. BatchNorm matters here: in eval mode it uses its "
        "initial statistics, in train mode those of the batch, so both are shown.",
        f"Random features give {percent(found['random']['test'])} %, above chance and "
        f"{'above' if random > found['raw']['test'][0] else 'not above'} the pixels' "
        f"{percent(found['raw']['test'])} %, but far from "
        f"{percent(found['supervised']['test'])} %. "
        f"Their similarity tells shapes apart by {number(gap['random']['cosine'])} only.",
        [
            probe_table(found, "Linear decoding of the shape"),
            Table("What BatchNorm's mode does", ["", "test %"], rows),
            gap_table(gap),
        ],
        matrices(lab, ["random"]),
        {
            3: (
                CHANCE + 0.03 < random < mean(found["supervised"]["test"]) - 0.2,
                f"{percent(random)} %, between chance and {percent(found['supervised']['test'])} %",
            )
        },
    )


def l4(lab: Lab) -> Finding:
    found = probed(lab, ["VAE", "random, LeNet", "supervised"])
    gap = gaps(lab, ["VAE"])
    run = lab.run("vae", "vae", 0, quick_epochs=5, encoder="lenet")
    images: list[tuple[str, bytes | str]] = [
        (path.stem.removeprefix("image-").replace("-", " "), path.read_bytes())
        for path in sorted(run.path.glob("image-*.png"))
    ]
    method: Any = reopen(run)
    error, code_dim = reconstruction_error(lab), method.latent_dim
    z, z_test = z_of(lab, "VAE")
    kept = probe_factors(z, z_test, lab.data)
    return Finding(
        {"probe": found, "gaps": gap, "factors": kept, "reconstruction": error},
        f"A variational autoencoder squeezes each image into {code_dim} noisy numbers and draws it "
        "again from them. It is trained without labels; its features are what one linear layer "
        "makes the numbers' mean of, and another their variance.",
        f"It draws {100 * error['pixels_wrong']:.2f} % of the pixels of unseen images wrongly, "
        f"where drawing nothing would get {100 * error['blank_wrong']:.2f} % wrong. A linear "
        f"decoder "
        f"reads the shape from its features with {percent(found['VAE']['test'])} %, from the "
        f"supervised ones with {percent(found['supervised']['test'])} %; shapes stand apart by "
        f"{number(gap['VAE']['cosine'])}.",
        [
            probe_table(found, "Linear decoding of the shape"),
            gap_table(gap),
            Table(
                "What its features keep (shape: accuracy; others: R²)",
                ["", *kept],
                [["VAE", *(number(v) for v in kept.values())]],
            ),
        ],
        images + matrices(lab, ["VAE"]),
        {
            4: (
                error["pixels_wrong"] < error["blank_wrong"] / 3
                and mean(found["VAE"]["test"]) < mean(found["supervised"]["test"]) - 0.3,
                f"{100 * error['pixels_wrong']:.2f} % of pixels wrong, yet "
                f"{percent(found['VAE']['test'])} % by a linear decoder",
            )
        },
    )


@torch.no_grad()
def reconstruction_error(lab: Lab) -> dict[str, float]:
    """Share of wrong pixels of the test images, drawn by the VAE and left blank."""
    run = lab.run("vae", "vae", 0, quick_epochs=5, encoder="lenet")
    method: Any = reopen(run)
    wrong, blank, pixels = 0.0, 0.0, 0
    for start in range(0, len(lab.data.test), BATCH):
        x = to_float(torch.from_numpy(lab.data.test.x[start : start + BATCH]), lab.data.range)
        drawn = method.decoder(method.project(x)) > 0
        wrong += float((drawn != (x > 0.5)).sum())
        blank += float((x > 0.5).sum())
        pixels += x.numel()
    return {"pixels_wrong": wrong / pixels, "blank_wrong": blank / pixels}


TRANSFORMATIONS: dict[str, Augmentation] = {
    "turn": RandomAffine(translate=0.0, scale=(1.0, 1.0)),
    "shift": RandomAffine(degrees=0.0, scale=(1.0, 1.0)),
    "scale": RandomAffine(degrees=0.0, translate=0.0),
    "turn, shift and scale": RandomAffine(),
    "crop": RandomResizedCrop(),
    "flip": RandomHorizontalFlip(),
    "quarter turns": RandomRotation90(),
    "cutout": RandomErasing(),
    "noise": GaussianNoise(),
    "blur": GaussianBlur(),
    "turn and blur": Compose([RandomAffine(), GaussianBlur()]),
    "crop and noise": Compose([RandomResizedCrop(), GaussianNoise()]),
}
WITHOUT: dict[str, Augmentation] = {
    "without turning": RandomAffine(degrees=0.0),
    "without shifting": RandomAffine(translate=0.0),
    "without scaling": RandomAffine(scale=(1.0, 1.0)),
}
MEANT = {
    "without turning": ["orientation"],
    "without shifting": ["x", "y"],
    "without scaling": ["scale"],
}


def l5(lab: Lab) -> Finding:
    y, y_test = shapes(lab.data)
    encoders = {"all three": simclr(lab)} | {
        name: lab.run(
            f"simclr-{name.replace(' ', '-')}", "simclr", 0, quick_epochs=4, augment=view
        ).encoder
        for name, view in WITHOUT.items()
    }
    z = {name: lab.features(f"L5 {name}", encoder) for name, encoder in encoders.items()}
    probes = {name: linear_probe(a, y, b, y_test).test for name, (a, b) in z.items()}
    gap = {name: factor_gaps(lab.data, b) for name, (_, b) in z.items()}
    kept = {name: probe_factors(a, b, lab.data) for name, (a, b) in z.items()}
    # A factor's gap is set against the shape's, since whatever is left out changes all gaps.
    share = {name: {f: g[f] / max(g["shape"], 1e-9) for f in g} for name, g in gap.items()}
    lost = [share[n][f] > share["all three"][f] for n in WITHOUT for f in MEANT[n]]
    told = "; ".join(
        f"{name}, {f} {share[name][f]:.3f} times the shape's (with it "
        f"{share['all three'][f]:.3f}), in itself {gap[name][f]:.3f} ({gap['all three'][f]:.3f})"
        for name in WITHOUT
        for f in MEANT[name]
    )
    sheet = plots.transformations_image(lab.data, TRANSFORMATIONS)
    columns = list(lab.data.test.factors)
    return Finding(
        {"probe": probes, "factor_gaps": gap, "share_of_shape": share, "factors": kept},
        "SimCLR learns what two views of an image have in common. It was trained again without "
        "each of the three transformations; for every factor the table says how much more alike "
        "images are that share it: 0 where the encoder ignores it.",
        "Each factor weighs more, beside the shape, once its transformation is left out: "
        + ", ".join(
            f"{f} {share[n][f]:.2f} instead of {share['all three'][f]:.2f} times the shape's gap"
            for n in WITHOUT
            for f in MEANT[n]
        )
        + f". The shape is read with {percent(probes['all three'])} % with all three and "
        f"with {', '.join(f'{percent(probes[n])} % {n}' for n in WITHOUT)}.",
        [
            Table(
                "By factor: how much more alike images are that share it (mean taken off)",
                ["", *columns],
                [[name, *(number(g[f]) for f in columns)] for name, g in gap.items()],
            ),
            Table(
                "What a linear decoder reads (shape: accuracy; others: R²)",
                ["", *columns],
                [[name, *(number(k[f]) for f in columns)] for name, k in kept.items()],
            ),
        ],
        [("every transformation and some combinations", sheet)],
        {5: (all(lost), told)},
    )


def l6(lab: Lab) -> Finding:
    names = ["SimCLR", "supervised", "SimCLR, LeNet", "supervised, LeNet", "VAE", "random", "raw"]
    found = probed(lab, names)
    y, y_test = shapes(lab.data)
    neighbors = {}
    for name in names:
        z, z_test = z_of(lab, name)
        neighbors[name] = knn_accuracy(z, y, z_test, y_test)
    health = {name: health_of(lab, name) for name in names[:-1]}
    head = before_and_after_head(lab)
    ours, theirs = mean(found["SimCLR"]["test"]), mean(found["supervised"]["test"])
    return Finding(
        {"probe": found, "knn": neighbors, "health": health, "head": head},
        "SimCLR sees two random views of each image, turned, shifted and scaled, and learns to "
        "tell which two belong together among all of a batch. No label is used. The pooled net and "
        "the lecture's LeNet are trained alike, to see what the network's shape gives.",
        f"A linear decoder reads the shape with {percent(found['SimCLR']['test'])} % from SimCLR's "
        f"features and with {percent(found['supervised']['test'])} % from the supervised ones; on "
        f"the LeNet it is {percent(found['SimCLR, LeNet']['test'])} %. With a projection head, the "
        f"features before it give {percent(head['before'])} %, those behind it "
        f"{percent(head['after'])} %.",
        [
            probe_table(found, "Linear decoding of the shape"),
            Table(
                "Nearest neighbors, and signs of health that need no labels",
                ["", "k-NN %", "std", "RankMe", "α-ReQ", "LiDAR"],
                [
                    [n, percent(neighbors[n]), *(f"{v:.2f}" for v in health[n].values())]
                    for n in health
                ],
            ),
        ],
        claims={
            6: (
                ours > theirs - 0.002,
                f"{percent(found['SimCLR']['test'])} % without labels, "
                f"{percent(found['supervised']['test'])} % with them",
            )
        },
    )


@torch.no_grad()
def health_of(lab: Lab, name: str, images: int = 300, views: int = 8) -> dict[str, float]:
    """Of the test features; LiDAR from views of training images."""
    z = torch.from_numpy(z_of(lab, name)[1])
    makers = {
        "SimCLR": simclr,
        "supervised": supervised,
        "SimCLR, LeNet": simclr_lenet,
        "supervised, LeNet": supervised_lenet,
        "VAE": vae,
        "random": random_net,
    }
    encoder = makers[name](lab).eval()
    x = to_float(torch.from_numpy(lab.data.train.x[:images]), lab.data.range)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [encoder(lab.data.augment(x)) for _ in range(views)]
    return {
        "std": feature_std(z),
        "rankme": rankme(z),
        "alpha": alpha_req(z),
        "lidar": lidar(torch.stack(drawn, 1)),
    }


def before_and_after_head(lab: Lab) -> dict[str, float]:
    """Probes of SimCLR with a projection head of 64, before and behind it."""
    run = lab.run("simclr-head", "simclr", 0, quick_epochs=4, dim=64)
    method: Any = reopen(run)
    y, y_test = shapes(lab.data)
    z, z_test = lab.features("head before", run.encoder)
    behind = nn.Sequential(run.encoder, method.head).eval()
    h, h_test = lab.features("head behind", behind)
    return {
        "before": linear_probe(z, y, z_test, y_test).test,
        "after": linear_probe(h, y, h_test, y_test).test,
    }


def l7(lab: Lab) -> Finding:
    names = ["SimCLR", "SimCLR, LeNet", "supervised", "supervised, LeNet", "VAE", "random", "raw"]
    found = gaps(lab, names)
    ours, theirs = mean(found["SimCLR"]["centered"]), mean(found["supervised"]["centered"])
    return Finding(
        {"gaps": found},
        "The similarity of all pairs of test images again, now beside SimCLR and the VAE.",
        f"SimCLR's gap is {number(found['SimCLR']['cosine'])}, and "
        f"{number(found['SimCLR']['centered'])} "
        f"with the mean taken off; the supervised net's {number(found['supervised']['cosine'])} "
        f"and "
        f"{number(found['supervised']['centered'])}. Positive features raise the similarity of "
        "images that have nothing in common, which is why the first figure is the lower one.",
        [gap_table(found)],
        matrices(lab, ["SimCLR", "supervised", "VAE", "raw"])
        + matrices(lab, ["SimCLR"], "orientation")
        + histograms(lab, ["SimCLR", "supervised", "VAE"]),
        {7: (ours > 0.9 * theirs, f"{ours:.3f} against {theirs:.3f}, mean taken off")},
    )


TWO = {"2 negatives, paper's sum": "paper", "2 negatives, tutorial's sum": "tutorial"}
"""Runs with two negatives, and their denominators."""


def l8(lab: Lab) -> Finding:
    y, y_test = shapes(lab.data)
    z = {"SimCLR": z_of(lab, "SimCLR")}
    for name, denominator in TWO.items():
        options: dict[str, Any] = {"negatives": 2, "denominator": denominator}
        run = lab.run(f"simclr-2-{denominator}", "simclr", 0, quick_epochs=4, **options)
        z[name] = lab.features(f"L8 {name}", run.encoder)
    probes = {n: linear_probe(a, y, b, y_test).test for n, (a, b) in z.items()}
    gap = {n: rsa.gap(b, y_test, "centered").gap for n, (_, b) in z.items()}
    signs = {
        n: {
            "std": feature_std(torch.from_numpy(b)),
            "rankme": rankme(torch.from_numpy(b)),
            "alpha": alpha_req(torch.from_numpy(b)),
        }
        for n, (_, b) in z.items()
    }
    falls = {name: probes["SimCLR"] - probes[name] for name in TWO}
    worst = max(falls, key=lambda name: falls[name])
    return Finding(
        {"probe": probes, "fall": falls, "gap_centered": gap, "health": signs},
        "Each image was contrasted with two others instead of all others of the batch: once with "
        "the positive in the sum below, as the paper has it, once without, as the lecture's code.",
        f"With all negatives the probe reads {percent(probes['SimCLR'])} %, with two "
        f"{' and '.join(f'{percent(probes[n])} % ({n})' for n in TWO)}. RankMe is "
        f"{signs['SimCLR']['rankme']:.1f} for SimCLR and {signs[worst]['rankme']:.1f} for {worst}: "
        "read it together with the probe, and within one method only.",
        [
            Table(
                "With all negatives and with two",
                ["", "probe %", "gap, mean taken off", "std", "RankMe", "α-ReQ"],
                [
                    [
                        n,
                        percent(probes[n]),
                        number(gap[n]),
                        *(f"{v:.2f}" for v in signs[n].values()),
                    ]
                    for n in z
                ],
            )
        ],
        [
            (f"{n}: similarity of pairs", plots.histogram_image(b, y_test))
            for n, (_, b) in z.items()
        ],
        {8: (falls[worst] > 0.15, f"{100 * falls[worst]:.1f} points lower with two, {worst}")},
    )


def l9(lab: Lab) -> Finding:
    y, y_test = shapes(lab.data)
    names = ["SimCLR", "VAE", "random", "supervised"]
    counts = [n for n in LABELS if n <= len(y)]
    curves: dict[str, dict[str, Any]] = {}
    for name in names:
        z, z_test = z_of(lab, name)
        found = [few_labels(z, y, z_test, y_test, n) for n in counts]
        curves[f"{name}, frozen"] = {
            "labels": counts,
            "train": [f.train for f in found],
            "test": [f.test for f in found],
            "sd": [f.sd for f in found],
        }
    totals = [n for n in END_TO_END if n <= len(y)]
    for title, view in END_TO_END_VIEWS.items():
        scores = [end_to_end(lab, n, title, view) for n in totals]
        curves[title] = {
            "labels": totals,
            "train": [s.train for s in scores],
            "test": [s.test for s in scores],
            "sd": [0.0] * len(scores),
        }
    ours = dict(zip(counts, curves["SimCLR, frozen"]["test"], strict=True))
    views = dict(zip(totals, curves["end to end, views"]["test"], strict=True))
    plain = dict(zip(totals, curves["end to end, plain"]["test"], strict=True))
    rows = [[f"{n:,}", *(_cell(curve, n) for curve in curves.values())] for n in counts]
    full, most = probe(lab, "supervised").test, max(totals)
    tenth = max(n for n in counts if n <= len(y) // 10)
    return Finding(
        {"curves": curves},
        "Encoders are frozen and only some images have labels, the same number of each shape "
        "(five draws, mean). End to end: the whole network learns from those labels alone, from "
        "plain images and with SimCLR's own views.",
        f"SimCLR's features need 30 labels for {percent(ours[30])} % and 160, one in a hundred, "
        f"for {percent(ours[160])} %. A network that learns from 800 labels alone comes to "
        f"{percent(plain[800])} %, and with {most:,} to {percent(plain[most])} %; with SimCLR's "
        f"views of those labeled images it comes to {percent(views[800])} %: here the views "
        "know what the labels would have to teach.",
        [Table("Test accuracy % by number of labels", ["labels", *curves], rows)],
        [("test accuracy by number of labels", plots.label_curves_image(curves))],
        {
            9: (
                ours[tenth] > full - 0.005,
                f"{tenth:,} labels: {percent(ours[tenth])} %; all of them, supervised: "
                f"{percent(full)} %",
            )
        },
    )


def _cell(curve: dict[str, Any], n: int) -> str:
    if n not in curve["labels"]:
        return "–"
    i = curve["labels"].index(n)
    sd = f" ± {100 * curve['sd'][i]:.2f}" if curve["sd"][i] > 5e-5 else ""
    return f"{100 * curve['test'][i]:.2f}{sd}"


def end_to_end(lab: Lab, labels: int, title: str, view: Augmentation) -> Probe:
    """The supervised method on some labels alone, for as many steps as on all of them."""
    rows = sample_labels(shapes(lab.data)[0], labels)
    part = replace(lab.data, train=lab.data.train.take(rows))
    epochs = max(8, round(8 * len(lab.data.train) / labels))
    name = f"end-to-end-{'with-views' if 'views' in title else 'plain-images'}-{labels}"
    quick = max(2, epochs // 8)
    run = lab.run(name, "supervised", 0, part, quick_epochs=quick, augment=view, epochs=epochs)
    z, z_test = lab.features(name, run.encoder, part)
    return linear_probe(z, shapes(part)[0], z_test, shapes(part)[1])


BIASED: dict[str, tuple[str, dict[str, Any], int]] = {
    "SimCLR": ("simclr", {"epochs": 100}, 8),
    "VAE": ("vae", {"encoder": "lenet", "epochs": 90}, 8),
    "supervised": ("supervised", {"epochs": 25}, 5),
}


def l10(lab: Lab) -> Finding:
    sets = {
        "control": control(lab.data, HEARTS_LEFT),
        "biased": biased(lab.data, HEARTS_LEFT),
    }
    y_test = shapes(lab.data)[1]
    unseen = ~HEARTS_LEFT.allows(lab.data.test)
    scores: dict[str, dict[str, float]] = {}
    for title in (*BIASED, "random", "raw"):
        scores[title] = {}
        for kind, part in sets.items():
            z, z_test = biased_features(lab, title, kind, part)
            y = shapes(part)[0]
            scores[title][kind] = linear_probe(z, y, z_test, y_test).test
            scores[title][f"{kind}, unseen cells"] = linear_probe(
                z, y, z_test[unseen], y_test[unseen]
            ).test
    mirrored = biased(lab.data, SQUARES_LEFT)
    z, z_test = biased_features(lab, "SimCLR", "mirrored", mirrored)
    scores["SimCLR"]["mirror image"] = linear_probe(z, shapes(mirrored)[0], z_test, y_test).test
    columns = ["control", "biased", "control, unseen cells", "biased, unseen cells"]
    ours, drawn = scores["SimCLR"], scores["VAE"]
    return Finding(
        {"test": scores, "n_train": len(sets["biased"].train)},
        f"Only {len(sets['biased'].train):,} training images are kept: hearts from the left "
        f"third, "
        "ellipses from the middle, squares from the right. Encoders and probes learn from those; "
        "the test images show every shape everywhere. The control has as many images without "
        "the rule.",
        f"From SimCLR's features the shape is read with {percent(ours['biased'])} % on unbiased "
        f"images ({percent(ours['control'])} % in the control), from the VAE's with "
        f"{percent(drawn['biased'])} % ({percent(drawn['control'])} %), from pixels with "
        f"{percent(scores['raw']['biased'])} % ({percent(scores['raw']['control'])} %). With "
        f"squares on the left and hearts on the right SimCLR gives {percent(ours['mirror image'])} "
        "%.",
        [
            Table(
                "Shape read from unbiased test images, %",
                ["", *columns],
                [[t, *(percent(s[c]) for c in columns)] for t, s in scores.items()],
            )
        ],
        [("some images of the biased set", plots.contact_images(sets["biased"], 40))],
        {
            10: (
                ours["biased"] > 0.95 and drawn["biased"] < drawn["control"] - 0.05,
                f"SimCLR {percent(ours['biased'])} %, VAE {percent(drawn['biased'])} %",
            )
        },
    )


def biased_features(lab: Lab, title: str, kind: str, part: Splits) -> tuple[np.ndarray, np.ndarray]:
    """Features of an encoder trained on that part, of its training and of all test images."""
    if title == "raw":
        return lab.features(f"raw {kind}", fitted(lab, "raw"), part)
    if title == "random":
        return lab.features(f"random {kind}", random_net(lab), part)
    method, options, quick = BIASED[title]
    run = lab.run(f"{method}-{kind}", method, 0, part, quick_epochs=quick, **options)
    return lab.features(f"{title} {kind}", run.encoder, part)


EXPERIMENTS = [
    Experiment("L1", "Representations matter", "Can a linear decoder read the shape?", l1, 2),
    Experiment("L2", "Invariance", "Which images are alike to a supervised encoder?", l2, 3),
    Experiment("L3", "Random encoders", "Is the network's shape enough, without learning?", l3, 1),
    Experiment("L4", "Reconstruction", "Are features good that an image can be drawn from?", l4, 5),
    Experiment("L5", "Transformations", "What becomes of each invariance?", l5, 18),
    Experiment("L6", "SimCLR", "Can as much be learned without labels?", l6, 25),
    Experiment("L7", "SimCLR's invariance", "Which images are alike to SimCLR?", l7, 1),
    Experiment("L8", "Two negatives", "What are the negatives for?", l8, 10),
    Experiment("L9", "Few labels", "How many labels does it take?", l9, 9),
    Experiment("L10", "Biased data", "What if place gives the shape away?", l10, 18),
]
