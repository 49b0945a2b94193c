"""Generative models: what do they make, do they make what is asked for, what do they know?"""

from __future__ import annotations

import gzip
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.core import Batch
from unlabeled.data.dataset import Samples, Splits, to_float
from unlabeled.data.open import open_data
from unlabeled.data.sets import moving_sprites
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError
from unlabeled.evaluation.generation import frechet, shares
from unlabeled.evaluation.ngram import KneserNey
from unlabeled.evaluation.probe import linear_probe
from unlabeled.methods.helmholtz import Helmholtz
from unlabeled.methods.rbm import RBM
from unlabeled.pipelines.deep_belief_net import bound, deep_belief_net, restored
from unlabeled.report import plots
from unlabeled.runs.run import Run, load
from unlabeled.studies.lab import Experiment, Finding, Lab, Table
from unlabeled.training import drawings
from unlabeled.training.train import reopen
from unlabeled.utils import drawing
from unlabeled.utils.state import preserve_rng

TITLE = "Generative models: what they make and what they know"
LEAD = (
    "To make an image is to have understood something of all images. How much, and is it what a "
    "reader of features wants?"
)
DATA = "fashion_mnist"
CLAIMS: dict[int, str] = {}
SAMPLES, QUICK_SAMPLES = 10_000, 500
STEPS = 25
"""Of diffusion's sampling: the 10,000 samples of 50 steps would take as long as its training."""
MAKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "VAE": ("vae", {"epochs": 20, "lr": 2e-3, "schedule": "one_cycle", "likelihood": "gaussian"}),
    "GAN": ("gan", {"epochs": 14}),
    "diffusion": ("diffusion", {"condition": "class", "epochs": 6}),
}
MACHINES: dict[str, tuple[str, dict[str, Any]]] = {
    "Boltzmann machine": ("rbm", {}),
    "Helmholtz machine": ("helmholtz", {}),
}
READERS = ("rnn", "lstm", "transformer")
PIXEL_READERS: dict[str, dict[str, Any]] = {
    "rnn": {"epochs": 4},
    "lstm": {"epochs": 4},
    "transformer": {"epochs": 1, "encoder_args": {"width": 32, "layers": 2, "heads": 1}},
}
"""About as long each: attention to 784 pixels is dear."""
FRESH = slice(1000, 2000)
"""Test images for pixels' bits: those before were seen while the epochs were chosen."""
TEXT_READERS: dict[str, dict[str, Any]] = {
    "rnn": {"epochs": 1, "batch_size": 32, "encoder_args": {"width": 256}},
    "lstm": {"epochs": 2, "batch_size": 32, "encoder_args": {"width": 256}},
    "transformer": {"epochs": 1, "batch_size": 16, "encoder_args": {"width": 128, "layers": 4}},
}
WINDOW = 128
"""Characters that a reader sees at once; it is asked for the second half of them."""


def run_of(lab: Lab, title: str) -> Run:
    method, options = (MAKERS | MACHINES)[title]
    return lab.run(title.lower().replace(" ", "-"), method, quick_epochs=1, **options)


def judge_of(lab: Lab, data: Splits | None = None, target: str | None = None) -> Run:
    """A classifier of real images, with labels."""
    splits = lab.data if data is None else data
    name = "judge" if data is None else f"judge-{splits.name}-{target}"
    run = lab.run(name, "supervised", data=splits, quick_epochs=1, epochs=8, lr=4e-3,
                  batch_size=64, optimizer="adam", schedule="one_cycle")  # fmt: skip
    run.method = run.method or reopen(run)
    return run


@torch.no_grad()
def said(judge: Run, x: np.ndarray) -> np.ndarray:
    """Classes that the judge sees in images (N, C, H, W) of uint8."""
    method: Any = judge.method
    method.eval()
    parts = torch.from_numpy(embed(judge.encoder, x, (0.0, 255.0))).split(1000)
    return torch.cat([method.classifier(z).argmax(1) for z in parts]).numpy()


def as_bytes(x: Tensor) -> np.ndarray:
    return (255 * x).round().clamp(0, 255).byte().cpu().numpy()


def shown(x: np.ndarray, columns: int = 10) -> bytes:
    """LazyImages (N, C, H, W) of uint8 on one sheet."""
    return plots.contact_images(Splits("made", Samples(x), Samples(x[:0])), len(x), columns)


@torch.no_grad()
def drawn(run: Run, n: int, asked: Tensor | None = None) -> tuple[np.ndarray, float]:
    """Samples (n, C, H, W) of uint8 in the run's own precision, and the seconds they took.

    Args:
        run: of a generative method.
        n: how many.
        asked: classes (n,), of diffusion.
    """
    method: Any = reopen(run)
    started, parts = time.perf_counter(), []
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=run.config["precision"] == "bf16"):
        for start in range(0, n, 500):
            count = min(500, n - start)
            told = () if asked is None else (asked[start : start + count], STEPS)
            parts.append(as_bytes(method.sample(count, *told)))
    return np.concatenate(parts), time.perf_counter() - started


def g1(lab: Lab) -> Finding:
    """Samples of each maker beside real test images, judged by a classifier."""
    judge = judge_of(lab)
    n, k = QUICK_SAMPLES if lab.quick else SAMPLES, len(lab.data.classes)
    real = embed(judge.encoder, lab.data.train.x[:n], lab.data.range)
    found: dict[str, dict[str, Any]] = {}
    images: list[tuple[str, bytes | str]] = []
    test = lab.data.test.x[:n]
    made = {"test images": (test, 0.0)}
    asked = torch.arange(n) % k
    for title in MAKERS:
        made[title] = drawn(run_of(lab, title), n, asked if title == "diffusion" else None)
    for title, (x, seconds) in made.items():
        guess = said(judge, x)
        found[title] = {
            "least_class": float(shares(guess, k).min()),
            "shares": shares(guess, k).tolist(),
            "frechet": frechet(embed(judge.encoder, x, (0.0, 255.0)), real),
            "seconds": seconds,
        }
        if title == "diffusion":
            found[title]["asked_right"] = float((guess == asked.numpy()).mean())
        images.append((title, shown(x[:40])))
    right = found["diffusion"]["asked_right"]
    return Finding(
        {"made": found, "samples": n},
        f"Each model learned from {len(lab.data.train):,} images of clothes; diffusion was told "
        f"their classes. A classifier of real images judges {n:,} samples of each: how often is "
        "the rarest class made, and how far are its features from those of training images "
        "(Fréchet distance)?",
        f"Diffusion makes the class asked for in {100 * right:.1f} % of the cases. The distances "
        + ", ".join(f"{t} {f['frechet']:.1f}" for t, f in found.items())
        + " are comparable with each other only.",
        [
            Table(
                "Samples, judged by a classifier",
                ["", "rarest class %", "Fréchet distance", "asked for and made %", "seconds"],
                [
                    [
                        t,
                        f"{100 * f['least_class']:.1f}",
                        f"{f['frechet']:.2f}",
                        f"{100 * f['asked_right']:.1f}" if "asked_right" in f else "–",
                        f"{f['seconds']:.0f}",
                    ]
                    for t, f in found.items()
                ],
            )
        ],
        images,
    )


def g2(lab: Lab) -> Finding:
    """Features of the U-Net at several times of diffusion, beside the other models'."""
    y, y_test = (part.factors[str(lab.data.target)] for part in (lab.data.train, lab.data.test))
    net: Any = run_of(lab, "diffusion").encoder
    found = {}
    for moment in (0.0, 0.1, 0.3, 0.6):
        net.time = moment
        z, z_test = lab.features(f"diffusion at {moment}", net)
        found[f"diffusion at {moment:g}"] = linear_probe(z, y, z_test, y_test).test
    for title in ("VAE", "GAN", *MACHINES):
        z, z_test = lab.features(title, run_of(lab, title).encoder)
        found[title] = linear_probe(z, y, z_test, y_test).test
    z, z_test = lab.features("random", lab.random())
    found["random"] = linear_probe(z, y, z_test, y_test).test
    best = max(found, key=lambda t: found[t])
    images: list[tuple[str, bytes | str]] = []
    for title in MACHINES:
        sheets = drawings.visualizations(reopen(run_of(lab, title)), lab.data, images=10)
        images += [(f"{title}: {what}", sheet) for what, sheet in sheets.items()]
    return Finding(
        {"probe": found},
        "A linear decoder reads the class from what each model makes of an image: the U-Net's "
        "lowest map at several times of diffusion, features of VAE and GAN, the hidden units of "
        "the machines.",
        f"{best} reads best with {100 * found[best]:.1f} %, random weights give "
        f"{100 * found['random']:.1f} %.",
        [
            Table(
                "Linear decoding", ["", "test %"], [[t, f"{100 * v:.1f}"] for t, v in found.items()]
            )
        ],
        images,
    )


def g3(lab: Lab) -> Finding:
    """Captions: does a sprite appear as its words say?"""
    data = open_data("captions")
    options: dict[str, Any] = {"condition": "words", "epochs": 48}
    run = lab.run("captions", "diffusion", data=data, quick_epochs=1, **options)
    by_shape = Splits(data.name, data.train, data.test, "shape")
    judge = judge_of(lab, by_shape, "shape")
    n = QUICK_SAMPLES if lab.quick else 2000
    asked = torch.arange(n) % len(data.classes)
    x, seconds = drawn(run, n, asked)
    mass = x[:, 0].astype(np.float64) + 1e-9
    total = mass.sum((1, 2))
    right = (mass.sum(1) @ np.arange(32) / total) > 15.5
    low = (mass.sum(2) @ np.arange(32) / total) > 15.5
    place = asked.numpy() % 4
    in_place = (right == place % 2) & (low == place // 2)
    shape = said(judge, x) == asked.numpy() // 8
    both = float((in_place & shape).mean())
    return Finding(
        {
            "shape": float(shape.mean()),
            "place": float(in_place.mean()),
            "both": both,
            "seconds": seconds,
        },
        f"Diffusion learned {len(data.train):,} sprites with captions such as "
        f"“{data.classes[13]}”, read by a small recurrent net. A classifier names the shape of "
        f"what it makes, the center "
        "of what is bright tells the quadrant.",
        f"Shape and quadrant are as asked in {100 * both:.1f} % of {n:,} images.",
        [
            Table(
                "What was asked for and made, %",
                ["shape", "quadrant", "both"],
                [
                    [
                        f"{100 * shape.mean():.1f}",
                        f"{100 * in_place.mean():.1f}",
                        f"{100 * both:.1f}",
                    ]
                ],
            )
        ],
        [("one for each caption", shown(x[:24], columns=8))],
    )


def g4(lab: Lab) -> Finding:
    """Clips: does a sprite move as fast as it should?"""
    data = open_data("moving_sprites")
    options: dict[str, Any] = {"condition": "class", "epochs": 25}
    run = lab.run("clips", "diffusion", data=data, quick_epochs=1, **options)
    n = QUICK_SAMPLES if lab.quick else 1000
    asked = torch.arange(n) % len(data.classes)
    x, seconds = drawn(run, n, asked)
    read = moving_sprites.read_velocity(x)
    wanted = np.stack(np.divmod(asked.numpy(), len(moving_sprites.SPEEDS)), 1) - 2
    alike = [float(np.corrcoef(read[:, i], wanted[:, i])[0, 1]) for i in (0, 1)]
    clips = x[:: max(1, n // 6)][:6, :, None]  # (6, T, 1, 32, 32)
    return Finding(
        {"correlation": {"x": alike[0], "y": alike[1]}, "seconds": seconds},
        f"A clip is eight frames of a gliding sprite. Diffusion learned {len(data.train):,} with "
        "their velocity; the center of what is bright tells that of the clips it makes.",
        f"The velocity read correlates with the one asked for by {alike[0]:.2f} across and "
        f"{alike[1]:.2f} down.",
        [
            Table(
                "Velocity asked for and read, correlation",
                ["across", "down"],
                [[f"{a:.3f}" for a in alike]],
            )
        ],
        [
            ("six clips, frame by frame", shown(clips.reshape(-1, 1, 32, 32), columns=8)),
            ("the same clips", drawing.gif(torch.from_numpy(clips) / 255)),
        ],
    )


@torch.no_grad()
def bits_a_value(method: Any, x: np.ndarray, given: int = 0) -> float:
    """Mean surprise of values, in bits, but for those that are given at first."""
    torch.manual_seed(0)
    total, count = 0.0, 0
    for start in range(0, len(x), 200):
        batch = Batch(
            to_float(torch.from_numpy(np.array(x[start : start + 200])), (0.0, 255.0)),
            torch.arange(1),
        )
        surprise = method.negative_log_likelihood(method.views(batch))[:, given:]
        total, count = total + float(surprise.sum()), count + surprise.numel()
    return total / count / math.log(2)


def g5(lab: Lab) -> Finding:
    """Pixels: bits of each, by readers and by the VAE's bound."""
    test = lab.data.test.x[FRESH]
    found = {}
    for kind, options in PIXEL_READERS.items():
        run = lab.run(f"pixels-{kind}", "autoregressive", quick_epochs=1, encoder=kind,
                      values="binary", **options)  # fmt: skip
        found[kind] = bits_a_value(reopen(run).eval(), test)
    options = {"epochs": 20, "lr": 2e-3, "schedule": "one_cycle", "likelihood": "bernoulli"}
    vae: Any = reopen(lab.run("vae-binary", "vae", quick_epochs=1, **options)).eval()
    torch.manual_seed(0)
    x = torch.bernoulli(to_float(torch.from_numpy(test), lab.data.range))
    with torch.no_grad():
        loss = vae.loss((x, torch.randn(len(x), vae.latent_dim)))
    found["VAE, bound"] = float(loss) / x[0].numel() / math.log(2)
    best = min(PIXEL_READERS, key=lambda k: found[k])
    return Finding(
        {"bits": found},
        "Pixels are drawn black or white by their brightness. A reader says each from those before "
        "it; the VAE's bound is divided by the number of pixels.",
        f"The {best} needs {found[best]:.3f} bits a pixel, the VAE at most "
        f"{found['VAE, bound']:.3f}.",
        [Table("Bits a pixel", ["", "test"], [[k, f"{v:.3f}"] for k, v in found.items()])],
    )


def text(name: str) -> bytes:
    """A file of the books.

    Raises:
        UserError: it is not below $UNLABELED_DATA.
    """
    path = Path(os.environ.get("UNLABELED_DATA", "")) / "text" / f"books_{name}.txt.gz"
    if not path.is_file():
        raise UserError(
            f"there is no text/{path.name} below $UNLABELED_DATA; put a long text there"
        )
    return gzip.decompress(path.read_bytes())


def windows(content: bytes, step: int) -> np.ndarray:
    """Pieces of a text as images one pixel high, (N, 1, 1, WINDOW)."""
    array = np.frombuffer(content, np.uint8)
    found = np.lib.stride_tricks.sliding_window_view(array, WINDOW)[::step]
    return found[:, None, None]


def g6(lab: Lab) -> Finding:
    """Characters: bits of each, beside a model that counts."""
    train, test = text("train"), text("test")
    share = 500_000 if lab.quick else len(train)
    counted = KneserNey(train[:share], 5).bits(test[:200_000])
    found, samples = {"Kneser-Ney, 5 characters": counted}, {}
    pieces = windows(train[:share], WINDOW)
    for kind, options in TEXT_READERS.items():
        args = options["encoder_args"] | {"values": "bytes"}
        run = lab.run(f"text-{kind}", "autoregressive", quick_epochs=1, data=open_data(pieces),
                      encoder=kind, values="bytes", **options | {"encoder_args": args})  # fmt: skip
        method: Any = reopen(run).eval()
        found[kind] = bits_a_value(method, windows(test[:200_000], WINDOW // 2), WINDOW // 2)
        torch.manual_seed(0)
        begun = torch.tensor([list(b"The ")]) / 255
        samples[kind] = bytes(as_bytes(method.sample(1, begun, 200))[0]).decode("utf-8", "replace")
    best = min(TEXT_READERS, key=lambda k: found[k])
    return Finding(
        {"bits": found, "samples": samples},
        f"Readers learned from {share:,} characters of books, {WINDOW} at a time, and are asked "
        f"about pages they never saw, each character given {WINDOW // 2} to {WINDOW - 1} before "
        "it. The counting model saw the same text.",
        f"The {best} needs {found[best]:.3f} bits a character, counting {counted:.3f}.",
        [
            Table("Bits a character", ["", "test"], [[k, f"{v:.3f}"] for k, v in found.items()]),
            Table("What they write", ["", "text"], [[k, v] for k, v in samples.items()]),
        ],
    )


def waves(n: int, seed: int) -> np.ndarray:
    """Time series of two waves each and noise, (n, 1, 1, 64) in [0, 1]."""
    rng = np.random.default_rng(seed)
    t = np.arange(64)
    rate, phase = rng.uniform(0.1, 0.8, (2, n, 1)), rng.uniform(0, 2 * np.pi, (2, n, 1))
    both = 0.5 + 0.2 * np.sin(rate * t + phase).sum(0) + 0.02 * rng.normal(size=(n, 64))
    return both.clip(0, 1).astype(np.float32)[:, None, None]


def g7(lab: Lab) -> Finding:
    """Time series: the error of the next value."""
    train, test = waves(8000, 0), waves(1000, 1)
    x = torch.from_numpy(test[:, 0, 0])
    found = {"the last value again": float((x[:, 7:-1] - x[:, 8:]).abs().mean())}
    for kind in READERS:
        options: dict[str, Any] = {"encoder": kind, "values": "real", "epochs": 10}
        run = lab.run(
            f"series-{kind}", "autoregressive", data=open_data(train), quick_epochs=1, **options
        )
        method: Any = reopen(run).eval()
        with torch.no_grad():
            found[kind] = float((method.predict(x)[:, 8:] - x[:, 8:]).abs().mean())
    best = min(READERS, key=lambda k: found[k])
    return Finding(
        {"error": found},
        "Each series is the sum of two waves of unknown rates and phases, with noise of deviation "
        "0.02. A reader expects the next value from those before; the first eight do not count.",
        f"The {best} errs by {found[best]:.4f}, the last value by "
        f"{found['the last value again']:.4f}.",
        [
            Table(
                "Mean error of the next value",
                ["", "test"],
                [[k, f"{v:.4f}"] for k, v in found.items()],
            )
        ],
    )


def small_digits() -> Splits:
    """1,797 digits of 8×8 pixels, every sixth to test on."""
    from sklearn.datasets import load_digits

    x = (load_digits().images * (255 / 16)).round().astype(np.uint8)[:, None]
    held = np.arange(len(x)) % 6 == 0
    return Splits("digits", Samples(x[~held]), Samples(x[held]))


@torch.no_grad()
def exact_log_partition(machine: Any) -> float:
    """Log Z of a Boltzmann machine of few hidden units, by the sum over all their states."""
    units = machine.hidden.out_features
    h = (torch.arange(2**units)[:, None] >> torch.arange(units) & 1).double()
    weight, bias = machine.hidden.weight.double(), machine.hidden.bias.double()
    drive = h @ weight + machine.visible_bias.double()
    return float((h @ bias + F.softplus(drive).sum(1)).logsumexp(0))


@torch.no_grad()
def mean_bound(machines: list[Any], data: Splits, estimates: int) -> float:
    """The belief net's bound, mean over some estimates of the partition function."""
    found = [_seeded(seed, lambda: bound(machines, data)) for seed in range(estimates)]
    return float(np.mean(found))


def _seeded(seed: int, find: Callable[[], float]) -> float:
    torch.manual_seed(seed)
    return find()


def g8(lab: Lab) -> Finding:
    """Machines of binary units: their likelihoods on small digits, samples and probe on clothes."""
    digits, few, times = small_digits(), 1 if lab.quick else None, 1 if lab.quick else 10
    x = torch.from_numpy(digits.test.x) / 255
    tiny: Any = {"encoder_args": {"widths": (12,)}, "epochs": 60, "lr": 0.05}
    small: Any = reopen(lab.run("tiny-rbm", "rbm", data=digits, quick_epochs=1, **tiny))
    exact, annealed = exact_log_partition(small), _seeded(0, small.log_partition)

    folder = lab.out / "runs" / "belief-net-digits"
    options: dict[str, Any] = {"resume": True, "progress": False}
    deep_belief_net(digits, widths=(200, 200), epochs=few or 60, lr=0.05, out=folder, **options)
    trained: list[Any] = [reopen(load(folder / f"layer{n}")) for n in (1, 2)]
    sizes = digits.size, (1, 200)
    with preserve_rng(seed=0):
        blank = [RBM(build("dense", 1, size, widths=(200,)), shape=(1, *size)) for size in sizes]
        dense = build("dense", 1, digits.size, widths=(200, 50))
        asleep = Helmholtz(dense, shape=(1, *digits.size))
    helmholtz: Any = reopen(lab.run("helmholtz-digits", "helmholtz", data=digits, quick_epochs=1))
    bounds = {
        "belief net of 1 layer, untrained": mean_bound(blank[:1], digits, times),
        "belief net of 1 layer": mean_bound(trained[:1], digits, times),
        "belief net of 2 layers, the second untrained": mean_bound(
            [trained[0], blank[1]], digits, times
        ),
        "belief net of 2 layers": mean_bound(trained, digits, times),
        "Helmholtz machine, untrained": _seeded(0, lambda: float(asleep.bound(x, 20).mean())),
        "Helmholtz machine": _seeded(0, lambda: float(helmholtz.bound(x, 20).mean())),
    }

    net = deep_belief_net(lab.data, epochs=few, out=lab.out / "runs" / "belief-net", **options)
    y, y_test = (part.factors[str(lab.data.target)] for part in (lab.data.train, lab.data.test))
    probe: dict[str, float] = {}
    images: list[tuple[str, bytes | str]] = []
    encoders = {title: run_of(lab, title).encoder for title in MACHINES}
    for title, encoder in (
        encoders | {"belief net": net.encoder, "random": lab.random("dense")}
    ).items():
        z, z_test = lab.features(title, encoder)
        probe[title] = linear_probe(z, y, z_test, y_test).test
    makers: dict[str, Any] = {title: reopen(run_of(lab, title)) for title in MACHINES}
    for title, maker in (makers | {"belief net": restored(net)}).items():
        torch.manual_seed(0)
        images.append((f"{title}: samples", shown(as_bytes(maker.sample(40)))))
    risen = bounds["belief net of 2 layers"] - bounds["belief net of 1 layer"]
    return Finding(
        {"log_partition": {"exact": exact, "annealed": annealed}, "bounds": bounds, "probe": probe},
        f"Boltzmann machines learned from {len(digits.train):,} digits of 8×8 pixels, black or "
        "white by their brightness. One has 12 hidden units, so that its partition function can "
        "be summed up and compared with the estimate by annealed importance sampling. The bounds "
        f"are of {len(x)} digits not seen. Samples and probe are of clothes, 28×28.",
        f"The estimate of log Z is {annealed:.2f}, the sum {exact:.2f}. The second layer raises "
        f"the bound by {risen:.2f} nats; "
        + ", ".join(f"{t} {100 * v:.1f} %" for t, v in probe.items())
        + " by linear decoding of clothes.",
        [
            Table("Bound of the likelihood, nats a digit", ["", "test"],
                  [[t, f"{v:.2f}"] for t, v in bounds.items()]),
            Table("Linear decoding of clothes", ["", "test %"],
                  [[t, f"{100 * v:.1f}"] for t, v in probe.items()]),
        ],
        images,
    )  # fmt: skip


EXPERIMENTS = [
    Experiment("G1", "Samples", "Are they like real images, and all kinds of them?", g1, 70),
    Experiment("G2", "Features", "What do generative models know?", g2, 12),
    Experiment("G3", "Captions", "Is it drawn as the words say?", g3, 25),
    Experiment("G4", "Clips", "Does it move as asked?", g4, 20),
    Experiment("G5", "Pixels", "How well is the next pixel known?", g5, 40),
    Experiment("G6", "Characters", "And the next character?", g6, 60),
    Experiment("G7", "Time series", "And the next value?", g7, 5),
    Experiment("G8", "Machines of binary units", "How likely is a digit?", g8, 12),
]
