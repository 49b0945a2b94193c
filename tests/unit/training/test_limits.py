"""A limit on steps or time ends a training within an epoch; resumed, it goes on within it."""

import json
from types import SimpleNamespace

import pytest
import torch
from helpers import same_weights

import unlabeled as ul
from unlabeled.utils.files import read_csv

OPTIONS = {"epochs": 2, "batch_size": 16, "progress": False, "logger": "none"}


@pytest.fixture(scope="module")
def few(sprites):
    """Six steps an epoch."""
    return sprites[0][:100, ::2, ::2]


@pytest.fixture(scope="module")
def uninterrupted(few, tmp_path_factory):
    out = tmp_path_factory.mktemp("uninterrupted") / "run"
    return ul.train("simclr", few, out=out, **OPTIONS).path


@pytest.mark.parametrize("steps", [3, 7])
def test_a_run_that_ended_within_an_epoch_goes_on_within_it(steps, few, uninterrupted, tmp_path):
    """An epoch that counts as done once it was cut leaves out the rest of its batches."""
    out = tmp_path / "run"
    ul.train("simclr", few, out=out, trainer={"max_steps": steps}, **OPTIONS)
    assert read_csv(out / "metrics.csv")["epoch"][-1] == pytest.approx(steps / 6)
    ul.train("simclr", few, out=out, resume=True, **OPTIONS)
    curves = [read_csv(run / "metrics.csv") for run in (uninterrupted, out)]
    assert curves[0]["epoch"] == curves[1]["epoch"] == [0, 1, 2]
    assert curves[0]["loss"][1:] == curves[1]["loss"][1:]
    assert same_weights(uninterrupted, out)


def test_a_run_in_legs_is_one_run(few, uninterrupted, tmp_path):
    """Lightning's timer and other callbacks stop a training so."""
    from lightning.pytorch.callbacks import Callback

    class Clock(Callback):
        def on_train_batch_end(self, trainer, *_):
            trainer.should_stop = trainer.global_step % 4 == 0

    for _ in range(3):
        trainer = {"callbacks": [Clock()]}
        run = ul.train("simclr", few, out=tmp_path / "run", resume=True, trainer=trainer, **OPTIONS)
    assert same_weights(uninterrupted, run.path)


def test_max_time_is_that_of_each_start(few, uninterrupted, tmp_path, monkeypatch):
    """Lightning counts the time of before, so that a resumed run would end at once."""
    from lightning.pytorch.callbacks import Callback, timer

    clock = [0.0]
    monkeypatch.setattr(timer, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    class Slow(Callback):
        """Each step takes 25 seconds."""

        def on_train_batch_start(self, *_):
            clock[0] += 25.0

    out = tmp_path / "run"
    for start in range(1, 4):
        trainer = {"callbacks": [Slow()], "max_time": "00:00:01:00"}
        ul.train("simclr", few, out=out, resume=True, trainer=trainer, **OPTIONS)
        assert torch.load(out / "last.ckpt", weights_only=True)["global_step"] == 3 * start
        assert json.loads((out / "config.json").read_text())["stopped_by"] == "max_time"
    ul.train("simclr", few, out=out, resume=True, **OPTIONS)
    assert same_weights(uninterrupted, out)
