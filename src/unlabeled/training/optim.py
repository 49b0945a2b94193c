"""Optimizers that torch has not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman, Ginsburg 2017), with momentum.

    Each tensor's step is scaled by trust · ‖w‖ / ‖g + λw‖, so that large batches and rates do not
    tear apart layers whose gradients are large beside their weights. (The paper divides by ‖g‖ +
    λ‖w‖; this is the code of SimCLR and Barlow twins.) Biases and norm parameters
    (groups with `adapt` False) take plain steps, as in SimCLR, BYOL and Barlow twins; the factor
    is 1 where either norm is 0.

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
