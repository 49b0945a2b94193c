"""The contract that every method keeps, by being in its folder; nothing here names one."""

import copy
import inspect

import pytest
import torch

from unlabeled import registry
from unlabeled.augmentations import RandomAffine
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.base import build

METHODS = [
    name
    for name in sorted(registry.listing("methods"))
    if inspect.isclass(registry.find("methods", name))
]


@pytest.fixture(params=METHODS)
def cls(request) -> type[Method]:
    return registry.find("methods", request.param)


@pytest.fixture
def method(cls) -> Method:
    return made(cls)


def made(cls, network: str | None = None, **network_options) -> Method:
    """The method on its own encoder, narrow, or on another one."""
    torch.manual_seed(0)
    channels, size = 3 if cls.needs_color else 1, size_of(cls)
    arguments = {"classes": 3, "augment": RandomAffine(), "shape": (channels, *size)}
    arguments |= {"partner_shape": (2, 8), "vocabulary": 300}
    accepted = inspect.signature(cls).parameters
    chosen = {k: v for k, v in arguments.items() if k in accepted}
    options = cls.encoder_args | ({"width": 4} if cls.network in ("small", "patches") else {})
    if cls.reads in ("words", "sentences"):
        options |= {"vocabulary": 300, "width": 32, "layers": 2}
    if network:
        options = cls.encoder_args | network_options
    return cls(build(network or cls.network, channels, size, **options), **chosen)


def size_of(cls) -> tuple[int, int]:
    return (4, 12) if cls.reads in ("words", "sentences") else (32, 32)


def a_batch(method: Method, n: int = 12) -> Batch:
    g = torch.Generator().manual_seed(1)
    if method.reads in ("words", "sentences"):
        x = torch.randint(5, 300, (n, 1, *size_of(method)), generator=g) / 65_535
        return Batch(x, torch.arange(n))
    x = (torch.rand(n, 3 if method.needs_color else 1, 32, 32, generator=g) > 0.7).float()
    y = torch.arange(n) % 3 if method.supervised else None
    if method.reads == "pairs":
        y = torch.randint(5, 300, (n, 2, 8), generator=g)
    if y is not None and method.recipe.labeled_fraction:
        y[::2] = -1
    return Batch(x, torch.arange(n), y)


def optimizers_of(method: Method) -> dict[str, torch.optim.Optimizer]:
    return {
        player: torch.optim.Adam(method.get_submodule(player).parameters(), 3e-3)
        for player in method.optimized_modules
    }


def state_without_norms(method: Method) -> dict[str, torch.Tensor]:
    """Everything but BatchNorm's running statistics, which a forward pass may change."""
    running = ("running_mean", "running_var", "num_batches_tracked")
    return {k: v.clone() for k, v in method.state_dict().items() if not k.endswith(running)}


def test_arguments_are_the_configuration(cls):
    """Keyword-only, annotated, with a default and a line of help: flags come from them."""
    first, *others = inspect.signature(cls).parameters.values()
    assert first.name == "encoder"
    documented = inspect.getdoc(cls)
    for parameter in others:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.annotation is not inspect.Parameter.empty
        assert parameter.default is not inspect.Parameter.empty
        assert f"{parameter.name}:" in documented
    assert isinstance(cls.recipe, Recipe)


def test_views_are_random_and_touch_no_state(method):
    batch, before = a_batch(method), method.state_dict()
    if method.reads == "images":  # gray, so that drawing black or white is random
        batch = batch._replace(x=0.1 + 0.8 * batch.x)
    before = {k: v.clone() for k, v in before.items()}
    x = batch.x.clone()
    drawn = [method.views(batch) for _ in range(2)]
    assert str(drawn[0]) != str(drawn[1])
    assert torch.equal(batch.x, x)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


def test_loss_is_a_finite_scalar_and_pure(method):
    views = method.views(a_batch(method))
    before = state_without_norms(method)
    losses = []
    for _ in range(2):
        torch.manual_seed(5)
        losses.append(method.loss(views))
    assert losses[0].shape == ()
    assert torch.isfinite(losses[0])
    assert torch.equal(losses[0], losses[1])
    after = state_without_norms(method)
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_the_encoder_moves(method):
    """By gradient, or by following what the gradient moves."""
    before = copy.deepcopy(list(method.encoder.parameters()))
    optimizers = optimizers_of(method)
    for player, loss in method.optimizer_steps(method.views(a_batch(method))):
        loss.backward()
        optimizers[player].step()
    with torch.no_grad():
        method.update()
    moved = zip(before, method.encoder.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)


@pytest.mark.parametrize("network", [None, "vit"])  # vit's summary has weights of its own
def test_all_that_shapes_the_features_learns(cls, network):
    """Every parameter on the way to `encoder(x)` moves, not some: what is embedded was trained.

    Fails for a method that trains a map or tokens, but not what makes the features of them.
    """
    if network and cls.network != "small":
        pytest.skip("it has an encoder of its own kind")
    method = made(cls, network, **({"width": 24, "depth": 2} if network else {}))
    batch = a_batch(method)
    resting = features_come_from(method.encoder, batch.x)
    assert resting
    before = {name: p.clone() for name, p in method.encoder.named_parameters()}
    optimizers = optimizers_of(method)
    for _ in range(4):  # what lies before weights that start at 0 moves after those
        for player, loss in method.optimizer_steps(method.views(batch)):
            optimizers[player].zero_grad()
            loss.backward()
            optimizers[player].step()
        with torch.no_grad():
            method.update()
        after = dict(method.encoder.named_parameters())
        resting = [name for name in resting if torch.equal(after[name], before[name])]
        if not resting:
            break
    assert resting == []


def features_come_from(encoder: torch.nn.Module, x: torch.Tensor) -> list[str]:
    """Names of the parameters that the features of x depend on."""
    encoder = copy.deepcopy(encoder).requires_grad_(True)
    z = encoder(x)
    g = torch.Generator().manual_seed(2)
    (z * torch.randn(z.shape, generator=g)).sum().backward()
    found = encoder.named_parameters()
    return [name for name, p in found if p.grad is not None and p.grad.abs().max() > 1e-6]


def test_players_exist_and_take_turns(method):
    optimized_modules = {
        player for player, _ in method.optimizer_steps(method.views(a_batch(method)))
    }
    assert optimized_modules == set(method.optimized_modules)
    for player in method.optimized_modules:
        assert any(p.requires_grad for p in method.get_submodule(player).parameters())


def test_it_learns_on_fixed_views(method):
    """The loss of the same views falls over twenty steps, what `update` keeps being withheld.

    Of several optimized modules only the first is stepped: against a rising adversary no loss
    has to fall.
    """
    views = method.views(a_batch(method, 24))
    optimizers = optimizers_of(method)
    first = method.loss(views).item()
    for _ in range(20):
        player, loss = next(iter(method.optimizer_steps(views)))
        optimizers[player].zero_grad()
        loss.backward()
        optimizers[player].step()
    assert method.loss(views).item() < first


def test_state_survives_a_round_trip(method):
    views = method.views(a_batch(method))
    method.loss(views)
    with torch.no_grad():
        method.update()
    other = copy.deepcopy(method)
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict(method.state_dict())
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in method.state_dict().items())
