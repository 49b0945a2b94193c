"""Trainings and samples that the experiments of the study `generative` share."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.data.dataset import Samples, Splits
from unlabeled.encoders.features import embed
from unlabeled.report import plots
from unlabeled.runs.run import Run
from unlabeled.studies.lab import Lab, run_name
from unlabeled.training.train import reopen

FIXED_RATE: dict[str, Any] = {"lr_scaling": "none"}
"""The learning rate stays that of the default batch size, where it was chosen."""
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "VAE": ("vae", {"epochs": 20, "lr": 2e-3, "schedule": "one_cycle", "likelihood": "gaussian"}),
    "GAN": ("gan", {"epochs": 14}),
    "diffusion": ("diffusion", {"condition": "class", "epochs": 6}),
}
DEEP = (500, 500)
"""Units of each layer of the belief net and the Helmholtz machine."""
BINARY_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "Boltzmann machine": ("rbm", {"encoder_args": {"widths": DEEP[:1]}}),
    "Helmholtz machine": ("helmholtz", {"encoder_args": {"widths": DEEP}}),
}
PIXEL_MODELS: dict[str, dict[str, Any]] = {
    "rnn": {"epochs": 4},
    "lstm": {"epochs": 4},
    "transformer": {"epochs": 1, "encoder_args": {"width": 32, "layers": 2, "heads": 1}},
}
"""With similar training times; attention to 784 pixels is expensive."""
TEXT_MODELS: dict[str, dict[str, Any]] = {
    "rnn": FIXED_RATE | {"epochs": 1, "batch_size": 32, "encoder_args": {"width": 256}},
    "lstm": FIXED_RATE | {"epochs": 2, "batch_size": 32, "encoder_args": {"width": 256}},
    "transformer": FIXED_RATE
    | {"epochs": 1, "batch_size": 16, "encoder_args": {"width": 128, "layers": 4}},
}


@dataclass(frozen=True)
class Settings:
    """Constants of the study."""

    samples: int = 10_000  #: samples of each model of images
    caption_samples: int = 2000  #: samples from captions
    clip_samples: int = 1000  #: samples of clips
    #: sampling steps of diffusion; with 50, sampling 10,000 images would take as long as the
    #: training
    sampling_steps: int = 25
    #: range of test images for bits per pixel, apart from those used to choose the epochs
    test_pixels: tuple[int, int] = (1000, 2000)
    characters: int | None = None  #: training characters (default: all)
    test_characters: int = 200_000  #: test characters
    series: tuple[int, int] = (8000, 1000)  #: training and test time series
    bounds: int = 10  #: estimates of the partition function that a bound is averaged over
    epochs: int | None = None  #: epochs of deep belief nets (default: their own)
    #: autoregressive models of time series
    sequence_models: tuple[str, ...] = ("rnn", "lstm", "transformer")
    #: arguments of the autoregressive models of pixels
    pixel_models: Mapping[str, dict[str, Any]] = field(default_factory=PIXEL_MODELS.copy)
    #: arguments of the autoregressive models of characters
    text_models: Mapping[str, dict[str, Any]] = field(default_factory=TEXT_MODELS.copy)
    #: arguments of all diffusion models
    diffusion_args: Mapping[str, Any] = field(default_factory=dict)
    captions: Any = "captions"  #: data of captions
    clips: Any = "moving_sprites"  #: data of clips
    #: training and test text (default: the files `books_train` and `books_test`)
    text: tuple[bytes, bytes] | None = None


SETTINGS = Settings()
QUICK = Settings(500, 500, 500, characters=500_000, bounds=1, epochs=1)


def diffusion(lab: Lab, name: str, data: Splits | None = None, **options: Any) -> Run:
    """Train a diffusion model."""
    options |= lab.settings.diffusion_args
    return lab.run(name, "diffusion", data=data, quick_epochs=1, **options)


def model_run(lab: Lab, title: str) -> Run:
    """Train a model of `MODELS` or `BINARY_MODELS` on the study's images."""
    method, options = (MODELS | BINARY_MODELS)[title]
    if method == "diffusion":
        return diffusion(lab, run_name(title), **options)
    return lab.run(run_name(title), method, quick_epochs=1, **options)


def classifier(lab: Lab, data: Splits | None = None) -> Run:
    """Train a classifier of real images, which evaluates samples."""
    name = "classifier" if data is None else f"classifier-{data.name}-{data.target}"
    run = lab.run(name, "supervised", data=data, quick_epochs=1, epochs=8, lr=4e-3,
                  batch_size=64, optimizer="adam", schedule="one_cycle")  # fmt: skip
    run.method = run.method or reopen(run)
    return run


@torch.no_grad()
def predicted(run: Run, x: np.ndarray) -> np.ndarray:
    """Classes that a classifier predicts for images (N, C, H, W) of uint8."""
    method: Any = run.method
    method.eval()
    parts = torch.from_numpy(embed(run.encoder, x, (0.0, 255.0))).split(1000)
    return torch.cat([method.classifier(z).argmax(1) for z in parts]).numpy()


def as_bytes(x: Tensor) -> np.ndarray:
    """Values in [0, 1] as uint8."""
    return (255 * x).round().clamp(0, 255).byte().cpu().numpy()


def sheet(x: np.ndarray, columns: int = 10) -> bytes:
    """Images (N, C, H, W) of uint8 on one sheet."""
    return plots.contact_images(Splits("samples", Samples(x), Samples(x[:0])), len(x), columns)


@torch.no_grad()
def sampled(
    run: Run, n: int, classes: Tensor | None = None, steps: int = 50
) -> tuple[np.ndarray, float]:
    """Samples (n, C, H, W) of uint8 in the precision of the run, and the seconds they took.

    Args:
        run: run of a generative method.
        n: number of samples.
        classes: classes (n,) that diffusion is conditioned on.
        steps: sampling steps of diffusion.
    """
    method: Any = reopen(run)
    started, parts = time.perf_counter(), []
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=run.config["precision"] == "bf16"):
        for start in range(0, n, 500):
            count = min(500, n - start)
            args = () if classes is None else (classes[start : start + count], steps)
            parts.append(as_bytes(method.sample(count, *args)))
    return np.concatenate(parts), time.perf_counter() - started
