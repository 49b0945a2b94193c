"""Trainings on two machines, which two processes on this one stand for, each in its own folder."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import free_port, same_weights
from safetensors.torch import load_file

STILL = """
from unlabeled.methods.simclr import SimCLR

class Still(SimCLR):
    "SimCLR whose views are not random, so that two processes see what one does."
    def views(self, batch):
        return batch.x, batch.x.flip(-1)
"""
pytestmark = pytest.mark.slow

TRAIN = ("train", "./still.py:Still", "--data", "x.npy", "--out", "run")
TRAIN += ("--accelerator", "cpu", "--precision", "fp32", "--logger", "none")


@pytest.fixture
def machines(sprites, tmp_path):
    """Folders of two machines that share no disk, and of one that works alone."""
    folders = [tmp_path / name for name in ("first", "second", "alone")]
    for folder in folders:
        folder.mkdir()
        (folder / "still.py").write_text(STILL)
        np.save(folder / "x.npy", sprites[0][:230, ::2, ::2])
    return folders


def start(folder: Path, *words: str, **variables: str) -> subprocess.Popen:
    """The command or another module, in a folder."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", *words]
    return subprocess.Popen(
        command, cwd=folder, text=True, env=os.environ | variables, start_new_session=True, **pipes
    )


def ends(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each; all are killed if one hangs."""
    try:
        outputs = [process.communicate(timeout=600) for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return [(p.returncode, *output) for p, output in zip(processes, outputs, strict=True)]


def by_torchrun(folders: list[Path], *words: str) -> list[tuple[int, str, str]]:
    port = str(free_port())
    launcher = ("torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1")
    launcher += ("--master-addr", "127.0.0.1", "--master-port", port)
    module = ("-m", "unlabeled", *TRAIN, *words, "--devices", "1", "--nodes", "2")
    return ends(
        [start(f, *launcher, "--node-rank", str(i), *module) for i, f in enumerate(folders)]
    )


def by_slurm(folders: list[Path], *words: str, **variables: str) -> list[subprocess.Popen]:
    """As srun would, on two nodes of one task."""
    job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "ssl", "SLURM_STEP_ID": "0"}
    job |= {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"}
    job |= {"SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NODELIST": "127.0.0.1", "SLURM_LOCALID": "0"}
    module = ("unlabeled", *TRAIN, *words, "--devices", "1", "--nodes", "2")
    tasks = [{"SLURM_PROCID": str(i), "SLURM_NODEID": str(i)} for i in range(len(folders))]
    return [
        start(f, *module, **job, **task, **variables)
        for f, task in zip(folders, tasks, strict=True)
    ]


def difference(a: Path, b: Path) -> float:
    one, two = (load_file(folder / "run" / "encoder.safetensors") for folder in (a, b))
    return max(float((one[name].double() - two[name]).abs().max()) for name in one)


# Three steps an epoch; Adam would make large ones of gradients that are zero but for rounding.
SGD = ("--batch-size", "64", "--optimizer", "sgd", "--lr", "0.02")


def test_two_machines_train_as_one_and_only_the_first_writes(machines):
    first, second, alone = machines
    (done,) = ends([start(alone, "unlabeled", *TRAIN, *SGD, "--epochs", "1")])
    assert done[0] == 0, done
    results = by_torchrun([first, second], *SGD, "--epochs", "1")
    assert [status for status, *_ in results] == [0, 0], results
    assert "measure its quality" in results[0][1]
    assert results[1][1:] == ("", "")  # the second machine prints nothing
    assert not (second / "run").exists()
    assert difference(first, alone) < 1e-4
    shutil.copytree(first / "run", first / "copy")

    resumed = by_torchrun(
        [first, second], *SGD, "--epochs", "2", "--resume"
    )  # it is on the first only
    assert all(status != 0 for status, *_ in resumed)
    assert all("does not hold the same checkpoint on every machine" in err for *_, err in resumed)
    assert (first / "copy" / "last.ckpt").read_bytes() == (first / "run/last.ckpt").read_bytes()
    shutil.copytree(first / "run", second / "run")
    results = by_torchrun([first, second], *SGD, "--epochs", "2", "--resume")
    assert [status for status, *_ in results] == [0, 0], results
    (done,) = ends([start(alone, "unlabeled", *TRAIN, *SGD, "--epochs", "2", "--resume")])
    assert done[0] == 0, done
    assert difference(first, alone) < 1e-4
    state = torch.load(first / "run" / "last.ckpt", weights_only=True)
    assert state["in_epoch"]["epoch"] == 1


def test_a_job_on_two_nodes_is_requeued_and_ends_in_the_same_bytes(machines, tmp_path):
    first, _, alone = machines
    stub, calls = tmp_path / "bin" / "scontrol", tmp_path / "calls"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    stub.chmod(0o755)
    job = {"PATH": f"{stub.parent}:{os.environ['PATH']}", "MASTER_PORT": str(free_port())}
    results = ends(
        by_slurm([alone, alone], "--batch-size", "16", "--epochs", "8", **job)
    )  # a disk that both share
    assert [status for status, *_ in results] == [0, 0], results
    assert not calls.exists()
    processes = by_slurm([first, first], "--batch-size", "16", "--epochs", "8", **job)
    while not (first / "run" / "last.ckpt").exists() and processes[0].poll() is None:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGUSR1)  # to either or both: all of them stop
    results = ends(processes)
    assert [status for status, *_ in results] == [128 + signal.SIGUSR1] * 2, results
    assert "job 4711 is requeued" in results[0][2]
    assert results[1][1:] == ("", "")
    assert calls.read_text() == "requeue 4711\n"
    assert not (first / "run" / "encoder.safetensors").exists()
    again = by_slurm(
        [first, first], "--batch-size", "16", "--epochs", "8", **job, SLURM_RESTART_COUNT="1"
    )
    results = ends(again)
    assert [status for status, *_ in results] == [0, 0], results
    assert same_weights(first / "run", alone / "run")
