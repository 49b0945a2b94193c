"""What is handed over comes back as it was: modules, modes, arrays, generators, settings."""

import copy
import os
import random
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import unlabeled as ul
from unlabeled.core import Batch, Method
from unlabeled.data.dataset import Samples, Splits
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.errors import Stopped, UserError
from unlabeled.evaluation.finetune import finetune
from unlabeled.evaluation.sampling import sample, texts
from unlabeled.methods.simclr import SimCLR
from unlabeled.report.explore import explore
from unlabeled.runs.export import export
from unlabeled.training.drawings import view_sheet, visualizations
from unlabeled.training.history import _features
from unlabeled.training.local import Local, alone
from unlabeled.training.prepare import prepare
from unlabeled.training.train import plan, reopen
from unlabeled.utils.state import eval_mode

FAST = {"epochs": 1, "batch_size": 32, "progress": False, "logger": "none"}
X = np.random.default_rng(0).random((64, 1, 16, 16), np.float32)
Y = np.arange(64) % 4


class Net(nn.Module):
    """A user's own: its middle is deliberately in eval mode, its last layer takes no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Dropout(0.5))
        self.last = nn.Conv2d(8, 8, 1).requires_grad_(False)
        self.middle.eval()

    def forward(self, x):
        return self.last(self.middle(self.first(x))).mean((2, 3))


def state_of(module):
    """All that can be changed in a module: weights, buffers, modes, gradients, attributes."""
    return (
        {k: v.clone() for k, v in module.state_dict().items()},
        [m.training for m in module.modules()],
        [(p.requires_grad, p.grad is None) for p in module.parameters()],
        [sorted(vars(m)) for m in module.modules()],
    )


def assert_same_state(before, after):
    assert before[0].keys() == after[0].keys()
    for key, value in before[0].items():
        torch.testing.assert_close(after[0][key], value, rtol=0, atol=0)
    assert before[1:] == after[1:]


@pytest.mark.parametrize("method", ["simclr", "byol", "dino", "vae", "gan", "masked_autoencoder"])
def test_a_returned_run_is_in_eval_mode(method, tmp_path):
    """Catches a mode that is put back too high: drawing the report left the encoder in train."""
    encoder = {"masked_autoencoder": "patches"}.get(method)
    run = ul.train(method, X, encoder=encoder, out=tmp_path / "run", **FAST)
    assert not any(m.training for m in [*run.encoder.modules(), *run.method.modules()])
    assert all(p.requires_grad for p in run.encoder.parameters())
    before, features = state_of(run.encoder), run.embed(X)
    run.encoder(torch.from_numpy(X)).sum()  # moves a BatchNorm that is in train mode
    assert_same_state(before, state_of(run.encoder))
    stored = load_file(run.path / "encoder.safetensors")
    exported = load_file(export(run, "safetensors", tmp_path / "e.safetensors"))
    for key, value in run.encoder.state_dict().items():
        assert torch.equal(value, stored[key])
        assert torch.equal(value, exported[key])
    np.testing.assert_array_equal(run.embed(X), features)
    np.testing.assert_allclose(ul.load(run.path).embed(X), features, atol=1e-6)


def test_each_submodule_gets_its_own_mode_back():
    """Catches `module.train(module.training)`, which wakes layers that were frozen in eval."""
    method = SimCLR(build("small", 1, (16, 16)))
    method.encoder.stages[1].eval()
    method.head.eval()
    splits = Splits("x", Samples(X), Samples(X[:0]))
    x = torch.from_numpy(X)
    before = state_of(method)
    assert len(set(before[1])) == 2
    view_sheet(method, splits)
    visualizations(method, splits)
    embed(method.encoder, X)
    _features(method.encoder, x)
    alone(method.encoder, (1, 16, 16))
    for refused in (lambda: embed(method, X), lambda: method.encoder(x[:, :, :1, :0])):
        with eval_mode(method), pytest.raises((RuntimeError, NotImplementedError)):
            refused()  # after an error, too
    assert_same_state(before, state_of(method))


class Drawing(Method):
    """Draws with a layer that stays in eval mode, and fails when asked to."""

    fails = False

    def __init__(self, encoder):
        super().__init__(encoder)
        self.norm = nn.BatchNorm2d(1).eval()

    def visualize(self, x):
        assert not any(m.training for m in self.modules())
        if self.fails:
            raise ArithmeticError
        return {"drawn": self.norm(x)[:, None]}


@pytest.mark.parametrize("fails", [False, True])
def test_drawing_leaves_a_frozen_layer_frozen(fails):
    """Catches the report's own way back to train mode, and one that an error skips."""
    method = Drawing(build("small", 1, (16, 16)))
    method.fails = fails
    before = state_of(method)
    try:
        visualizations(method, Splits("x", Samples(X), Samples(X[:0])))
    except ArithmeticError:
        assert fails
    assert_same_state(before, state_of(method))


def test_a_users_module_is_copied(tmp_path):
    """Catches training in place, and two runs that share one network."""
    net = Net()
    before = state_of(net)
    first = ul.train("simclr", X, encoder=net, out=tmp_path / "a", **FAST)
    assert_same_state(before, state_of(net))
    features = first.embed(X)
    second = ul.train("simclr", X, encoder=net, out=tmp_path / "b", seed=1, **FAST)
    assert_same_state(before, state_of(net))
    np.testing.assert_array_equal(first.embed(X), features)
    assert not np.allclose(second.embed(X), features)
    again = ul.train("simclr", X, encoder=net, out=tmp_path / "c", **FAST)
    np.testing.assert_array_equal(again.embed(X), features)  # begins with the same weights
    for run in (first, second):
        opened = ul.load(run.path, net)
        np.testing.assert_allclose(opened.embed(X), run.embed(X), atol=1e-6)
        assert opened.encoder is not net
    assert_same_state(before, state_of(net))
    tuned, _ = finetune(first, (X, Y), out=tmp_path / "tuned", epochs=1, progress=False)
    np.testing.assert_array_equal(first.embed(X), features)
    assert tuned.encoder is not first.encoder


def test_frozen_layers_stay_frozen_and_a_net_at_rest_is_woken(tmp_path):
    """Catches a copy that loses the user's frozen layers, and one that trains in eval mode."""
    net = Net()
    run = ul.train("simclr", X, encoder=net, out=tmp_path / "a", **FAST)
    assert torch.equal(run.encoder.middle[1].running_mean, net.middle[1].running_mean)
    assert torch.equal(run.encoder.last.weight, net.last.weight)
    assert not torch.equal(run.encoder.first[1].running_mean, net.first[1].running_mean)
    net.eval()  # as pretrained networks are handed out
    run = ul.train("simclr", X, encoder=net, out=tmp_path / "b", **FAST)
    assert not torch.equal(run.encoder.middle[1].running_mean, net.middle[1].running_mean)
    assert not any(m.training for m in net.modules())


def test_whatever_makes_the_encoder_hands_out_a_copy(tmp_path):
    """Catches a function that returns the same module each time, and a class's own instance."""
    net = Net()
    before = state_of(net)
    runs = [
        ul.train("simclr", X, encoder=make, out=tmp_path / name, seed=seed, **FAST)
        for name, make, seed in (("a", lambda: net, 0), ("b", lambda: net, 1), ("c", Net, 0))
    ]
    assert_same_state(before, state_of(net))
    weights = {id(p) for p in net.parameters()}
    for run in runs:
        assert not weights & {id(p) for p in run.encoder.parameters()}
        weights |= {id(p) for p in run.encoder.parameters()}


def test_by_stages_and_from_a_run_nothing_is_shared(tmp_path):
    """Catches `local` and `start` that train what they were handed."""
    net = build("small", 1, (16, 16))
    before = state_of(net)
    run = ul.train("vae", X, encoder=net, out=tmp_path / "a", **FAST)
    local = ul.train("simclr", X, encoder=net, local=True, out=tmp_path / "b", **FAST)
    assert isinstance(local.method, Local)
    assert_same_state(before, state_of(net))
    before = state_of(run.encoder)
    begun = ul.train("simclr", X, init=run, out=tmp_path / "c", **FAST)
    assert_same_state(before, state_of(run.encoder))
    assert not {id(p) for p in begun.encoder.parameters()} & {
        id(p) for p in run.encoder.parameters()
    }


def test_the_estimator_leaves_its_module_alone():
    """Catches a fit that trains the parameter it was constructed with."""
    net = Net()
    before = state_of(net)
    options = FAST | {"epochs": None}
    learner = ul.SelfSupervised("simclr", net, epochs=1, **{k: options[k] for k in ("batch_size",)})
    first = learner.set_params(progress=False, logger="none").fit(X).transform(X)
    assert learner.encoder is net
    assert_same_state(before, state_of(net))
    np.testing.assert_array_equal(learner.fit(X).transform(X), first)


@pytest.mark.parametrize("kind", ["float32", "tensor uint8"])
def test_arrays_and_settings_are_not_changed(kind, tmp_path):
    """Catches views that write into the user's array, and options that are popped."""
    x = X.copy() if "uint8" not in kind else (255 * X).astype(np.uint8)
    x = torch.from_numpy(x) if "tensor" in kind else x
    y = Y.copy()
    options = {
        "encoder_args": {"width": 4},
        "trainer": {"callbacks": [], "max_time": "00:01:00:00"},
    }
    before = copy.deepcopy((x, y, options))
    for method in ("denoising_autoencoder", "supervised"):
        run = ul.train(method, (x, y), out=tmp_path / method, **options, **FAST)
    run.embed(x)
    torch.testing.assert_close(torch.as_tensor(x), torch.as_tensor(before[0]), rtol=0, atol=0)
    np.testing.assert_array_equal(y, before[1])
    assert options == before[2]


def a_uncopied_net():
    net = nn.Sequential(nn.Flatten(), nn.Linear(256, 8))
    net.held = net[1].weight * 1.0  # no leaf, as old weight normalization has it
    return net


def test_a_module_that_cannot_be_copied_is_refused(tmp_path):
    """Catches a traceback of deepcopy."""
    with pytest.raises(UserError, match=r"Sequential cannot be copied .* give a class"):
        ul.train("simclr", X, encoder=a_uncopied_net(), out=tmp_path / "run", **FAST)
    assert not (tmp_path / "run").exists()


def settings():
    """All that a call could leave changed in the process."""
    cudnn = torch.backends.cudnn
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": str(np.random.get_state()),
        "python": random.getstate(),
        "environment": {
            k: v for k, v in os.environ.items() if k.startswith(("PL_", "CUBLAS", "OMP", "PYTHON"))
        },
        "threads": torch.get_num_threads(),
        "products": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": (cudnn.benchmark, cudnn.deterministic),
        "filters": list(warnings.filters),
        "gradients": torch.is_grad_enabled(),
        "type": torch.get_default_dtype(),
    }


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A short run with labels."""
    return ul.train("simclr", (X, Y), out=tmp_path_factory.mktemp("short") / "run", **FAST)


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    """A short run that can be sampled."""
    return ul.train("vae", X, out=tmp_path_factory.mktemp("maker") / "run", **FAST)


CALLS = {
    "train": lambda run, out: ul.train("byol", X, out=out, **FAST),
    "train, exactly": lambda run, out: ul.train(
        "vae", X, out=out, trainer={"deterministic": True, "benchmark": True}, **FAST
    ),
    "plan": lambda run, out: plan("simclr", X, **FAST),
    "evaluate": lambda run, out: ul.evaluate(run, (X, Y)),
    "embed": lambda run, out: run.embed(X),
    "load": lambda run, out: ul.load(run.path),
    "reopen": lambda run, out: reopen(run),
    "explore": lambda run, out: explore(run, X, out.with_suffix(".html"), layout="pca"),
    "finetune": lambda run, out: finetune(run, (X, Y), out=out, epochs=1, progress=False),
    "export": lambda run, out: export(run, "torchscript", out.with_suffix(".pt")),
    "estimator": lambda run, out: ul.SelfSupervised("simclr", epochs=1, progress=False).fit(X),
}


@pytest.mark.parametrize("call", CALLS)
def test_generators_and_settings_are_left_as_they_were(call, short, tmp_path):
    """Catches a seed, a draw or a flag of Lightning that outlives the call."""
    before = settings()
    CALLS[call](short, tmp_path / "run")
    assert settings() == before


def test_sampling_leaves_the_generators_alone(maker, tmp_path):
    """Catches a reopened method whose random weights are drawn from the user's generator."""
    before = settings()
    assert texts(maker, 2) is None
    sample(maker, 2, tmp_path / "samples")
    assert settings() == before


def test_generators_are_left_alone_by_what_fails_and_what_is_stopped(tmp_path, monkeypatch):
    """Catches a way back that only success takes."""

    def acting(error):
        def loss(self, views):
            np.random.random()
            random.random()
            raise error

        return loss

    for i, error in enumerate((ArithmeticError("x"), Stopped("x"), UserError("x"))):
        before = settings()
        with monkeypatch.context() as patch:
            patch.setattr(SimCLR, "loss", acting(error))
            options = FAST | {"out": tmp_path / str(i), "trainer": {"deterministic": True}}
            with pytest.raises(type(error)):
                ul.train("simclr", X, **options)
        assert settings() == before
    with pytest.raises(UserError):
        ul.train("simclr", X, out=tmp_path / "y", epochs=0)
    assert settings() == before


def test_results_do_not_hang_on_the_generators_outside(tmp_path):
    """Catches weights, baselines or a fresh start drawn before the seed is set."""
    result = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        run = ul.train("simclr", (X, Y), encoder=Net, out=tmp_path / f"a{seed}", **FAST)
        _, figures = finetune(run, (X, Y), out=tmp_path / f"b{seed}", epochs=1, progress=False)
        scratch = load_file(tmp_path / f"b{seed}" / "scratch" / "encoder.safetensors")
        result.append((run.embed(X).tobytes(), figures["scratch"], sorted_bytes(scratch)))
    assert result[0] == result[1]


def sorted_bytes(weights):
    return [weights[key].numpy().tobytes() for key in sorted(weights)]


def test_views_are_drawn_the_same_and_then_forgotten():
    """Catches an image of views that depends on the generator, or moves it."""
    job = prepare("simclr", X)
    before = settings()
    drawn = view_sheet(job.method, job.splits)
    assert settings() == before
    torch.rand(1)
    assert view_sheet(job.method, job.splits) == drawn
    views = job.method.views(Batch(torch.from_numpy(X[:4]), torch.arange(4)))
    assert len(views) == 2
