"""Objectives beside their peers: seconds and extra memory of a loss with its gradient.

NT-Xent here, lightly's NTXentLoss, pytorch-metric-learning's, and solo-learn's formula (the whole
matrix of exponentials, summed). Each side is timed in turn in one process, and its memory measured
in a process of its own: the highest resident memory above that before the first call.

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
    """By the path that the size chooses."""
    return nt_xent(a, b, TAU)


def dense(a: Tensor, b: Tensor) -> Tensor:
    """As a matrix."""
    with use_backend("dense"):
        return nt_xent(a, b, TAU)


def lightly() -> Loss:
    """Its NTXentLoss."""
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=TAU)


def pml() -> Loss:
    """pytorch-metric-learning's NTXentLoss, by its wrapper for two views."""
    from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss

    return SelfSupervisedLoss(NTXentLoss(TAU))


def sololearn(a: Tensor, b: Tensor) -> Tensor:
    """Its formula: exponentials of all similarities, masks of positives and negatives, sums."""
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
"""Pairs above which a side is left out: it would take more memory than there is."""


def rows(pairs: int) -> tuple[Tensor, Tensor]:
    """Random projections of two views."""
    torch.manual_seed(0)
    a, b = torch.randn(2, pairs, D).unbind(0)
    return a.requires_grad_(), b.requires_grad_()


def once(loss: Loss, a: Tensor, b: Tensor) -> float:
    """Seconds of the loss and its gradient."""
    started = time.perf_counter()
    torch.autograd.grad(loss(a, b), (a, b))
    return time.perf_counter() - started


def memory(side: str, pairs: int) -> float:
    """Extra megabytes at their peak, in a process of its own."""
    line = [sys.executable, __file__, "--memory-of", side, str(pairs)]
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def memory_here(side: str, pairs: int) -> float:
    """Of the first call of this process, after a small one has loaded what is needed."""
    loss = SIDES[side]()
    once(loss, *rows(64))
    a, b = rows(pairs)
    before = kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    once(loss, a, b)
    return (kilobytes("VmHWM") - before) / 1024


def kilobytes(field: str) -> int:
    """Of this process, as Linux tells; its rusage would begin with the parent's peak."""
    return int(Path("/proc/self/status").read_text().partition(f"{field}:")[2].split()[0])


def compare(pairs: int, rounds: int) -> dict[str, Any]:
    """All sides that can, in turn."""
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
    """Measure, print, write."""
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
    found = {}
    for pairs in args.pairs:
        rounds = 1 if pairs > 8192 else args.rounds
        found[str(pairs)] = compare(pairs, rounds) | {"path": backend(2 * pairs, 2 * pairs)}
        print(pairs, json.dumps(found[str(pairs)], indent=1))
    write_json(
        args.out,
        {
            "command": "python bench/objectives.py",
            "what": "NT-Xent with gradient, d = 128, float32",
            "cores": os.cpu_count(),
            "versions": versions(),
            "rounds": args.rounds,
            "pairs": found,
        },
    )


if __name__ == "__main__":
    main()
