"""Time to a linear probe accuracy of 98.6 % on dSprites, with rendering and probe.

98.6 % is that of the tutorial's released checkpoint. Both libraries train the same encoder for the
same number of epochs on the same schedule, each in a separate process; lightly as in
`simclr_step.py`: its transforms of one image at a time and its loss, in bf16.

    python bench/time_to.py --epochs 22            writes results/bench_time_to.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import define_missing_operators
from simclr_step import ImageDataset
from torch.utils.data import DataLoader

from unlabeled.core import one_cycle
from unlabeled.data import open_data
from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.loader import loader
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.evaluation.probe import linear_probe
from unlabeled.methods.simclr import SimCLR
from unlabeled.training.folder import versions
from unlabeled.training.optim import learning_rate, make_optimizer
from unlabeled.training.resolve import resolve
from unlabeled.utils.files import write_json
from unlabeled.utils.native import keeping_memory

WANTED = 0.986
LR = 2e-3
"""Learning rate of a short schedule; that of the recipe is for one twice as long."""


def ours(splits: Splits, epochs: int) -> torch.nn.Module:
    """Training loop of our methods with the recipe for the data."""
    recipe, arguments = resolve(SimCLR, splits, {"epochs": epochs, "lr": LR})
    torch.manual_seed(0)
    method = SimCLR(build("small", splits.channels, splits.size), **arguments)
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(recipe, method)
    batches = loader(splits.train, recipe.batch_size, seed=0)
    order: Any = batches.sampler
    done, steps = 0, epochs * len(batches)
    for epoch in range(epochs):
        order.set_epoch(epoch)
        for rows in batches:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe, (done + 0.5) / steps)
            with torch.no_grad():
                views = method.views(rows._replace(x=to_float(rows.x, splits.value_range)))
            with torch.autocast("cpu", torch.bfloat16):
                loss = method.loss(views)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
    return method.encoder


def lightly(splits: Splits, epochs: int) -> torch.nn.Module:
    """Training loop of lightly with the same learning rates."""
    from lightly.loss import NTXentLoss
    from lightly.transforms.multi_view_transform import MultiViewTransform
    from torchvision import transforms as T

    recipe, arguments = resolve(SimCLR, splits, {"epochs": epochs, "lr": LR})
    view = T.Compose([T.RandomAffine(180, translate=(0.3, 0.3), scale=(0.65, 1.35)), T.ToTensor()])
    torch.manual_seed(0)
    network: Any = build("small", splits.channels, splits.size)
    network.to(memory_format=torch.channels_last)
    criterion = NTXentLoss(temperature=arguments["temperature"])
    optimizer = torch.optim.Adam(network.parameters(), recipe.lr, fused=True)
    data = ImageDataset(splits.train, MultiViewTransform([view, view]))
    batches = DataLoader(data, recipe.batch_size, shuffle=True, drop_last=True)
    rate, done, steps = one_cycle(), 0, epochs * len(batches)
    for _ in range(epochs):
        for x0, x1 in batches:
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr * rate((done + 0.5) / steps)
            with torch.autocast("cpu", torch.bfloat16):
                z0, z1 = network(x0), network(x1)
            loss = criterion(z0.float(), z1.float())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            done += 1
    return network


def side(name: str, epochs: int) -> dict[str, float]:
    """Render, train and probe with one library."""
    started, used = time.perf_counter(), time.process_time()
    splits = open_data("dsprites")
    with keeping_memory() if name == "ours" else contextlib.nullcontext():  # as in training
        encoder = {"ours": ours, "lightly": lightly}[name](splits, epochs).eval()
    z, z_test = (embed(encoder, part.x, splits.value_range) for part in (splits.train, splits.test))
    y, y_test = (part.factors["shape"] for part in (splits.train, splits.test))
    linear = linear_probe(z, y, z_test, y_test).test
    return {
        "linear": linear,
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - used,
    }


def main() -> None:
    """Run both in separate processes; or one of them, in this one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=22)
    parser.add_argument("--side", choices=["ours", "lightly"])
    parser.add_argument("--out", type=Path, default=Path("results/bench_time_to.json"))
    args = parser.parse_args()
    define_missing_operators()
    if args.side:
        print(json.dumps(side(args.side, args.epochs)))
        return
    results: dict[str, Any] = {}
    for name in ("ours", "lightly"):
        line = [sys.executable, __file__, "--side", name, "--epochs", str(args.epochs)]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
        results[name] = json.loads(done.stdout.splitlines()[-1])
        print(name, results[name], flush=True)
    ratio = np.divide(results["lightly"]["seconds"], results["ours"]["seconds"])
    write_json(
        args.out,
        {
            "command": f"python bench/time_to.py --epochs {args.epochs}",
            "wanted": WANTED,
            "reached": results["ours"]["linear"] >= WANTED,
            "ratio": float(ratio),
            "cores": os.cpu_count(),
            "versions": versions(),
            **results,
        },
    )


if __name__ == "__main__":
    main()
