"""Parts of a batch one after another: the gradient of the whole batch, for every method."""

import contract
import pytest
import torch
from contract import make
from test_contract import ROWS, gradient, part_of, views_of
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from unlabeled.core import Batch, Method
from unlabeled.errors import UserError
from unlabeled.parallel import gather, own, sum_over, world_size
from unlabeled.training.accumulation import Accumulation


def without_batchnorm(method: Method) -> Method:
    """BatchNorm with fixed statistics, which is no function of the batch."""
    for layer in method.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
    return method


def draws_the_same(method: Method) -> None:
    """Random numbers within a loss are the same for each part."""
    steps = method.optimizer_steps

    def seeded(views):
        torch.manual_seed(3)
        yield from steps(views)

    method.optimizer_steps = seeded


def as_double(views):
    if isinstance(views, list | tuple):
        return [as_double(view) for view in views]
    return views.double() if torch.is_tensor(views) and views.is_floating_point() else views


def gradients_in_parts(method: Method, parts: list) -> list[Tensor]:
    """Of each optimizer step, the sum of which is that of all."""
    accumulation, result, more, step = Accumulation(method, len(parts)), [], True, 0
    while more:
        _, _, more = accumulation.step(parts, step)
        result.append(flat([p for p in method.parameters() if p.requires_grad]))
        step += 1
    return result


def flat(parameters: list[Tensor]) -> Tensor:
    filled = (torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)
    return torch.cat([g.flatten() for g in filled])


@pytest.mark.parametrize("name", contract.names())
def test_the_gradient_in_parts_is_that_of_the_batch(name, monkeypatch):
    """Catches a mean of the parts' losses where samples are compared, and counts of one part."""
    cls = contract.find(name)
    if reason := cls.inexact_across_processes:
        pytest.skip(reason)
    monkeypatch.setattr(Tensor, "float", Tensor.double)  # all in float64: gradients can be tiny
    methods = [without_batchnorm(make(cls, exact=True)).double() for _ in range(2)]
    views = as_double(views_of(methods[0]))
    complete = gradient(methods[0], views)
    parts = [part_of(views, part, 2) for part in range(2)]
    draws_the_same(methods[1])
    in_parts = torch.stack(gradients_in_parts(methods[1], parts)).sum(0)
    assert (in_parts - complete).norm() <= 1e-9 * complete.norm()
    for method, all_views in ((methods[0], [views]), (methods[1], None)):
        torch.manual_seed(3)
        with torch.no_grad():
            if all_views:
                method.loss(views)
            method.update()
    states = [method.state_dict() for method in methods]
    for key, value in states[0].items():
        assert torch.allclose(value.double(), states[1][key].double(), atol=1e-9), key


class Coupled(Method):
    """Two rounds of gathering, a part of its own, a sum, and dropout, in float64."""

    dropout = 0.0

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        self.head = nn.Linear(3, 3).double()
        self.scale = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

    def loss(self, views):
        x, weight = views
        z = nn.functional.dropout(self.encoder(x), self.dropout)
        similarity = gather(z) @ gather(self.head(z)).T  # first round
        context = own(similarity.softmax(1)) @ gather(z)
        again = gather(self.head(context))  # second round: depends on the first
        total = sum_over((weight * z.sum(1)).sum()) / sum_over(weight.sum())
        rows = (z * context).sum(1) * self.scale
        self.kept = z.detach()
        return (again @ again.T).logsumexp(1).mean() + total**2 + rows.exp().mean()


def coupled(dropout: float = 0.0) -> tuple[Coupled, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    method = Coupled(nn.Sequential(nn.Linear(5, 3), nn.Tanh()).double())
    method.dropout = dropout
    return method, (torch.randn(12, 5).double(), torch.rand(12).double())


@pytest.mark.parametrize("number", [1, 2, 3, 6])
def test_rounds_that_depend_on_each_other_are_exact(number):
    """Catches a gradient that ends at gathered rows of a later round, to 1e-12."""
    method, views = coupled()
    method.loss(views).backward()
    complete = flat(list(method.parameters()))
    (result,) = gradients_in_parts(
        method, list(zip(*(v.chunk(number) for v in views), strict=True))
    )
    torch.testing.assert_close(result, complete, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(method.kept, method.encoder(views[0]))  # in the batch's order


def test_random_draws_are_the_same_in_every_pass():
    """Catches masks of dropout that differ between the passes: the loss is then of no network."""
    method, views = coupled(dropout=0.5)
    parts = list(zip(*(v.chunk(2) for v in views), strict=True))
    torch.manual_seed(1)
    accumulation = Accumulation(method, 2)
    accumulation.step(parts, 0)
    result, state = flat(list(method.parameters())), torch.get_rng_state()
    torch.manual_seed(1)
    masks = [nn.functional.dropout(torch.ones(6, 3).double(), 0.5) for _ in parts]
    assert torch.equal(torch.get_rng_state(), state)  # as if there had been one pass
    assert not torch.equal(*masks)
    method.zero_grad()
    mask = torch.cat(masks)
    method.dropout = 0.0
    method.encoder.register_forward_hook(lambda module, inputs, output: output * mask)
    method.loss(views).backward()
    torch.testing.assert_close(result, flat(list(method.parameters())), atol=1e-12, rtol=1e-12)


class Endless(Coupled):
    def loss(self, views):
        x = z = self.encoder(views[0])
        for _ in range(12):
            z = torch.tanh(own(gather(z).cumsum(0)) + x)
        return z.mean()


def test_a_loss_of_endless_rounds_is_refused():
    """Catches a loop that never ends."""
    method = Endless(nn.Linear(5, 3).double())
    parts = list(zip(*(v.chunk(2) for v in coupled()[1]), strict=True))
    with pytest.raises(UserError, match="Endless compares samples in more than 8 rounds"):
        Accumulation(method, 2).step(parts, 0)
    assert world_size() == 1  # the context has ended


def peak(run) -> int:
    """Most bytes that autograd holds for the backward pass at any time."""
    held = most = 0

    class Kept:
        def __init__(self, x):
            nonlocal held, most
            self.x, self.size = x.detach(), x.nbytes  # without a cycle through saved outputs
            held += self.size
            most = max(most, held)

        def __del__(self):
            nonlocal held
            held -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.x):
        run()
    return most


def test_memory_is_that_of_a_part():
    """Catches graphs of earlier parts that stay alive: 8 parts need less than a third."""
    method = make(contract.find("simclr"))
    views = method.views(Batch(torch.rand(64, 1, 32, 32), torch.arange(64)))
    full = peak(lambda: method.loss(views).backward())
    parts = list(zip(*(v.chunk(8) for v in views), strict=True))
    accumulation = Accumulation(method, 8)
    accumulation.step(parts, 0)
    assert peak(lambda: accumulation.step(parts, 0)) < full / 3
    assert len(parts[0][0]) * 8 == len(views[0]) == 4 * ROWS


def test_running_statistics_see_each_part_once():
    """Catches BatchNorm that is tracked in every pass: momentum would count them three times."""
    method = make(contract.find("simclr"))
    norm = next(m for m in method.modules() if isinstance(m, _BatchNorm))
    views = views_of(method)
    accumulation = Accumulation(method, 2)
    accumulation.rounds[0] = 1  # as known after the first step
    accumulation.step([part_of(views, part, 2) for part in range(2)], 0)
    assert int(norm.num_batches_tracked) == 2
