"""Distillation against loops, and its traps: a teacher that learns, another view, the queue."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import unlabeled as ul
from unlabeled.augmentations import RandomAffine
from unlabeled.core import Batch
from unlabeled.encoders.base import AtOwnSize, build
from unlabeled.errors import UserError
from unlabeled.methods.distill import Distill

SIZE = (16, 16)
SHORT = {"epochs": 1, "batch_size": 16, "progress": False, "logger": "none", "size": 16}


def make(**options) -> Distill:
    torch.manual_seed(0)
    student, teacher = build("small", 1, SIZE, width=2), build("small", 1, SIZE, width=4)
    small = {"queue_size": 9, "augment": RandomAffine()}
    return Distill(student, teacher=teacher, **small | options)


def images(n: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.rand(n, 1, *SIZE, generator=torch.Generator().manual_seed(seed))


def unit(row: torch.Tensor) -> torch.Tensor:
    return row.detach().double() / row.detach().double().norm()


def test_the_loss_is_the_divergence_over_batch_and_queue():
    """Catches a queue without the batch, its oldest features instead of the newest, cosines of rows
    that are not normalized, and the divergence the wrong way round.
    """
    method = make(temperature=0.1).eval()
    for step in range(3):
        x = images(6, step)
        outputs = [unit(row) for row in method.head(method.encoder(x))]
        taught = [unit(row) for row in method.teacher(x)]
        queue = (taught + [row.double() for row in method.queue])[:9]
        expected = 0.0
        for s, t in zip(outputs, taught, strict=True):
            logits = [[float(v @ k) / 0.1 for k in queue] for v in (t, s)]
            p, q = ([math.exp(v) for v in row] for row in logits)
            p, q = ([v / sum(row) for v in row] for row in (p, q))
            expected += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 6
        before = method.queue.clone()
        assert method.loss(x).item() == pytest.approx(expected, rel=1e-4)
        assert torch.equal(method.queue, before)
        with torch.no_grad():
            method.update()
        torch.testing.assert_close(method.queue.double(), torch.stack(queue))


def test_the_teachers_own_feature_is_a_candidate_whatever_the_queue():
    """Catches rows beyond the queue's size, which were compared with other images only."""
    method = make(queue_size=2).eval()
    x = images()
    assert torch.equal(method.newest(method.target(x)), method.target(x))
    method.loss(x)
    with torch.no_grad():
        method.update()
    assert torch.equal(method.queue, method.target(x)[:2])


def test_mse_is_the_squared_distance_of_unit_features():
    method = make(objective="mse").eval()
    x = images()
    pairs = zip(method.head(method.encoder(x)), method.teacher(x), strict=True)
    expected = sum(float(((unit(a) - unit(b)) ** 2).sum()) for a, b in pairs) / 6
    assert method.loss(x).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("objective", ["queue", "mse"])
def test_the_teacher_stays_as_it_is(objective):
    """Catches BatchNorm of the teacher in train mode, and a teacher that is optimized."""
    method = make(objective=objective).train()
    assert method.encoder.training
    assert not any(module.training for module in method.teacher.modules())
    before = {k: v.clone() for k, v in method.teacher.state_dict().items()}
    optimizer = torch.optim.AdamW(method.parameters(), 1e-2, weight_decay=0.5)
    method.loss(images()).backward()
    optimizer.step()
    assert all(torch.equal(before[k], v) for k, v in method.teacher.state_dict().items())


def test_both_see_the_same_mixture():
    """Catches an augmentation of its own for each, and shares outside of [0, 1]."""
    x = images(50)
    batch = Batch(x, torch.arange(50))
    still = make(augment=nn.Identity(), mixup=False)
    assert torch.equal(still.views(batch), x)
    mixed = make(augment=nn.Identity()).views(batch)
    assert mixed.min() >= 0
    assert mixed.max() <= 1
    assert (mixed != x).flatten(1).any(1).float().mean() > 0.9
    seen = []
    method = make()
    for network in (method.encoder, method.teacher):
        network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method.loss(method.views(batch))
    assert torch.equal(*seen)


def test_a_teacher_gets_images_of_its_own_size_and_channels():
    """Catches images cut or given as they are."""
    network = nn.Flatten()
    x = torch.rand(2, 3, 8, 8)
    assert AtOwnSize(network, 1, (4, 4), 16)(x).shape == (2, 16)
    assert AtOwnSize(network, 3, (4, 4), 48)(x[:, :1]).shape == (2, 48)
    assert torch.equal(AtOwnSize(network, 3, (8, 8), 192)(x), network(x))
    flat = AtOwnSize(network, 1, (2, 2), 4)(torch.full((1, 1, 8, 8), 0.3))
    torch.testing.assert_close(flat, torch.full((1, 4), 0.3))


def test_a_student_needs_a_teacher():
    with pytest.raises(UserError, match="give --teacher RUN"):
        ul.train("distill", np.zeros((32, 16, 16), np.uint8), **SHORT)


@pytest.mark.parametrize("as_run", [False, True])
def test_a_run_teaches(as_run, tmp_path, monkeypatch):
    """Catches a teacher with random weights, and a run that cannot be resumed or reopened."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (64, 16, 16), np.uint8)
    options = SHORT | {"encoder": "small", "encoder_args": {"width": 2}}
    first = ul.train("simclr", x, out="first", **options)
    teacher = first if as_run else "first"
    run = ul.train("distill", x, teacher=teacher, queue_size=20, out="second", **options)
    assert run.config["method_args"]["teacher"] == "first"
    taught = run.method.teacher(torch.from_numpy(x[:, None] / np.float32(255)))
    np.testing.assert_allclose(taught.detach(), first.embed(x), atol=1e-4)
    again = ul.train(
        "distill", x, teacher=teacher, queue_size=20, out="second", resume=True, **options
    )
    assert again.config["method_args"] == run.config["method_args"]
