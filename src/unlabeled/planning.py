"""What a training will take, from a few steps on a copy of the method: memory and time."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import psutil
import torch

from unlabeled.core import Batch, Method, Recipe
from unlabeled.datasets.base import Pictures, Splits, to_float
from unlabeled.datasets.loading import labels_of, loader
from unlabeled.native import keeping_memory

SIZES = (8, 16, 32)
TIMED = 128
MOMENTS = {"sgd": 1, "lars": 1, "adam": 2, "adamw": 2}


def estimate(
    method: Method, splits: Splits, recipe: Recipe, precision: str, accelerator: str
) -> dict[str, Any]:
    """Memory and time of a training, before it starts.

    What is kept for the backward pass is counted on batches of 8, 16 and 32 pictures and carried on
    to the whole batch by a parabola, since a contrastive loss grows with its square. Weights,
    gradients and the optimiser's moments are added. Time is that of steps of at most 128 pictures.

    Returns:
        `steps`, `parameters`, `memory` and `free` in bytes, `seconds`.
    """
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = torch.device("cuda" if gpu else "cpu")
    trial = copy.deepcopy(method).to(device)
    batch = min(recipe.batch_size, len(splits.train))
    sizes = sorted({min(n, batch) for n in SIZES})
    with torch.random.fork_rng(), keeping_memory():
        kept = [_kept_bytes(trial, splits, n, precision, device) for n in sizes]
        curve = np.polyfit(sizes, kept, len(sizes) - 1)
        seconds = _seconds(trial, splits, min(TIMED, batch), precision, device)
    weights = sum(p.numel() * p.element_size() for p in trial.parameters())
    data = 0 if isinstance(splits.train.x, Pictures) else splits.train.x.nbytes
    batches = loader(
        splits.train,
        batch,
        0,
        labels_of(method, splits),
        group=method.group,
        clip=method.clip,
        apart=method.apart,
        labelled=recipe.labelled,
    )
    steps = recipe.epochs * len(batches)
    free = torch.cuda.mem_get_info()[0] if gpu else psutil.virtual_memory().available
    return {
        "steps": steps,
        "parameters": sum(p.numel() for p in trial.parameters()),
        "memory": int(
            np.polyval(curve, batch)
            + weights * (2 + MOMENTS[recipe.optimizer])
            + (0 if gpu else data)
        ),
        "free": int(free),
        "seconds": seconds * steps * batch / min(TIMED, batch),
        "device": str(device),
    }


def describe(plan: dict[str, Any], method: str, splits: Splits, recipe: Recipe) -> str:
    """The estimate in two lines."""
    x = splits.train
    told = (
        f"{method} on {len(x):,} {splits.noun} of {'×'.join(map(str, x.x.shape[1:]))}: "
        f"{recipe.epochs} epochs, {plan['steps']:,} steps of {min(recipe.batch_size, len(x))}, "
        f"{plan['parameters']:,} parameters\n"
        f"about {_time(plan['seconds'])} and {plan['memory'] / 1e9:.1f} GB of memory on this "
        f"{plan['device']}, where {plan['free'] / 1e9:.1f} GB are free"
    )
    if plan["memory"] > plan["free"]:
        told += f"\nthat will not fit: try --batch-size {recipe.batch_size // 2} or less"
    return told


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _step(
    method: Method, splits: Splits, n: int, precision: str, device: torch.device
) -> torch.Tensor:
    """Loss of a batch of the first n pictures."""
    rows = np.arange(n)
    x = to_float(torch.from_numpy(splits.train.x[rows]).to(device), splits.range)
    y = None
    if target := labels_of(method, splits):
        y = torch.from_numpy(splits.train.factors[target][rows]).to(device)
    with torch.no_grad():
        views = method.views(Batch(x, torch.from_numpy(rows).to(device), y))
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        return torch.stack([loss for _, loss in method.turns(views)]).sum()


def _kept_bytes(
    method: Method, splits: Splits, n: int, precision: str, device: torch.device
) -> int:
    """Bytes that autograd keeps of a batch: every storage once, the weights not counted."""
    own = {p.untyped_storage().data_ptr() for p in method.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = _step(method, splits, n, precision, device)
    del loss
    return sum(seen.values())


def _seconds(method: Method, splits: Splits, n: int, precision: str, device: torch.device) -> float:
    """Of a step, forward and back: the quickest of five, since the first ones warm up."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        _step(method, splits, n, precision, device).backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times)
