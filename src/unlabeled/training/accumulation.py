"""The gradient of a large batch with the memory of a small one.

The parts of a batch go through the networks one after another. A loss that is a mean over samples
has the mean of the parts' gradients. One that compares samples sees those of other parts through
`parallel.gather`: what is gathered is first computed without gradient, then the gradient with
respect to it, and last that of the weights, part by part (Gao, Zhang, Han, Callan 2021, "Scaling
Deep Contrastive Learning Batch Size under Memory Limited Setup"). The methods' code is the same as
on several processes, each of which a part stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from unlabeled import parallel
from unlabeled.core import Method
from unlabeled.errors import UserError
from unlabeled.utils.state import untracked

MOST_ROUNDS = 8
"""Maximum number of rounds of gathering, each of what depends on the previous ones."""


class _UnknownRowsError(Exception):
    """Rows are gathered that no earlier pass has computed."""


class _CompleteError(Exception):
    """All rows whose gradient is needed have been computed."""


class Accumulation:
    """Gradients of a method's losses over the parts of a batch.

    Args:
        method: the method.
        number: of parts.
        scale: of a loss before its gradient is computed, for fp16.
    """

    def __init__(
        self, method: Method, number: int, scale: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.method, self.number, self.scale = method, number, scale or (lambda loss: loss)
        self.current = 0
        self.rounds: dict[int, int] = {}  # by optimizer step, how many rounds of gathering it has
        self.values: list[Tensor] = []  # gathered rows, by call
        self.inputs: list[list[Tensor]] = []  # rows of each part, by call
        self.level: list[int] = []  # the round that a call belongs to
        self.mode = "values"

    def gather(self, x: Tensor) -> Tensor:
        """Rows of all parts of all processes; called by the loss through `parallel.gather`."""
        call = len(self.inputs[self.current])
        self.inputs[self.current].append(x if self.mode == "backward" else x.detach())
        if call < len(self.values):
            value = self.values[call]
        elif self.mode == "values":  # placeholder of the right shape until all parts are known
            value = x.detach().repeat(parallel.world_size(), *[1] * (x.ndim - 1))
            value = value / 2 + 0.25 if x.is_floating_point() else value
        else:
            raise _UnknownRowsError
        if self.mode == "backward" and call == self.last:
            raise _CompleteError
        return value

    def step(self, views: Sequence[Any], step: int) -> tuple[str, Tensor, bool]:
        """Compute the gradient of an optimizer step, the mean over the parts, in `grad`.

        Args:
            views: of each part.
            step: index of the optimizer step in `Method.optimizer_steps`.

        Returns:
            the name of the optimized module, the mean loss, and whether a further step follows.

        Raises:
            UserError: what is gathered depends on itself in too many rounds.
        """
        self.states: dict[int, list[Tensor]] = {}
        with parallel.in_parts(self):
            while True:
                rounds = self.rounds.setdefault(step, 0)
                self.method.zero_grad()
                self._compute_values(views, step, rounds)
                try:
                    result = self._losses(views, step)
                    if self._unchanged():
                        break
                except _UnknownRowsError:
                    pass
                self.rounds[step] = rounds + 1
                if rounds == MOST_ROUNDS:
                    raise UserError(
                        f"{type(self.method).__name__} compares samples in more than {MOST_ROUNDS} "
                        "rounds that depend on each other, which --accumulate cannot do; omit it"
                    )
            self._through_gathered(views, step)
        for (module, attribute), parts in self.left.items():  # after all passes, which set them
            setattr(module, attribute, _joined(parts))
        return result

    def _compute_values(self, views: Sequence[Any], step: int, rounds: int) -> None:
        """Compute what is gathered, without gradient, in rounds."""
        self.mode, self.values, self.level = "values", [], []
        for number in range(rounds):
            earlier, self.inputs = self.inputs, [[] for _ in views]
            with torch.no_grad(), untracked(self.method):
                for part, view in enumerate(views):
                    self._loss(part, view, step)
            calls = len(self.inputs[0])
            if not number:
                self.level = [0] * calls
            else:
                changed = [self._differ(earlier, call) for call in range(calls)]
                self.level = [
                    number if c else old for c, old in zip(changed, self.level, strict=True)
                ]
            self.values = [
                torch.cat([parallel.gather_processes(rows[call]) for rows in self.inputs])
                for call in range(calls)
            ]
        for value in self.values:
            value.requires_grad_(value.is_floating_point())

    def _losses(self, views: Sequence[Any], step: int) -> tuple[str, Tensor, bool]:
        """Gradients of the losses of all parts, in weights and in what is gathered."""
        self.mode, self.known = "loss", self.inputs
        self.inputs = [[] for _ in views]
        losses, left = [], []
        for part, view in enumerate(views):
            before = _left(self.method)
            name, loss, more = self._loss(part, view, step)
            losses.append(loss.detach())
            self.scale(loss / len(views)).backward()
            left.append({k: v for k, v in _left(self.method).items() if v is not before.get(k)})
            del loss
        self.left = {key: [of_part[key] for of_part in left] for key in left[0]}
        return name, torch.stack(losses).mean(), more

    def _unchanged(self) -> bool:
        """Whether the losses gathered the same rows as the passes before, in all processes."""
        calls = range(len(self.inputs[0]))
        same = not self.values or not any(self._differ(self.known, call) for call in calls)
        device = next(self.method.parameters()).device
        all_same = parallel.sum_over_processes(torch.tensor([float(same)], device=device))
        return bool(all_same.item() == parallel.process_count())

    def _differ(self, earlier: list[list[Tensor]], call: int) -> bool:
        """Whether a call gathers other rows than in an earlier pass; GPUs may round differently."""
        for before, now in zip(earlier, self.inputs, strict=True):
            a, b = before[call].double(), now[call].double()
            if not (torch.equal(a, b) if a.is_cpu else torch.allclose(a, b, 1e-5, 1e-6)):
                return True
        return False

    def _through_gathered(self, views: Sequence[Any], step: int) -> None:
        """Gradients of the weights through what was gathered, from the last round to the first."""
        self.mode = "backward"
        for number in reversed(range(self.rounds[step])):
            grads: dict[int, Tensor] = {}
            for call, value in enumerate(self.values):
                if self.level[call] == number and value.grad is not None:
                    grads[call] = parallel.sum_over_processes(value.grad)
            if not grads:
                continue
            self.last = max(grads)
            for part, view in enumerate(views):
                self.inputs = [[] for _ in views]
                try:
                    with untracked(self.method):
                        self._loss(part, view, step)
                except _CompleteError:
                    pass
                rows = {call: self.inputs[part][call] for call in grads}
                wanted = [call for call, x in rows.items() if x.requires_grad]
                if wanted:
                    own = [parallel.own(grads[call]) for call in wanted]
                    torch.autograd.backward([rows[call] for call in wanted], own)
                del rows

    def _loss(self, part: int, view: Any, step: int) -> tuple[str, Tensor, bool]:
        """The module's name and loss of a part, always with the same random draws."""
        self.current = part
        if part in self.states:
            _set_rng(self.states[part])
        else:
            self.states[part] = _rng()
        torch.clear_autocast_cache()  # it would reuse casts of weights without gradient
        steps = self.method.optimizer_steps(view)
        for _ in range(step):
            with torch.no_grad():
                next(steps)
        name, loss = next(steps)
        more = False
        if self.mode == "loss" and part == self.number - 1:
            try:
                with torch.no_grad(), untracked(self.method):
                    more = next(steps, None) is not None
            except _UnknownRowsError:
                more = True
        return name, loss, more


def _left(method: Method) -> dict[tuple[Any, str], Any]:
    """Tensors in attributes of a method, which `loss` may have stored for `update`."""
    return {
        (module, name): value
        for module in method.modules()
        if isinstance(module, Method)
        for name, value in vars(module).items()
        if isinstance(value, Tensor)
        or (isinstance(value, tuple) and value and all(isinstance(v, Tensor) for v in value))
    }


def _joined(parts: list[Any]) -> Any:
    """The rows of all parts, of tensors or tuples of them."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts)
    return tuple(torch.cat(rows) for rows in zip(*parts, strict=True))


def _rng() -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state()] if torch.cuda.is_available() else states


def _set_rng(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state)
