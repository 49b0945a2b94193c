"""The contract that every method keeps, by being in its folder; nothing here names one.

A method of one's own is held to it by `UNLABELED_METHOD=./my_method.py:Mine pytest tests/contract`.
"""

import copy
import inspect
import os
import time

import contract
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from contract import batch_of, make, optimizers_of, step

from unlabeled import parallel
from unlabeled.core import Method, Recipe
from unlabeled.modality import Pairs, Text

ROWS, WORLD = 16, 2


@pytest.fixture(params=contract.names())
def cls(request) -> type[Method]:
    return contract.find(request.param)


@pytest.fixture
def method(cls) -> Method:
    return make(cls)


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
    batch, before = batch_of(method), method.state_dict()
    if not {Pairs, Text} & set(method.modality):  # gray, so that drawing black or white is random
        batch = batch._replace(x=0.1 + 0.8 * batch.x)
    before = {k: v.clone() for k, v in before.items()}
    x = batch.x.clone()
    drawn = [method.views(batch) for _ in range(2)]
    assert str(drawn[0]) != str(drawn[1])
    assert torch.equal(batch.x, x)
    assert all(torch.equal(v, before[k]) for k, v in method.state_dict().items())


def test_loss_is_a_finite_scalar_and_pure(method):
    views = method.views(batch_of(method))
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
    step(method, optimizers, batch_of(method))
    moved = zip(before, method.encoder.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in moved)


@pytest.mark.parametrize("network", [None, "vit"])  # vit's summary has weights of its own
def test_all_that_shapes_the_features_learns(cls, network):
    """Every parameter on the way to `encoder(x)` moves, not some: what is embedded was trained.

    Fails for a method that trains a map or tokens, but not what makes the features of them.
    """
    if network and cls.encoder_for(cls.modality[0]) != "small":
        pytest.skip("it has an encoder of its own kind")
    method = make(cls, network, **({"width": 24, "depth": 2} if network else {}))
    batch = batch_of(method)
    resting = features_come_from(method.encoder, batch.x)
    assert resting
    before = {name: p.clone() for name, p in method.encoder.named_parameters()}
    optimizers = optimizers_of(method)
    for _ in range(4):  # what lies before weights that start at 0 moves after those
        step(method, optimizers, batch)
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
    result = encoder.named_parameters()
    return [name for name, p in result if p.grad is not None and p.grad.abs().max() > 1e-6]


def test_every_optimized_module_is_stepped(method):
    stepped = {name for name, _ in method.optimizer_steps(method.views(batch_of(method)))}
    assert stepped == set(method.optimized_modules)
    for name in method.optimized_modules:
        assert any(p.requires_grad for p in method.get_submodule(name).parameters())


def test_it_learns_on_fixed_views(method):
    """The loss of the same views falls over twenty steps, what `update` keeps being withheld.

    Of several optimized modules only the first is stepped: against a rising adversary no loss
    has to fall.
    """
    views = method.views(batch_of(method, 24))
    optimizers = optimizers_of(method)
    first = method.loss(views).item()
    for _ in range(20):
        name, loss = next(iter(method.optimizer_steps(views)))
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()
    assert method.loss(views).item() < first


def test_state_survives_a_round_trip(method):
    views = method.views(batch_of(method))
    method.loss(views)
    with torch.no_grad():
        method.update()
    other = copy.deepcopy(method)
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict(method.state_dict())
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in method.state_dict().items())


def test_labels_do_not_reach_a_method_without_supervision(method):
    """Fails for a method that learns from labels and does not say so by `supervised`."""
    if method.supervised or method.modality == (Pairs,):
        pytest.skip("it learns from labels or partners, and says so")
    batch = batch_of(method)
    views = []
    for y in (None, torch.arange(len(batch.x)) % 3):
        torch.manual_seed(4)
        views.append(str(method.views(batch._replace(y=y))))
    assert views[0] == views[1]


def test_the_loss_is_float32_and_finite_under_bfloat16(method):
    views = method.views(batch_of(method))
    with torch.autocast("cpu", torch.bfloat16):
        losses = [loss for _, loss in method.optimizer_steps(views)]
    assert all(loss.dtype == torch.float32 and torch.isfinite(loss) for loss in losses)
    sum(losses).backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)


def test_training_resumes_to_the_same_bytes(cls):
    """Fails for state that is kept outside of `state_dict`, such as a counter or a plain tensor."""
    through, stopped, resumed = (make(cls) for _ in range(3))
    first, last = optimizers_of(through), optimizers_of(stopped)
    for method, optimizers, steps in ((through, first, 3), (stopped, last, 2)):
        for number in range(steps):
            torch.manual_seed(number)
            step(method, optimizers, batch_of(method))
    resumed.load_state_dict(copy.deepcopy(stopped.state_dict()))
    others = optimizers_of(resumed)
    for name, optimizer in others.items():
        optimizer.load_state_dict(copy.deepcopy(last[name].state_dict()))
    torch.manual_seed(2)
    step(resumed, others, batch_of(resumed))
    after = resumed.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in through.state_dict().items())


def gradient(method: Method, views) -> torch.Tensor:
    torch.manual_seed(3)
    total = sum(loss for _, loss in method.optimizer_steps(views))
    parameters = [p for p in method.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    filled = (
        torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)
    )
    return torch.cat([g.flatten() for g in filled])


def views_of(method: Method):
    batch = batch_of(method, ROWS)
    torch.manual_seed(2)
    return method.views(batch)


def part_of(view, rank: int, world: int):
    """The rows of one process, of different content each; what is no batch belongs to all."""
    if isinstance(view, list | tuple):
        return [part_of(v, rank, world) for v in view]
    return view.chunk(world)[rank] if torch.is_tensor(view) and len(view) == ROWS else view


def work(rank: int, world: int, names: list[str], folder: str) -> None:
    """One process: its gradient of every method, averaged as DDP does; then ten steps' state."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    results = {}
    for name in names:
        method = make(contract.find(name), exact=True)
        parallel.synchronize(method)
        views = part_of(views_of(method), rank, world)
        mean = gradient(method, views) / world
        dist.all_reduce(mean)
        with torch.no_grad():
            for _ in range(10):
                torch.manual_seed(rank)  # other draws in each process, as in training
                method.loss(views)
                method.update()
        state = {k: v for k, v in method.state_dict().items() if "num_batches" not in k}
        results[name] = mean, {k: v.clone() for k, v in state.items()}
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[WORLD, pytest.param(4, marks=pytest.mark.slow)])
def processes(request, tmp_path_factory) -> list[dict]:
    """What each of several processes with different rows computes, for all methods; once a run."""
    base, world = tmp_path_factory.getbasetemp(), request.param
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / f"processes-{os.environ.get('PYTEST_XDIST_TESTRUNUID', '')}-{world}"
    names = [name for name in contract.names() if not contract.find(name).inexact_across_processes]
    try:
        folder.mkdir()
        mp.spawn(work, (world, names, str(folder)), nprocs=world)
        (folder / "done").touch()
    except FileExistsError:  # another worker of pytest computes it
        for _ in range(600):
            if (folder / "done").exists():
                break
            time.sleep(0.5)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


@pytest.mark.parametrize("name", contract.names())
def test_the_gradient_of_many_processes_is_that_of_one(processes, name):
    """With BatchNorm over all processes; and what the method keeps is equal in each of them."""
    if reason := contract.find(name).inexact_across_processes:
        pytest.skip(reason)
    method = make(contract.find(name), exact=True)
    complete, mean = gradient(method, views_of(method)), processes[0][name][0]
    assert torch.cosine_similarity(mean, complete, dim=0).item() > 0.999999
    assert (mean.norm() / complete.norm()).item() == pytest.approx(1, abs=1e-4)
    first, *others = (states[name][1] for states in processes)
    for other in others:
        for key, value in first.items():
            assert torch.allclose(value.double(), other[key].double(), atol=1e-6), key
