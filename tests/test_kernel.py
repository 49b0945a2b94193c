"""The compiled resampling takes the pixels that the plain one takes."""

import copy
import ctypes
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import unlabeled as ul
from unlabeled.native import fused, keeping_memory
from unlabeled.views import Affine, Crop, kernel
from unlabeled.views.geometry import affine_matrix, crop_matrix, resample, uniform

needs_compiler = pytest.mark.skipif(
    kernel.compiled() is None, reason="no C++ compiler and ninja here"
)
CPU = torch.device("cpu")


def maps(n, kind):
    if kind == "affine":
        turn, shift = uniform(n, -3.2, 3.2, CPU), uniform(2 * n, -0.6, 0.6, CPU).view(n, 2)
        return affine_matrix(turn, shift, uniform(n, 0.3, 3.0, CPU), 1.5)
    size = uniform(2 * n, 0.1, 1.0, CPU).view(n, 2)
    mirrored = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    return crop_matrix(uniform(2 * n, -0.5, 0.5, CPU).view(n, 2), size, mirrored)


def plainly(monkeypatch, x, matrix, mode):
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "compiled", lambda: None)
        return resample(x, matrix, mode)


@needs_compiler
@pytest.mark.parametrize("kind", ["affine", "crop"])
@pytest.mark.parametrize("shape", [(64, 1, 64, 64), (37, 3, 32, 48), (1, 2, 7, 5), (3, 1, 1, 1)])
def test_both_ways_give_the_same_pictures(shape, kind, monkeypatch):
    torch.manual_seed(sum(shape))
    x, matrix = torch.rand(shape), maps(shape[0], kind)
    nearest = resample(x, matrix, "nearest")
    assert torch.equal(nearest, plainly(monkeypatch, x, matrix, "nearest"))
    smooth = resample(x, matrix, "bilinear")
    expected = plainly(monkeypatch, x, matrix, "bilinear")
    torch.testing.assert_close(smooth, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_bytes_are_pictures_too(mode, monkeypatch):
    x, matrix = torch.randint(0, 256, (9, 3, 16, 20), dtype=torch.uint8), maps(9, "affine")
    ours = resample(x, matrix, mode)
    assert torch.equal(ours, resample(x.float() / 255, matrix, mode))
    torch.testing.assert_close(ours, plainly(monkeypatch, x, matrix, mode), atol=2e-5, rtol=0)


@needs_compiler
def test_nothing_is_read_outside_of_the_picture():
    """Far away, infinitely far and nowhere: zeros."""
    x = torch.ones(5, 1, 8, 8)
    matrix = torch.zeros(3, 2, 3)
    matrix[0, :, 2], matrix[1, :, 2], matrix[2, :, 2] = 1e9, -torch.inf, torch.nan
    matrix = torch.cat([matrix, torch.full((1, 2, 3), torch.nan), torch.full((1, 2, 3), torch.inf)])
    for mode in ("nearest", "bilinear"):
        assert not resample(x, matrix, mode).any()
    assert resample(x[:0], matrix[:0]).shape == (0, 1, 8, 8)


@needs_compiler
def test_views_draw_the_same(monkeypatch):
    x = torch.rand(50, 3, 32, 32)
    for view in (Affine(), Affine(mode="bilinear"), Crop()):
        torch.manual_seed(3)
        ours = view(x)
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "compiled", lambda: None)
            torch.manual_seed(3)
            torch.testing.assert_close(ours, view(x), atol=2e-5, rtol=0)


@needs_compiler
def test_what_wants_a_gradient_goes_the_plain_way():
    x = torch.rand(4, 1, 8, 8, requires_grad=True)
    resample(x, maps(4, "affine")).sum().backward()
    assert x.grad.any()


@pytest.mark.parametrize("setting", [{"UNLABELED_COMPILE": "0"}, {"CXX": "/bin/false"}])
def test_without_a_compiler_the_plain_way_runs(setting, tmp_path):
    if "CXX" in setting and not shutil.which("false"):
        pytest.skip("no such command here")
    code = (
        "import torch; from unlabeled.views import Affine, kernel; "
        "print(kernel.which(), tuple(Affine()(torch.rand(2, 1, 8, 8)).shape))"
    )
    settings = os.environ | {"UNLABELED_CACHE": str(tmp_path)} | setting
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[-2] == "plain (2, 1, 8, 8)", done.stderr


def test_memory_is_kept_within_and_given_back_after():
    """The pages of a large tensor stay with the process until the end."""
    statm = Path("/proc/self/statm")
    if not hasattr(ctypes.CDLL(None), "mallopt") or not statm.exists():
        pytest.skip("not glibc's allocator")

    def held() -> int:
        return int(statm.read_text().split()[1]) * resource.getpagesize()

    before = held()
    with keeping_memory():
        torch.ones(2**27)  # 512 MB, freed at once
        within = held() - before
    assert within > 400e6
    assert held() - before < 200e6


@needs_compiler
def test_a_fused_encoder_computes_the_same(sprites, tmp_path):
    """And is an ordinary one after training."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    other, x = copy.deepcopy(plain), torch.rand(64, 1, 64, 64)
    with fused(other, True):
        for network in (plain, other):
            network(x).square().sum().backward()
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-3 * a.grad.abs().max())
    options = {"epochs": 1, "batch_size": 64, "progress": False, "compile": True}
    run = ul.train("simclr", sprites, encoder=plain, out=tmp_path / "run", **options)
    assert run.config["compile"]
    assert run.encoder._compiled_call_impl is None
