"""Optimizers and learning rates of a recipe; LARS, which torch does not have."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from unlabeled.core import Recipe, constant, one_cycle, warmup_cosine


def make_optimizer(recipe: Recipe, module: nn.Module, fused: bool = True) -> torch.optim.Optimizer:
    """The optimizer of all parameters of `module` that need a gradient."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "lars":
        groups[1]["adapt"] = False
        return LARS(groups, recipe.lr)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, fused=fused)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=recipe.lr, betas=(recipe.beta1, 0.999), fused=fused)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The learning rate when the fraction `progress` of training is done."""
    schedules = {
        "one_cycle": one_cycle(),
        "warmup_cosine": warmup_cosine(),
        "constant": constant(1.0),
    }
    return recipe.lr * schedules[recipe.schedule](progress)


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman, Ginsburg 2017), with momentum.

    The step of each tensor is scaled by trust · ‖w‖ / ‖g + λw‖, which keeps training with large
    batches and rates stable. (The paper divides by ‖g‖ + λ‖w‖; this is the code of SimCLR and
    Barlow Twins.) Biases and norm parameters (groups with `adapt` False) are not scaled, as in
    SimCLR, BYOL and Barlow Twins; the factor is 1 if either norm is 0.

    Args:
        params: tensors or groups; a group may set `adapt` and `weight_decay`.
        lr: learning rate.
        momentum: of the scaled steps, as in the authors' code; the learning rate is inside.
        weight_decay: λ, added to the gradient.
        trust: η, 0.001 in the paper.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "trust": trust,
            "adapt": True,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every tensor that has a gradient."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = p.grad.add(p, alpha=group["weight_decay"])
                if group["adapt"]:
                    size, slope = p.norm(), g.norm()
                    both = (size > 0) & (slope > 0)
                    g = g * torch.where(both, group["trust"] * size / slope, 1.0)
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].mul_(group["momentum"]).add_(g, alpha=group["lr"])
                p.sub_(state["momentum"])
        return loss
