"""Time of a SimCLR training step, ours and lightly's, alternated in one run.

lightly: its MultiViewTransform of torchvision's RandomAffine, one image at a time in a DataLoader,
and its NTXentLoss. Ours: batched views and nt_xent. Images, encoder, batch size, optimizer and
threads are the same. A step includes loading, views, forward, loss, backward and Adam. Each loader
exists only while it is timed, so that its workers slow no other. Ours keeps freed memory, as in
training; the LeNet for lightly has PyTorch's pooling, as its users would write it.

    make bench                                     writes results/bench_simclr_step.json
    python bench/simclr_step.py --rounds 3         fewer rounds
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import define_missing_operators
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from unlabeled.core import Batch
from unlabeled.data import open_data
from unlabeled.data.dataset import Samples, Splits, to_float
from unlabeled.data.loader import loader
from unlabeled.encoders.base import build
from unlabeled.encoders.lenet import FastAvgPool2d
from unlabeled.methods.simclr import SimCLR
from unlabeled.training.folder import versions
from unlabeled.utils.files import write_json
from unlabeled.utils.native import keeping_memory

TEMPERATURE = 0.2
Steps = Callable[[int], None]
"""A function that does a number of training steps."""


def ours(splits: Splits, encoder: str, batch: int, dtype: torch.dtype) -> Steps:
    """Training loop of our methods, as in `unlabeled train`."""
    torch.manual_seed(0)
    method = SimCLR(
        build(encoder, splits.channels, splits.size),
        dim=0,
        temperature=TEMPERATURE,
        augment=splits.augment,
    ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(method.parameters(), 1e-3, fused=True)
    batches = loader(splits.train, batch, seed=0)

    def steps(n: int) -> None:
        rows: Batch
        with keeping_memory():
            for rows in itertools.islice(forever(batches), n):
                views = method.views(rows._replace(x=to_float(rows.x, splits.value_range)))
                with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                    loss = method.loss(views)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    return steps


def plain(network: Any) -> Any:
    """Replace our layers by PyTorch's."""
    for module in list(network.modules()):
        for name, layer in module.named_children():
            if isinstance(layer, FastAvgPool2d):
                setattr(module, name, nn.AvgPool2d(2))
    return network


class ImageDataset(Dataset):
    """One PIL image at a time, as lightly's transforms expect."""

    def __init__(self, samples: Samples, transform: Any) -> None:
        self.x, self.transform = samples.x[:][:, 0], transform

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Any:
        return self.transform(Image.fromarray(self.x[row]))


def lightly(splits: Splits, encoder: str, batch: int, dtype: torch.dtype, workers: int) -> Steps:
    """Training loop of lightly's examples."""
    from lightly.loss import NTXentLoss
    from lightly.transforms.multi_view_transform import MultiViewTransform
    from torchvision import transforms as T

    view = T.Compose([T.RandomAffine(180, translate=(0.3, 0.3), scale=(0.65, 1.35)), T.ToTensor()])
    torch.manual_seed(0)
    network = plain(build(encoder, splits.channels, splits.size))
    criterion = NTXentLoss(temperature=TEMPERATURE)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    data = ImageDataset(splits.train, MultiViewTransform([view, view]))
    batches = DataLoader(data, batch, shuffle=True, drop_last=True, num_workers=workers)

    def steps(n: int) -> None:
        for x0, x1 in itertools.islice(forever(batches), n):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                z0, z1 = network(x0), network(x1)
            loss = criterion(z0.float(), z1.float())
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return steps


def forever(batches: DataLoader) -> Iterator[Any]:
    """Batches of one epoch after another."""
    return itertools.chain.from_iterable(itertools.repeat(batches))


def alternate(sides: dict[str, Steps], rounds: int, n: int) -> dict[str, list[float]]:
    """Seconds per step of each by round, alternated, after one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, steps in sides.items():
            started = time.perf_counter()
            steps(n)
            if number:
                times[name].append((time.perf_counter() - started) / n)
    return times


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--encoder", default="small")
    parser.add_argument("--batch", type=int, nargs="*", default=[256, 1000])
    parser.add_argument("--out", type=Path, default=Path("results/bench_simclr_step.json"))
    args = parser.parse_args()
    define_missing_operators()
    splits = open_data("dsprites")
    bf16, fp32 = torch.bfloat16, torch.float32
    rows = []
    for batch in args.batch:
        make = (splits, args.encoder, batch)
        sides = {
            "ours bf16": ours(*make, bf16),
            "ours fp32": ours(*make, fp32),
            "lightly bf16": lightly(*make, bf16, 0),
            "lightly bf16, 2 workers": lightly(*make, bf16, 2),
            "lightly fp32": lightly(*make, fp32, 0),
            "lightly fp32, 2 workers": lightly(*make, fp32, 2),
        }
        times = alternate(sides, args.rounds, 6000 // batch)
        pairs = {name: "ours bf16" if "bf16" in name else "ours fp32" for name in sides}
        print(f"\nbatch {batch}, encoder {args.encoder}, medians of {args.rounds} rounds")
        for name, values in times.items():
            mine = pairs[name]
            ratio = statistics.median(np.divide(values, times[mine]))
            speed = batch / statistics.median(values)
            print(f"{name:30} {speed:8,.0f} images/s   ours is {ratio:5.2f}× as fast")
            rows.append(
                {"batch": batch, "side": name, "samples_per_second": speed, f"over {mine}": ratio}
            )
        default = {"lightly fp32": 0.0, "lightly fp32, 2 workers": 0.0}
        for name in default:
            default[name] = statistics.median(np.divide(times[name], times["ours bf16"]))
            print(f"default to default, {name:30} ours is {default[name]:5.2f}× as fast")
        rows.append({"batch": batch, "default to default": default})
    write_json(
        args.out,
        {
            "command": f"python bench/simclr_step.py --encoder {args.encoder}",
            "encoder": args.encoder,
            "rounds": args.rounds,
            "cores": os.cpu_count(),
            "versions": versions(),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
