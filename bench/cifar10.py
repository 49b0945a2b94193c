"""k-NN accuracy on CIFAR-10 after equal training time: SimCLR and BYOL, ours and lightly's.

Both train the same small ResNet on all 50,000 training images; learning rates are scheduled by the
fraction of the time. lightly's transforms, heads and losses have the settings of its CIFAR-10
benchmark, in the fastest way on two cores: transforms in the training process, bf16.

    python bench/cifar10.py simclr ours         trains one for 20 minutes: results/cifar10_*.json
    python bench/cifar10.py byol lightly
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import define_missing_operators
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from unlabeled import registry
from unlabeled.core import Method, cosine
from unlabeled.data import open_data
from unlabeled.data.dataset import Splits, to_float
from unlabeled.data.loader import loader
from unlabeled.encoders.base import build
from unlabeled.encoders.features import embed
from unlabeled.evaluation.knn import knn_accuracy
from unlabeled.training.folder import versions
from unlabeled.training.optim import learning_rate, make_optimizer
from unlabeled.training.resolve import resolve
from unlabeled.utils.files import write_json

WIDTH = 0.25
"""Width of ResNet-18 that gives 128 features."""
BATCH = 256


def encoder_of(splits: Splits) -> nn.Module:
    """The encoder of both, with the same initial weights."""
    torch.manual_seed(0)
    return build("resnet18", splits.channels, splits.size, width=WIDTH)


def ours(name: str, splits: Splits, seconds: float) -> tuple[nn.Module, int]:
    """Training loop of our methods with the recipe for this data, scheduled by time."""
    cls: type[Method] = registry.find("methods", name)
    recipe, arguments = resolve(cls, splits, {"batch_size": BATCH})
    method = cls(encoder_of(splits), **arguments)
    method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(recipe, method)
    batches = loader(splits.train, recipe.batch_size, seed=0)
    started = time.perf_counter()
    for steps, rows in enumerate(forever(batches)):
        method.progress = (time.perf_counter() - started) / seconds
        if method.progress >= 1:
            return method.encoder, steps
        set_rate(optimizer, learning_rate(recipe, method.progress))
        with torch.no_grad():
            views = method.views(rows._replace(x=to_float(rows.x, splits.value_range)))
        with torch.autocast("cpu", torch.bfloat16):
            loss = method.loss(views)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            method.update()
    raise AssertionError("batches never end")


class ImageDataset(Dataset):
    """One PIL image at a time, as lightly's transforms expect."""

    def __init__(self, x: np.ndarray, transform: Any) -> None:
        self.x, self.transform = x, transform

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> Any:
        return self.transform(Image.fromarray(self.x[row].transpose(1, 2, 0)))


def lightly(name: str, splits: Splits, seconds: float) -> tuple[nn.Module, int]:
    """Training loop of lightly's CIFAR-10 benchmark: SGD 0.06, weight decay 5e-4, cosine."""
    from lightly.loss import NegativeCosineSimilarity, NTXentLoss
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead, SimCLRProjectionHead
    from lightly.models.utils import deactivate_requires_grad, update_momentum
    from lightly.transforms import SimCLRTransform

    encoder: Any = encoder_of(splits)
    encoder.to(memory_format=torch.channels_last)
    d = encoder.dim
    if name == "simclr":
        head: nn.Module = SimCLRProjectionHead(d, d, 128)
        predictor: nn.Module = nn.Identity()
        criterion: Any = NTXentLoss()
    else:
        head, predictor = BYOLProjectionHead(d, 1024, 256), BYOLPredictionHead(256, 1024, 256)
        criterion = NegativeCosineSimilarity()
    slow_encoder, slow_head = copy.deepcopy(encoder), copy.deepcopy(head)
    deactivate_requires_grad(slow_encoder)
    deactivate_requires_grad(slow_head)
    moving = nn.ModuleList([encoder, head, predictor])
    optimizer = torch.optim.SGD(moving.parameters(), 0.06, momentum=0.9, weight_decay=5e-4)
    transform = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
    data = ImageDataset(splits.train.x[:], transform)
    batches = DataLoader(data, BATCH, shuffle=True, drop_last=True)
    started = time.perf_counter()
    fall, slow = cosine(1.0, 0.0), cosine(0.99, 1.0)
    for steps, (x0, x1) in enumerate(forever(batches)):
        progress = (time.perf_counter() - started) / seconds
        if progress >= 1:
            return encoder, steps
        set_rate(optimizer, 0.06 * fall(progress))
        with torch.autocast("cpu", torch.bfloat16):
            z0, z1 = head(encoder(x0)), head(encoder(x1))
            if name == "byol":
                p0, p1 = predictor(z0), predictor(z1)
                with torch.no_grad():
                    t0, t1 = slow_head(slow_encoder(x0)), slow_head(slow_encoder(x1))
        if name == "simclr":
            loss = criterion(z0.float(), z1.float())
        else:
            loss = 0.5 * (criterion(p0.float(), t1.float()) + criterion(p1.float(), t0.float()))
            update_momentum(encoder, slow_encoder, slow(progress))
            update_momentum(head, slow_head, slow(progress))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    raise AssertionError("batches never end")


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def forever(batches: DataLoader) -> Iterator[Any]:
    """Batches of one epoch after another."""
    for epoch in itertools.count():
        if hasattr(batches.sampler, "set_epoch"):
            batches.sampler.set_epoch(epoch)
        yield from batches


def main() -> None:
    """Train one, evaluate it and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=["simclr", "byol"])
    parser.add_argument("side", choices=["ours", "lightly"])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("results"))
    args = parser.parse_args()
    define_missing_operators()
    splits = open_data("cifar10")
    train = {"ours": ours, "lightly": lightly}[args.side]
    encoder, steps = train(args.method, splits, 60 * args.minutes)
    z, z_test = (embed(encoder, part.x, splits.value_range) for part in (splits.train, splits.test))
    y, y_test = (part.factors["class"] for part in (splits.train, splits.test))
    results = {
        "knn": knn_accuracy(z, y, z_test, y_test),
        "epochs": steps * BATCH / len(splits.train),
        "samples_per_second": steps * BATCH / (60 * args.minutes),
    }
    print(args.method, args.side, results)
    write_json(
        args.out / f"cifar10_{args.method}_{args.side}.json",
        {
            "command": f"python bench/cifar10.py {args.method} {args.side} "
            f"--minutes {args.minutes:g}",
            "seed": 0,
            "cores": os.cpu_count(),
            "versions": versions(),
            **results,
        },
    )


if __name__ == "__main__":
    main()
