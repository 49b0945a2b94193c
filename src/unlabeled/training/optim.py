"""Optimizers and learning rates of a recipe; LARS and Muon for kernels, which torch lacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.core import Recipe, Schedule, constant, cosine, one_cycle, warmup_cosine
from unlabeled.encoders.base import Encoder
from unlabeled.errors import UserError, notice, suggest


def make_optimizer(recipe: Recipe, module: nn.Module, fused: bool = True) -> torch.optim.Optimizer:
    """The optimizer of all parameters of `module` that need a gradient.

    Its groups have the factor of their learning rate as `lr_factor`, and whether it is constant.

    Raises:
        UserError: a name in `lr_factors` or `constant_lr` is of no submodule, or layers have no
            order to decay in.
    """
    groups = _groups(recipe, module)
    momentum = recipe.sgd_momentum
    if recipe.optimizer == "lars":
        return LARS(groups, recipe.lr, momentum)
    if recipe.optimizer == "muon":
        return Muon(groups, recipe.lr, (recipe.beta1, recipe.beta2))
    if recipe.optimizer == "sgd":
        nesterov = recipe.nesterov
        return torch.optim.SGD(groups, recipe.lr, momentum, nesterov=nesterov, fused=fused)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), fused=fused)


def _groups(recipe: Recipe, module: nn.Module) -> list[dict[str, Any]]:
    """Parameters by how they are trained: weights before biases, then by factor and schedule."""
    factors = _layer_factors(recipe, module)
    usual, biases = (False, 1.0, False), (True, 1.0, False)
    by_settings: dict[tuple[bool, float, bool], list[Tensor]] = {usual: [], biases: []}
    unknown = set(recipe.lr_factors) - {"biases"} | set(recipe.constant_lr)
    named = {*recipe.lr_factors, *recipe.constant_lr}
    for name, parameter in module.named_parameters():
        is_bias, factor = parameter.ndim <= 1, factors.get(name, 1.0)
        if is_bias:
            factor *= recipe.lr_factors.get("biases", 1.0)
        parts = [prefix for prefix in named if f"{name}.".startswith(f"{prefix}.")]
        unknown -= set(parts)
        factor *= math.prod(recipe.lr_factors.get(part, 1.0) for part in parts)
        is_constant = not set(parts).isdisjoint(recipe.constant_lr)
        if parameter.requires_grad:
            by_settings.setdefault((is_bias, factor, is_constant), []).append(parameter)
    if unknown:
        wrong, names = min(unknown), [name for name, _ in module.named_children()]
        field = "constant_lr" if wrong in recipe.constant_lr else "lr_factors"
        raise UserError(f"{field} has no part '{wrong}'; {suggest(wrong, names)}")
    groups: list[dict[str, Any]] = []
    for (is_bias, factor, is_constant), parameters in by_settings.items():
        spared = is_bias and not recipe.decay_biases
        decay = 0.0 if spared else recipe.weight_decay
        group = {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        group |= {"decays": not spared, "constant_lr": is_constant}
        if recipe.optimizer == "lars":
            group["adapt"] = not spared
        elif recipe.optimizer == "muon":
            group["orthogonal"] = not is_bias
        groups.append(group)
    return groups


def _layer_factors(recipe: Recipe, module: nn.Module) -> dict[str, float]:
    """Learning rate factor of each parameter in the stages of an encoder; {} without decay."""
    if recipe.layer_decay == 1:
        return {}
    factors = {}
    for prefix, part in module.named_modules():
        if isinstance(part, Encoder):
            for i, stage in enumerate(part.stages):
                for name, _ in stage.named_parameters(f"{prefix}.stages.{i}".lstrip(".")):
                    factors[name] = recipe.layer_decay ** (len(part.stages) - i)
    if not factors:
        raise UserError("layer_decay needs an encoder with stages, such as vit_small; omit it")
    return factors


def set_rates(recipe: Recipe, optimizer: torch.optim.Optimizer, progress: float) -> None:
    """Set learning rate and weight decay of every group at that fraction of training."""
    lr = learning_rate(recipe, progress)
    for group in optimizer.param_groups:
        peak = recipe.lr if group.get("constant_lr") else lr
        group["lr"] = peak * group.get("lr_factor", 1.0)  # older checkpoints have neither
        if recipe.final_weight_decay is not None and group.get("decays", group["weight_decay"]):
            group["weight_decay"] = cosine(recipe.weight_decay, recipe.final_weight_decay)(progress)


def learning_rate(recipe: Recipe, progress: float) -> float:
    """The learning rate when the fraction `progress` of training is done."""
    end, rise = recipe.final_lr / recipe.lr, {}
    if recipe.warmup_epochs is not None:
        rise = {"warmup": min(1.0, recipe.warmup_epochs / recipe.epochs)}
    if recipe.schedule == "one_cycle":
        options = {"rise": rise["warmup"]} if rise else {}
        schedule: Schedule = one_cycle(**options, **({"end": end} if end else {}))
    elif recipe.schedule == "warmup_cosine":
        schedule = warmup_cosine(**rise, end=end)
    else:
        schedule = constant(1.0)
    return recipe.lr * schedule(progress)


FAMILY = {"adamw": "adam", "muon": "adam"}
"""Optimizers that use the learning rate of another one."""


def scaled_rate(
    recipe: Recipe, defaults: Iterable[Recipe], base_lr: dict[str, float], name: str
) -> tuple[float, str]:
    """The default learning rate of a recipe, and an explanation.

    Args:
        recipe: the recipe; its learning rate is ignored.
        defaults: recipes whose learning rate fits their optimizer and batch size, best first.
        base_lr: learning rates for 256 samples, by optimizer.
        name: of the method.

    Returns:
        the learning rate, and a sentence about it, or "" if it is the first default's own.

    Raises:
        UserError: no rate is known for that optimizer.
    """
    own = FAMILY.get(recipe.optimizer, recipe.optimizer)
    known = [
        (FAMILY.get(r.optimizer, r.optimizer), r.lr, r.batch_size, f"the default of {name}")
        for r in defaults
    ]
    known += [(k, lr, 256, "the paper's") for k, lr in base_lr.items()]
    matches = [default[1:] for default in known if default[0] == own]
    if not matches:
        others = sorted({optimizer for optimizer, *_ in known})
        raise UserError(
            f"no learning rate of {name} is known for {recipe.optimizer}, only for "
            f"{' and '.join(others)}; give one with --lr"
        )
    base, batch, source = matches[0]
    exponents = {"linear": 1.0, "sqrt": 0.5, "none": 0.0, "auto": 0.5 if own == "adam" else 1.0}
    exponent = exponents[recipe.lr_scaling]
    lr = base * (recipe.batch_size / batch) ** exponent
    if lr == base and matches[0] == known[0][1:]:
        return lr, ""
    factor = {0.0: "", 0.5: f" × √({recipe.batch_size}/{batch})"}.get(
        exponent, f" × {recipe.batch_size}/{batch}"
    )
    return lr, f"learning rate {lr:.3g} = {base:g}{factor}, {source} for {recipe.optimizer}"


ADAMS = ("adam", "adamw", "muon")
USED_WITH = {
    "beta1": ("optimizer", ADAMS),
    "beta2": ("optimizer", ADAMS),
    "sgd_momentum": ("optimizer", ("sgd", "lars")),
    "warmup_epochs": ("schedule", ("one_cycle", "warmup_cosine")),
    "final_lr": ("schedule", ("one_cycle", "warmup_cosine")),
}
"""Field of a recipe -> another one, and its values with which the field has an effect."""


def say_unused(recipe: Recipe, usual: Recipe) -> None:
    """Warn of fields that are not as usual, but have no effect."""
    for name, (other, values) in USED_WITH.items():
        value = getattr(recipe, other)
        if value not in values and getattr(recipe, name) != getattr(usual, name):
            notice(f"{name} has no effect with {other} {value}, only with {' or '.join(values)}")


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


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal steps (Jordan et al. 2024), as large as Adam's (Liu et al. 2025).

    The momentum of each weight, flattened to one row for each output, is replaced by the nearest
    semi-orthogonal matrix, so that all directions are learned at the same rate, times
    0.2 · √max(rows, columns), with which learning rates of Adam fit. Biases and norms (groups with
    `orthogonal` False) are trained by Adam. Weight decay is decoupled, as in AdamW.

    Args:
        params: tensors or groups; a group may set `orthogonal` and `weight_decay`.
        lr: learning rate.
        betas: decay rates of Adam's moments.
        momentum: of the orthogonal steps; it is Nesterov's.
        weight_decay: times the learning rate, the share of the weights that a step takes away.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"orthogonal": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every tensor that has a gradient."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            step = self._orthogonal_step if group["orthogonal"] else self._adam_step
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(step(p, p.grad, group), alpha=-group["lr"])
        return loss

    def _orthogonal_step(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> Tensor:
        beta = group["momentum"]
        mean = self._moment(p, "momentum").lerp_(grad, 1 - beta)
        matrix = torch.lerp(grad, mean, beta).reshape(len(p), -1)
        return orthogonalize(matrix).mul_(0.2 * max(matrix.shape) ** 0.5).view(p.shape)

    def _adam_step(self, p: Tensor, grad: Tensor, group: dict[str, Any]) -> Tensor:
        beta1, beta2 = group["betas"]
        self.state[p]["steps"] = steps = self.state[p].get("steps", 0) + 1
        mean = self._moment(p, "mean").lerp_(grad, 1 - beta1)
        square = self._moment(p, "square").mul_(beta2)
        square.addcmul_(grad, grad, value=1 - beta2)
        size = (square / (1 - beta2**steps)).sqrt_().add_(1e-8)
        return mean / size / (1 - beta1**steps)

    def _moment(self, p: Tensor, name: str) -> Tensor:
        if name not in self.state[p]:
            self.state[p][name] = torch.zeros_like(p)
        moment: Tensor = self.state[p][name]
        return moment


def orthogonalize(matrix: Tensor) -> Tensor:
    """About U Vᵀ of the singular value decomposition U S Vᵀ of a matrix (m, n).

    A polynomial, applied five times, moves all singular values to between 0.7 and 1.2 (Jordan et
    al. 2024, "Muon: an optimizer for hidden layers in neural networks"). Its value at X is
    P(X Xᵀ) X, so that most products are those of matrices of the smaller side. X Xᵀ is computed
    anew after two of the five, and in float32, also under autocast: rounding makes eigenvalues
    negative, which grow.
    """
    with torch.autocast(matrix.device.type, enabled=False):
        x = matrix / matrix.norm().clamp(min=1e-7)
        wide = x.shape[0] <= x.shape[1]
        x = x if wide else x.T
        for times in (2, 3):
            gram = x @ x.T
            product = p = _polynomial(gram)
            for _ in range(times - 1):
                gram = p @ gram @ p
                p = _polynomial(gram)
                product = p @ product
            x = product @ x
        return x if wide else x.T


def _polynomial(gram: Tensor) -> Tensor:
    p = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
    p.diagonal().add_(3.4445)
    return p
