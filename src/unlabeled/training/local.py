"""Local learning: no gradient flows from one stage of an encoder to the one below.

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
    """Train each stage of an encoder by itself, with separate heads.

    The activations of a stage are freed before those of the next are computed, which saves memory
    and costs each stage but the last a second forward pass.

    Args:
        encoder: an encoder with stages.
        make: makes the method for an encoder of one stage.
        shape: channels, height and width of the samples.

    Raises:
        UserError: the encoder has no stages, or parameters after the last one.
    """

    def __init__(
        self, encoder: nn.Module, make: Callable[[nn.Module], Method], shape: tuple[int, int, int]
    ) -> None:
        super().__init__(encoder)
        self.learners = nn.ModuleList(make(stage) for stage in alone(encoder, shape))
        self.optimized_modules = tuple(f"learners.{i}" for i in range(len(self.learners)))  # type: ignore[misc]
        first: Any = self.learners[0]
        self.supervised, self.samples_per_class = first.supervised, first.samples_per_class  # type: ignore[misc]

    def views(self, batch: Batch) -> Any:
        """Views of the method of the first stage."""
        return self.learners[0].views(batch)  # type: ignore[operator]

    def optimizer_steps(self, views: Any) -> Iterator[tuple[str, Tensor]]:
        """The losses of the stages in order; each is updated before the next is computed."""
        stages: Any = self.encoder.stages
        for name, learner, stage in zip(self.optimized_modules, self.learners, stages, strict=True):
            learner.progress = self.progress  # type: ignore[assignment]
            yield name, learner.loss(views)  # type: ignore[operator]
            if name != self.optimized_modules[-1]:
                views = above(stage, views)

    def loss(self, views: Any) -> Tensor:
        """Sum of the losses of the stages."""
        return torch.stack([loss for _, loss in self.optimizer_steps(views)]).sum()

    def update(self) -> None:
        """Update the method of each stage."""
        for learner in self.learners:
            learner.progress = self.progress  # type: ignore[assignment]
            learner.update()  # type: ignore[operator]


def alone(encoder: nn.Module, shape: tuple[int, int, int]) -> list[Encoder]:
    """Each stage as a separate encoder with the same layers, for samples of that shape."""
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
    encoders = []
    x = torch.zeros(2, *shape, device=next(encoder.parameters()).device)
    with eval_mode(encoder), torch.no_grad():
        for i, stage in enumerate(encoder.stages):
            x = stage(x)
            encoders.append(encoder.single_stage(i, x.shape[1], encoder.summary(x).shape[1]))
    return encoders


@torch.no_grad()
def above(stage: nn.Module, views: Any) -> Any:
    """Views as the input of the next stage: maps pass through the stage, labels are unchanged."""
    if isinstance(views, tuple | list):
        return tuple(above(stage, view) for view in views)
    return stage(views) if views.ndim == 4 and views.is_floating_point() else views


def saved_bytes(method: Method, views: Any) -> int:
    """Peak memory of what autograd saves for the gradients of a step, in bytes, without weights."""
    weights = {p.data_ptr() for p in method.parameters()}
    peak, held = 0, 0

    def keep(t: Tensor) -> Tensor:
        nonlocal held
        held += 0 if t.data_ptr() in weights else t.numel() * t.element_size()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        for _, loss in method.optimizer_steps(views):
            peak, held = max(peak, held), 0
            loss.backward()
    method.zero_grad()
    return peak
