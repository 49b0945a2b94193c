"""Likelihood experiments of the study `generative`: pixels, characters, series, binary models."""

import gzip
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from unlabeled.core import Batch
from unlabeled.data.dataset import Samples, Splits, to_float
from unlabeled.data.open import open_data
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.evaluation.ngram import KneserNey, best_order
from unlabeled.methods.helmholtz import Helmholtz
from unlabeled.methods.rbm import RBM
from unlabeled.pipelines.deep_belief_net import bound, deep_belief_net, restored
from unlabeled.runs.run import load
from unlabeled.studies.generative_models import BINARY_MODELS, DEEP, as_bytes, model_run, sheet
from unlabeled.studies.lab import Finding, Lab, Table, TitledImages
from unlabeled.training.train import reopen
from unlabeled.utils.state import preserve_rng

WINDOW = 128
"""Characters of a window; the bits of the second half are measured."""
ORDERS = range(3, 9)
"""Orders of n-gram models, of which the best on held-out training text is taken."""


@torch.no_grad()
def bits_per_value(method: Any, x: np.ndarray, prefix: int = 0) -> float:
    """Mean negative log-likelihood in bits of the values after a prefix."""
    torch.manual_seed(0)
    total, count = 0.0, 0
    for start in range(0, len(x), 200):
        part = to_float(torch.from_numpy(np.array(x[start : start + 200])), (0.0, 255.0))
        views = method.views(Batch(part, torch.arange(1)))
        loss = method.negative_log_likelihood(views)[:, prefix:]
        total, count = total + float(loss.sum()), count + loss.numel()
    return total / count / math.log(2)


def vae_bits(lab: Lab) -> float:
    """Bound of the VAE on the bits per pixel of test images that are binarized at random."""
    test = lab.data.test.x[slice(*lab.settings.test_pixels)]
    run = lab.run("vae-binary", "vae", quick_epochs=1, epochs=20, lr=2e-3, schedule="one_cycle",
                  likelihood="bernoulli")  # fmt: skip
    vae: Any = reopen(run).eval()
    torch.manual_seed(0)
    x = torch.bernoulli(to_float(torch.from_numpy(test), lab.data.value_range))
    with torch.no_grad():
        loss = vae.loss((x, torch.randn(len(x), vae.latent_dim)))
    return float(loss) / x[0].numel() / math.log(2)


def g5(lab: Lab) -> Finding:
    """Bits per pixel of autoregressive models, and the bound of the VAE."""
    test = lab.data.test.x[slice(*lab.settings.test_pixels)]
    results = {}
    for kind, options in lab.settings.pixel_models.items():
        run = lab.run(f"pixels-{kind}", "autoregressive", quick_epochs=1, encoder=kind,
                      values="binary", **options)  # fmt: skip
        results[kind] = bits_per_value(reopen(run).eval(), test)
    results["VAE, bound"] = vae_bits(lab)
    best = min(lab.settings.pixel_models, key=lambda k: results[k])
    return Finding(
        {"bits": results},
        "Pixels are binarized at random by their brightness. Autoregressive models predict each "
        "from those before; the bound of the VAE is divided by the number of pixels.",
        f"The {best} needs {results[best]:.3f} bits per pixel, the VAE at most "
        f"{results['VAE, bound']:.3f}.",
        [Table.of("Bits per pixel", ["test"], results, ".3f")],
    )


def text(name: str) -> bytes:
    """Read a text file of books from `$UNLABELED_DATA`.

    Raises:
        UserError: the file does not exist.
    """
    path = Path(os.environ.get("UNLABELED_DATA", "")) / "text" / f"books_{name}.txt.gz"
    if not path.is_file():
        raise UserError(
            f"there is no file text/{path.name} in $UNLABELED_DATA; put a long text there"
        )
    return gzip.decompress(path.read_bytes())


def windows(content: bytes, step: int) -> np.ndarray:
    """Windows of a text as arrays (N, 1, 1, WINDOW) of bytes."""
    array = np.frombuffer(content, np.uint8)
    return np.lib.stride_tricks.sliding_window_view(array, WINDOW)[::step, None, None]


def n_gram_bits(lab: Lab) -> tuple[str, float]:
    """Title of the n-gram model of the best order, and its bits per character."""
    train, test = texts(lab)
    order = best_order(train, ORDERS)
    return f"Kneser-Ney, {order} characters", KneserNey(train, order).bits(test)


def texts(lab: Lab) -> tuple[bytes, bytes]:
    """Training and test text."""
    train, test = lab.settings.text or (text("train"), text("test"))
    return train[: lab.settings.characters], test[: lab.settings.test_characters]


def g6(lab: Lab) -> Finding:
    """Bits per character of autoregressive models and of an n-gram model."""
    train, test = texts(lab)
    counted, n_gram = n_gram_bits(lab)
    results, samples = {counted: n_gram}, {}
    pieces = windows(train, WINDOW)
    for kind, options in lab.settings.text_models.items():
        args = options["encoder_args"] | {"values": "bytes"}
        run = lab.run(f"text-{kind}", "autoregressive", quick_epochs=1, data=open_data(pieces),
                      encoder=kind, values="bytes", **options | {"encoder_args": args})  # fmt: skip
        method: Any = reopen(run).eval()
        results[kind] = bits_per_value(method, windows(test, WINDOW // 2), WINDOW // 2)
        torch.manual_seed(0)
        prompt = torch.tensor([list(b"The ")]) / 255
        samples[kind] = bytes(as_bytes(method.sample(1, prompt, 200))[0]).decode("utf-8", "replace")
    best = min(lab.settings.text_models, key=lambda k: results[k])
    return Finding(
        {"bits": results, "samples": samples},
        f"Autoregressive models are trained on {len(train):,} characters of books in windows of "
        f"{WINDOW} and tested on other pages, each character given {WINDOW // 2} to {WINDOW - 1} "
        f"before it. The n-gram model is fitted to the same text; its order, {ORDERS[0]} to "
        f"{ORDERS[-1]}, is the best on the last 5 % of it.",
        f"The {best} needs {results[best]:.3f} bits per character, the n-gram model {n_gram:.3f}.",
        [
            Table.of("Bits per character", ["test"], results, ".3f"),
            Table("Samples", ["", "text"], [list(sample) for sample in samples.items()]),
        ],
    )


def waves(n: int, seed: int) -> np.ndarray:
    """Time series: the sum of two sine waves and noise, (n, 1, 1, 64) in [0, 1]."""
    rng = np.random.default_rng(seed)
    t = np.arange(64)
    rate, phase = rng.uniform(0.1, 0.8, (2, n, 1)), rng.uniform(0, 2 * np.pi, (2, n, 1))
    series = 0.5 + 0.2 * np.sin(rate * t + phase).sum(0) + 0.02 * rng.normal(size=(n, 64))
    return series.clip(0, 1).astype(np.float32)[:, None, None]


def g7(lab: Lab) -> Finding:
    """Error of predictions of the next value of time series."""
    train, test = (waves(n, seed) for seed, n in enumerate(lab.settings.series))
    x = torch.from_numpy(test[:, 0, 0])
    results = {"last value": float((x[:, 7:-1] - x[:, 8:]).abs().mean())}
    for kind in lab.settings.sequence_models:
        options: dict[str, Any] = {"encoder": kind, "values": "real", "epochs": 10}
        options |= {"data": open_data(train), "quick_epochs": 1}
        method: Any = reopen(lab.run(f"series-{kind}", "autoregressive", **options)).eval()
        with torch.no_grad():
            results[kind] = float((method.predict(x)[:, 8:] - x[:, 8:]).abs().mean())
    best = min(lab.settings.sequence_models, key=lambda k: results[k])
    return Finding(
        {"error": results},
        "Each series is the sum of two sine waves of unknown frequency and phase, with noise of "
        "standard deviation 0.02. The mean prediction of the next value is evaluated from the "
        "ninth value on.",
        f"The mean absolute error is {results[best]:.4f} for the {best} and "
        f"{results['last value']:.4f} for repeating the last value.",
        [Table.of("Mean absolute error of the next value", ["test"], results, ".4f")],
    )


def small_digits() -> Splits:
    """1,797 digits of 8×8 pixels; every sixth is a test image."""
    from sklearn.datasets import load_digits

    x = (load_digits().images * (255 / 16)).round().astype(np.uint8)[:, None]
    held = np.arange(len(x)) % 6 == 0
    return Splits("digits", Samples(x[~held]), Samples(x[held]))


@torch.no_grad()
def exact_log_partition(machine: Any) -> float:
    """Log partition function of a small Boltzmann machine, by summation over hidden states."""
    units = machine.hidden.out_features
    h = (torch.arange(2**units)[:, None] >> torch.arange(units) & 1).double()
    weight, bias = machine.hidden.weight.double(), machine.hidden.bias.double()
    drive = h @ weight + machine.visible_bias.double()
    return float((h @ bias + F.softplus(drive).sum(1)).logsumexp(0))


@torch.no_grad()
def mean_bound(machines: list[Any], data: Splits, estimates: int) -> float:
    """Bound of a deep belief net, averaged over estimates of the partition function."""
    bounds = []
    for seed in range(estimates):
        torch.manual_seed(seed)
        bounds.append(bound(machines, data))
    return float(np.mean(bounds))


def digit_likelihoods(lab: Lab) -> tuple[dict[str, float], dict[str, float]]:
    """Of binary models of small digits: `exact` and `annealed` log Z of one, bounds of each."""
    digits, epochs, estimates = small_digits(), lab.settings.epochs, lab.settings.bounds
    x = torch.from_numpy(digits.test.x) / 255
    tiny: Any = {"encoder_args": {"widths": (12,)}, "epochs": 60, "lr": 0.05}
    small: Any = reopen(lab.run("tiny-rbm", "rbm", data=digits, quick_epochs=1, **tiny))
    torch.manual_seed(0)
    log_partition = {"exact": exact_log_partition(small), "annealed": small.log_partition()}

    folder = lab.out / "runs" / "deep-belief-net-digits"
    options: dict[str, Any] = {"resume": True, "progress": False}
    deep_belief_net(digits, widths=(200, 200), epochs=epochs or 60, lr=0.05, out=folder, **options)
    trained: list[Any] = [reopen(load(folder / f"layer{n}")) for n in (1, 2)]
    sizes = digits.size, (1, 200)
    with preserve_rng(seed=0):
        untrained = [
            RBM(build("dense", 1, size, widths=(200,)), shape=(1, *size)) for size in sizes
        ]
        dense = build("dense", 1, digits.size, widths=(200, 50))
        untrained_helmholtz = Helmholtz(dense, shape=(1, *digits.size))
    helmholtz: Any = reopen(lab.run("helmholtz-digits", "helmholtz", data=digits, quick_epochs=1))
    nets = {
        "1-layer DBN, untrained": untrained[:1],
        "1-layer DBN": trained[:1],
        "2-layer DBN, second layer untrained": [trained[0], untrained[1]],
        "2-layer DBN": trained,
    }
    bounds = {title: mean_bound(layers, digits, estimates) for title, layers in nets.items()}
    machines = {"Helmholtz machine, untrained": untrained_helmholtz, "Helmholtz machine": helmholtz}
    for title, machine in machines.items():
        torch.manual_seed(0)
        bounds[title] = float(machine.bound(x, 20).mean())
    return log_partition, bounds


def g8(lab: Lab) -> Finding:
    """Binary models: likelihoods of small digits; samples and linear probe of clothes."""
    log_partition, bounds = digit_likelihoods(lab)
    digits = small_digits()
    out = lab.out / "runs" / "deep-belief-net"
    options: dict[str, Any] = {"epochs": lab.settings.epochs, "resume": True, "progress": False}
    net = deep_belief_net(lab.data, widths=DEEP, out=out, **options)
    images: TitledImages = []
    encoders = {title: model_run(lab, title).encoder for title in BINARY_MODELS}
    encoders["deep belief net"] = net.encoder
    for widths in (DEEP[:1], DEEP):
        encoders[f"random, {len(widths)} of {DEEP[0]}"] = lab.random("dense", widths=widths)
    probe = {title: lab.probe(title, encoder).test for title, encoder in encoders.items()}
    models: dict[str, Any] = {title: reopen(model_run(lab, title)) for title in BINARY_MODELS}
    models["deep belief net"] = restored(net)
    for title, model in models.items():
        torch.manual_seed(0)
        images.append((f"{title}: samples", sheet(as_bytes(model.sample(40)))))
    accuracies = ", ".join(f"{title} {100 * v:.1f} %" for title, v in probe.items())
    gain = bounds["2-layer DBN"] - bounds["1-layer DBN"]
    exact, annealed = (log_partition[key] for key in ("exact", "annealed"))
    return Finding(
        {"log_partition": log_partition, "bounds": bounds, "probe": probe},
        f"Boltzmann machines are trained on {len(digits.train):,} digits of 8×8 pixels, binarized "
        "at random by their brightness. One has 12 hidden units, so its partition function can be "
        "summed exactly and compared with the estimate by annealed importance sampling. Bounds are "
        f"for {len(digits.test)} test digits. Samples and linear probe are for clothes, 28×28.",
        f"The estimate of log Z is {annealed:.2f}, the exact value {exact:.2f}. The second layer "
        f"raises the bound by {gain:.2f} nats. Linear probe accuracy for clothes: {accuracies}.",
        [
            Table.of("Bound of the log-likelihood, nats per digit", ["test"], bounds, ".2f"),
            Table.of("Linear probe accuracy for clothes", ["test %"], probe, ".1%"),
        ],
        images,
    )  # fmt: skip
