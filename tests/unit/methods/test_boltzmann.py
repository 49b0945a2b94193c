"""Machines of binary units against sums over all their states."""

import itertools
import json
import math

import numpy as np
import pytest
import torch

import unlabeled as ul
from unlabeled.cli.main import main
from unlabeled.data.dataset import Samples, Splits
from unlabeled.encoders.base import build
from unlabeled.errors import UserError
from unlabeled.methods.helmholtz import Helmholtz
from unlabeled.methods.rbm import RBM
from unlabeled.pipelines.deep_belief_net import bound, deep_belief_net

SHAPE = (1, 2, 3)


def states(n):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n)))


def machine(units=4, scale=1.0, **options):
    torch.manual_seed(0)
    rbm = RBM(build("dense", 1, (2, 3), widths=(units,)), shape=SHAPE, **options)
    for parameter in rbm.parameters():
        torch.nn.init.normal_(parameter, std=scale)
    return rbm


def energy(rbm, v, h):
    """−hᵀWv − aᵀv − bᵀh of all pairs, (V, H)."""
    w, b = rbm.hidden.weight, rbm.hidden.bias
    return -(v @ w.T @ h.T) - (v @ rbm.visible_bias)[:, None] - (h @ b)[None]


def exact_log_partition(rbm):
    v, h = states(6), states(rbm.hidden.out_features)
    return (-energy(rbm, v, h)).flatten().logsumexp(0).item()


def test_free_energy_sums_over_hidden_units():
    rbm = machine()
    v = states(6)
    expected = -(-energy(rbm, v, states(4))).logsumexp(1)
    torch.testing.assert_close(rbm.free_energy(v), expected)


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_annealed_importance_sampling_finds_the_partition_function(scale):
    rbm = machine(scale=scale)
    torch.manual_seed(1)
    assert rbm.log_partition(500, 500) == pytest.approx(exact_log_partition(rbm), abs=0.05)


def test_gibbs_sampling_leaves_the_distribution_as_it_is():
    rbm = machine(scale=0.7)
    torch.manual_seed(2)
    v = torch.bernoulli(torch.full((40_000, 6), 0.5))
    v = rbm.gibbs(v, 60)
    code = (v @ (2.0 ** torch.arange(5, -1, -1))).long()
    result = torch.bincount(code, minlength=64) / len(v)
    expected = (-rbm.free_energy(states(6)) - exact_log_partition(rbm)).exp()
    assert (result - expected).abs().max() < 0.01


def test_the_gradient_is_that_of_contrastive_divergence():
    """⟨h vᵀ⟩ of what was made, less that of the images."""
    rbm = machine()
    v = torch.bernoulli(torch.full((50, 6), 0.5))
    rbm.loss(v).backward()
    created = rbm.samples

    def together(v):
        return torch.einsum("bh,bv->hv", rbm.hidden(v).sigmoid(), v) / len(v)

    torch.testing.assert_close(rbm.hidden.weight.grad, together(created) - together(v))
    torch.testing.assert_close(rbm.visible_bias.grad, created.mean(0) - v.mean(0))


def test_chains_go_on():
    rbm = machine(persistent_chains=20)
    before = rbm.chains.clone()
    rbm.loss(torch.zeros(8, 6))
    assert torch.equal(rbm.chains, before)
    rbm.update()
    assert torch.equal(rbm.chains, rbm.samples)
    assert rbm.samples.shape == (20, 6)


def test_one_layer_only():
    with pytest.raises(UserError, match="one layer"):
        RBM(build("dense", 1, (2, 3), widths=(4, 3)), shape=SHAPE)
    with pytest.raises(UserError, match="dense"):
        Helmholtz(build("small", 1, (16, 16)), shape=(1, 16, 16))


def sleeper(widths=(4, 3)):
    torch.manual_seed(0)
    result = Helmholtz(build("dense", 1, (2, 3), widths=widths), shape=SHAPE)
    for parameter in result.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return result


def exact_log_likelihood(net, v):
    """log Σ_h p(v, h) over all causes."""
    layers = list(itertools.product(states(4), states(3)))
    h1, h2 = (torch.stack(part) for part in zip(*layers, strict=True))
    each = [net.log_generative([row.expand(len(h1), -1), h1, h2]).logsumexp(0) for row in v]
    return torch.stack(each)


def test_the_generative_net_is_a_distribution():
    total = exact_log_likelihood(sleeper(), states(6)).logsumexp(0)
    assert total.item() == pytest.approx(0, abs=1e-4)


def test_the_bound_is_below_the_likelihood():
    net = sleeper()
    v = states(6)[10:30]
    torch.manual_seed(1)
    below = net.bound(v, draws=2000)
    assert (below < exact_log_likelihood(net, v) + 0.02).all()


def test_dreams_have_the_generative_distribution():
    net = sleeper()
    torch.manual_seed(3)
    v = net.generate(40_000)[0]
    code = (v @ (2.0 ** torch.arange(5, -1, -1))).long()
    result = torch.bincount(code, minlength=64) / len(v)
    assert (result - exact_log_likelihood(net, states(6)).exp()).abs().max() < 0.01


def test_wake_and_sleep_are_delta_rules():
    """(what happened − what was expected) times what it was expected from, for both nets."""
    net = sleeper(widths=(4,))
    v = torch.bernoulli(torch.full((30, 6), 0.5))
    torch.manual_seed(4)
    net.loss(v).backward()
    torch.manual_seed(4)
    awake, asleep = net.recognize(v), net.generate(30)
    expected = net.generative[0](awake[1]).sigmoid()
    torch.testing.assert_close(net.generative[0].weight.grad, (expected - v).T @ awake[1] / 30)
    expected = net.recognition[0](asleep[0]).sigmoid()
    torch.testing.assert_close(
        net.recognition[0].weight.grad, (expected - asleep[1]).T @ asleep[0] / 30
    )


@pytest.fixture
def digits():
    from sklearn.datasets import load_digits

    return (load_digits().images[:400] * 15.9).astype(np.uint8)


@pytest.mark.parametrize("name", ["rbm", "helmholtz"])
def test_it_trains_by_name(name, digits, tmp_path):
    run = ul.train(
        name, digits, epochs=1, batch_size=50, out=tmp_path / "run", progress=False, logger="none"
    )
    assert run.config["encoder"] == "dense"
    again = ul.load(run.path)
    np.testing.assert_array_equal(again.embed(digits[:5]), run.embed(digits[:5]))


def test_a_belief_net_is_stacked(digits, tmp_path):
    """The net is its machines one above the other; its bound is of the exact kind for one layer."""
    options = {"widths": (30, 10), "epochs": 2, "progress": False, "out": tmp_path / "dbn"}
    run = deep_belief_net(digits, **options)
    z = ul.load(run.path).embed(digits)
    assert z.shape == (400, 10)
    first = ul.load(tmp_path / "dbn" / "layer1").embed(digits)
    second = ul.load(tmp_path / "dbn" / "layer2")
    assert second.size == (1, 30)
    rounded = (255 * first).round().astype(np.uint8)[:, None, None]
    np.testing.assert_allclose(second.embed(rounded), z, atol=0.02)
    figures = json.loads((tmp_path / "dbn" / "deep_belief_net.json").read_text())
    assert figures["bound_with_1"] < 0
    assert math.isfinite(figures["bound_with_2"])
    again = deep_belief_net(digits, resume=True, **options)
    np.testing.assert_array_equal(again.embed(digits), z)


def test_the_bound_is_of_pixels_by_their_brightness():
    """Catches images in bytes all of whose pixels but the black ones are taken for white."""
    rbm = machine()
    x = torch.randint(0, 256, (50, *SHAPE), dtype=torch.uint8)
    bounds = []
    for images in (x, x.float() / 255):
        torch.manual_seed(5)
        bounds.append(bound([rbm], Splits("x", Samples(images.numpy()), Samples(images.numpy()))))
    assert bounds[0] == pytest.approx(bounds[1])


def test_the_command_stacks_machines(digits, tmp_path, capsys):
    """Each layer a run folder; the flags are the function's own."""
    np.save(tmp_path / "digits.npy", digits)
    line = ["train", "deep_belief_net", "--data", str(tmp_path / "digits.npy"), "--epochs", "1"]
    assert main([*line, "--widths", "[12, 6]", "--out", str(tmp_path / "dbn")]) == 0
    output = capsys.readouterr().out
    assert "bound_with_2: -" in output
    assert ul.load(tmp_path / "dbn" / "net").dim == 6
