"""Learning by stages: no gradient goes from one stage of an encoder to the one below.

Löwe, O'Connor, Veeling 2019, "Putting An End to End-to-End", for CPC; Siddiqui et al. 2023,
"Blockwise Self-Supervised Learning at Scale", for two views.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.core import Batch, Method
from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError
from unlabeled.utils.state import eval_mode


class Local(Method):
    """A method once for each stage, with heads of its own; each sees what the stage below gives.

    A stage's activations are forgotten before the next one's are made. That is the memory saved;
    it costs each stage but the last a second pass.

    Args:
        encoder: in stages.
        make: the method on an encoder of one stage.
        shape: channels, height and width of the images.

    Raises:
        UserError: the encoder has no stages, or learns something after the last one.
    """

    def __init__(
        self,
        encoder: nn.Module,
        make: Callable[[nn.Module], Method],
        shape: tuple[int, int, int],
    ) -> None:
        super().__init__(encoder)
        self.learners = nn.ModuleList(make(stage) for stage in alone(encoder, shape))
        self.optimized_modules = tuple(f"learners.{i}" for i in range(len(self.learners)))  # type: ignore[misc]
        first: Any = self.learners[0]
        self.supervised, self.samples_per_class = first.supervised, first.samples_per_class  # type: ignore[misc]

    def views(self, batch: Batch) -> Any:
        """What the first stage's method sees."""
        return self.learners[0].views(batch)  # type: ignore[operator]

    def optimizer_steps(self, views: Any) -> Iterator[tuple[str, Tensor]]:
        """Stage after stage, from the lowest; each has moved before the next one looks."""
        stages: Any = self.encoder.stages
        for player, learner, stage in zip(
            self.optimized_modules, self.learners, stages, strict=True
        ):
            learner.progress = self.progress  # type: ignore[assignment]
            yield player, learner.loss(views)  # type: ignore[operator]
            if player != self.optimized_modules[-1]:
                views = above(stage, views)

    def loss(self, views: Any) -> Tensor:
        """The sum over stages."""
        return torch.stack([loss for _, loss in self.optimizer_steps(views)]).sum()

    def update(self) -> None:
        """Every stage's own."""
        for learner in self.learners:
            learner.progress = self.progress  # type: ignore[assignment]
            learner.update()  # type: ignore[operator]


def alone(encoder: nn.Module, shape: tuple[int, int, int]) -> list[Encoder]:
    """Each stage as an encoder of its own, with the same layers, for images of that shape."""
    if not isinstance(encoder, Encoder) or not len(encoder.stages):
        raise UserError(
            "learning by stages needs an encoder that has some: use --encoder small, "
            "resnet18, patches or wave"
        )
    if any(True for _ in encoder.summary.parameters()):
        raise UserError(
            "this encoder has layers after its last stage, which would not learn by "
            "stages: use --encoder small, resnet18, patches or wave"
        )
    found = []
    x = torch.zeros(2, *shape, device=next(encoder.parameters()).device)
    with eval_mode(encoder), torch.no_grad():
        for i, stage in enumerate(encoder.stages):
            x = stage(x)
            found.append(encoder.single_stage(i, x.shape[1], encoder.summary(x).shape[1]))
    return found


@torch.no_grad()
def above(stage: nn.Module, views: Any) -> Any:
    """The views as a stage gives them to the next: maps anew, labels as they are."""
    if isinstance(views, tuple | list):
        return tuple(above(stage, view) for view in views)
    return stage(views) if views.ndim == 4 and views.is_floating_point() else views


def kept_bytes(method: Method, views: Any) -> int:
    """The most that autograd keeps at once for a step's gradients, in bytes.

    Activations count as often as they are kept; weights, which are there anyway, do not.
    """
    weights = {p.data_ptr() for p in method.parameters()}
    most, held = 0, 0

    def keep(t: Tensor) -> Tensor:
        nonlocal held
        held += 0 if t.data_ptr() in weights else t.numel() * t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        for _, loss in method.optimizer_steps(views):
            most, held = max(most, held), 0
            loss.backward()
    method.zero_grad()
    return most
