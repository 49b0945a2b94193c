"""Time and extra memory of a loss with its gradient, in this and other libraries.

Our NT-Xent, lightly's NTXentLoss, pytorch-metric-learning's, and solo-learn's formula (the complete
matrix of exponentials, summed). Times are alternated in one process. Memory is measured in separate
processes: the peak resident memory above that before the first call.

    python bench/objectives.py                     writes results/bench_objectives.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peers import define_missing_operators
from torch import Tensor

from unlabeled.objectives import backend, nt_xent, use_backend
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json

D = 128
TAU = 0.2
Loss = Callable[[Tensor, Tensor], Tensor]


def ours(a: Tensor, b: Tensor) -> Tensor:
    """Our loss, by the backend that suits the size."""
    return nt_xent(a, b, TAU)


def dense(a: Tensor, b: Tensor) -> Tensor:
    """Our loss, by the dense backend."""
    with use_backend("dense"):
        return nt_xent(a, b, TAU)


def lightly() -> Loss:
    """Lightly's NTXentLoss."""
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=TAU)


def pml() -> Loss:
    """pytorch-metric-learning's NTXentLoss, by its wrapper for two views."""
    from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss

    return SelfSupervisedLoss(NTXentLoss(TAU))


def sololearn(a: Tensor, b: Tensor) -> Tensor:
    """solo-learn's formula: exponentials of all similarities, masked, summed."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    exponentials = torch.exp(torch.einsum("if,jf->ij", z, z) / TAU)
    index = torch.arange(len(a)).repeat(2)[:, None]
    positives = index == index.T
    positives.fill_diagonal_(False)
    negatives = index != index.T
    near = (exponentials * positives).sum(1)
    return -(near / (near + (exponentials * negatives).sum(1))).log().mean()


SIDES: dict[str, Callable[[], Loss]] = {
    "ours": lambda: ours,
    "ours, dense": lambda: dense,
    "lightly": lightly,
    "solo-learn's formula": lambda: sololearn,
    "pytorch-metric-learning": pml,
}
LIMITS = {"pytorch-metric-learning": 256, "ours, dense": 8192, "lightly": 8192}
"""Largest number of pairs for each; more would not fit in memory."""


def rows(pairs: int) -> tuple[Tensor, Tensor]:
    """Random projections of two views."""
    torch.manual_seed(0)
    a, b = torch.randn(2, pairs, D).unbind(0)
    return a.requires_grad_(), b.requires_grad_()


def once(loss: Loss, a: Tensor, b: Tensor) -> float:
    """Seconds to compute the loss and its gradient."""
    started = time.perf_counter()
    torch.autograd.grad(loss(a, b), (a, b))
    return time.perf_counter() - started


def memory(side: str, pairs: int) -> float:
    """Extra peak memory in MB, measured in a separate process."""
    line = [sys.executable, __file__, "--memory-of", side, str(pairs)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def memory_here(side: str, pairs: int) -> float:
    """Extra peak memory of the first call, after a small one has loaded the libraries."""
    loss = SIDES[side]()
    once(loss, *rows(64))
    a, b = rows(pairs)
    before = kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    once(loss, a, b)
    return (kilobytes("VmHWM") - before) / 1024


def kilobytes(field: str) -> int:
    """Peak memory of this process from /proc, since its rusage begins with the parent's peak."""
    return int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0])


def compare(pairs: int, rounds: int) -> dict[str, Any]:
    """Compare all that fit in memory, alternated."""
    sides = {n: make() for n, make in SIDES.items() if pairs <= LIMITS.get(n, 8192) or n == "ours"}
    a, b = rows(pairs)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + (pairs <= 8192)):
        for name, loss in sides.items():
            seconds = once(loss, a, b)
            if number or pairs > 8192:
                times[name].append(seconds)
    return {
        name: {
            "milliseconds": 1000 * statistics.median(values),
            "extra_megabytes": memory(name, pairs),
            "over_ours": statistics.median(
                theirs / mine for theirs, mine in zip(values, times["ours"], strict=True)
            ),
        }
        for name, values in times.items()
    }


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="*", default=[256, 1024, 8192, 65536])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory-of", nargs=2, metavar=("SIDE", "PAIRS"))
    parser.add_argument("--out", type=Path, default=Path("results/bench_objectives.json"))
    args = parser.parse_args()
    define_missing_operators()
    if args.memory_of:
        print(memory_here(args.memory_of[0], int(args.memory_of[1])))
        return
    results = {}
    for pairs in args.pairs:
        rounds = 1 if pairs > 8192 else args.rounds
        results[str(pairs)] = compare(pairs, rounds) | {"path": backend(2 * pairs, 2 * pairs)}
        print(pairs, json.dumps(results[str(pairs)], indent=1))
    write_json(
        args.out,
        {
            "command": "python bench/objectives.py",
            "what": "NT-Xent with gradient, d = 128, float32",
            "cores": os.cpu_count(),
            "versions": versions(),
            "rounds": args.rounds,
            "pairs": results,
        },
    )


if __name__ == "__main__":
    main()
