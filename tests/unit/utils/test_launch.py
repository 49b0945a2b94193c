"""How processes are started: torchrun's and SLURM's variables, and a job that is requeued."""

import os
import signal
import sys

import pytest
from helpers import same_weights

import unlabeled as ul
from unlabeled.errors import Notice, Stopped, UserError
from unlabeled.methods.simclr import SimCLR
from unlabeled.utils import launch

SLURM = {
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NAME": "training",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NODELIST": "127.0.0.1",
}


def set_all(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_processes_of_torchrun_must_be_those_that_are_asked_for(monkeypatch):
    monkeypatch.setattr(sys, "argv", [__file__])  # a script that could be run again
    launch.check_launch(3, 1)
    assert launch.is_first()
    set_all(monkeypatch, {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "8"})
    launch.check_launch(4, 2)
    with pytest.raises(UserError, match=r"torchrun started 8 processes, .* product is 8"):
        launch.check_launch(1, 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    launch.check_launch(2, 4)
    with pytest.raises(UserError, match=r"8 processes, 2 on each .* give --devices 2 --nodes 4"):
        launch.check_launch(4, 2)  # Lightning's ranks would not be torchrun's
    set_all(monkeypatch, {"SLURM_PROCID": "0", "LOCAL_RANK": "1"})
    assert not launch.is_first()


def test_tasks_of_slurm_must_be_those_that_are_asked_for(monkeypatch):
    """Where they are not, Lightning waits for processes that never come, or each trains alone."""
    four = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "2"}
    set_all(monkeypatch, SLURM | four)
    launch.check_launch(2, 2)
    with pytest.raises(UserError, match=r"SLURM started 4 .* give --devices 2 --nodes 2"):
        launch.check_launch(4, 1)
    with monkeypatch.context() as patch:
        patch.delenv("SLURM_STEP_ID")
        with pytest.raises(UserError, match="only srun starts them; write srun before"):
            launch.check_launch(2, 2)
    with monkeypatch.context() as patch:
        patch.delenv("SLURM_NTASKS_PER_NODE")
        with pytest.raises(UserError, match="--ntasks-per-node=2 instead of --ntasks"):
            launch.check_launch(2, 2)
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_JOB_NAME", "interactive")  # Lightning starts the others here
        patch.setattr(launch, "_can_run_again", lambda: True)  # the tests' own processes cannot
        launch.check_launch(2, 1)
    set_all(monkeypatch, SLURM)
    launch.check_launch(1, 1)
    with pytest.raises(UserError, match="SLURM started 1 process, 1 on each machine"):
        launch.check_launch(2, 1)
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert not launch.is_first()


@pytest.fixture
def calls_of_scontrol(tmp_path, monkeypatch):
    """What a program that stands for scontrol is called with."""
    calls, stub = tmp_path / "calls", tmp_path / "bin" / "scontrol"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=os.pathsep)
    calls.touch()
    return calls


OPTIONS = {"epochs": 2, "batch_size": 16, "progress": False, "logger": "none"}


def train_until(number, step, data, out, monkeypatch):
    """Train, and send this process a signal in a step of the training."""
    loss, steps = SimCLR.loss, []

    def acting(self, views):
        steps.append(1)
        if len(steps) == step:
            os.kill(os.getpid(), number)
        return loss(self, views)

    with monkeypatch.context() as patch:
        patch.setattr(SimCLR, "loss", acting)
        with pytest.raises(Stopped, match="saved") as stopped:
            ul.train("simclr", data, out=out, **OPTIONS)
    assert (len(steps), stopped.value.number) == (step, number)


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_job_that_slurm_starts_again_ends_in_the_same_bytes(
    number, requeued, sprites, tmp_path, monkeypatch, calls_of_scontrol
):
    """Lightning's own answer to SIGUSR1 saves in the middle of a step."""
    few = sprites[0][:100, ::2, ::2]
    full = ul.train("simclr", few, out=tmp_path / "whole", **OPTIONS).path
    set_all(monkeypatch, SLURM)
    out = tmp_path / "run"
    if requeued:
        with pytest.warns(Notice, match="job 4711 is requeued"):
            train_until(number, 8, few, out, monkeypatch)
    else:
        train_until(number, 8, few, out, monkeypatch)
    assert calls_of_scontrol.read_text() == "requeue 4711\n" * requeued
    with pytest.raises(UserError, match="--resume"):  # started by hand
        ul.train("simclr", few, out=out, **OPTIONS)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with monkeypatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", "4712")  # another job that was requeued
        with pytest.raises(UserError, match="--resume"):
            ul.train("simclr", few, out=out, **OPTIONS)
    with pytest.warns(Notice, match="SLURM has started job 4711 again, so .*run is resumed"):
        ul.train("simclr", few, out=out, **OPTIONS)
    assert same_weights(full, out)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_job_that_cannot_be_requeued_says_so(tmp_path, monkeypatch):
    set_all(monkeypatch, SLURM | {"PATH": str(tmp_path)})
    with (
        pytest.warns(Notice, match=r"did not requeue job 4711 \(.*scontrol.*\); submit it again"),
        pytest.raises(Stopped),
        launch.requeueing(),
    ):
        raise Stopped("saved", signal.SIGUSR1)
