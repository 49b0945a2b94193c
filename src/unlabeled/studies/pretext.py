"""Pretext tasks: what features learn from tasks whose labels come from the images."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unlabeled.augmentations import RandomGrayscale
from unlabeled.augmentations.color import rgb_to_lab
from unlabeled.augmentations.patches import tiles
from unlabeled.core import Batch
from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.open import open_data
from unlabeled.evaluation.factors import probe_factors
from unlabeled.evaluation.few_labels import few_labels
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, TitledImages, Way, run_name
from unlabeled.training import drawings
from unlabeled.training.train import reopen

TITLE = "Pretext tasks"
LEAD = (
    "Which way is up? What is missing here, what color was it? The answers to such questions are "
    "in the images themselves. How useful are the features for other tasks?"
)
DATA = "cifar10"
CLAIMS = {11: "Features of a pretext task are tied to it."}
TASKS: dict[str, Way] = {
    "rotation": ("rotation", {}),
    "relative patch": ("relative_patch", {}),
    "relative patch, no gap": ("relative_patch", {"tile_fraction": 1.0}),
    "jigsaw": ("jigsaw", {}),
    "context encoder": ("context_encoder", {}),
    "context encoder, no adversarial loss": ("context_encoder", {"adversarial_weight": 0.0}),
    "colorization": ("colorization", {}),
    "denoising": ("denoising_autoencoder", {}),
    "masked autoencoder": ("masked_autoencoder", {}),
}
REFERENCES: dict[str, Way] = {
    "SimCLR": ("simclr", {}), "supervised": ("supervised", {}),
}  # fmt: skip
PUZZLES: dict[str, Way] = {
    "jigsaw, larger tiles": ("jigsaw", {"tile_fraction": 0.8}),
    "jigsaw, gray": ("jigsaw", {"weak": RandomGrayscale(1.0)}),
}
"""Puzzles with more and with fewer shortcuts by continuous edges and colors."""
CHANCE = {"rotation": 1 / 4, "relative_patch": 1 / 8, "jigsaw": 1 / 64}
INPAINTERS = ("context encoder", "context encoder, no adversarial loss")
OF_TILES = ("relative_patch", "jigsaw")
HOLE = 8
"""Side of the square that is inpainted, in pixels."""
ON_SPRITES = ("rotation", "relative patch", "jigsaw", "context encoder", "denoising", "SimCLR")


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    #: every task is trained with the operations of that many epochs of SimCLR
    epochs: float = 20
    sprite_epochs: float = 8  #: the same on sprites
    #: method and arguments of each task, by title
    tasks: Mapping[str, Way] = field(default_factory=TASKS.copy)
    on_sprites: tuple[str, ...] = ON_SPRITES  #: the titles that are also trained on sprites
    labels: str = "1%"  #: labels of the probe with few labels
    test_samples: int = 4000  #: test images for pretext accuracy
    inpainted: int = 2000  #: test images that are reconstructed
    sprites: Any = "dsprites"  #: data of sprites
    video: Any = "video"  #: data of video


SETTINGS, QUICK = Settings(), Settings(epochs=1, sprite_epochs=1)


def trained(lab: Lab, title: str, data: Splits | None = None) -> Run:
    """Train a task with as many operations as all others."""
    settings: Settings = lab.settings
    way = method, options = {**settings.tasks, **REFERENCES, **PUZZLES}[title]
    name = run_name(title) if data is None else f"{run_name(title)}-{data.name}"
    epochs = settings.epochs if data is None else settings.sprite_epochs
    epochs = lab.epochs_like(epochs, REFERENCES["SimCLR"], way, data)
    return lab.run(name, method, data=data, epochs=epochs, **options)


@torch.no_grad()
def pretext_accuracy(lab: Lab, run: Run) -> float | None:
    """Accuracy of the pretext task itself on test images, if it is a classification."""
    method: Any = reopen(run)
    if not hasattr(method, "scores") or run.config["method"] not in CHANCE:
        return None
    correct: list[np.ndarray] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for start in range(0, min(lab.settings.test_samples, len(lab.data.test)), 500):
            part = torch.from_numpy(lab.data.test.x[start : start + 500])
            x = to_float(part, lab.data.value_range)
            inputs, answer = method.views(Batch(x, torch.arange(len(x))))
            correct.append((method.scores(inputs).argmax(1) == answer).numpy())
    return float(np.concatenate(correct).mean())


def evaluate(lab: Lab, title: str) -> dict[str, Any]:
    """Figures of a task, or of random weights."""
    y, y_test = lab.labels()
    run = None if title == "random" else trained(lab, title)
    encoder = lab.random() if run is None else run.encoder
    z, z_test = lab.features(title, encoder)
    of_tiles = run is None or run.config["method"] in OF_TILES
    return {
        "linear": lab.probe(title, encoder).test,
        "tiles": tile_accuracy(lab, title, encoder) if of_tiles else None,
        "knn": lab.knn(title, encoder),
        "few_labels": few_labels(z, y, z_test, y_test, lab.settings.labels, penalty=1.0).test,
        "epochs": 0 if run is None else run.config["recipe"]["epochs"],
        "pretext_accuracy": None if run is None else pretext_accuracy(lab, run),
        "chance": None if run is None else CHANCE.get(run.config["method"]),
    }


def tile_accuracy(lab: Lab, title: str, encoder: nn.Module) -> float:
    return lab.probe(f"{title}, tiles", TileAverage(encoder)).test


def p1(lab: Lab) -> Finding:
    tasks = lab.settings.tasks
    results: dict[str, dict[str, Any]] = {}
    images: TitledImages = []
    for title in (*tasks, *REFERENCES, "random"):
        results[title] = evaluate(lab, title)
        if title in tasks:
            sheets = drawings.visualizations(reopen(trained(lab, title)), lab.data, images=8)
            images += [(f"{title}: {what}", sheet) for what, sheet in sheets.items()]
    accuracy = {t: max(f["linear"], f["tiles"] or 0.0) for t, f in results.items()}
    random = accuracy["random"]
    above = [t for t in tasks if accuracy[t] > random + 0.05]
    best = max(tasks, key=lambda t: accuracy[t])
    caption = "Accuracy of the pretext task and for the class"
    keys = ("pretext_accuracy", "chance", "linear", "tiles", "knn", "few_labels")
    columns = ["pretext %", "chance %", "linear %", "tiles %", "k-NN %", "few labels %", "epochs"]
    return Finding(
        {"tasks": results, "above_random": above},
        f"Each task trains the same small encoder on {len(lab.data.train):,} images with as many "
        f"operations as SimCLR in {lab.settings.epochs:g} epochs. The features are evaluated by "
        f"linear probe, k-NN and a linear probe with {lab.settings.labels} of the labels. Encoders "
        "trained on tiles (and random weights) are also evaluated by the average features of the "
        "16 tiles of an image "
        "(Kolesnikov, Zhai, Beyer 2019).",
        f"{best} has the best linear probe accuracy, {100 * accuracy[best]:.1f} %; SimCLR has "
        f"{100 * results['SimCLR']['linear']:.1f} %, supervised training "
        f"{100 * results['supervised']['linear']:.1f} % and random weights {100 * random:.1f} %. "
        f"At least five points above random weights: {', '.join(above) or 'none'}.",
        [Table.of(caption, columns, results, dict.fromkeys(keys, ".1%") | {"epochs": "d"})],
        images,
    )


class TileAverage(nn.Module):
    """Average features of 4×4 tiles, each resized to half of the side of the image.

    Args:
        encoder: an encoder trained on tiles of that size.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        cut = tiles(x, 4, share=1.0, size=min(x.shape[2:]) // 2)
        return self.encoder(cut.flatten(0, 1)).unflatten(0, cut.shape[:2]).mean(1)


def p2(lab: Lab) -> Finding:
    sprites, titles = open_data(lab.settings.sprites), lab.settings.on_sprites
    results: dict[str, dict[str, float]] = {}
    for title in (*titles, "random"):
        random = title == "random"
        encoder = lab.random(data=sprites) if random else trained(lab, title, sprites).encoder
        z, z_test = lab.features(f"{title}, sprites", encoder, sprites)
        results[title] = probe_factors(z, z_test, sprites)
    factors = list(sprites.train.factors)
    values = {f: [results[t][f] for t in titles] for f in factors}
    spread = {f: max(v) - min(v) for f, v in values.items()}
    most = max(spread, key=lambda f: spread[f])
    best, worst = (pick(titles, key=lambda t: results[t][most]) for pick in (max, min))
    why = (
        f"the probe for {most} ranges from {results[worst][most]:.2f} ({worst}) to "
        f"{results[best][most]:.2f} ({best}), depending on the task"
    )
    caption = "Linear probe by factor: shape in %, others R²"
    table = Table.of(caption, factors, results, dict.fromkeys(factors, ".2f") | {"shape": ".1%"})
    return Finding(
        {"factors": results},
        "The same tasks are trained on sprites, whose factors of variation are known, with as many "
        f"operations as SimCLR in {lab.settings.sprite_epochs:g} epochs. Linear probes predict the "
        "shape (accuracy) and the other factors (R²).",
        f"Tasks differ most in {most}: {best} {results[best][most]:.2f}, {worst} "
        f"{results[worst][most]:.2f}.",
        [table],
        claims={11: (spread[most] > 0.3, why)},
    )


@torch.no_grad()
def p3(lab: Lab) -> Finding:
    """Errors and spectra of reconstructions, compared with trivial answers."""
    torch.manual_seed(0)
    x = to_float(torch.from_numpy(lab.data.test.x[: lab.settings.inpainted]), lab.data.value_range)
    errors, distances, spectra = inpainting(lab, x)
    if x.shape[1] == 3:
        errors |= colors(reopen(trained(lab, "colorization")).eval(), x)
    denoiser: Any = reopen(trained(lab, "denoising")).eval()
    damaged = denoiser.corrupt(x)
    restored = torch.cat([denoiser.decoder(denoiser.encoder(part)) for part in damaged.split(500)])
    errors["denoising: squared error of pixels"] = {
        "ours": float((restored.sigmoid() - x).square().mean()),
        "damaged": float((damaged - x).square().mean()),
    }
    masked: Any = reopen(trained(lab, "masked autoencoder")).eval()
    views = masked.views(Batch(x, torch.arange(len(x))))
    hidden = views[1][:, masked.visible :, None]
    targets = masked.targets(x)
    errors["masked autoencoder: squared error of hidden patches, normalized"] = {
        "ours": float(masked.loss(views)),
        "mean": float(targets.gather(1, hidden.expand(-1, -1, targets.shape[2])).square().mean()),
    }
    adversarial, without = (distances[title] for title in INPAINTERS)
    relative = {
        title: dict(enumerate(np.divide(powers, spectra["real"]).tolist()))
        | {"distance": distances.get(title)}
        for title, powers in spectra.items()
    }
    not_better = [name for name, e in errors.items() if e["ours"] >= min(list(e.values())[1:])]
    return Finding(
        {"errors": errors, "spectral_distance": distances, "spectra": spectra},
        f"Reconstructions of {len(x):,} test images with a missing square of {HOLE}×{HOLE} pixels, "
        "without color, damaged, or with most patches masked, by the models trained above. They "
        "are compared with trivial answers: the mean of the visible pixels, gray, the damaged "
        "image. The spectral distance is the mean absolute difference of the log power spectra of "
        "the square from that of real images.",
        f"The spectral distance is {adversarial:.2f} with the adversarial loss and {without:.2f} "
        f"without. Not better than the trivial answer: {'; '.join(not_better) or 'none'}.",
        [
            Table(
                "Error",
                ["", "ours", "trivial answer"],
                [
                    [name, *(f"{v:.4g}" if k == "ours" else f"{v:.4g} ({k})" for k, v in e.items())]
                    for name, e in errors.items()
                ],
            ),
            Table.of(
                "Power of the inpainted relative to the real square, by frequency (periods per "
                "square)",
                [*(str(f) for f in range(1, HOLE // 2 + 1)), "distance"],
                relative,
                ".2f",
            ),
        ],
    )


def inpainting(
    lab: Lab, x: Tensor
) -> tuple[dict[str, dict[str, float]], dict[str, float], dict[str, list[float]]]:
    """Errors of an inpainted square, spectral distances, and spectra, by title."""
    h, w = ((side - HOLE) // 2 for side in x.shape[2:])
    missing = torch.zeros(len(x), 1, *x.shape[2:], dtype=torch.bool)
    missing[:, :, h : h + HOLE, w : w + HOLE] = True

    def square(images: Tensor) -> Tensor:
        return images[:, :, h : h + HOLE, w : w + HOLE]

    visible = (x * ~missing).sum((2, 3), keepdim=True) / (~missing).sum((2, 3), keepdim=True)
    mean_fill = float((square(x) - visible).square().mean())
    errors, distances, spectra = {}, {}, {"real": spectrum(square(x))}
    for title in INPAINTERS:
        painter: Any = reopen(trained(lab, title)).eval()
        parts = zip(x.split(500), missing.split(500), strict=True)
        filled = square(torch.cat([painter.inpaint(*part) for part in parts]))
        errors[f"{title}: squared error in the hole"] = {
            "ours": float((filled - square(x)).square().mean()),
            "mean fill": mean_fill,
        }
        spectra[title] = spectrum(filled)
        ratios = np.divide(spectra[title], spectra["real"])
        distances[title] = float(np.abs(np.log(ratios)).mean())
    return errors, distances, spectra


def spectrum(squares: Tensor) -> list[float]:
    """Mean power of the brightness at 1, 2, … periods, in a Hann window: (B, C, n, n)."""
    n = squares.shape[2]
    window = torch.hann_window(n, periodic=False)
    gray = squares.mean(1)
    gray = (gray - gray.mean((1, 2), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(gray).abs().square().mean(0)
    each = torch.fft.fftfreq(n) * n
    radius = (each[:, None].square() + each.square()).sqrt().round()
    return [float(power[radius == f].mean()) for f in range(1, n // 2 + 1)]


def colors(painter: Any, x: Tensor) -> dict[str, dict[str, float]]:
    """Mean distances from the true colors, averaged over pixels and over color bins."""
    true = rgb_to_lab(x)[:, 1:]
    predicted = torch.cat([painter.colors(part) for part in x.split(500)])
    bins = torch.cdist(true.movedim(1, 3).flatten(0, 2), painter.bins).argmin(1)
    results: dict[str, dict[str, float]] = {"pixels": {}, "color bins": {}}
    for title, ab in (("ours", predicted), ("gray", torch.zeros_like(true))):
        off = (ab - true).norm(dim=1).flatten()
        count = torch.bincount(bins, minlength=len(painter.bins))
        mean = torch.bincount(bins, off, len(painter.bins))[count > 0] / count[count > 0]
        results["pixels"][title], results["color bins"][title] = (
            float(off.mean()),
            float(mean.mean()),
        )
    return {f"colorization: distance in a*, b*, mean over {k}": v for k, v in results.items()}


def p4(lab: Lab) -> Finding:
    """Puzzles without shortcuts, and transfer of video colorization to images."""
    puzzles: dict[str, dict[str, float]] = {}
    for title in ("jigsaw", *PUZZLES):
        run = trained(lab, title)
        puzzles[title] = {"pretext_accuracy": float(pretext_accuracy(lab, run) or 0.0)}
        puzzles[title]["tiles"] = tile_accuracy(lab, title, run.encoder)
    puzzles["random"] = {"tiles": tile_accuracy(lab, "random", lab.random())}
    videos: dict[str, float] = {}
    if lab.data.channels == 3:
        data = open_data(lab.settings.video)
        run = lab.run("videos", "video_colorization", data=data, quick_epochs=1)
        videos["video colorization"] = lab.probe("videos", run.encoder).test
        random = lab.random("spatial_resnet", gray=True)
        videos["random weights, same network"] = lab.probe("videos, random", random).test

    def described(title: str) -> str:
        solved, tiles = (100 * puzzles[title][key] for key in ("pretext_accuracy", "tiles"))
        return f"{title}: {solved:.1f} % and {tiles:.1f} %"

    caption = "Accuracy of puzzles, and linear probe accuracy from tiles"
    formats = {"pretext_accuracy": ".1%", "tiles": ".1%"}
    tables = [Table.of(caption, ["pretext %", "linear %"], puzzles, formats)]
    colors = ""
    if videos:
        tables.append(Table.of("Transfer from video to images", ["linear %"], videos, ".1%"))
        learned, untrained = (f"{100 * share:.1f} %" for share in videos.values())
        colors = (
            f" Linear probe accuracy of video colorization is {learned}, of the same network with "
            f"random weights {untrained}."
        )
    return Finding(
        {"puzzles": puzzles, "videos": videos},
        "Jigsaw puzzles can be solved by edges and colors that continue from tile to tile, without "
        "knowledge of the content. Tiles have half the side of their cells, which leaves wide "
        "gaps; here they are also larger, or in grayscale. Video colorization is trained on a few "
        "seconds of video and evaluated on the same images.",
        "Share of puzzles solved, and linear probe accuracy from tiles: "
        f"{'; '.join(described(title) for title in ('jigsaw', *PUZZLES))}; random weights: "
        f"{100 * puzzles['random']['tiles']:.1f} %.{colors}",
        tables,
    )


EXPERIMENTS = [
    Experiment("P1", "All tasks", "How good are the features for another task?", p1, 55),
    Experiment("P2", "Dependence on the task", "Which factors does each task encode?", p2, 16),
    Experiment("P3", "Reconstructions", "How accurate and how sharp are they?", p3, 1),
    Experiment("P4", "Shortcuts", "Why do solved puzzles teach little?", p4, 10),
]
