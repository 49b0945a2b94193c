"""Pretext tasks: what is learned by answering questions that need no teacher?"""

from __future__ import annotations

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
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.evaluation.probe import linear_probe
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training import drawings
from unlabeled.training.train import reopen

TITLE = "Pretext tasks: questions that images answer themselves"
LEAD = (
    "Which way is up? What is hidden there, what color was it? Whoever can answer has had to look "
    "at what is shown. How much of that is worth something for another question?"
)
DATA = "cifar10"
CLAIMS = {11: "Features of a pretext task are tied to it."}
MINUTES, SPRITE_MINUTES, QUICK_MINUTES = 4.0, 2.0, 0.25
LABELS = "1%"
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rotation": ("rotation", {}),
    "relative patch": ("relative_patch", {}),
    "relative patch, no gap": ("relative_patch", {"tile_fraction": 1.0}),
    "jigsaw": ("jigsaw", {}),
    "context encoder": ("context_encoder", {}),
    "context encoder, no critic": ("context_encoder", {"adversarial_weight": 0.0}),
    "colorization": ("colorization", {}),
    "denoising": ("denoising_autoencoder", {}),
    "masked autoencoder": ("masked_autoencoder", {}),
}
BESIDE: dict[str, tuple[str, dict[str, Any]]] = {
    "SimCLR": ("simclr", {}),
    "supervised": ("supervised", {}),
}
WHY: dict[str, tuple[str, dict[str, Any]]] = {
    "jigsaw, half of each tile": ("jigsaw", {"tile_fraction": 0.5}),
    "jigsaw, gray": ("jigsaw", {"weak": RandomGrayscale(1.0)}),
}
"""Without what a puzzle can be solved by at a glance."""
CHANCE = {"rotation": 1 / 4, "relative_patch": 1 / 8, "jigsaw": 1 / 64}
OF_TILES = ("relative_patch", "jigsaw")
DRAWN, HOLE = 2000, 8
"""Test images that are drawn; side of the hole that is filled in them."""
ON_SPRITES = ("rotation", "relative patch", "jigsaw", "context encoder", "denoising", "SimCLR")


def trained(lab: Lab, title: str, data: Splits | None = None) -> Run:
    """The run of a task, for the same time as all others."""
    method, options = (TASKS | BESIDE | WHY)[title]
    name = title.replace(", ", "-").replace(" ", "-").lower()
    name = name if data is None else f"{name}-{data.name}"
    minutes = QUICK_MINUTES if lab.quick else MINUTES if data is None else SPRITE_MINUTES
    epochs = lab.epochs_for(name, method, minutes, data, **options)
    return lab.run(name, method, data=data, epochs=epochs, **options)


@torch.no_grad()
def answered(lab: Lab, run: Run, images: int = 4000) -> float | None:
    """Share of the questions about test images that are answered rightly, where there are any."""
    method: Any = reopen(run)
    if not hasattr(method, "scores") or run.config["method"] not in CHANCE:
        return None
    right: list[np.ndarray] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for start in range(0, min(images, len(lab.data.test)), 500):
            x = to_float(torch.from_numpy(lab.data.test.x[start : start + 500]), lab.data.range)
            seen, answer = method.views(Batch(x, torch.arange(len(x))))
            right.append((method.scores(seen).argmax(1) == answer).numpy())
    return float(np.concatenate(right).mean())


def row(lab: Lab, title: str) -> dict[str, Any]:
    """What a task's features are worth, and its own question; of random weights as well."""
    target = str(lab.data.target)
    y, y_test = (part.factors[target] for part in (lab.data.train, lab.data.test))
    run = None if title == "random" else trained(lab, title)
    encoder = lab.random() if run is None else run.encoder
    z, z_test = lab.features(title, encoder)
    by_tiles = None
    if run is None or run.config["method"] in OF_TILES:
        parts, parts_test = lab.features(f"{title}, tiles", FromTiles(encoder))
        by_tiles = linear_probe(parts, y, parts_test, y_test).test
    return {
        "linear": linear_probe(z, y, z_test, y_test).test,
        "tiles": by_tiles,
        "knn": knn_accuracy(z, y, z_test, y_test),
        "few": few_labels(z, y, z_test, y_test, LABELS).test,
        "epochs": 0 if run is None else run.config["recipe"]["epochs"],
        "answered": None if run is None else answered(lab, run),
        "chance": None if run is None else CHANCE.get(run.config["method"]),
    }


def p1(lab: Lab) -> Finding:
    found: dict[str, dict[str, Any]] = {}
    images: list[tuple[str, bytes | str]] = []
    for title in (*TASKS, *BESIDE, "random"):
        found[title] = row(lab, title)
        if title in TASKS:
            sheets = drawings.visualizations(reopen(trained(lab, title)), lab.data, images=8)
            images += [(f"{title}: {what}", sheet) for what, sheet in sheets.items()]
    read = {t: max(f["linear"], f["tiles"] or 0.0) for t, f in found.items()}
    random = read["random"]
    above = [t for t in TASKS if read[t] > random + 0.05]
    best = max(TASKS, key=lambda t: read[t])

    def share(value: float | None) -> str:
        return "–" if value is None else f"{100 * value:.1f}"

    return Finding(
        {"tasks": found, "above_random": above},
        f"Each task trains the same small network on {len(lab.data.train):,} images for about "
        f"{QUICK_MINUTES if lab.quick else MINUTES:g} minutes. Then its features are asked what is "
        "shown: by a linear decoder, by the nearest neighbors, and with 1 % of the labels. "
        "Encoders that learned from tiles are also read as the mean of an image's 16 tiles, each "
        "as large as those (Kolesnikov, Zhai, Beyer 2019), and random weights, too.",
        f"{best} reads best, {100 * read[best]:.1f} %, where SimCLR gives "
        f"{100 * found['SimCLR']['linear']:.1f} %, labels {100 * found['supervised']['linear']:.1f}"
        f" % and random weights {100 * random:.1f} %. At least five points above random are "
        f"{', '.join(above) or 'none'}.",
        [
            Table(
                "By task: its own question, and what is shown",
                ["", "answered %", "chance %", "linear %", "from tiles %", "k-NN %",
                 "1 % of labels", "epochs"],
                [
                    [
                        title,
                        share(f["answered"]),
                        share(f["chance"]),
                        *(share(f[k]) for k in ("linear", "tiles", "knn", "few")),
                        str(f["epochs"]),
                    ]
                    for title, f in found.items()
                ],
            )
        ],
        images,
    )  # fmt: skip


class FromTiles(nn.Module):
    """The mean of an encoder's features of 4×4 tiles, each enlarged to half of the image's side.

    Args:
        encoder: that learned from tiles of that size.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        cut = tiles(x, 4, share=1.0, size=min(x.shape[2:]) // 2)
        return self.encoder(cut.flatten(0, 1)).unflatten(0, cut.shape[:2]).mean(1)


def p2(lab: Lab) -> Finding:
    sprites = open_data("dsprites")
    kept: dict[str, dict[str, float]] = {}
    for title in (*ON_SPRITES, "random"):
        if title == "random":
            encoder = lab.random(data=sprites)
        else:
            encoder = trained(lab, title, sprites).encoder
        z, z_test = lab.features(f"{title}, sprites", encoder, sprites)
        kept[title] = probe_factors(z, z_test, sprites)
    factors = list(sprites.train.factors)
    values = {f: [kept[t][f] for t in ON_SPRITES] for f in factors}
    spread = {f: max(v) - min(v) for f, v in values.items()}
    most = max(spread, key=lambda f: spread[f])
    best, worst = (pick(ON_SPRITES, key=lambda t: kept[t][most]) for pick in (max, min))
    return Finding(
        {"kept": kept},
        "The same tasks learn from sprites, whose every factor is known, for about "
        f"{QUICK_MINUTES if lab.quick else SPRITE_MINUTES:g} minutes each. A linear decoder reads "
        "the shape (accuracy) and the numbers (R²) from the features of each.",
        f"They keep most unlike amounts of {most}: {best} {kept[best][most]:.2f}, {worst} "
        f"{kept[worst][most]:.2f}.",
        [
            Table(
                "What is kept of each factor: shape in %, others R²",
                ["", *factors],
                [
                    [
                        t,
                        f"{100 * f['shape']:.1f}",
                        *(f"{f[k]:.2f}" for k in factors if k != "shape"),
                    ]
                    for t, f in kept.items()
                ],
            )
        ],
        claims={
            11: (
                spread[most] > 0.3,
                f"{most} is kept by {kept[best][most]:.2f} ({best}) to {kept[worst][most]:.2f} "
                f"({worst}), by what the task asks for",
            )
        },
    )


@torch.no_grad()
def p3(lab: Lab) -> Finding:
    """What is drawn, against the simplest answers: how far off, and how sharp?"""
    torch.manual_seed(0)
    x = to_float(torch.from_numpy(lab.data.test.x[:DRAWN]), lab.data.range)
    filled, sharp, spectra = fillings(lab, x)
    errors: dict[str, dict[str, float]] = filled
    if x.shape[1] == 3:
        errors |= colors(reopen(trained(lab, "colorization")).eval(), x)
    denoiser: Any = reopen(trained(lab, "denoising")).eval()
    damaged = denoiser.damage(x)
    drawn = torch.cat([denoiser.decoder(denoiser.encoder(part)) for part in damaged.split(500)])
    errors["denoising: squared error of pixels"] = {
        "ours": float((drawn.sigmoid() - x).square().mean()),
        "as damaged": float((damaged - x).square().mean()),
    }
    masked: Any = reopen(trained(lab, "masked autoencoder")).eval()
    views = masked.views(Batch(x, torch.arange(len(x))))
    hidden = views[1][:, masked.seen :, None]
    own = masked.targets(x)
    errors["masked autoencoder: squared error of hidden patches, normalized"] = {
        "ours": float(masked.loss(views)),
        "their mean": float(own.gather(1, hidden.expand(-1, -1, own.shape[2])).square().mean()),
    }
    with_critic, without = sharp["context encoder"], sharp["context encoder, no critic"]
    lost = [name for name, e in errors.items() if e["ours"] >= min(list(e.values())[1:])]
    return Finding(
        {"errors": errors, "spectrum_off": sharp, "spectra": spectra},
        f"{len(x):,} test images with a square of {HOLE}×{HOLE} pixels missing, gray, damaged, "
        "or with most patches hidden, drawn by what was trained above. Beside it the simplest "
        "answer: the mean of what is seen, no color, what is there. The spectrum is of the "
        "squares' brightness, by frequency; its distance is the mean difference of logarithms from "
        "that of real images.",
        f"Painted with a critic the spectrum is off by {with_critic:.2f}, without by {without:.2f} "
        "(e-folds of power). "
        + (f"No better than the simplest answer: {'; '.join(lost)}." if lost
           else "All are nearer than the simplest answer."),
        [
            Table(
                "How far off",
                ["", "ours", "simplest answer"],
                [
                    [name, *(f"{v:.4g}" if k == "ours" else f"{v:.4g} ({k})" for k, v in e.items())]
                    for name, e in errors.items()
                ],
            ),
            Table(
                "Power of the filling beside the real one's, by frequency (periods a square)",
                ["", *(str(f) for f in range(1, HOLE // 2 + 1)), "distance"],
                [
                    [
                        title,
                        *(f"{p / r:.2f}" for p, r in zip(powers, spectra["real"], strict=True)),
                        f"{sharp[title]:.2f}" if title in sharp else "–",
                    ]
                    for title, powers in spectra.items()
                ],
            ),
        ],
    )  # fmt: skip


def fillings(
    lab: Lab, x: Tensor
) -> tuple[dict[str, dict[str, float]], dict[str, float], dict[str, list[float]]]:
    """Errors in a square hole, distances of spectra, and the spectra, by title."""
    h, w = ((side - HOLE) // 2 for side in x.shape[2:])
    missing = torch.zeros(len(x), 1, *x.shape[2:], dtype=torch.bool)
    missing[:, :, h : h + HOLE, w : w + HOLE] = True

    def square(images: Tensor) -> Tensor:
        return images[:, :, h : h + HOLE, w : w + HOLE]

    seen = (x * ~missing).sum((2, 3), keepdim=True) / (~missing).sum((2, 3), keepdim=True)
    plain = float((square(x) - seen).square().mean())
    errors, sharp, spectra = {}, {}, {"real": spectrum(square(x))}
    for title in ("context encoder", "context encoder, no critic"):
        painter: Any = reopen(trained(lab, title)).eval()
        parts = zip(x.split(500), missing.split(500), strict=True)
        drawn = square(torch.cat([painter.drawn(*part) for part in parts]))
        errors[f"{title}: squared error in the hole"] = {
            "ours": float((drawn - square(x)).square().mean()),
            "mean fill": plain,
        }
        spectra[title] = spectrum(drawn)
        ratios = np.divide(spectra[title], spectra["real"])
        sharp[title] = float(np.abs(np.log(ratios)).mean())
    return errors, sharp, spectra


def spectrum(squares: Tensor) -> list[float]:
    """Mean power at 1, 2, … periods a square, of the brightness in a Hann window: (B, C, n, n)."""
    n = squares.shape[2]
    window = torch.hann_window(n, periodic=False)
    gray = squares.mean(1)
    gray = (gray - gray.mean((1, 2), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(gray).abs().square().mean(0)
    each = torch.fft.fftfreq(n) * n
    radius = (each[:, None].square() + each.square()).sqrt().round()
    return [float(power[radius == f].mean()) for f in range(1, n // 2 + 1)]


def colors(painter: Any, x: Tensor) -> dict[str, dict[str, float]]:
    """Distances of colors from the true ones, a pixel's and a color's mean."""
    true = rgb_to_lab(x)[:, 1:]
    told = torch.cat([painter.colors(part) for part in x.split(500)])
    bins = torch.cdist(true.movedim(1, 3).flatten(0, 2), painter.centers).argmin(1)
    found: dict[str, dict[str, float]] = {"a pixel": {}, "a color": {}}
    for title, ab in (("ours", told), ("gray", torch.zeros_like(true))):
        off = (ab - true).norm(dim=1).flatten()
        count = torch.bincount(bins, minlength=len(painter.centers))
        mean = torch.bincount(bins, off, len(painter.centers))[count > 0] / count[count > 0]
        found["a pixel"][title], found["a color"][title] = float(off.mean()), float(mean.mean())
    return {f"colorization: distance in a*, b*, mean of {k}": v for k, v in found.items()}


def p4(lab: Lab) -> Finding:
    """Puzzles without their short cuts; and what gray videos taught of photographs."""
    target = str(lab.data.target)
    y, y_test = (part.factors[target] for part in (lab.data.train, lab.data.test))

    def read(name: str, encoder: nn.Module) -> float:
        z, z_test = lab.features(name, encoder)
        return linear_probe(z, y, z_test, y_test).test

    puzzles: dict[str, dict[str, float]] = {}
    for title in ("jigsaw", *WHY):
        run = trained(lab, title)
        share = read(f"{title}, tiles", FromTiles(run.encoder))
        puzzles[title] = {"answered": float(answered(lab, run) or 0.0), "tiles": share}
    puzzles["random"] = {"tiles": read("random, tiles", FromTiles(lab.random()))}
    videos: dict[str, float] = {}
    if lab.data.channels == 3:
        run = lab.run("videos", "video_colorization", data=open_data("video"), quick_epochs=1)
        videos["video colorization"] = read("videos", run.encoder)
        videos["random, its network"] = read(
            "videos, random", lab.random("spatial_resnet", gray=True)
        )
    harder = {t: puzzles[t]["tiles"] for t in WHY}
    best = max(harder, key=lambda t: harder[t])
    told = (
        f" Colors carried through videos are read with {100 * videos['video colorization']:.1f} %, "
        f"the same network at random with {100 * videos['random, its network']:.1f} %."
        if videos
        else ""
    )
    return Finding(
        {"puzzles": puzzles, "videos": videos},
        "Whoever can join edges or colors that go on from tile to tile need not know what is "
        "shown. So puzzles are posed with half of each tile's side, which leaves wide gaps, and in "
        "gray. The network of video colorization learned from some seconds of video and is asked "
        "about the same photographs.",
        f"As posed above, {100 * puzzles['jigsaw']['answered']:.1f} % of the puzzles are solved "
        f"and {100 * puzzles['jigsaw']['tiles']:.1f} % of the photographs read, where random "
        f"weights read {100 * puzzles['random']['tiles']:.1f} %; {best.removeprefix('jigsaw, ')}, "
        f"{100 * puzzles[best]['answered']:.1f} % and {100 * harder[best]:.1f} %.{told}",
        [
            Table(
                "Puzzles: solved, and what is shown, read from tiles",
                ["", "answered %", "linear %"],
                [
                    [t, *(f"{100 * f[k]:.1f}" if k in f else "–" for k in ("answered", "tiles"))]
                    for t, f in puzzles.items()
                ],
            ),
            *(
                [Table("What videos taught of photographs", ["", "linear %"],
                       [[t, f"{100 * v:.1f}"] for t, v in videos.items()])] if videos else []
            ),
        ],
    )  # fmt: skip


EXPERIMENTS = [
    Experiment("P1", "All tasks", "What is each worth for another question?", p1, 55),
    Experiment("P2", "Tied to the task", "Which factors does each keep?", p2, 16),
    Experiment("P3", "What is drawn", "How near is it, and how sharp?", p3, 1),
    Experiment("P4", "Little learned", "Why, where a task is solved and teaches little?", p4, 10),
]
