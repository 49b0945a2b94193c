"""What a training will take: memory first, then time, within little of both."""

import re
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled import registry
from unlabeled.errors import UserError
from unlabeled.training import planning
from unlabeled.training.planning import describe, estimate, operations
from unlabeled.training.prepare import prepare
from unlabeled.training.train import plan

X = np.random.default_rng(0).integers(0, 256, (96, 3, 16, 16), np.uint8)


def planned(method, x=X, **options):
    job = prepare(method, x, **options)
    return job, estimate(job.method, job.splits, job.recipe, "fp32", "cpu")


class Watched(nn.Module):
    """Notes the batches that it sees while it learns."""

    seen: ClassVar[list[int]] = []

    def __init__(self, channels=3, width=8):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())

    def forward(self, x):
        if torch.is_grad_enabled():
            Watched.seen.append(len(x))
        return self.net(x).mean((2, 3))


def test_memory_is_counted_in_small_steps_first(monkeypatch):
    """Catches trials of 8, 16, 32 and 128 images whatever they cost."""
    Watched.seen = []
    monkeypatch.setattr(planning, "ROOM", 8 * 2 * 8 * 16 * 16 * 4)  # about 8 images, two views
    job, result = planned("simclr", encoder=Watched, batch_size=96)
    assert result["sizes"][0] == 2
    assert max(result["sizes"]) <= 8
    assert max(Watched.seen) <= 2 * 8
    remaining = 2 * 96 * 16 * 16 * (8 + 8 + 3) * 4
    assert 0.5 * remaining < result["memory"] < 3 * remaining
    text = describe(result, "simclr", job.splits, job.recipe)
    assert re.search(r"time measured at batch \d and scaled to 96$", text)


def test_a_slow_step_ends_the_trials(monkeypatch):
    """Catches five timed steps of 128 images of a network that takes a minute for each."""
    monkeypatch.setattr(planning, "SECONDS", 0.0)
    Watched.seen = []
    _, result = planned("simclr", encoder=Watched, batch_size=64)
    assert result["sizes"] == [2]
    assert len(Watched.seen) == 1
    assert result["seconds"] > 0


def test_what_cannot_fit_is_never_tried(monkeypatch):
    """Catches a trial that takes more than the memory there is before it says so."""

    class Memory:
        available = 300_000

    monkeypatch.setattr(planning.psutil, "virtual_memory", lambda: Memory)
    Watched.seen = []
    job, result = planned("simclr", X[:, :, :, :], encoder=Watched, encoder_args={"width": 64})
    text = describe(result, "simclr", job.splits, job.recipe)
    assert result["memory"] > 300_000
    assert result["seconds"] is None
    assert len(Watched.seen) <= 1
    assert "that will not fit, however small the batch" in text
    Memory.available = 10
    Watched.seen = []
    assert planned("simclr", encoder=Watched)[1]["seconds"] is None
    assert not Watched.seen


def test_memory_grows_with_the_batch_as_counted_in_full():
    """Catches a line or a parabola that leads astray: each size is counted and foretold."""
    for method in ("simclr", "vae"):
        job = prepare(method, X, batch_size=64)
        trials = list(planning._trials(job.method, job.splits, job.recipe, "fp32", 64, 1e9, 1e12))
        assert [t.size for t in trials] == [2, 4, 8, 16, 32, 64]
        true = trials[-1].saved
        for upto in (2, 3, 5):
            assert planning._extrapolate(trials[:upto], 64) == pytest.approx(true, rel=0.1)


def test_compiling_augmentations_is_no_time_of_a_step(monkeypatch):
    """Catches days that are planned where kernels are compiled in the first step."""
    job, clock = prepare("simclr", X, batch_size=16), [0.0]
    views = job.method.views

    def slow_at_first(batch):
        clock[0] += 10 if clock[0] == 0 else 0.01
        return views(batch)

    job.method.views = slow_at_first
    monkeypatch.setattr(planning, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    trials = list(planning._trials(job.method, job.splits, job.recipe, "fp32", 16, 1e9, 1e12))
    assert [t.size for t in trials] == [2, 4, 8, 16]
    assert trials[-1].seconds == pytest.approx(0.01)


def test_time_of_the_optimizer_is_not_scaled():
    """Catches a step of 2 whose optimizer's seconds are multiplied by the batch."""
    job = prepare("simclr", X, encoder="dense", encoder_args={"widths": (2000, 2000)})
    (trial, *_) = planning._trials(job.method, job.splits, job.recipe, "fp32", 2, 1e9, 1e12)
    assert trial.fixed > 0
    assert trial.seconds > 0


def test_the_weights_stay_and_nothing_becomes_infinite():
    """Catches a plan that trains what it is given to measure."""
    job = prepare("simclr", X, lr=1e30)
    before = [p.clone() for p in job.method.parameters()]
    estimate(job.method, job.splits, job.recipe, "fp32", "cpu")
    for p, old in zip(job.method.parameters(), before, strict=True):
        torch.testing.assert_close(p, old, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("dino", {}),
        ("gan", {}),
        ("diffusion", {}),
        ("masked_autoencoder", {}),
        ("moco", {}),
        ("simclr", {"local": True}),
        ("instance_discrimination", {}),
        ("barlow_twins", {"encoder": "lenet"}),
        ("byol", {"encoder": "vit"}),
        ("denoising_autoencoder", {"stacked": True}),
    ],
)
def test_any_method_is_planned(method, options, monkeypatch):
    """Catches a method that a batch of two breaks."""
    monkeypatch.setattr(planning, "SECONDS", 0.5)
    assert "GB of memory" in plan(method, X, **options)


def test_a_plan_refuses_what_a_training_would():
    """Catches flags of Lightning's Trainer that only the training itself looks at."""
    with pytest.raises(UserError, match="has no argument 'max_tiem'; did you mean max_time"):
        plan("simclr", X, trainer={"max_tiem": "00:01:00:00"})


@pytest.mark.parametrize(
    "method", ["supervised", "metric", "siamese", "fixmatch", "supervised_contrastive"]
)
def test_methods_of_labels_are_planned(method, monkeypatch):
    """Catches trial batches without the groups or the labeled rows that a method needs."""
    monkeypatch.setattr(planning, "SECONDS", 0.5)
    assert "GB of memory" in plan(method, (X, np.arange(96) % 4), batch_size=32)
    assert registry.find("methods", method).supervised


@pytest.mark.parametrize("batch_size", [4, 16])
def test_operations_are_those_of_a_sample(batch_size):
    """Catches operations of a batch, of one of two views, and a backward pass left out."""
    job = prepare("simclr", X, encoder=Watched, batch_size=batch_size, dim=0)
    of_convolution = 2 * 8 * 3 * 9 * 16 * 16  # a view's; again for the gradient of the weights
    result = operations(job.method, job.splits, job.recipe)
    assert result == pytest.approx(2 * 2 * of_convolution, rel=0.02)
    assert all(p.grad is None for p in job.method.parameters())
