"""Two optimized modules train as safely as one: resume, seeds, NaN, two processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import same_weights

import unlabeled as ul
from unlabeled import registry
from unlabeled.errors import UserError

FAST = {"epochs": 2, "batch_size": 32, "progress": False, "logger": "none", "width": 4}
METHODS = ("gan", "context_encoder")


class StopError(Exception):
    pass


@pytest.fixture(scope="module")
def x(sprites):
    return sprites[0][:64, ::4, ::4].copy()


@pytest.mark.parametrize("name", METHODS)
def test_a_stopped_run_ends_in_the_same_bytes(name, x, tmp_path, monkeypatch):
    """Both optimizers, the critic's norms and the averages go on where they were."""
    cls = registry.find("methods", name)
    full = ul.train(name, x, out=tmp_path / "whole", **FAST)
    steps, calls = cls.optimizer_steps, []

    def stopped(self, views):
        calls.append(1)
        for number, moved in enumerate(steps(self, views)):
            if len(calls) == 4 and number:
                raise StopError  # between the optimized modules' turns
            yield moved

    with monkeypatch.context() as patch:
        patch.setattr(cls, "optimizer_steps", stopped)
        with pytest.raises(StopError):
            ul.train(name, x, out=tmp_path / "run", **FAST)
    resumed = ul.train(name, x, out=tmp_path / "run", resume=True, **FAST)
    assert same_weights(tmp_path / "whole", tmp_path / "run")
    both = full.method.state_dict(), resumed.method.state_dict()
    assert all(torch.equal(v, both[1][k]) for k, v in both[0].items())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("module", [0, 1])
def test_nan_of_either_module_stops_the_run(name, module, x, tmp_path, monkeypatch):
    cls = registry.find("methods", name)
    steps = cls.optimizer_steps

    def spoilt(self, views):
        for number, (mover, loss) in enumerate(steps(self, views)):
            yield mover, loss * float("nan") if number == module else loss

    monkeypatch.setattr(cls, "optimizer_steps", spoilt)
    with pytest.raises(UserError, match=r"loss became nan in epoch 1, step 1"):
        ul.train(name, x, out=tmp_path / "run", **FAST)


@pytest.mark.slow
def test_two_players_on_two_processes(x, tmp_path):
    """The same command; both optimized modules move, and what is written can be opened."""
    np.save(tmp_path / "x.npy", x)
    words = ["train", "context_encoder", "--data", "x.npy", "--devices", "2", "--accelerator"]
    words += ["cpu", "--batch-size", "32", "--epochs", "1", "--width", "4", "--out", "run"]
    done = subprocess.run(
        [sys.executable, "-m", "unlabeled", *words, "--precision", "fp32", "--logger", "none"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert np.isfinite(ul.load(tmp_path / "run").embed(x[:16])).all()
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)
    assert len(state["optimizer_states"]) == 2
    assert all(held["state"] for held in state["optimizer_states"])
