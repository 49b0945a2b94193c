"""The lecture's experiments on dSprites, from raw pixels to biased data.

The tutorial on self-supervised learning of Neuromatch Academy, with encoders trained here.
"""

import copy
import functools
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlabeled import augmentations as aug
from unlabeled.augmentations import Augmentation, Compose, GaussianBlur, RandomAffine
from unlabeled.data.dataset import Splits, to_float
from unlabeled.evaluation import rsa
from unlabeled.evaluation.factors import probe_factors
from unlabeled.evaluation.few_labels import few_labels
from unlabeled.evaluation.intervals import wilson
from unlabeled.evaluation.knn import knn_accuracy, nearest
from unlabeled.evaluation.probe import linear_probe
from unlabeled.report import plots
from unlabeled.studies import lab as lab_
from unlabeled.studies.lab import Chooser, Experiment, Finding, Lab, Table, TitledImages
from unlabeled.studies.lecture_encoders import (
    END_TO_END,
    HEARTS_LEFT,
    QUICK,
    SETTINGS,
    WITHOUT,
    Settings,
    data_of,
    encoder_of,
    included,
    probe,
    seeds_of,
    trained,
    training,
    z_of,
)
from unlabeled.studies.side_by_side import Training, spread
from unlabeled.training.health import alpha_req, feature_std, lidar, rankme
from unlabeled.training.train import reopen

__all__ = ["CLAIMS", "DATA", "EXPERIMENTS", "LEAD", "QUICK", "SETTINGS", "TITLE", "Settings"]

TITLE = "Learning representations: the lecture’s experiments"
LEAD = (
    "White squares, ellipses and hearts, each with six scales, forty orientations and 32×32 "
    "positions. What must an encoder learn so that a linear classifier can recognize the shape?"
)
DATA = "dsprites"
CLAIMS = {
    1: "Good representations make a linear classifier succeed where pixels fail.",
    2: "Supervised training induces invariance.",
    3: "Random projections help but are not enough.",
    4: "Good reconstruction does not give good features.",
    5: "Which affine transformations matter depends on the invariance wanted.",
    6: "SimCLR with a linear classifier matches supervised training.",
    7: "SimCLR's representation is as invariant as the supervised one.",
    8: "Negatives keep SimCLR from collapse.",
    9: "Pretraining cuts the labels needed to a tenth.",
    10: "Generative models adopt the bias of the data; invariance learning may not.",
    12: "Single-layer methods (PCA, ICA, clustering) fail at object identity.",
}
CHANCE = 1 / 3
QUICK_DECIDES = True
NEEDS: dict[str, Sequence[str]] = {
    "L1": ["supervised"],
    "L2": ["supervised", "supervised, LeNet"],
    "L3": ["supervised"],
    "L4": ["VAE", "supervised"],
    "L5": ["SimCLR", *WITHOUT],
    "L6": [
        *("SimCLR", "supervised", "VAE"),
        *("SimCLR, LeNet", "supervised, LeNet"),
    ],
    "L7": ["SimCLR", "supervised", "VAE", "SimCLR, LeNet", "supervised, LeNet"],
    "L8": ["SimCLR", "no negatives", "2 negatives"],
    "L9": ["SimCLR", "supervised", "VAE"],
    "L10": [
        *("SimCLR, biased", "SimCLR, control"),
        *("VAE, biased", "VAE, control", "supervised, biased", "supervised, control"),
    ],
}
"""Encoders that each experiment needs to be trained, besides those of few labels, by title."""
KINDS: tuple[rsa.Kind, ...] = ("cosine", "centered", "pearson")
BATCH = 500


def trainings(lab: Lab, keys: Sequence[str]) -> list[Training]:
    """Trainings that these experiments need."""
    titles = included(lab, [title for key in keys for title in NEEDS[key]])
    if "L9" in keys:
        titles += end_to_end_titles(lab)
    titles = list(dict.fromkeys(titles))
    return [training(lab, title, seed) for title in titles for seed in seeds_of(lab, title)]


percent = functools.partial(lab_.number, spec=".2%")
number = functools.partial(lab_.number, spec=".3f")
mean = statistics.fmean


def probed(lab: Lab, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Train and test accuracy of the linear probe by encoder, one value per seed."""
    results = {}
    for name in names:
        probes = [probe(lab, name, seed) for seed in seeds_of(lab, name)]
        results[name] = {"train": [p.train for p in probes], "test": [p.test for p in probes]}
    return results


def probe_table(lab: Lab, results: dict[str, dict[str, list[float]]]) -> Table:
    """Accuracies with the interval of the first seed's test accuracy."""
    n = len(lab.data.test)
    rows = []
    for name, accuracy in results.items():
        low, high = wilson(n * accuracy["test"][0], n)
        test = f"{percent(accuracy['test'])} ({100 * low:.1f}–{100 * high:.1f})"
        rows.append([name, percent(accuracy["train"]), test])
    caption = "Linear probe accuracy for the shape (95 % interval: seed 0, over test images)"
    return Table(caption, ["", "train %", "test %"], rows)


def gaps(lab: Lab, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Class-similarity gap (same shape − other shape) on test images, by encoder and similarity."""
    y = lab.labels("shape")[1]
    return {
        name: {
            kind: [rsa.gap(z_of(lab, name, seed)[1], y, kind).gap for seed in seeds_of(lab, name)]
            for kind in KINDS
        }
        for name in names
    }


def gap_table(results: dict[str, dict[str, list[float]]]) -> Table:
    caption = "Class-similarity gap of test images (same shape − other shape)"
    return Table.of(caption, ["cosine", "cosine, mean-centered", "Pearson"], results, ".3f")


def factor_table(
    lab: Lab,
    results: dict[str, dict[str, float]],
    caption: str = "Mean-centered similarity gap by factor",
) -> Table:
    return Table.of(caption, lab.data.test.factors, results, ".3f")


def matrices(lab: Lab, names: Sequence[str], factor: str = "shape") -> TitledImages:
    """Similarity matrices of 300 test images, sorted by a factor."""
    rows = np.sort(np.random.default_rng(0).permutation(len(lab.data.test))[:300])
    order = np.argsort(lab.data.test.factors[factor][rows], kind="stable")
    images: TitledImages = []
    for name in names:
        matrix = rsa.similarity_matrix(z_of(lab, name)[1][rows], "centered")
        images.append((f"{name}, sorted by {factor}", plots.similarity_image(matrix, order)))
    return images


def neighbors_of(lab: Lab, names: Sequence[str], k: int = 9) -> TitledImages:
    """For each encoder, four test images and the most similar others."""
    queries = np.arange(4)
    images: TitledImages = []
    for name in names:
        z = z_of(lab, name)[1]
        z = z - z.mean(0)
        indices = nearest(z, z[queries], k + 1)[1]
        rows = np.array(
            [[row for row in f if row != q][:k] for q, f in zip(queries, indices, strict=True)]
        )
        images.append(
            (
                f"{name}: an image, then its neighbors",
                plots.neighbors_image(lab.data, queries, rows),
            )
        )
    return images


def chooser(lab: Lab, names: Sequence[str], images: int = 200) -> Chooser:
    """Similarity matrix and histogram of an encoder by a factor, and neighbors."""
    factors = lab.data.test.factors
    rows = np.sort(np.random.default_rng(0).permutation(len(lab.data.test))[:images])
    shown: dict[tuple[str, ...], TitledImages] = {}
    for name in names:
        z = z_of(lab, name)[1]
        matrix = rsa.similarity_matrix(z[rows], "centered")
        for factor, codes in factors.items():
            order = np.argsort(codes[rows], kind="stable")
            bars = plots.histogram_image(*rsa.histograms(z, codes, "centered"))
            shown[name, factor] = [
                (
                    f"{name}: similarities, sorted by {factor}",
                    plots.similarity_image(matrix, order),
                ),
                (f"{name}: pairs of the same {factor}, and of different ones", bars),
            ]
        shown[name,] = neighbors_of(lab, [name])
    return Chooser({"encoder": list(names), "factor": list(factors)}, shown)


def histogram(lab: Lab, name: str, z_test: np.ndarray) -> tuple[str, bytes | str]:
    bars = rsa.histograms(z_test, lab.labels("shape")[1], "centered")
    return f"{name}: similarities of pairs", plots.histogram_image(*bars)


def histograms(lab: Lab, names: Sequence[str]) -> TitledImages:
    return [histogram(lab, name, z_of(lab, name)[1]) for name in names]


def factor_gaps(splits: Splits, z_test: np.ndarray) -> dict[str, float]:
    """Mean-centered similarity gap for each factor: 0 if the encoder ignores the factor."""
    return {
        factor: rsa.gap(z_test, codes, "centered").gap
        for factor, codes in splits.test.factors.items()
    }


def l1(lab: Lab) -> Finding:
    results = probed(lab, ["supervised", "raw", "pca", "ica", "kmeans", "random"])
    good, raw = mean(results["supervised"]["test"]), results["raw"]["test"][0]
    single = {k: results[k]["test"][0] for k in ("pca", "ica", "kmeans")}
    best = max(single, key=lambda k: single[k])
    return Finding(
        {"probe": results, "chance": CHANCE},
        "A linear probe (logistic regression, trained to convergence) classifies the shape from "
        "raw pixels, from PCA, ICA and k-means features of the pixels, and from the features of a "
        "supervised encoder.",
        f"Linear probe accuracy is {percent(raw)} % on pixels, near chance (33.3 %), and "
        f"{percent(good)} % on supervised features. The best single-layer method, {best}, reaches "
        f"{percent(single[best])} %.",
        [probe_table(lab, results)],
        neighbors_of(lab, ["raw", "supervised"]),
        claims={
            1: (good - raw > 0.5, f"{percent(good)} % against {percent(raw)} %"),
            12: (single[best] < 0.6, f"at most {percent(single[best])} %, by {best}"),
        },
    )


def l2(lab: Lab) -> Finding:
    names = included(lab, ["supervised", "supervised, LeNet", "raw"])
    results = gaps(lab, names)
    factors = {name: factor_gaps(lab.data, z_of(lab, name)[1]) for name in names}
    trained, raw = (results[name]["centered"] for name in ("supervised", "raw"))
    others = {k: v for k, v in factors["supervised"].items() if k != "shape"}
    largest = max(others, key=lambda k: others[k])
    lenet = ""
    if "supervised, LeNet" in names:
        lenet = f", {number(results['supervised, LeNet']['centered'])} for the LeNet"
    return Finding(
        {"gaps": results, "factor_gaps": factors},
        "Cosine similarity of the features of all pairs of test images. Features of the small "
        "encoder are never negative, so all of them share a direction; after mean-centering they "
        "can be compared with those of the LeNet, which have both signs.",
        f"The class-similarity gap (mean-centered) is {number(trained)} for the supervised small "
        f"encoder{lenet} and {number(raw)} for pixels. Of the other factors, the small encoder "
        f"retains {largest} most, with a gap of {factors['supervised'][largest]:.3f}, compared to "
        f"{factors['supervised']['shape']:.3f} for the shape.",
        [gap_table(results), factor_table(lab, factors)],
        matrices(lab, names)
        + matrices(lab, ["supervised"], "scale")
        + matrices(lab, ["supervised"], "x")
        + histograms(lab, names),
        {2: (mean(trained) > 0.5, f"gap {number(trained)}, pixels {number(raw)}")},
    )


def in_train_mode(encoder: nn.Module, x: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Features in train mode: BatchNorm normalizes with the statistics of each batch."""
    encoder = copy.deepcopy(encoder).train()  # its running statistics change
    with torch.no_grad():
        parts = [
            encoder(to_float(torch.from_numpy(x[i : i + BATCH]), span)).numpy()
            for i in range(0, len(x), BATCH)
        ]
    return np.concatenate(parts)


def l3(lab: Lab) -> Finding:
    results = probed(lab, ["random", "random, LeNet", "raw", "supervised"])
    gap = gaps(lab, ["random", "random, LeNet", "raw"])
    y, y_test = lab.labels("shape")
    modes = {}
    for name in ("small", "lenet"):
        parts = (lab.data.train.x[:], lab.data.test.x[:])
        z, z_test = (in_train_mode(lab.random(name), x, lab.data.value_range) for x in parts)
        modes[name] = linear_probe(z, y, z_test, y_test).test
    random, supervised, raw = (results[name]["test"] for name in ("random", "supervised", "raw"))
    by_mode = {
        "random, eval mode": random,
        "random, BatchNorm in train mode": modes["small"],
        "random LeNet, eval mode": results["random, LeNet"]["test"],
        "random LeNet, BatchNorm in train mode": modes["lenet"],
    }
    held = CHANCE + 0.03 < mean(random) < mean(supervised) - 0.2
    why = f"{percent(mean(random))} %, between chance and {percent(supervised)} %"
    return Finding(
        {"probe": results, "gaps": gap, "train_mode": modes},
        "The same networks with random weights. The mode of BatchNorm matters: in eval mode it "
        "uses its initial statistics, in train mode those of the batch. Both are shown.",
        f"Linear probe accuracy on random features is {percent(random)} %, above chance and "
        f"{'above' if mean(random) > mean(raw) else 'not above'} pixels ({percent(raw)} %), but "
        f"far below supervised features ({percent(supervised)} %). Their class-similarity gap is "
        f"{number(gap['random']['cosine'])}.",
        [
            probe_table(lab, results),
            Table.of("Effect of the mode of BatchNorm", ["test %"], by_mode, ".2%"),
            gap_table(gap),
        ],
        matrices(lab, ["random"]),
        {3: (held, why)},
    )


def l4(lab: Lab) -> Finding:
    results = probed(lab, ["VAE", "random, LeNet", "supervised"])
    gap = gaps(lab, ["VAE"])
    run = trained(lab, "VAE")
    images: TitledImages = [
        (path.stem.removeprefix("image-").replace("-", " "), path.read_bytes())
        for path in sorted(run.path.glob("image-*.png"))
    ]
    method: Any = reopen(run)
    error = reconstruction_error(lab, method)
    factors = probe_factors(*z_of(lab, "VAE"), lab.data)
    wrong = f"{100 * error['pixels_wrong']:.2f} %"
    accuracy, supervised = (results[name]["test"] for name in ("VAE", "supervised"))
    held = error["pixels_wrong"] < error["blank_wrong"] / 3
    held = held and mean(accuracy) < mean(supervised) - 0.3
    why = f"{wrong} of pixels wrong, yet {percent(accuracy)} % linear probe accuracy"
    return Finding(
        {"probe": results, "gaps": gap, "factors": factors, "reconstruction": error},
        f"A variational autoencoder encodes each image as a noisy code of {method.latent_dim} "
        "dimensions and reconstructs it from the code. It is trained without labels. Its features "
        "are the input of the linear layers for mean and log-variance of the code.",
        f"{wrong} of the pixels of test images are reconstructed wrongly (a blank image: "
        f"{percent(error['blank_wrong'])} %). Linear probe accuracy is {percent(accuracy)} % on "
        f"its features and {percent(supervised)} % on supervised ones; the class-similarity gap "
        f"is {number(gap['VAE']['cosine'])}.",
        [
            probe_table(lab, results),
            gap_table(gap),
            factor_table(lab, {"VAE": factors}, FACTOR_PROBE),
        ],
        images + matrices(lab, ["VAE"]),
        {4: (held, why)},
    )


@torch.no_grad()
def reconstruction_error(lab: Lab, method: Any) -> dict[str, float]:
    """Share of wrong pixels of test images: of the VAE's reconstruction and of a blank image."""
    wrong, blank, pixels = 0.0, 0.0, 0
    for start in range(0, len(lab.data.test), BATCH):
        x = to_float(torch.from_numpy(lab.data.test.x[start : start + BATCH]), lab.data.value_range)
        reconstruction = method.decoder(method.project(x)) > 0
        wrong += float((reconstruction != (x > 0.5)).sum())
        blank += float((x > 0.5).sum())
        pixels += x.numel()
    return {"pixels_wrong": wrong / pixels, "blank_wrong": blank / pixels}


TRANSFORMATIONS: dict[str, Augmentation] = {
    "rotation": RandomAffine(translate=0.0, scale=(1.0, 1.0)),
    "translation": RandomAffine(degrees=0.0, scale=(1.0, 1.0)),
    "scale": RandomAffine(degrees=0.0, translate=0.0),
    "rotation, translation and scale": RandomAffine(),
    "crop": aug.RandomResizedCrop(),
    "flip": aug.RandomHorizontalFlip(),
    "rotation by 90°": aug.RandomRotation90(),
    "erasing": aug.RandomErasing(),
    "noise": aug.GaussianNoise(),
    "blur": GaussianBlur(),
    "rotation and blur": Compose([RandomAffine(), GaussianBlur()]),
    "crop and noise": Compose([aug.RandomResizedCrop(), aug.GaussianNoise()]),
}
FACTOR_PROBE = "Linear probe by factor (shape: accuracy; others: R²)"


def l5(lab: Lab) -> Finding:
    names = included(lab, list(WITHOUT))
    z = {"all three": z_of(lab, "SimCLR")} | {name: z_of(lab, name) for name in names}
    probes = {"all three": probe(lab, "SimCLR").test}
    probes |= {name: probe(lab, name).test for name in names}
    gap = {name: factor_gaps(lab.data, b) for name, (_, b) in z.items()}
    factors = {name: probe_factors(a, b, lab.data) for name, (a, b) in z.items()}
    # Gaps are compared relative to the shape's, since omitting a transformation changes all gaps.
    share = {name: {f: g[f] / max(g["shape"], 1e-9) for f in g} for name, g in gap.items()}
    without = [(name, f) for name in names for f in WITHOUT[name][1]]
    increased = [share[name][f] > share["all three"][f] for name, f in without]
    reason = "; ".join(
        f"{name}, the gap of {f} is {share[name][f]:.3f} times the shape's (with it "
        f"{share['all three'][f]:.3f}), absolute {gap[name][f]:.3f} ({gap['all three'][f]:.3f})"
        for name, f in without
    )
    sheet = plots.transformations_image(lab.data, TRANSFORMATIONS)
    return Finding(
        {"probe": probes, "factor_gaps": gap, "share_of_shape": share, "factors": factors},
        "SimCLR learns what two views of an image have in common. It is trained again without "
        f"{' or '.join(name.removeprefix('without ') for name in names)}. The table shows the "
        "mean-centered similarity gap of every factor, which is 0 if the encoder ignores it.",
        "Gap of each factor relative to the shape's, without its transformation: "
        + ", ".join(
            f"{f} {share[n][f]:.2f} instead of {share['all three'][f]:.2f}" for n, f in without
        )
        + f". Linear probe accuracy for the shape is {percent(probes['all three'])} % with all "
        f"three, {', '.join(f'{percent(probes[n])} % {n}' for n in names)}.",
        [factor_table(lab, gap), factor_table(lab, factors, FACTOR_PROBE)],
        [("transformations and some combinations", sheet)],
        {5: (all(increased), reason)},
    )


def l6(lab: Lab) -> Finding:
    names = ["SimCLR", "supervised", "SimCLR, LeNet", "supervised, LeNet", "VAE", "random", "raw"]
    names = included(lab, names)
    results = probed(lab, names)
    y, y_test = lab.labels("shape")
    neighbors = {}
    for name in names:
        z, z_test = z_of(lab, name)
        neighbors[name] = knn_accuracy(z, y, z_test, y_test)
    health = {name: health_of(lab, name) for name in names[:-1]}
    ours, theirs = (results[name]["test"] for name in ("SimCLR", "supervised"))
    table = {n: {"knn": neighbors[n]} | f for n, f in health.items()}
    formats = {"knn": ".2%"} | dict.fromkeys(health["SimCLR"], ".2f")
    columns = ["k-NN %", "std", "RankMe", "α-ReQ", "LiDAR"]
    why = f"{percent(ours)} % without labels, {percent(theirs)} % with them"
    lenet = ""
    if "SimCLR, LeNet" in names:
        lenet = f"; {percent(results['SimCLR, LeNet']['test'])} % for SimCLR on the LeNet"
    return Finding(
        {"probe": results, "knn": neighbors, "health": health},
        "SimCLR gets two random views of each image (rotated, translated and scaled) and learns to "
        "identify which two of a batch belong together. No labels are used.",
        f"Linear probe accuracy for the shape is {percent(ours)} % for SimCLR and "
        f"{percent(theirs)} % for supervised training{lenet}.",
        [
            probe_table(lab, results),
            Table.of("k-NN accuracy and diagnostics without labels", columns, table, formats),
        ],
        [
            (
                "images and random views of them",
                plots.transformations_image(lab.data, {"two views": lab.data.augment}, draws=2),
            ),
            (
                "accuracy",
                plots.bars_image(
                    {n: mean(f["test"]) for n, f in results.items()}, "linear probe accuracy"
                ),
            ),
            *neighbors_of(lab, ["SimCLR"]),
        ],
        claims={6: (mean(ours) > mean(theirs) - 0.002, why)},
    )


@torch.no_grad()
def health_of(lab: Lab, name: str, images: int = 300, views: int = 8) -> dict[str, float]:
    """Diagnostics of the test features; LiDAR from views of training images."""
    z = torch.from_numpy(z_of(lab, name)[1])
    encoder = encoder_of(lab, name).eval()
    x = to_float(torch.from_numpy(lab.data.train.x[:images]), lab.data.value_range)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        z_views = [encoder(lab.data.augment(x)) for _ in range(views)]
    return spectrum(z) | {"lidar": lidar(torch.stack(z_views, 1))}


def spectrum(z: Tensor) -> dict[str, float]:
    return {"std": feature_std(z), "rankme": rankme(z), "alpha": alpha_req(z)}


def l7(lab: Lab) -> Finding:
    names = ["SimCLR", "SimCLR, LeNet", "supervised", "supervised, LeNet", "VAE", "random", "raw"]
    names = included(lab, names)
    results = gaps(lab, names)
    ours, theirs = mean(results["SimCLR"]["centered"]), mean(results["supervised"]["centered"])
    return Finding(
        {"gaps": results},
        "Class-similarity gaps of test images for SimCLR, the VAE and supervised encoders.",
        f"SimCLR's gap is {number(results['SimCLR']['cosine'])} "
        f"({number(results['SimCLR']['centered'])} mean-centered), that of supervised training "
        f"{number(results['supervised']['cosine'])} ({number(results['supervised']['centered'])}). "
        "Features that are never negative have a high similarity for unrelated images, which "
        "lowers the gap without mean-centering.",
        [gap_table(results)],
        matrices(lab, ["SimCLR", "supervised", "VAE", "raw"]),
        {7: (ours > 0.9 * theirs, f"{ours:.3f} compared to {theirs:.3f}, mean-centered")},
        chooser(lab, names),
    )


def l8(lab: Lab) -> Finding:
    names = included(lab, ["SimCLR", "2 negatives", "no negatives"])
    z = {name: z_of(lab, name) for name in names}
    probes = {name: probe(lab, name).test for name in names}
    gap = {n: rsa.gap(b, lab.labels("shape")[1], "centered").gap for n, (_, b) in z.items()}
    health = {n: spectrum(torch.from_numpy(b)) for n, (_, b) in z.items()}
    table = {n: {"probe": probes[n], "gap": gap[n]} | f for n, f in health.items()}
    formats = {"probe": ".2%", "gap": ".3f", "std": ".2f", "rankme": ".2f", "alpha": ".2f"}
    columns = ["linear probe %", "mean-centered gap", "std", "RankMe", "α-ReQ"]
    shown = Table.of("All negatives, and fewer", columns, table, formats)
    every, none = probes["SimCLR"], probes["no negatives"]
    two = f", {percent(probes['2 negatives'])} % with two" if "2 negatives" in names else ""
    spread = {n: health[n]["std"] for n in ("SimCLR", "no negatives")}
    return Finding(
        {"probe": probes, "gap_centered": gap, "health": health},
        "SimCLR contrasts each image with all others of its batch. Here it is trained without any"
        + (", and with two, without the positive in the denominator, as in the tutorial's code."
           if "2 negatives" in names else "."),
        f"Linear probe accuracy is {percent(every)} % with all negatives and {percent(none)} % "
        f"without{two}. The standard deviation of unit-length features, 1 if they are spread "
        f"evenly, is {spread['SimCLR']:.2f} with all negatives and "
        f"{spread['no negatives']:.3f} without. The study `negatives` has the whole curve.",
        [shown],
        [histogram(lab, n, b) for n, (_, b) in z.items()],
        {8: (every - none > 0.15 and spread["no negatives"] < spread["SimCLR"] / 2,
             f"without any, {100 * (every - none):.1f} points lower, and features spread by "
             f"{spread['no negatives']:.3f} instead of {spread['SimCLR']:.2f}")},
    )  # fmt: skip


def l9(lab: Lab) -> Finding:
    y, y_test = lab.labels("shape")
    names = ["SimCLR", "VAE", "random", "supervised"]
    counts = [n for n in lab.settings.labels if n <= len(y)]
    curves: dict[str, dict[str, Any]] = {}
    of_names = {name: z_of(lab, name) for name in names}
    calls = [(z, y, z_test, y_test, n) for z, z_test in of_names.values() for n in counts]
    scores_of_all = iter(spread(few_labels, calls))
    for name in names:
        results = list(itertools.islice(scores_of_all, len(counts)))
        curves[f"{name}, frozen"] = {
            "labels": counts,
            "train": [f.train for f in results],
            "test": [f.test for f in results],
            "sd": [f.sd for f in results],
        }
    totals = [n for n in lab.settings.end_to_end if n <= len(y)]
    for title in END_TO_END:
        scores = [probe(lab, f"{title}, {n}") for n in totals]
        curves[title] = {
            "labels": totals,
            "train": [s.train for s in scores],
            "test": [s.test for s in scores],
            "sd": [0.0] * len(scores),
        }
    ours, augmented, plain = (
        dict(zip(curves[title]["labels"], curves[title]["test"], strict=True))
        for title in ("SimCLR, frozen", "end to end, augmented", "end to end, plain")
    )
    rows = [[f"{n:,}", *(_cell(curve, n) for curve in curves.values())] for n in counts]
    full, least, most = probe(lab, "supervised").test, min(totals), max(totals)
    few, more = counts[1:3]
    tenth = max(n for n in counts if n <= len(y) // 10)
    return Finding(
        {"curves": curves},
        "Logistic regression on the features of frozen encoders with few labels, the same number "
        "for each shape (mean of five draws), its penalty chosen by cross-validation on these. End "
        "to end: the network is trained on those labels alone, with and without SimCLR's "
        "augmentation.",
        f"The accuracy of SimCLR is {percent(ours[few])} % with {few} labels and "
        f"{percent(ours[more])} % with {more}. Training end to end gives {percent(plain[least])} % "
        f"with {least:,} labels and {percent(plain[most])} % with {most:,}; with SimCLR's "
        f"augmentation and {least:,} labels it is {percent(augmented[least])} %, since the "
        "augmentation encodes the same invariances.",
        [Table("Test accuracy % by number of labels", ["labels", *curves], rows)],
        [("test accuracy by number of labels", plots.label_curves_image(curves))],
        {9: (ours[tenth] > full - 0.005, f"{tenth:,} labels: {percent(ours[tenth])} %; all of "
             f"them, supervised: {percent(full)} %")},
    )  # fmt: skip


def _cell(curve: dict[str, Any], n: int) -> str:
    if n not in curve["labels"]:
        return "–"
    i = curve["labels"].index(n)
    sd = f" ± {100 * curve['sd'][i]:.2f}" if curve["sd"][i] > 5e-5 else ""
    return f"{100 * curve['test'][i]:.2f}{sd}"


def end_to_end_titles(lab: Lab) -> list[str]:
    """Titles of the supervised trainings on few labels."""
    counts = [n for n in lab.settings.end_to_end if n <= len(lab.data.train)]
    return [f"{title}, {n}" for title in END_TO_END for n in counts]


def l10(lab: Lab) -> Finding:
    unseen = np.flatnonzero(~HEARTS_LEFT.allows(lab.data.test))
    scores: dict[str, dict[str, float]] = {}
    for name in ("SimCLR", "VAE", "supervised", "random", "raw"):
        scores[name] = {}
        for kind in ("control", "biased"):
            title = f"{name}, {kind}"
            if included(lab, [title]):
                fitted = probe(lab, title)
                right = fitted.predicted == lab.data.test.factors["shape"]
                scores[name][kind] = fitted.test
                scores[name][f"{kind}, unseen positions"] = float(right[unseen].mean())
    columns = ["control", "biased", "control, unseen positions", "biased, unseen positions"]
    caption = "Linear probe accuracy for the shape on unbiased test images, %"
    ours, generative, raw = (scores[name] for name in ("SimCLR", "VAE", "raw"))
    images = data_of(lab, "raw, biased")
    why = (
        f"SimCLR {percent(ours['biased'])} %, VAE {percent(generative['biased'])} % "
        f"(control {percent(generative['control'])} %)"
    )
    return Finding(
        {"test": scores, "n_train": len(images.train)},
        f"Training data are {len(images.train):,} images with hearts only in the left third, "
        "ellipses in the middle and squares on the right. Encoders and probes learn from these; "
        "test images show every shape at every position. The control has as many images without "
        "this rule.",
        f"Linear probe accuracy on unbiased test images is {percent(ours['biased'])} % for SimCLR, "
        f"{percent(scores['supervised']['biased'])} % for supervised training, "
        f"{percent(generative['biased'])} % for the VAE ({percent(generative['control'])} % in the "
        f"control) and {percent(raw['biased'])} % for pixels ({percent(raw['control'])} %).",
        [Table.of(caption, columns, scores, dict.fromkeys(columns, ".2%"))],
        [("images of the biased training set", plots.contact_images(images, 40))],
        {10: (ours["biased"] > 0.95 and generative["biased"] < generative["control"] - 0.05, why)},
    )


EXPERIMENTS = [
    Experiment("L1", "Representations matter", "Can a linear probe classify the shape?", l1, 2),
    Experiment("L2", "Invariance", "Which images are similar for a supervised encoder?", l2, 3),
    Experiment("L3", "Random encoders", "Is the architecture enough, without training?", l3, 1),
    Experiment("L4", "Reconstruction", "Do features for reconstruction classify well?", l4, 5),
    Experiment("L5", "Transformations", "What does each transformation make invariant?", l5, 18),
    Experiment("L6", "SimCLR", "Can as much be learned without labels?", l6, 25),
    Experiment("L7", "SimCLR's invariance", "Which images are similar for SimCLR?", l7, 1),
    Experiment("L8", "Negatives", "What are negatives for?", l8, 10),
    Experiment("L9", "Few labels", "How many labels are needed?", l9, 9),
    Experiment("L10", "Biased data", "What if the position predicts the shape?", l10, 18),
]
