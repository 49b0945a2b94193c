"""Learning rates by batch and optimizer, and what else an optimizer is told."""

import json
import re
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.core import Method, Recipe
from unlabeled.encoders.base import build
from unlabeled.errors import Notice, UserError
from unlabeled.training.optim import (
    LARS,
    Muon,
    learning_rate,
    make_optimizer,
    orthogonalize,
    scaled_rate,
    set_rates,
)
from unlabeled.training.prepare import prepare
from unlabeled.training.train import plan

SIMCLR = Recipe(optimizer="adamw", batch_size=256, lr=2e-3)
FAST = {"epochs": 1, "progress": False, "logger": "none", "encoder_args": {"width": 2}}


@pytest.mark.parametrize(
    ("options", "rate"),
    [
        ({}, 2e-3),  # the default's results stay
        ({"batch_size": 64}, 1e-3),
        ({"batch_size": 64, "lr_scaling": "linear"}, 5e-4),
        ({"batch_size": 64, "lr_scaling": "none"}, 2e-3),
        ({"optimizer": "adam", "batch_size": 1024}, 4e-3),
        ({"optimizer": "lars"}, 0.3),
        ({"optimizer": "lars", "batch_size": 4096}, 4.8),  # SimCLR's own
        ({"optimizer": "lars", "batch_size": 1024, "lr_scaling": "sqrt"}, 0.6),
    ],
)
def test_rates_follow_the_batch_and_the_optimizer(options, rate):
    """Catches one rate for every optimizer and every batch."""
    recipe = Recipe(**{"optimizer": "adamw", "batch_size": 256, **options})
    result, text = scaled_rate(recipe, (SIMCLR,), {"lars": 0.3}, "SimCLR")
    assert result == pytest.approx(rate)
    assert bool(text) == (rate != 2e-3)
    if options.get("batch_size") == 4096:
        assert text == "learning rate 4.8 = 0.3 × 4096/256, the paper's for lars"


def test_an_optimizer_without_a_known_rate_is_refused(tmp_path):
    """Catches LARS at 2e-3, which learns nothing, and a remedy that is no remedy."""
    x = np.random.default_rng(0).integers(0, 256, (32, 16, 16), np.uint8)
    with pytest.raises(
        UserError, match=r"of SimCLR is known for sgd, only for adam and lars; give"
    ):
        ul.train("simclr", x, out=tmp_path / "a", optimizer="sgd", **FAST)
    ul.train("simclr", x, out=tmp_path / "b", optimizer="sgd", lr=0.1, batch_size=16, **FAST)
    assert rate_of(tmp_path / "b") == 0.1
    ul.train("moco", x, out=tmp_path / "c", batch_size=16, queue_size=16, **FAST)
    assert rate_of(tmp_path / "c") == pytest.approx(0.06 * 16 / 256)
    assert "learning rate 0.00375 = 0.06 × 16/256" in plan("moco", x, batch_size=16)


def rate_of(folder) -> float:
    return json.loads((folder / "config.json").read_text())["recipe"]["lr"]


def test_the_command_says_which_rate_it_took(tmp_path, capsys, monkeypatch):
    """Catches a default of the parser that is taken for the user's wish, and a silent rate."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(0, 256, (32, 16, 16), np.uint8)
    np.save("x.npy", x)
    words = ["train", "simclr", "--data", "x.npy", "--epochs", "1", "--logger", "none"]
    words += ["--encoder_args", '{"width": 2}', "--precision", "fp32"]
    assert main([*words, "--out", "a", "--batch-size", "16"]) == 0
    assert (
        "learning rate 0.0005 = 0.002 × √(16/256), the default of SimCLR" in capsys.readouterr().err
    )
    assert rate_of(tmp_path / "a") == pytest.approx(5e-4)
    assert main([*words, "--out", "b", "--batch-size", "16", "--lr", "0.002"]) == 0
    assert rate_of(tmp_path / "b") == 0.002
    assert "learning rate" not in capsys.readouterr().err
    assert main([*words, "--out", "c"]) == 0
    assert rate_of(tmp_path / "c") == 0.002
    assert main(["train", "--config", "a/config.json", "--data", "x.npy", "--out", "d"]) == 0
    assert rate_of(tmp_path / "d") == pytest.approx(5e-4)


def test_schedules_have_warmup_and_an_end():
    """Catches warm-up as a fraction of other epochs, and a final rate relative to the peak."""
    recipe = Recipe(lr=2.0, epochs=20, warmup_epochs=5, final_lr=0.5)
    rates = [learning_rate(recipe, t) for t in (0, 0.125, 0.25, 0.625, 1)]
    assert rates == pytest.approx([0, 1, 2, 1.25, 0.5])
    cycle = Recipe(lr=2.0, epochs=20, warmup_epochs=5, final_lr=0.5, schedule="one_cycle")
    assert [learning_rate(cycle, t) for t in (0.25, 1)] == pytest.approx([2, 0.5])
    default = Recipe(lr=2.0)
    assert [learning_rate(default, t) for t in (0.05, 0.1, 1)] == pytest.approx([1, 2, 0])
    assert learning_rate(Recipe(lr=2.0, epochs=2, warmup_epochs=0), 0) == 2


class Two(Method):
    def __init__(self, encoder):
        super().__init__(encoder)
        self.predictor = nn.Linear(12, 2)


def rates(recipe, method) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter."""
    optimizer = make_optimizer(recipe, method)
    set_rates(recipe, optimizer, 1.0 if recipe.final_weight_decay else 0.5)
    names = {p: name for name, p in method.named_parameters()}
    return {
        names[p]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_parts_layers_and_biases_have_their_own_rates():
    """Catches a factor that is set once and then overwritten, and layers in reverse order."""
    method = Two(build("vit", 1, (16, 16), width=12, depth=2))
    base = Recipe(lr=1.0, schedule="constant", weight_decay=0.1)
    result = rates(base, method)
    assert set(result.values()) == {(1.0, 0.1), (1.0, 0.0)}
    assert set(result) == {name for name, _ in method.named_parameters()}
    options = {"lr_factors": {"predictor": 10.0, "biases": 0.5}, "layer_decay": 0.5}
    result = rates(Recipe(lr=1.0, schedule="constant", weight_decay=0.1, **options), method)
    assert result["predictor.weight"] == (10, 0.1)
    assert result["predictor.bias"] == (5, 0)
    assert [result[f"encoder.stages.{i}.{w}"][0] for i, w in (
        (0, "project.weight"), (1, "qkv.weight"), (2, "qkv.weight"), (2, "qkv.bias")
    )] == [0.125, 0.25, 0.5, 0.25]  # fmt: skip
    assert result["encoder.summary.out.weight"] == (1, 0.1)
    with pytest.raises(UserError, match=r"no part 'predicter'; did you mean predictor\?"):
        make_optimizer(Recipe(lr_factors={"predicter": 2.0}), method)
    with pytest.raises(UserError, match="layer_decay needs an encoder with stages"):
        make_optimizer(Recipe(layer_decay=0.5), Two(nn.Linear(3, 12)))


def test_weight_decay_rises_and_spares_biases():
    """Catches biases that decay by the schedule, and a schedule that is not at its end."""
    method = Two(nn.Linear(3, 12))
    recipe = Recipe(lr=1.0, schedule="constant", weight_decay=0.04, final_weight_decay=0.4)
    result = rates(recipe, method)
    assert result["predictor.weight"] == (1, pytest.approx(0.4))
    assert result["predictor.bias"] == (1, 0)
    result = rates(Recipe(lr=1.0, weight_decay=0.1, decay_biases=True), method)
    assert {decay for _, decay in result.values()} == {0.1}
    lars = make_optimizer(Recipe(optimizer="lars", decay_biases=True), method)
    assert isinstance(lars, LARS)
    assert all(group["adapt"] for group in lars.param_groups)


def test_optimizers_have_their_settings():
    """Catches a setting that is a flag and nothing else."""
    net = nn.Linear(2, 2)
    adam = make_optimizer(Recipe(beta1=0.8, beta2=0.95), net)
    assert adam.param_groups[0]["betas"] == (0.8, 0.95)
    sgd = make_optimizer(Recipe(optimizer="sgd", sgd_momentum=0.5, nesterov=True), net)
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["nesterov"]) == (0.5, True)
    assert (
        make_optimizer(Recipe(optimizer="lars", sgd_momentum=0.5), net).defaults["momentum"] == 0.5
    )


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has no Muon before 2.9")
@pytest.mark.parametrize("shape", [(8, 20), (20, 8)])
def test_muon_takes_the_steps_of_torch_on_matrices(shape):
    """Catches a wrong momentum, size of step, weight decay, or matrix that is not transposed."""
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), torch.randn(4, *shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    own = Muon([ours], lr=0.1, weight_decay=0.2)
    reference = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        own.step()
        reference.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved  # torch's iterations are in bf16


def test_muon_trains_biases_by_adam_and_kernels_as_matrices():
    """Catches biases without bias correction, and kernels whose axes are mixed."""
    torch.manual_seed(0)
    net, copy = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
    copy.load_state_dict(net.state_dict())
    own = make_optimizer(Recipe(optimizer="muon", lr=0.1, weight_decay=0.0), net)
    adam = torch.optim.Adam([copy.bias], lr=0.1)
    x = torch.randn(4, 3, 9, 9)
    for _ in range(3):
        before = net.weight.detach().clone()
        copy.weight.data.copy_(before)
        for module in (net, copy):
            module.zero_grad()
            module(x).pow(2).sum().backward()
        own.step()
        adam.step()
        step = (net.weight.detach() - before).flatten(1) / (0.1 * 0.2 * 27**0.5)
        values = torch.linalg.svdvals(step)
        assert values.median() > 0.6
        assert values.max() < 1.3
    torch.testing.assert_close(net.bias, copy.bias, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta2": 1.0}, r"beta2 is 1\.0, but must be at least 0 and below 1"),
        ({"warmup_epochs": -1.0}, r"warmup_epochs is -1\.0, but must be at least 0"),
        ({"final_weight_decay": float("nan")}, "final_weight_decay is nan"),
        ({"layer_decay": 0.0}, r"layer_decay is 0\.0, but must be above 0"),
        ({"nesterov": True}, "nesterov needs --optimizer sgd"),
        ({"lr_factors": {"projector": -1.0}}, r"lr_factors\.projector is -1\.0"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    """Catches a bad number that ends in torch's own error, or in none."""
    x = torch.zeros(8, 1, 16, 16)
    with pytest.raises(UserError, match=message):
        plan("simclr", x, **options)


@pytest.mark.parametrize(
    ("method", "options", "says"),
    [
        ("simclr", {"schedule": "constant", "warmup_epochs": 5}, "warmup_epochs has no effect"),
        (
            "simclr",
            {"schedule": "constant", "final_lr": 1e-5},
            "final_lr .* with schedule constant",
        ),
        ("simclr", {"optimizer": "lars", "beta2": 0.95}, "beta2 .* only with adam or adamw or"),
        ("simclr", {"sgd_momentum": 0.5}, "sgd_momentum .* with optimizer adamw"),
        ("simclr", {"labeled_fraction": 0.5}, "labeled_fraction has no effect on SimCLR"),
        ("simclr", {"optimizer": "lars", "sgd_momentum": 0.5}, ""),
        ("simclr", {"schedule": "constant", "optimizer": "lars"}, ""),
        ("moco", {"beta1": 0.9}, ""),
    ],
)
def test_settings_without_effect_are_named(method, options, says):
    """Catches a flag that is taken and ignored, and a warning about defaults."""
    x = torch.zeros(8, 1, 16, 16)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Notice)
        prepare(method, x, **options)
    messages = [str(w.message) for w in caught if "has no effect" in str(w.message)]
    assert len(messages) == bool(says)
    assert not says or re.search(says, messages[0])


def test_a_part_keeps_its_peak_rate():
    """SimSiam, section 4.2: the predictor's rate is not decayed. Catches a schedule for all."""
    recipe = Recipe(optimizer="sgd", lr=0.5, lr_factors={"1": 2.0}, constant_lr=["1"])
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    optimizer = make_optimizer(recipe, net)
    for progress in (0.5, 1.0):
        set_rates(recipe, optimizer, progress)
        rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        assert all(rates[id(p)] == 1.0 for p in net[1].parameters())
        assert all(rates[id(p)] < 0.4 for p in net[0].parameters())
    with pytest.raises(UserError, match="constant_lr has no part 'predictr'"):
        make_optimizer(Recipe(constant_lr=["predictr"]), net)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (5, 5), (84, 512)])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("autocast", [False, True])
def test_orthogonal_steps_are_those_of_the_paper(shape, spread, autocast):
    """Catches products in a wrong order, a missing iteration, and bf16 under autocast.

    One singular value is far above the others, as in the gradient of a decoder: with the Gram
    matrix in bf16 the result grows to 1e10, and a VAE diverges in its first epoch.
    """
    torch.manual_seed(0)
    matrix = torch.outer(torch.randn(shape[0]), torch.randn(shape[1])) + spread * torch.randn(shape)
    x = matrix.double() / matrix.double().norm()
    for _ in range(5):  # Jordan et al. 2024
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = orthogonalize(matrix)
    assert result.dtype == torch.float32
    assert (result.double() - x).norm() < 2e-3 * x.norm()
