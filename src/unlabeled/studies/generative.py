"""Generative models: quality of samples, conditioning, features and likelihoods."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from unlabeled.data.open import open_data
from unlabeled.data.sets import moving_sprites
from unlabeled.encoders.features import embed
from unlabeled.evaluation.generation import frechet, shares
from unlabeled.studies.generative_models import (
    BINARY_MODELS,
    MODELS,
    QUICK,
    SETTINGS,
    Settings,
    classifier,
    diffusion,
    model_run,
    predicted,
    sampled,
    sheet,
)
from unlabeled.studies.lab import Experiment, Finding, Lab, Table, TitledImages, percent
from unlabeled.studies.likelihoods import g5, g6, g7, g8
from unlabeled.training import drawings
from unlabeled.training.train import reopen
from unlabeled.utils import drawing

__all__ = ["CLAIMS", "DATA", "EXPERIMENTS", "LEAD", "QUICK", "SETTINGS", "TITLE", "Settings"]

TITLE = "Generative models: samples, features and likelihoods"
LEAD = (
    "A model that generates images has learned something about all of them. How good are its "
    "samples and its likelihood, and how useful are its features?"
)
DATA = "fashion_mnist"
CLAIMS: dict[int, str] = {}


def g1(lab: Lab) -> Finding:
    """Samples of each model compared with real test images by a classifier."""
    judge = classifier(lab)
    n, k = lab.settings.samples, len(lab.data.classes)
    real = embed(judge.encoder, lab.data.train.x[:n], lab.data.value_range)
    results: dict[str, dict[str, Any]] = {}
    images: TitledImages = []
    test = lab.data.test.x[:n]
    samples = {"test images": (test, 0.0)}
    classes = torch.arange(n) % k
    formats = {"rarest_class": ".1%", "frechet": ".2f", "class_accuracy": ".1%", "seconds": ".0f"}
    for title in MODELS:
        condition = classes if title == "diffusion" else None
        samples[title] = sampled(model_run(lab, title), n, condition, lab.settings.sampling_steps)
    for title, (x, seconds) in samples.items():
        prediction = predicted(judge, x)
        results[title] = {
            "rarest_class": float(shares(prediction, k).min()),
            "shares": shares(prediction, k).tolist(),
            "frechet": frechet(embed(judge.encoder, x, (0.0, 255.0)), real),
            "seconds": seconds,
        }
        if title == "diffusion":
            results[title]["class_accuracy"] = float((prediction == classes.numpy()).mean())
        images.append((title, sheet(x[:40])))
    accuracy = results["diffusion"]["class_accuracy"]
    distances = ", ".join(f"{t} {f['frechet']:.1f}" for t, f in results.items())
    caption = "Samples evaluated by a classifier"
    columns = ["rarest class %", "Fréchet distance", "requested class %", "seconds"]
    table = Table.of(caption, columns, results, formats)
    return Finding(
        {"models": results, "samples": n},
        f"Each model is trained on {len(lab.data.train):,} images of clothes, diffusion "
        f"conditioned on their classes. {n:,} samples of each are evaluated by a classifier of "
        "real images: the share of the rarest class, and the Fréchet distance of the features from "
        "those of training images.",
        f"Samples of diffusion have the requested class in {100 * accuracy:.1f} % of cases. "
        f"Fréchet distances: {distances}. They can only be compared with each other.",
        [table],
        images,
    )


def g2(lab: Lab) -> Finding:
    """Features of the U-Net at several diffusion times and of the other models."""
    net: Any = model_run(lab, "diffusion").encoder
    results = {}
    for moment in (0.0, 0.1, 0.3, 0.6):
        net.time = moment
        results[f"diffusion at {moment:g}"] = lab.probe(f"diffusion at {moment}", net).test
    for title in ("VAE", "GAN", *BINARY_MODELS):
        results[title] = lab.probe(title, model_run(lab, title).encoder).test
    results["random"] = lab.probe("random", lab.random()).test
    best = max(results, key=lambda t: results[t])
    images: TitledImages = []
    for title in BINARY_MODELS:
        sheets = drawings.visualizations(reopen(model_run(lab, title)), lab.data, images=10)
        images += [(f"{title}: {what}", sheet) for what, sheet in sheets.items()]
    return Finding(
        {"probe": results},
        "Linear probes of each model: features of the U-Net at several diffusion times, features "
        "of VAE and GAN, hidden units of the binary models.",
        f"{best} has the best linear probe accuracy, {100 * results[best]:.1f} %; random weights "
        f"have {100 * results['random']:.1f} %.",
        [Table.of("Linear probe accuracy", ["test %"], results, ".1%")],
        images,
    )


def g3(lab: Lab) -> Finding:
    """Sprites generated from captions."""
    data = open_data(lab.settings.captions)
    run = diffusion(lab, "captions", data, condition="words", epochs=48)
    judge = classifier(lab, replace(data, target="shape"))
    n = lab.settings.caption_samples
    captions = torch.arange(n) % len(data.classes)
    x, seconds = sampled(run, n, captions, lab.settings.sampling_steps)
    mass = x[:, 0].astype(np.float64) + 1e-9
    total = mass.sum((1, 2))
    right, low = (
        mass.sum(axis) @ np.arange(side) / total > (side - 1) / 2
        for axis, side in ((1, x.shape[3]), (2, x.shape[2]))
    )
    requested = captions.numpy() % 4
    quadrant = (right == requested % 2) & (low == requested // 2)
    shape = predicted(judge, x) == captions.numpy() // 8
    parts = {"shape": shape, "quadrant": quadrant, "both": quadrant & shape}
    results = {name: float(right.mean()) for name, right in parts.items()}
    table = Table(
        "Samples as requested, %", list(results), [[percent(share) for share in results.values()]]
    )
    return Finding(
        results | {"seconds": seconds},
        f"Diffusion is trained on {len(data.train):,} sprites with captions such as "
        f"“{data.classes[13]}”, encoded by a small recurrent network. A classifier predicts the "
        "shape of the samples; the centroid of their brightness gives the quadrant.",
        f"Shape and quadrant are as requested in {100 * results['both']:.1f} % of {n:,} samples.",
        [table],
        [("one sample for each caption", sheet(x[:24], columns=8))],
    )


def g4(lab: Lab) -> Finding:
    """Clips generated with a velocity."""
    data = open_data(lab.settings.clips)
    run = diffusion(lab, "clips", data, condition="class", epochs=25)
    n = lab.settings.clip_samples
    classes = torch.arange(n) % len(data.classes)
    x, seconds = sampled(run, n, classes, lab.settings.sampling_steps)
    velocity = moving_sprites.read_velocity(x)
    requested = np.stack(np.divmod(classes.numpy(), len(moving_sprites.SPEEDS)), 1) - 2
    correlation = [float(np.corrcoef(velocity[:, i], requested[:, i])[0, 1]) for i in (0, 1)]
    clips = x[:: max(1, n // 6)][:6, :, None]  # (6, T, 1, 32, 32)
    table = Table(
        "Correlation of requested and generated velocity",
        ["horizontal", "vertical"],
        [[f"{r:.3f}" for r in correlation]],
    )
    return Finding(
        {"correlation": {"x": correlation[0], "y": correlation[1]}, "seconds": seconds},
        f"Diffusion is trained on {len(data.train):,} clips of eight frames of a moving sprite, "
        "conditioned on the velocity. The velocity of samples is that of the centroid of their "
        "brightness.",
        f"Requested and generated velocity correlate by {correlation[0]:.2f} horizontally and "
        f"{correlation[1]:.2f} vertically.",
        [table],
        [
            ("six clips, frame by frame", sheet(clips.reshape(-1, *clips.shape[2:]), columns=8)),
            ("the same clips", drawing.gif(torch.from_numpy(clips) / 255)),
        ],
    )


QUESTION = "How good are the samples, and are all classes among them?"
EXPERIMENTS = [
    Experiment("G1", "Samples", QUESTION, g1, 70),
    Experiment("G2", "Features", "How good are the features of generative models?", g2, 12),
    Experiment("G3", "Captions", "Do samples match their captions?", g3, 25),
    Experiment("G4", "Clips", "Do samples move as requested?", g4, 20),
    Experiment("G5", "Pixels", "How many bits per pixel?", g5, 40),
    Experiment("G6", "Characters", "How many bits per character?", g6, 60),
    Experiment("G7", "Time series", "How accurate are predictions of the next value?", g7, 5),
    Experiment("G8", "Binary models", "How likely is a digit?", g8, 12),
]
