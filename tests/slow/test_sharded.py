"""Sharded training by two processes: the weights of DDP, and ordinary checkpoints."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from unlabeled.utils.files import read_csv

pytestmark = pytest.mark.slow

STILL = """
from unlabeled.methods.simclr import SimCLR

class Still(SimCLR):
    "SimCLR whose views are not random."
    def views(self, batch):
        return batch.x, batch.x.flip(-1)
"""
# Three steps an epoch; Adam would make large ones of gradients that are zero but for rounding.
TRAIN = (
    "train",
    "./still.py:Still",
    "--data",
    "x.npy",
    "--batch-size",
    "64",
    "--precision",
    "fp32",
)
TRAIN += ("--optimizer", "sgd", "--lr", "0.02", "--accelerator", "cpu", "--logger", "none")
TRAIN += ("--grad-clip-norm", "1")


def run(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "unlabeled", *TRAIN, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "encoder.safetensors")


def difference(a: Path, b: Path) -> float:
    one, two = weights(a), weights(b)
    assert one.keys() == two.keys()
    return max(float((one[name].double() - two[name]).abs().max()) for name in one)


@pytest.mark.parametrize("encoder", ["vit", "small"])  # with blocks, and with BatchNorm
def test_shards_train_as_whole_weights_do(encoder, sprites, tmp_path):
    (tmp_path / "still.py").write_text(STILL)
    np.save(tmp_path / "x.npy", sprites[0][:230, ::2, ::2])
    common = ("--encoder", encoder, "--devices", "2")
    run(tmp_path, *common, "--epochs", "2", "--out", "ddp")
    saving = ["--gradient-checkpointing"] * (encoder == "vit")
    fsdp = (*common, "--strategy", "fsdp", *saving)
    run(tmp_path, *fsdp, "--epochs", "2", "--trainer.max_steps", "2", "--out", "fsdp")
    run(tmp_path, *fsdp, "--epochs", "2", "--out", "fsdp", "--resume")
    assert difference(tmp_path / "fsdp", tmp_path / "ddp") < 1e-4
    curves = [read_csv(tmp_path / name / "metrics.csv") for name in ("ddp", "fsdp")]
    assert np.allclose(curves[0]["loss"][1:], curves[1]["loss"][1:], rtol=1e-4)
    assert np.allclose(curves[0]["std"], curves[1]["std"], rtol=1e-3)  # of complete weights
    states = [torch.load(tmp_path / n / "last.ckpt", weights_only=True) for n in ("ddp", "fsdp")]
    shapes = [{k: v.shape for k, v in state["state_dict"].items()} for state in states]
    assert shapes[0] == shapes[1]
    assert all(type(v) is torch.Tensor for v in states[1]["state_dict"].values())
    for name, flags in (("ddp", []), ("fsdp", saving)):  # goes on in one process
        run(tmp_path, *common[:2], *flags, "--epochs", "3", "--out", name, "--resume")
    assert difference(tmp_path / "fsdp", tmp_path / "ddp") < 2e-4
