"""What a GPU must do as a CPU does; without a GPU, UNLABELED_TEST_DEVICE=cpu tries the tests."""

import copy
import os

import contract
import numpy as np
import pytest
import torch
from torch import Tensor

import unlabeled as ul
from unlabeled.augmentations import BYOLAugment, RandomAffine, SimCLRAugment
from unlabeled.augmentations.color import adjust_color
from unlabeled.augmentations.geometry import affine_matrix, resample
from unlabeled.errors import Notice

DEVICE = os.environ.get("UNLABELED_TEST_DEVICE", "cuda")
ACCELERATOR = "gpu" if DEVICE == "cuda" else "cpu"
pytestmark = pytest.mark.skipif(
    DEVICE == "cuda" and not torch.cuda.is_available(), reason="no GPU here"
)


@pytest.fixture(autouse=True)
def exact_products():
    """Products and convolutions of fp32 without TF32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def moved(value):
    """Tensors in tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        return value.to(DEVICE)
    if isinstance(value, dict):
        return {key: moved(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        parts = [moved(v) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def loss_and_gradient(method, views, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Of the first optimizer step, on the CPU; the method stays as it was."""
    method = copy.deepcopy(method)
    torch.manual_seed(seed)
    part, loss = next(iter(method.optimizer_steps(views)))
    parameters = [p for p in method.get_submodule(part).parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    return loss.detach().cpu(), torch.cat([g.flatten().cpu() for g in gradients if g is not None])


@pytest.mark.parametrize("name", contract.names())
def test_the_gradient_of_the_same_views_is_that_of_a_cpu(name):
    """Catches tensors left on the CPU, and kernels that compute something else."""
    method = contract.make(contract.find(name), exact=True).train()
    views = method.views(contract.batch_of(method))
    loss, gradient = loss_and_gradient(method, views)
    draws = not torch.equal(loss, loss_and_gradient(method, views, seed=1)[0])
    other, theirs = loss_and_gradient(method.to(DEVICE), moved(views))
    assert torch.isfinite(other)
    if draws:
        return  # random numbers of devices differ
    torch.testing.assert_close(other, loss, rtol=1e-4, atol=1e-6)
    assert (theirs - gradient).norm() <= 1e-3 * gradient.norm()


@pytest.mark.parametrize("name", contract.names())
def test_steps_on_the_device_are_finite(name):
    """Catches views, updates and queues that mix devices."""
    method = contract.make(contract.find(name)).to(DEVICE).train()
    optimizers = contract.optimizers_of(method)
    batch = contract.batch_of(method)
    batch = moved(batch)
    for _ in range(3):
        contract.step(method, optimizers, batch)
    assert all(torch.isfinite(p).all() for p in method.parameters())


def test_images_are_moved_as_on_a_cpu():
    """The kernel of the CPU is compiled; that of a GPU is PyTorch's. Catches other corners."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(16, 3, 40, 56, generator=g)
    angle, zoom = (torch.rand(16, generator=g) * scale for scale in (0.6, 0.5))
    matrix = affine_matrix(angle, torch.rand(16, 2, generator=g) * 0.2, 0.7 + zoom)
    for mode in ("nearest", "bilinear"):
        for size in (None, (24, 24)):
            here = resample(x, matrix, mode, size=size)
            there = resample(x.to(DEVICE), matrix.to(DEVICE), mode, size=size).cpu()
            differ = ((here - there).abs() > 1e-4).float().mean()
            assert differ < (0.01 if mode == "nearest" else 1e-3)  # rounding decides between two


def test_colors_change_as_on_a_cpu():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(8, 3, 16, 16, generator=g)
    factors = [0.5 + torch.rand(8, generator=g) for _ in range(3)]
    hue = torch.rand(8, generator=g) - 0.5
    here = adjust_color(x, *factors, hue)
    there = adjust_color(*(v.to(DEVICE) for v in (x, *factors, hue)))
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "augment", [SimCLRAugment(blur=0.5), BYOLAugment(solarize=0.5), RandomAffine()]
)
def test_views_stay_on_the_device(augment):
    x = torch.rand(8, 3, 32, 32, device=DEVICE)
    view = augment(x)
    assert view.device == x.device
    assert view.min() >= 0
    assert view.max() <= 1


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 3, 32, 32)).astype(np.uint8)


SMALL = {"epochs": 2, "batch_size": 32, "logger": "none", "progress": False}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("method", ["simclr", "byol", "dino", "moco"])
def test_training_in_each_precision_gives_a_run_that_a_cpu_opens(
    method, precision, images, tmp_path
):
    """Catches weights saved as those of a GPU, and losses in half precision."""
    out = tmp_path / "run"
    run = ul.train(method, images, out=out, precision=precision, accelerator=ACCELERATOR, **SMALL)
    again = ul.load(out)
    x = torch.rand(4, 3, 32, 32)
    assert next(again.encoder.parameters()).device.type == "cpu"
    torch.testing.assert_close(again.encoder(x), run.encoder.cpu()(x))
    assert np.isfinite(run.embed(images)).all()


@pytest.mark.filterwarnings("ignore:BatchNorm normalizes each")
@pytest.mark.parametrize(
    "options",
    [
        {"accumulate": 4},
        {"gradient_checkpointing": True, "encoder": "resnet18", "encoder_args": {"width": 0.25}},
        {"encoder": "vit_tiny", "encoder_args": {"patch": 8}},
        {"optimizer": "lars", "lr": 0.1},
    ],
    ids=["accumulate", "checkpointing", "vit", "lars"],
)
def test_training_with_options(options, images, tmp_path):
    run = ul.train(
        "simclr", images, out=tmp_path / "run", accelerator=ACCELERATOR, **SMALL, **options
    )
    assert all(torch.isfinite(p).all() for p in run.encoder.parameters())


def test_a_run_resumes_on_the_device(images, tmp_path):
    """Catches optimizer state that stays on another device."""
    out = tmp_path / "run"
    options = SMALL | {"out": out, "accelerator": ACCELERATOR}
    ul.train("moco", images, **options)
    with pytest.warns(Notice, match="goes on from epoch 2 to 4"):
        run = ul.train("moco", images, **options | {"epochs": 4, "resume": True})
    assert all(torch.isfinite(p).all() for p in run.encoder.parameters())


@pytest.mark.skipif(DEVICE == "cpu", reason="CPUs compile by themselves, which takes minutes")
def test_compiled_networks_learn(images, tmp_path):
    run = ul.train(
        "simclr", images, out=tmp_path / "run", accelerator=ACCELERATOR, compile=True, **SMALL
    )
    assert all(torch.isfinite(p).all() for p in run.encoder.parameters())
