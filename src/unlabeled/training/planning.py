"""Estimate the memory and time of a training from a few small steps."""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unlabeled.core import Batch, Method, Recipe
from unlabeled.data.dataset import LazyImages, Splits, to_input
from unlabeled.encoders.base import channels_last
from unlabeled.training import health
from unlabeled.training.learner import make_loader
from unlabeled.training.optim import make_optimizer
from unlabeled.utils.native import keeping_memory
from unlabeled.utils.state import eval_mode, preserve_rng

MOMENTS = {"sgd": 1, "lars": 1, "muon": 1, "adam": 2, "adamw": 2}
TIMED = 128
"""Maximum number of samples in a timed step."""
FIRST = 1024
"""Number of streamed samples from which trial steps draw."""
SECONDS = 14.0
"""Time limit in seconds of all trial steps, without opening the data and importing PyTorch."""
ROOM = 1.5e9
"""Maximum memory of a trial step in bytes; on a GPU half of the free memory."""
SPARE = 1.5
"""Measured ratio of peak memory to what autograd saves, due to gradients and fragmentation."""


class Trial(NamedTuple):
    """One step of the training with fewer samples."""

    size: int  #: number of samples
    saved: int  #: bytes that autograd saves for the backward pass
    seconds: float  #: duration of what grows with the batch
    fixed: float  #: duration of the optimizer step and the update


class _TooLargeError(Exception):
    """A trial step needs more memory than is free."""


def estimate(
    method: Method,
    splits: Splits,
    recipe: Recipe,
    precision: str,
    accelerator: str,
    probed: int = 0,
    accumulate: int = 1,
) -> dict[str, Any]:
    """Estimate the memory and time of a training.

    Steps of 2, 4, 8, … samples measure what autograd saves for the backward pass, within limits of
    memory and time. It is extrapolated to the batch size by a parabola through the last three,
    since contrastive losses grow with the square of the batch, or a line through two; weights,
    gradients, moments of the optimizer and the data are added. The result is at least what the
    measurement after each epoch needs. Time is extrapolated from the largest step.

    Args:
        method: the method, which is copied.
        splits: the data.
        recipe: how it is trained.
        precision: bf16, fp16 or fp32.
        accelerator: as for `unlabeled.train`.
        probed: number of samples that probes embed, over all epochs.
        accumulate: parts of a batch that are computed one after another.

    Returns:
        `steps`, `parameters`, `memory` and `free` in bytes, `seconds` (None if not even the
        smallest step fits), `batch`, `sizes` of the steps taken, `device`.
    """
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    free = torch.cuda.mem_get_info()[0] if gpu else psutil.virtual_memory().available
    method = channels_last(copy.deepcopy(method).to(device))
    batches = make_loader(method, splits, recipe)
    batch = int(batches.batch_size or 1)
    part = max(2, batch // accumulate)
    steps = recipe.epochs * len(batches)
    weights = sum(p.numel() * p.element_size() for p in method.parameters())
    data = 0 if gpu or isinstance(splits.train.x, LazyImages) else splits.train.x.nbytes
    fixed_memory = weights * (2 + MOMENTS[recipe.optimizer]) + data
    result: dict[str, Any] = {
        "steps": steps,
        "parameters": sum(p.numel() for p in method.parameters()),
        "memory": fixed_memory,
        "free": int(free),
        "seconds": None,
        "batch": batch,
        "sizes": [],
        "device": str(device),
    }
    room = free / 2 if gpu else min(ROOM, free / 2)
    if fixed_memory > free:
        return result
    if splits.train.streamed:  # the first, which are in few shards
        splits = replace(splits, train=splits.train.take(splits.train.spread(FIRST)))
    with preserve_rng(seed=0), keeping_memory():
        try:
            trials = list(_trials(method, splits, recipe, precision, part, room, free))
        except _TooLargeError as error:
            result["memory"] = fixed_memory + int(error.args[0])
            return result
        last = trials[-1]
        rows, at_rest, seconds = _measuring(method, splits, last.size)
    step = last.seconds * batch / last.size + last.fixed
    return result | {
        "memory": fixed_memory + int(max(SPARE * _extrapolate(trials, part), at_rest * rows)),
        "seconds": steps * step + (3 * (recipe.epochs + 1) * rows + probed) * seconds,
        "sizes": [trial.size for trial in trials],
    }


def operations(method: Method, splits: Splits, recipe: Recipe) -> float:
    """Floating-point operations of a training step for each of its samples.

    They are those of matrix products, convolutions and attention in the forward and backward pass,
    as PyTorch counts them; those of augmentations and of the optimizer are left out.

    Args:
        method: the method, which is copied.
        splits: the data.
        recipe: how it is trained.
    """
    method = copy.deepcopy(method)
    method.progress = 0.99  # methods that add stages during training have all of them here
    with preserve_rng(seed=0):
        batch: Batch = next(iter(make_loader(method, splits, recipe)))
        with torch.no_grad():
            views = method.views(batch._replace(x=to_input(batch.x, splits.value_range)))
        with FlopCounterMode(display=False) as counter, torch.enable_grad():
            for _, loss in method.optimizer_steps(views):
                loss.backward()
    return counter.get_total_flops() / len(batch.x)


def describe(
    plan: dict[str, Any], method: str, splits: Splits, recipe: Recipe, accumulate: int = 1
) -> str:
    """Describe an estimate in a few lines."""
    x, batch, sizes = splits.train, plan["batch"], plan["sizes"]
    message = (
        f"{method} on {len(x):,} {splits.noun} of {'×'.join(map(str, x.x.shape[1:]))}: "
        f"{recipe.epochs} epochs, {plan['steps']:,} steps of {batch}, "
        f"{plan['parameters']:,} parameters\n"
    )
    free = f"{plan['free'] / 1e9:.1f} GB are free"
    if plan["seconds"] is None:
        return (
            f"{message}more than {plan['memory'] / 1e9:.1f} GB of memory on this "
            f"{plan['device']}, where {free}\nthat will not fit, however small the batch: try "
            "a smaller --encoder or --size"
        )
    message += (
        f"about {_time(plan['seconds'])} and {plan['memory'] / 1e9:.1f} GB of memory on this "
        f"{plan['device']}, where {free}\n"
    )
    if plan["memory"] > plan["free"]:
        parts = 1 << math.ceil(math.log2(plan["memory"] / plan["free"]))
        message += (
            f"that will not fit: try --accumulate {parts * accumulate} or more, which keeps the "
            f"batch, or --batch-size {max(2, batch // 2)} or less\n"
        )
    *others, largest = map(str, sizes)
    all_sizes = f"{', '.join(others)} and {largest}" if others else largest
    scaled = extrapolated = ""
    if sizes[-1] != batch:
        scaled, extrapolated = f" and scaled to {batch}", f", extrapolated on to {batch}"
    return message + (
        f"memory measured in steps of {all_sizes}{extrapolated}; "
        f"time measured at batch {largest}{scaled}"
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _trials(
    method: Method,
    splits: Splits,
    recipe: Recipe,
    precision: str,
    batch: int,
    room: float,
    free: float,
) -> Iterator[Trial]:
    """Steps of increasing size, as long as memory and time allow the next one.

    Their learning rate is 0, so that nothing diverges.
    """
    method.progress = 0.99  # methods that add stages during training have all of them here
    frozen = replace(recipe, lr=0.0)
    optimizers = {
        p: make_optimizer(frozen, method.get_submodule(p)) for p in method.optimized_modules
    }
    least = max(4 if recipe.labeled_fraction else 2, method.samples_per_class, method.clip_length)
    size = first = min(batch, least)
    largest = min(batch, max(TIMED, size))
    _views(method, splits, iter(make_loader(method, splits, replace(recipe, batch_size=size))))
    started = time.perf_counter()  # by now the kernels of augmentations are compiled
    run = functools.partial(_step, method, optimizers, splits, recipe, precision, free)
    while True:
        trial = run(size)
        if size == first and trial.seconds < SECONDS / 3:
            trial = run(size)  # the first step of all is slow
        left = SECONDS - (time.perf_counter() - started)
        following = min(2 * size, largest)
        if (
            size == largest
            or 2.5 * (trial.seconds + trial.fixed) > left
            or trial.saved * following / size > room
        ):
            break
        yield trial
        size = following
    for _ in range(2):  # the first step of a size is slow
        if trial.seconds + trial.fixed < SECONDS - (time.perf_counter() - started):
            trial = min(trial, run(size), key=lambda t: t.seconds + t.fixed)
    yield trial


def _step(
    method: Method,
    optimizers: dict[str, torch.optim.Optimizer],
    splits: Splits,
    recipe: Recipe,
    precision: str,
    free: float,
    size: int,
) -> Trial:
    """A step like the learner's, counting what autograd saves, each storage once."""
    device = next(method.parameters()).device
    own = {p.untyped_storage().data_ptr() for p in method.parameters()}
    seen: dict[int, int] = {}
    most = held = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal held
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address not in own:
            held += storage.nbytes() - seen.get(address, 0)
            seen[address] = storage.nbytes()
            if held > 0.9 * free:
                raise _TooLargeError(held)
        return tensor

    batches = iter(make_loader(method, splits, replace(recipe, batch_size=size)))
    started, fixed = _now(device), 0.0
    views = _views(method, splits, batches)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast(
            device.type,
            torch.float16 if precision == "fp16" else torch.bfloat16,
            enabled=precision != "fp32",
        ),
    ):
        for name, loss in method.optimizer_steps(views):
            most, held = max(most, held), 0
            seen.clear()
            optimizers[name].zero_grad()
            loss.backward()
            if recipe.grad_clip_norm:
                moving = method.get_submodule(name).parameters()
                torch.nn.utils.clip_grad_norm_(moving, recipe.grad_clip_norm)
            before = _now(device)
            optimizers[name].step()
            fixed += _now(device) - before
    before = _now(device)
    with torch.no_grad():
        method.update()
    ended = _now(device)
    fixed += ended - before
    return Trial(size, most, ended - started - fixed, fixed)


@torch.no_grad()
def _views(method: Method, splits: Splits, batches: Iterator[Batch]) -> Any:
    """The method's views of the next batch."""
    device = next(method.parameters()).device
    batch = Batch(*(None if t is None else t.to(device) for t in next(batches)))  # type: ignore[arg-type]
    return method.views(batch._replace(x=to_input(batch.x, splits.value_range)))


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _extrapolate(trials: list[Trial], batch: int) -> float:
    """Bytes saved for a batch: by a parabola through three sizes, or a line through two.

    Small sizes give a line only, since their irregularities would grow with the square.
    """
    sizes, saved = [t.size for t in trials], [t.saved for t in trials]
    if sizes[-1] == batch or len(trials) == 1:
        return saved[-1] * batch / sizes[-1]
    line = float(np.polyval(np.polyfit(sizes[-2:], saved[-2:], 1), batch))
    if len(trials) < 3 or sizes[-1] < 32:
        return line
    return max(line, float(np.polyval(np.polyfit(sizes[-3:], saved[-3:], 2), batch)))


def _measuring(method: Method, splits: Splits, size: int) -> tuple[int, float, float]:
    """Cost of the measurement after each epoch: samples, and bytes and seconds to embed each.

    The samples and two views of each are embedded. Without gradients, memory is that of the inputs
    and outputs of a layer.
    """
    device = next(method.parameters()).device
    x = to_input(torch.from_numpy(splits.train.x[:size]).to(device), splits.value_range)
    most = 0

    def watch(layer: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal most
        tensors = [t for t in (*inputs, output) if isinstance(t, torch.Tensor)]
        most = max(most, sum(t.nbytes for t in tensors))

    hooks = [layer.register_forward_hook(watch) for layer in method.encoder.modules()]
    started = _now(device)
    try:
        with eval_mode(method), torch.no_grad():
            method.encoder(x)
    finally:
        for hook in hooks:
            hook.remove()
    seconds = _now(device) - started
    return min(health.SAMPLE, len(splits.train)), most / len(x), seconds / len(x)
