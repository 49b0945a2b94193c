"""MoCo: contrast with a long queue of keys from a slowly moving encoder.

v1: He, Fan, Wu, Xie, Girshick 2020, "Momentum Contrast for Unsupervised Visual Representation
Learning", algorithm 1; v2: Chen, Fan, Girshick, He 2020, "Improved Baselines with Momentum
Contrastive Learning".
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import info_nce
from unlabeled.parallel import gather


class MoCo(Method):
    """A query should find the key of its other view among those of the last batches.

    Query and keys must not share BatchNorm statistics, by which they would know each other. The
    paper shuffles keys among GPUs; here they are shuffled and split within each process, which does
    the same on one. Keys enter the queue after the loss, so none is its own query's negative.

    Args:
        version: "v2" has a hidden layer in its head, "v1" a linear one.
        dim: width of queries and keys.
        queue: how many keys are kept; 65536 in the papers.
        momentum: of the key network, 0.999 in the papers, for training a hundred times as long.
        temperature: τ of the loss; 0.07 in v1, 0.2 in v2.
        splits: parts whose keys have BatchNorm statistics of their own.
        augment: the views; the data set's own unless given.
    """

    # The papers' is SGD at 0.03 per 256 images.
    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.06, weight_decay=5e-4)
    # A longer queue holds keys of a network that has moved on: queries then know their own key by
    # its freshness, and learn nothing else.
    recipes: ClassVar = {
        "dsprites": {
            **MINUTES,
            "epochs": 38,
            "lr": 2e-3,
            "splits": 2,
            "queue": 1024,
            "momentum": 0.996,
        }
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        version: Literal["v1", "v2"] = "v2",
        dim: int = 128,
        queue: int = 4096,
        momentum: float = 0.99,
        temperature: float = 0.2,
        splits: int = 8,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        d = self.encoder.dim
        self.head = mlp(d, d, dim) if version == "v2" else nn.Linear(d, dim)
        self.target = EMA(nn.Sequential(self.encoder, self.head))
        self.queue: Tensor
        self.register_buffer("queue", F.normalize(torch.randn(queue, dim), dim=1))
        self.place: Tensor
        self.register_buffer("place", torch.zeros((), dtype=torch.long))
        self.momentum, self.temperature, self.splits = momentum, temperature, splits
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim)."""
        return self.head(self.encoder(x))

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """InfoNCE of queries and their keys against the queue."""
        queries = F.normalize(self.project(views[0]).float(), dim=1)  # (B, dim)
        self.keys = self.embed_keys(views[1])
        return info_nce(queries, self.keys, self.temperature, self.queue)

    def embed_keys(self, x: Tensor) -> Tensor:
        """Keys (B, dim), without gradient, in shuffled parts for BatchNorm's sake."""
        order = torch.randperm(len(x), device=x.device)
        parts = x[order].tensor_split(min(self.splits, max(1, len(x) // 2)))  # of 2 or more
        keys = torch.cat([self.target(part) for part in parts])
        return F.normalize(keys.float()[order.argsort()], dim=1)

    def update(self) -> None:
        """The key network follows; the oldest keys give way to the new ones of all processes."""
        self.target.update(nn.Sequential(self.encoder, self.head), self.momentum)
        keys = gather(self.keys)[: len(self.queue)]
        rows = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[rows] = keys
        self.place.copy_((self.place + len(keys)) % len(self.queue))
