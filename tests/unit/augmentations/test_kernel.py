"""The compiled resampling equals the plain one."""

import copy
import ctypes
import inspect
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
from unlabeled import registry
from unlabeled.augmentations import RandomAffine, RandomResizedCrop, kernel
from unlabeled.augmentations.base import uniform
from unlabeled.augmentations.geometry import affine_matrix, crop_matrix, resample
from unlabeled.core import Batch
from unlabeled.encoders.base import GlobalPool
from unlabeled.errors import UserError
from unlabeled.training.compiling import fused
from unlabeled.utils.native import keeping_memory

needs_compiler = pytest.mark.skipif(kernel.compiled() is None, reason="no C++ compiler here")


def maps(n, kind):
    x = torch.empty(n)
    if kind == "affine":
        turn, shift = uniform(x, -3.2, 3.2), uniform(x, -0.6, 0.6, 2)
        return affine_matrix(turn, shift, uniform(x, 0.3, 3.0), 1.5)
    size = uniform(x, 0.1, 1.0, 2)
    mirrored = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)
    return crop_matrix(uniform(x, -0.5, 0.5, 2), size, mirrored)


def plainly(monkeypatch, x, matrix, mode):
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "compiled", lambda: None)
        return resample(x, matrix, mode)


@needs_compiler
@pytest.mark.parametrize("kind", ["affine", "crop"])
@pytest.mark.parametrize("shape", [(64, 1, 64, 64), (37, 3, 32, 48), (1, 2, 7, 5), (3, 1, 1, 1)])
def test_compiled_and_plain_resampling_agree(shape, kind, monkeypatch):
    torch.manual_seed(sum(shape))
    x, matrix = torch.rand(shape), maps(shape[0], kind)
    nearest = resample(x, matrix, "nearest")
    assert torch.equal(nearest, plainly(monkeypatch, x, matrix, "nearest"))
    smooth = resample(x, matrix, "bilinear")
    expected = plainly(monkeypatch, x, matrix, "bilinear")
    torch.testing.assert_close(smooth, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_bytes_are_resampled(mode, monkeypatch):
    x, matrix = torch.randint(0, 256, (9, 3, 16, 20), dtype=torch.uint8), maps(9, "affine")
    ours = resample(x, matrix, mode)
    assert torch.equal(ours, resample(x.float() / 255, matrix, mode))
    torch.testing.assert_close(ours, plainly(monkeypatch, x, matrix, mode), atol=2e-5, rtol=0)


@needs_compiler
def test_no_memory_outside_the_image_is_read():
    """Distant, infinite and NaN coordinates give zeros."""
    x = torch.ones(5, 1, 8, 8)
    matrix = torch.zeros(3, 2, 3)
    matrix[0, :, 2], matrix[1, :, 2], matrix[2, :, 2] = 1e9, -torch.inf, torch.nan
    matrix = torch.cat([matrix, torch.full((1, 2, 3), torch.nan), torch.full((1, 2, 3), torch.inf)])
    for mode in ("nearest", "bilinear"):
        assert not resample(x, matrix, mode).any()
    assert resample(x[:0], matrix[:0]).shape == (0, 1, 8, 8)


@needs_compiler
def test_augmentations_agree_with_and_without_a_compiler(monkeypatch):
    x = torch.rand(50, 3, 32, 32)
    for view in (RandomAffine(), RandomAffine(interpolation="bilinear"), RandomResizedCrop()):
        torch.manual_seed(3)
        ours = view(x)
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "compiled", lambda: None)
            torch.manual_seed(3)
            torch.testing.assert_close(ours, view(x), atol=2e-5, rtol=0)


@needs_compiler
def test_inputs_with_gradient_use_plain_resampling():
    x = torch.rand(4, 1, 8, 8, requires_grad=True)
    resample(x, maps(4, "affine")).sum().backward()
    assert x.grad.any()


@pytest.mark.parametrize("setting", [{"UNLABELED_COMPILE": "0"}, {"CXX": "/bin/false"}])
def test_plain_resampling_runs_without_a_compiler(setting, tmp_path):
    if "CXX" in setting and not shutil.which("false"):
        pytest.skip("no such command here")
    code = (
        "import torch; from unlabeled.augmentations import RandomAffine, kernel; "
        "print(kernel.implementation(), tuple(RandomAffine()(torch.rand(2, 1, 8, 8)).shape))"
    )
    settings = os.environ | {"UNLABELED_CACHE": str(tmp_path)} | setting
    done = subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True
    )
    assert done.stdout.split("\n")[-2] == "plain (2, 1, 8, 8)", done.stderr


def test_memory_is_kept_inside_and_released_after():
    """The pages of a large tensor stay with the process inside the context only."""
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


class Seen(nn.Module):
    """An encoder that records each call outside compiled code."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), GlobalPool())
        self.dim, self.eager = 8, 0

    def forward(self, x):
        if not torch.compiler.is_compiling():
            self.eager += 1
        return self.net(x)


FUSED = {
    "dino": ["student", "teacher.module"],
    "byol": ["encoder", "target.module"],
    "moco": ["encoder", "key_encoder.module"],
    "simsiam": ["encoder"],
    "simclr": ["encoder"],
    "barlow_twins": ["encoder"],
    "vae": ["encoder", "decoder"],
    "gan": ["discriminator", "generator.decoder"],
    "context_encoder": ["generator", "discriminator"],
}


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # PyTorch looks at its own
@pytest.mark.parametrize("name", FUSED)
def test_every_network_of_a_step_is_compiled_and_computes_the_same(name):
    """DINO's student and the targets of BYOL and MoCo, not only the product; under the same names.

    The backend runs what was traced, so that two steps end in the very same weights.
    """
    torch.manual_seed(0)
    cls = registry.find("methods", name)
    shape = {"shape": (1, 16, 16)} if "shape" in inspect.signature(cls).parameters else {}
    options = {"local_crops": 2} if name == "dino" else {}
    plain = cls(Seen(), **shape, **options)
    other, x = copy.deepcopy(plain), torch.rand(8, 1, 16, 16)
    for method, wanted in ((plain, False), (other, True)):
        torch.manual_seed(1)
        with fused(method, wanted, backend="eager"):
            assert list(method.state_dict()) == list(plain.state_dict())
            for part in FUSED[name]:
                assert (method.get_submodule(part)._compiled_call_impl is not None) == wanted
            for _ in range(2):
                for module, loss in method.optimizer_steps(method.views(Batch(x, torch.arange(8)))):
                    module = method.get_submodule(module)
                    module.zero_grad()
                    loss.backward()
                    with torch.no_grad():
                        for p in module.parameters():
                            p.sub_(0.01 * (0 if p.grad is None else p.grad))
                with torch.no_grad():
                    method.update()
        assert all(m._compiled_call_impl is None for m in method.modules())
    assert not any(m.eager for m in other.modules() if isinstance(m, Seen))
    assert name == "gan" or any(m.eager for m in plain.modules() if isinstance(m, Seen))
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, rtol=1e-5, atol=1e-6)


def test_a_failing_compilation_is_one_sentence():
    def backend(graph, inputs):
        raise ValueError("no such instruction\nand fifty lines of C++")

    network = nn.Sequential(nn.Linear(2, 2))
    outputs = pytest.raises(UserError, match=r"cannot be compiled \(.*no such instruction.*; omit")
    with outputs as error, fused(network, True, backend=backend):
        network(torch.zeros(1, 2))
    assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match="of the user"), fused(network, True, backend="eager"):
        raise RuntimeError("of the user's own code")


@pytest.mark.slow
@needs_compiler
def test_a_fused_encoder_computes_the_same(sprites, tmp_path):
    """Also for an `nn.Sequential`, and the encoder is an ordinary module after training.

    With SGD: Adam moves a weight by the learning rate even where its gradient is rounding alone.
    """
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64 * 64, 8), nn.Tanh())
    options = {"epochs": 1, "batch_size": 300, "progress": False, "encoder": encoder}
    options |= {"optimizer": "sgd", "lr": 0.1}
    plain, other = (
        ul.train("simclr", sprites, out=tmp_path / str(wanted), compile=wanted, **options)
        for wanted in (False, True)
    )
    assert other.config["compile"]
    assert other.encoder._compiled_call_impl is None
    for a, b in zip(plain.encoder.parameters(), other.encoder.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
