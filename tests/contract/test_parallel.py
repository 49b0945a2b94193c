"""Many processes, real ones: the averaged gradient is that of one process with the whole batch."""

import builtins
import copy
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import unlabeled as ul
from unlabeled import parallel
from unlabeled.errors import UserError
from unlabeled.utils import launch


def test_batchnorm_on_gpus_is_torchs_own():
    """Catches ours on CUDA, which stores more, torch's on a CPU, and layers that stay changed."""
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    parallel.synchronize(net, 2, cuda=True)
    norms = [net[0], net[2]]
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert all(norm.process_group is None for norm in norms)
    net.eval()
    torch.testing.assert_close(net[2](torch.ones(2, 3, 4, 4)).mean(), torch.tensor(1.0))
    assert copy.deepcopy(net[2]).state_dict().keys() == net[2].state_dict().keys()
    assert [type(layer) for layer in parallel.restore(net)][::2] == [nn.BatchNorm1d, nn.BatchNorm2d]
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    for options in ({"processes": 1, "cuda": True}, {"processes": 2}):
        parallel.synchronize(net, **options)
        assert not isinstance(net[0], nn.SyncBatchNorm)
        parallel.restore(net)


class Rectified(nn.BatchNorm2d):
    """Does something besides."""

    def forward(self, x):
        return super().forward(x).relu()


def test_batchnorm_over_one_process_is_torchs():
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.BatchNorm1d(108))
    plain[1].weight.data.uniform_(0.5, 2)
    synced = parallel.synchronize(copy.deepcopy(plain))
    assert type(synced[1]) is not nn.BatchNorm2d
    x = torch.randn(6, 1, 8, 8)
    for mode in (True, False):
        plain.train(mode), synced.train(mode)
        assert torch.equal(plain(x), synced(x))
    assert all(torch.equal(v, synced.state_dict()[k]) for k, v in plain.state_dict().items())
    assert [type(layer) for layer in parallel.restore(synced)] == [type(layer) for layer in plain]

    with pytest.raises(UserError, match="Rectified is not a plain BatchNorm"):
        parallel.synchronize(nn.Sequential(Rectified(3)))


def exact_norm(x, grad, weight):
    """Output, running statistics and gradients of BatchNorm in float64."""
    bn = nn.BatchNorm2d(x.shape[1]).double()
    bn.weight.data.copy_(weight)
    wide = x.detach().double().requires_grad_()
    out = bn(wide)
    out.backward(grad.double())
    return out, bn.running_mean, bn.running_var, wide.grad, bn.weight.grad, bn.bias.grad


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_batchnorm_of_many_values_is_as_exact_as_float64(dtype, layout):
    """torch's own adds up 2¹⁹ values one by one: off by 5e-4, and the gradients by 1 %."""
    torch.manual_seed(0)
    x = (torch.randn(128, 4, 64, 64) + 2).to(dtype).contiguous(memory_format=layout)
    grad = (torch.randn(128, 4, 64, 64) + 1).to(dtype).contiguous(memory_format=layout)
    bn = nn.BatchNorm2d(4)
    bn.weight.data.uniform_(0.5, 2)
    expected = exact_norm(x, grad, bn.weight.data)
    x.requires_grad_()
    parallel.synchronize(bn, processes=1)
    out = bn(x)
    out.backward(grad)
    assert out.dtype == dtype
    result = out, bn.running_mean, bn.running_var, x.grad, bn.weight.grad, bn.bias.grad
    # A mean rounded to float32 moves the sums of gradients by 1e-4 here.
    rounding = 5e-3 if dtype == torch.bfloat16 else 5e-4
    for name, ours, theirs in zip(
        ("out", "mean", "variance", "x", "weight", "bias"), result, expected, strict=True
    ):
        off = ((ours.double() - theirs).norm() / theirs.norm()).item()
        bound = 1e-5 if name in ("mean", "variance") else rounding
        assert off < bound, (name, off)
    assert int(bn.num_batches_tracked) == 1


def test_exact_batchnorm_keeps_torchs_options():
    """Catches a lost momentum, untracked statistics that move, and layers without a weight."""
    torch.manual_seed(0)
    x = torch.randn(2, 16, 3, 32, 32).to(torch.float32)
    for options in ({"momentum": None}, {"affine": False}, {"track_running_stats": False}):
        plain = nn.BatchNorm2d(3, **options)
        exact = parallel.synchronize(copy.deepcopy(plain), processes=1)
        for part in x:
            torch.testing.assert_close(exact(part), plain(part), atol=1e-4, rtol=1e-4)
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(exact.state_dict()[name], value, atol=1e-4, rtol=1e-4)
    parallel.synchronize(nn.Sequential(Rectified(3)), processes=1)  # left as it is
    with pytest.raises(ValueError, match="4D"):
        exact(torch.randn(5000, 3))


def test_training_has_exact_batchnorm_and_gives_torchs_back(sprites, tmp_path):
    """Catches a learner of one process that forgets it, and layers that stay changed."""
    seen = []

    class Watched(nn.Module):
        dim = 3

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.convolution = nn.Conv2d(1, 3, 3)

        def forward(self, x):
            seen.append(type(self.norm))
            return self.norm(self.convolution(x)).mean((2, 3))

    options = {"epochs": 1, "batch_size": 32, "progress": False, "precision": "fp32"}
    run = ul.train("simclr", sprites[0][:64], encoder=Watched(), out=tmp_path / "a", **options)
    assert parallel._Synced2d in seen
    assert type(run.encoder.norm) is nn.BatchNorm2d


@pytest.mark.parametrize("way", ["ps1", "get_ipython", "-c", "stdin"])
def test_devices_that_no_process_can_be_started_for_are_refused(way, tmp_path, monkeypatch):
    """Catches a run folder that is left behind, and a second process that nobody can start."""
    if way == "ps1":
        monkeypatch.setattr(sys, "ps1", "In [1]: ", raising=False)
    elif way == "get_ipython":
        monkeypatch.setattr(builtins, "get_ipython", lambda: None, raising=False)
    else:
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
        monkeypatch.setattr(sys, "argv", ["-c" if way == "-c" else ""])
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).random((32, 1, 16, 16), np.float32)
    for options in ({"devices": 2}, {"nodes": 2}):
        with pytest.raises(UserError, match=r"cannot start; use devices=1 here, or run the call"):
            ul.train("simclr", x, accelerator="cpu", **options)
    assert not list(tmp_path.iterdir())
    ul.train("simclr", x, epochs=1, batch_size=16, progress=False, logger="none", out="run")
    monkeypatch.setenv("LOCAL_RANK", "0")  # whoever set it has started the others, too
    launch.check_launch(2, 1)


def unlabeled(*words: str, folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "unlabeled", *words]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env=quiet
    )


@pytest.mark.slow
def test_the_command_trains_and_embeds_on_two_processes(sprites, tmp_path):
    x, _ = sprites
    np.save(tmp_path / "x.npy", x[:256])
    train = ("train", "moco", "--data", "x.npy", "--devices", "2", "--accelerator", "cpu")
    train += ("--batch-size", "32", "--queue-size", "64", "--precision", "fp32")
    done = unlabeled(*train, "--epochs", "1", "--out", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("measure its quality") == 1  # the second process says nothing
    assert (tmp_path / "run" / "encoder.safetensors").is_file()
    again = unlabeled(*train, "--epochs", "1", "--out", "run", "--resume", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    for devices in ("1", "2"):
        words = ("embed", "run", "x.npy", "--out", f"z{devices}.npy", "--devices", devices)
        done = unlabeled(*words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    assert np.allclose(np.load(tmp_path / "z1.npy"), np.load(tmp_path / "z2.npy"), atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run", "x.npy", "z1.npy", "z2.npy"]
    long = [sys.executable, "-m", "unlabeled", *train, "--epochs", "500", "--out", "long"]
    started = subprocess.Popen(long, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "long" / "last.ckpt").is_file():
        assert started.poll() is None
        time.sleep(0.2)
    started.terminate()
    text = started.communicate(timeout=60)[1]
    assert started.returncode == 143, text  # 128 and SIGTERM
    assert "the same command with --resume to continue" in text
    shutil.rmtree(tmp_path / "long")
    odd = unlabeled(*train, "--batch-size", "31", "--out", "odd", folder=tmp_path)
    assert odd.returncode == 2
    assert "not divided by 2 processes" in odd.stderr
