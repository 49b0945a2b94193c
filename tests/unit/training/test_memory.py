"""Batches in parts, gradient checkpointing, fp16: as the command runs them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import same_weights
from torch import nn

import unlabeled as ul
from unlabeled.augmentations import RandomHorizontalFlip
from unlabeled.encoders.base import build
from unlabeled.errors import Notice, UserError
from unlabeled.methods.simclr import SimCLR
from unlabeled.training.checkpointing import recomputed
from unlabeled.training.precision import choose_precision
from unlabeled.training.train import plan

BASE = {"epochs": 1, "batch_size": 16, "progress": False, "logger": "none", "lr": 1e-2}
FP32 = BASE | {"precision": "fp32", "optimizer": "sgd"}


class Norms(nn.Module):
    """A small network without BatchNorm."""

    def __init__(self, channels, size):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 5, 4), nn.ReLU(), nn.Flatten())
        self.head = nn.LazyLinear(6)
        self.dim = 6

    def forward(self, x):
        return self.head(self.body(x))


class Plain(SimCLR):
    """SimCLR of the features, whose views are no draws."""

    def __init__(self, encoder, *, weak: RandomHorizontalFlip | None = None):
        super().__init__(encoder, dim=0)

    def views(self, batch):
        return batch.x, batch.x.flip(3)


class Steep(Plain):
    """A gradient that overflows at the first scales of fp16."""

    def loss(self, views):
        return 4 * super().loss(views)


@pytest.fixture(scope="module")
def x(sprites):
    return sprites[0][:48, None, ::2, ::2].copy()


def difference(a, b) -> float:
    pairs = zip(a.encoder.parameters(), b.encoder.parameters(), strict=True)
    return max((p - q).abs().max().item() for p, q in pairs)


def test_training_in_parts_is_that_of_whole_batches(x, tmp_path):
    """Catches a mean over parts (other weights), other steps, and clipping of each part."""
    options = FP32 | {"encoder": Norms, "grad_clip_norm": 0.05}
    full = ul.train(Plain, x, out=tmp_path / "whole", **options)
    parts = ul.train(Plain, x, out=tmp_path / "parts", accumulate=4, **options)
    assert difference(full, parts) < 1e-6
    assert json.loads((tmp_path / "parts" / "config.json").read_text())["accumulate"] == 4
    half = ul.train(Plain, x, out=tmp_path / "half", **options | {"batch_size": 4})
    assert difference(full, half) > 1e-4


def test_parts_say_what_batchnorm_sees(x, tmp_path):
    """Catches BatchNorm whose parts are passed over in silence, and a batch that has no parts."""
    with pytest.warns(Notice, match="each of the 2 parts of a batch, 8 samples, by itself"):
        ul.train("simclr", x, out=tmp_path / "a", accumulate=2, encoder_args={"width": 2}, **FP32)
    with pytest.raises(UserError, match="16 is not divided by 3 parts; give --batch-size 15"):
        ul.train("simclr", x, out=tmp_path / "b", accumulate=3, **FP32)
    with pytest.raises(UserError, match="accumulate is 0, but must be at least 1"):
        ul.train("simclr", x, out=tmp_path / "c", accumulate=0, **FP32)


def test_two_optimizers_in_parts(x, tmp_path):
    """Catches a discriminator that is stepped with the generator's gradient, or not at all."""
    options = FP32 | {"optimizer": "adam", "width": 4, "epochs": 2}
    with pytest.warns(Notice, match="BatchNorm"):
        run = ul.train("context_encoder", x, out=tmp_path / "run", accumulate=2, **options)
    assert np.isfinite(run.embed(x[:4])).all()
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert all(held["state"] for held in state["optimizer_states"])


@pytest.mark.slow
def test_parts_of_two_processes(x, tmp_path):
    """Catches gradients that are not averaged, and rows of other processes left out."""
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "mine.py").write_text(
        "from unlabeled.methods.simclr import SimCLR\n"
        "class Mine(SimCLR):\n"
        "    '''Mine.'''\n"
        "    def __init__(self, encoder):\n"
        "        super().__init__(encoder, dim=0)\n"
        "    def views(self, batch):\n"
        "        return batch.x, batch.x.flip(3)\n"
    )
    words = ["train", "./mine.py:Mine", "--data", "x.npy", "--encoder", "vit", "--epochs", "1"]
    words += ["--encoder_args", '{"width": 12, "depth": 1}', "--batch-size", "16", "--lr", "0.01"]
    words += ["--accelerator", "cpu", "--precision", "fp32", "--logger", "none"]
    words += ["--optimizer", "sgd"]
    for name, flags in {"one": [], "four": ["--devices", "2", "--accumulate", "2"]}.items():
        done = subprocess.run(
            [sys.executable, "-m", "unlabeled", *words, *flags, "--out", name],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert difference(ul.load(tmp_path / "one"), ul.load(tmp_path / "four")) < 1e-5


# fp16


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_fp16_trains_resumes_and_tells_its_skipped_steps(x, tmp_path):
    """Catches a scale that is lost at resume, clipping of scaled gradients, silent skips."""
    options = BASE | {"precision": "fp16", "encoder": Norms, "grad_clip_norm": 0.05, "epochs": 2}
    options |= {"optimizer": "sgd", "schedule": "constant"}
    states = []
    for name, epochs in (("whole", [2]), ("run", [1, 2])):
        for number in epochs:
            steps = number * 3
            with pytest.warns(Notice, match=rf"^[1-9] of {steps} optimizer steps were skipped"):
                ul.train(Steep, x, out=tmp_path / name, resume=True, **options | {"epochs": number})
        states.append(torch.load(tmp_path / name / "last.ckpt", weights_only=True))
    for state in states:
        assert state["MixedPrecision"] == states[0]["MixedPrecision"]
        assert 0 < state["in_epoch"]["skipped"] < 5
        assert state["MixedPrecision"]["scale"] == 65536 / 2 ** state["in_epoch"]["skipped"]
    assert same_weights(tmp_path / "whole", tmp_path / "run")


def test_fp16_in_parts(x, tmp_path):
    """Catches a loss that is scaled in one of the two passes only."""
    options = BASE | {"precision": "fp16", "encoder": Norms, "optimizer": "sgd"}
    full = ul.train(Plain, x, out=tmp_path / "whole", **options)
    parts = ul.train(Plain, x, out=tmp_path / "parts", accumulate=2, **options)
    assert difference(full, parts) < 1e-2


@pytest.mark.filterwarnings("ignore::unlabeled.errors.Notice")
def test_fp16_that_always_overflows_stops(x, tmp_path, monkeypatch):
    """Catches a run that skips every step to its end."""
    monkeypatch.setattr("unlabeled.training.learner.SMALLEST_SCALE", 2.0**12)

    class Endless(Plain):
        def loss(self, views):
            weight = next(self.encoder.parameters())
            return super().loss(views) + (weight - weight.detach()).sum() * 3e38 * 3e38

    with pytest.raises(UserError, match=r"gradients overflow at any scale.*--precision fp32"):
        ul.train(Endless, x, out=tmp_path, **BASE | {"precision": "fp16", "epochs": 20})


def test_gpus_without_bf16_get_fp16(monkeypatch):
    """Catches a T4 or V100 that trains in fp32."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for known, chosen in ((True, "bf16"), (False, "fp16")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: known)  # noqa: B023
        assert choose_precision("auto", "auto") == chosen
    assert choose_precision("fp32", "auto") == "fp32"


# Gradient checkpointing


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("vit", {"width": 12, "depth": 3, "drop_path": 0.3}),
        ("vit_tiny", {"drop_path": 0.2, "layer_scale": 0.1}),
        ("resnet18", {"width": 1 / 8}),
        ("text_transformer", {"vocabulary": 50, "width": 16, "layers": 2, "dropout": 0.2}),
    ],
)
def test_recomputed_activations_give_the_same_gradients(name, args):
    """Catches other dropout masks when computed again, and BatchNorm that counts twice."""
    torch.manual_seed(0)
    encoder = build(name, 1, (16, 16), **args)
    is_text = name.startswith("text")
    x = torch.randint(5, 50, (4, 16, 16)) if is_text else torch.rand(4, 1, 16, 16)
    results = []
    state = {k: v.clone() for k, v in encoder.state_dict().items()}
    for wanted in (False, True):
        encoder.load_state_dict(state)
        encoder.zero_grad()
        method = nn.Module()
        method.encoder = encoder
        saved = 0

        def keep(t):
            nonlocal saved
            saved += t.nbytes
            return t

        torch.manual_seed(1)
        with recomputed(method, wanted):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
                z = encoder(x)
            z.square().sum().backward()
        gradients = [p.grad for p in encoder.parameters()]
        buffers = [b.clone() for b in encoder.buffers()]
        results.append((z.detach(), gradients, buffers, saved))
    plain, again = results
    torch.testing.assert_close(again[:3], plain[:3], atol=1e-6, rtol=1e-5)
    assert again[3] < 0.75 * plain[3]
    assert type(encoder) is type(build(name, 1, (16, 16), **args))


def test_checkpointing_trains_to_the_same_bytes(x, tmp_path):
    """Catches a moving average whose copy computes with the weights of the original."""
    options = FP32 | {"encoder": "vit", "encoder_args": {"width": 12, "depth": 2}}
    for name in (False, True):
        folder = tmp_path / str(name)
        ul.train("byol", x, out=folder, gradient_checkpointing=name, **options)
    assert same_weights(tmp_path / "False", tmp_path / "True")


def test_checkpointing_that_has_no_effect_is_refused(x, tmp_path):
    """Catches a flag that is ignored in silence."""
    with pytest.raises(UserError, match="no blocks whose activations could be computed again"):
        ul.train("simclr", x, out=tmp_path, gradient_checkpointing=True, **FP32)
    with pytest.raises(UserError, match="gradient_checkpointing and compile exclude each other"):
        ul.train("simclr", x, out=tmp_path, gradient_checkpointing=True, compile=True, **FP32)


def test_plans_know_parts(x):
    """Catches a plan for memory of the whole batch."""
    options = {"batch_size": 48, "precision": "fp32"}
    sizes = [plan("simclr", x, accumulate=k, **options) for k in (1, 8)]
    memory = [float(text.split(" GB of memory")[0].rsplit(" ", 1)[1]) for text in sizes]
    assert memory[1] <= memory[0]
    assert "steps of 2, 4 and 6" in sizes[1]
