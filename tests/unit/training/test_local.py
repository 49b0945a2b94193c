"""Learning by stages: CLAPP's rule against autograd, no gradient across stages, every method."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import unlabeled as ul
from unlabeled import registry
from unlabeled.augmentations import RandomAffine
from unlabeled.core import Batch
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.errors import UserError
from unlabeled.methods.clapp import CLAPP
from unlabeled.methods.simclr import SimCLR
from unlabeled.objectives.local_rule import (
    PredictionStep,
    apical_signals,
    clapp_hinge,
    learn_from_reward,
    predict_class,
)
from unlabeled.training.local import Local, above, alone, saved_bytes


def images(n: int = 6, channels: int = 3, dtype=torch.float64) -> torch.Tensor:
    return torch.rand(n, channels, 32, 32, generator=torch.Generator().manual_seed(2)).to(dtype)


def clapp(rule: str, **options) -> CLAPP:
    torch.manual_seed(0)
    return CLAPP(build("patches", 3, (32, 32), width=4), rule=rule, **options).double()


def gradients(method: nn.Module, views: torch.Tensor) -> dict[str, torch.Tensor]:
    method.zero_grad()
    torch.manual_seed(7)
    method.loss(views).backward()
    return {name: p.grad.clone() for name, p in method.named_parameters()}


def test_the_hebbian_rule_is_autograds_gradient_in_every_layer():
    one, other = clapp("autograd"), clapp("hebbian")
    x = images()
    views = one.views(Batch(x, torch.arange(len(x))))
    wanted, result = gradients(one, views), gradients(other, views)
    assert len(wanted) == 2 * 4 + 2 * 4  # weight and bias of each stage, two steps of each
    for name, gradient in wanted.items():
        assert gradient.norm() > 0, name
        assert (result[name] - gradient).norm() / gradient.norm() < 1e-9, name
    for seed in range(3):
        torch.manual_seed(seed)
        wanted_value = one.loss(views)
        torch.manual_seed(seed)
        assert other.loss(views).item() == pytest.approx(wanted_value.item(), rel=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_rule_holds_for_both_signs(sign):
    """Where only the true pairs, or only the wrong ones, still have a slope."""
    g = torch.Generator().manual_seed(1)
    z = torch.randn(4, 5, 4, 3, dtype=torch.float64, generator=g).abs().requires_grad_()
    weight = -sign * torch.eye(5, dtype=torch.float64) * 5  # u far below 0, or far above
    weight.requires_grad_()
    steps = [PredictionStep(2, weight, 1)]
    loss = clapp_hinge(z, steps)
    dz, dw = torch.autograd.grad(loss, (z, weight))
    value, heard, (change,) = apical_signals(z.detach(), [PredictionStep(2, weight.detach(), 1)])
    assert value.item() == pytest.approx(loss.item())
    for wanted, result in ((-dz, heard), (-dw, change)):
        assert wanted.norm() > 0
        assert (result - wanted).norm() / wanted.norm() < 1e-9
    towards = (change * z.detach()[:, :, 2:].mean((0, 2, 3))).sum()
    assert (towards > 0) == (sign == 1)  # near pairs are drawn together, others pushed apart


def test_the_hinge_is_the_papers_by_a_naive_loop():
    g = torch.Generator().manual_seed(3)
    z = torch.randn(3, 4, 3, 2, generator=g)
    w = torch.randn(4, 4, generator=g)
    k, shift, costs = 1, 2, []
    for n in range(3):
        for r in range(3 - k):
            for s in range(2):
                c = z[n, :, r, s]
                for y, image in ((1, n), (-1, (n + shift) % 3)):
                    u = z[image, :, r + k, s] @ w @ c
                    costs.append(max(0.0, 1 - y * u.item()))
    assert clapp_hinge(z, [PredictionStep(k, w, shift)]).item() == pytest.approx(
        np.mean(costs), rel=1e-5
    )


def test_the_negative_is_never_the_image_itself():
    method = clapp("autograd")
    z = torch.zeros(2, 4, 7, 7)
    shifts = {s.shift for _ in range(50) for s in method.predictions(method.predictors[0], z)}
    assert shifts == {1}  # of two images, always the other one
    z = torch.zeros(6, 4, 7, 7)
    shifts = {s.shift for _ in range(200) for s in method.predictions(method.predictors[0], z)}
    assert shifts == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("rule", ["autograd", "hebbian"])
def test_no_gradient_crosses_a_stage(rule):
    """A later loss is perturbed: nothing below changes."""
    method = clapp(rule)
    x = images()
    views = method.views(Batch(x, torch.arange(len(x))))
    before = gradients(method, views)
    with torch.no_grad():
        for predict in method.predictors[3]:
            predict.weight.mul_(-3)
        method.encoder.stages[3].network[0].weight.mul_(2)
    after = gradients(method, views)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("encoder.stages.3", "predictors.3")) for name in changed)
    grads = torch.autograd.grad(
        method.losses(views)[-1], list(method.encoder.stages[0].parameters()), allow_unused=True
    )
    assert all(g is None for g in grads)


def test_a_rule_for_other_layers_is_refused():
    for encoder in (build("patches", 3, (32, 32), norm="layer"), build("wave", 1, (1, 4000))):
        with pytest.raises(UserError, match="convolution and ReLU only"):
            CLAPP(encoder, rule="hebbian")
    with pytest.raises(UserError, match="--encoder patches"):
        CLAPP(build("small", 3, (32, 32)))
    with pytest.raises(UserError, match="fewer --skip-steps"):
        CLAPP(build("patches", 3, (32, 32)), prediction_steps=2, skip_steps=2)
    method = CLAPP(build("patches", 3, (32, 32)))
    with pytest.raises(UserError, match="which holds 1; give a --batch-size of at least 2"):
        method.loss(method.views(Batch(torch.rand(1, 3, 32, 32), torch.arange(1))))
    few = CLAPP(build("patches", 3, (32, 32), patch=24))
    with pytest.raises(UserError, match="too few"):
        few.loss(few.views(Batch(images(dtype=torch.float32), torch.arange(6))))


def test_a_run_by_the_rule_is_a_run_by_autograd(tmp_path, sprites):
    """Nothing is propagated back, and the weights come out alike."""
    quick = {"epochs": 1, "batch_size": 50, "progress": False, "precision": "fp32"}
    quick |= {"encoder_args": {"width": 4}, "logger": "none", "size": 32}
    runs = [
        ul.train("clapp", sprites, out=tmp_path / rule, rule=rule, **quick)
        for rule in ("autograd", "hebbian")
    ]
    a, b = (run.embed(sprites[0][:200]) for run in runs)
    assert np.abs(a - b).max() < 2e-2 * a.std()
    untrained = build("patches", 1, (32, 32), width=4)
    assert not np.allclose(a, embed(untrained, sprites[0][:200, None, ::2, ::2]))


NAMES = [
    name
    for name in registry.listing("methods")
    if getattr(registry.find("methods", name), "by_stage", False)
]


def local(name: str) -> Local:
    torch.manual_seed(0)
    cls = registry.find("methods", name)
    options = {"classes": 3} if name == "supervised" else {}
    network = "patches" if name == "cpc" else "small"
    encoder = build(network, 1, (32, 32), width=4)
    return Local(encoder, lambda stage: cls(stage, **options), (1, 32, 32))


def test_those_asked_for_learn_by_stages():
    assert {"simclr", "vicreg", "byol", "cpc"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_stage_learns_from_its_own_loss_alone(name):
    method = local(name)
    x = images(12, 1, torch.float32)
    y = torch.arange(12) % 3 if method.supervised else None
    views = method.views(Batch(x, torch.arange(12), y))
    stages = method.encoder.stages
    assert len(method.optimized_modules) == len(stages) == 4
    for i, (module, loss) in enumerate(method.optimizer_steps(views)):
        assert module == f"learners.{i}"
        wanted = list(method.get_submodule(module).parameters())
        loss.backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in wanted)
        for j, stage in enumerate(stages):
            reached = any(p.grad is not None for p in stage.parameters())
            assert reached == (j <= i)
        remaining = [[p.grad.clone() for p in stage.parameters()] for stage in stages[:i]]
        for before, stage in zip(remaining, stages[:i], strict=True):
            assert all(
                torch.equal(g, p.grad) for g, p in zip(before, stage.parameters(), strict=True)
            )
    method.update()


def test_a_later_loss_changes_nothing_below():
    changes = []
    for factor in (1.0, 50.0):
        method = local("simclr")
        x = images(12, 1, torch.float32)
        torch.manual_seed(1)
        views = method.views(Batch(x, torch.arange(12)))
        for i, (module, loss) in enumerate(method.optimizer_steps(views)):
            (loss * (factor if i == 2 else 1)).backward()
            optimizer = torch.optim.SGD(method.get_submodule(module).parameters(), 0.1)
            optimizer.step()
        changes.append(
            [p.clone() for stage in method.encoder.stages[:2] for p in stage.parameters()]
        )
    assert all(torch.equal(a, b) for a, b in zip(*changes, strict=True))


def test_it_saves_memory():
    """What autograd keeps at once for a step is that of the greediest stage."""
    encoder = build("small", 1, (32, 32), width=8)
    x = images(16, 1, torch.float32)
    full = SimCLR(copy.deepcopy(encoder), augment=RandomAffine())
    views = full.views(Batch(x, torch.arange(16)))
    by_stage = Local(encoder, lambda stage: SimCLR(stage, augment=RandomAffine()), (1, 32, 32))
    assert saved_bytes(by_stage, views) < 0.8 * saved_bytes(full, views)


def test_stages_alone_are_the_encoders_own():
    for name, channels, size in (
        ("small", 3, (32, 32)),
        ("patches", 3, (32, 32)),
        ("wave", 1, (1, 3000)),
    ):
        encoder = build(name, channels, size, width=4)
        parts = alone(encoder, (channels, *size))
        assert [id(p) for part in parts for p in part.parameters()] == [
            id(p) for p in encoder.parameters()
        ]
        x = torch.rand(2, channels, *size)
        for part in parts:
            assert part(x).shape == (2, part.dim)
            x = above(part.stages[0], x)
    with pytest.raises(UserError, match="layers after its last stage"):
        alone(build("lenet", 1, (64, 64)), (1, 64, 64))
    with pytest.raises(UserError, match="has some"):
        alone(nn.Flatten(), (1, 8, 8))


def test_the_command_learns_by_stages(tmp_path, sprites):
    from unlabeled.cli.main import main
    from unlabeled.training.train import reopen

    np.savez(tmp_path / "x.npz", x=sprites[0][:64, ::4, ::4], y=sprites[1][:64])
    words = ["--data", str(tmp_path / "x.npz"), "--out", str(tmp_path / "run"), "--epochs", "1"]
    words += ["--batch-size", "32", "--logger", "none", "--local"]
    assert main(["train", "byol", *words]) == 0
    method = reopen(ul.load(tmp_path / "run"))
    assert isinstance(method, Local)
    assert main(["train", "rotation", *words[:2], "--out", str(tmp_path / "r"), "--local"]) == 2


def test_a_read_out_learns_from_reward():
    """It nears the best linear answer, and nothing of what it hears tells the right class."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 1500)
    z = rng.normal(size=(4, 12))[y] * 1.5 + rng.normal(size=(1500, 12))
    weight = learn_from_reward(z[:1000], y[:1000])
    right = (predict_class(z[1000:], weight) == y[1000:]).mean()
    assert right > 0.9
    shuffled = learn_from_reward(z[:1000], rng.permutation(y[:1000]))
    assert (predict_class(z[1000:], shuffled) == y[1000:]).mean() < 0.5
