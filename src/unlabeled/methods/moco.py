"""MoCo: momentum contrast for unsupervised visual representation learning (He et al. 2020).

v1: He, Fan, Wu, Xie, Girshick 2020, "Momentum Contrast for Unsupervised Visual Representation
Learning", algorithm 1; v2: Chen, Fan, Girshick, He 2020, "Improved Baselines with Momentum
Contrastive Learning".
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.memory import Queue, shuffled_keys
from unlabeled.objectives import info_nce


class MoCo(Method):
    """A query is contrasted with the key of the other view against a queue of earlier keys.

    The key encoder is an exponential moving average of the query encoder. Query and key must not
    share BatchNorm statistics: the paper shuffles keys among GPUs; here they are shuffled and split
    within each process, which does the same on one. Keys enter the queue after the loss, so that
    none is the negative of its own query.

    Args:
        version: "v2" has a projection head with a hidden layer, "v1" a linear one. As in the other
            methods here, the hidden layer has BatchNorm; the authors' has none.
        dim: width of queries and keys; 128 in the papers.
        queue_size: number of keys in the queue; 65536 in the papers.
        momentum: m of the key encoder; 0.999 in the papers, which train a hundred times as long.
        temperature: τ of the loss; 0.07 in v1, 0.2 in v2.
        bn_splits: parts into which shuffled keys are split, each with its BatchNorm statistics.
        augment: random augmentation of each view (default: the data set's).
    """

    # The papers use SGD at 0.03 per 256 images.
    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.06, weight_decay=5e-4)
    # With a longer queue its keys come from a network that has changed since; the positive key is
    # then recognized by being recent, and nothing else is learned.
    recipes = {
        "dsprites": MINUTES
        | {"epochs": 38, "lr": 2e-3, "bn_splits": 2, "queue_size": 1024, "momentum": 0.996}
    }
    presets = {
        "paper": {  # of version 2
            "encoder": "resnet50", "size": 224, "queue_size": 65536, "momentum": 0.999,
            "augment": SimCLRAugment((0.2, 1.0), strength=0.5, blur=0.5),
            "epochs": 200, "batch_size": 256, "optimizer": "sgd", "lr": 0.03, "warmup_epochs": 0,
            "weight_decay": 1e-4, "decay_biases": True,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        version: Literal["v1", "v2"] = "v2",
        dim: int = 128,
        queue_size: int = 4096,
        momentum: float = 0.99,
        temperature: float = 0.2,
        bn_splits: int = 8,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        d = self.encoder.dim
        self.head = mlp(d, d, dim) if version == "v2" else nn.Linear(d, dim)
        self.key_encoder = EMA(nn.Sequential(self.encoder, self.head))
        self.queue = Queue(queue_size, dim)
        self.momentum, self.temperature, self.bn_splits = momentum, temperature, bn_splits
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """InfoNCE of queries and their keys against the queue."""
        x_query, x_key = views
        query = F.normalize(self.project(x_query).float(), dim=1)  # (B, dim)
        self.keys = self.embed_keys(x_key)
        return info_nce(query, self.keys, self.temperature, self.queue.rows)

    def embed_keys(self, x: Tensor) -> Tensor:
        """Keys (B, dim) without gradient, with shuffled BatchNorm."""
        (keys,) = shuffled_keys(lambda part: (self.key_encoder(part),), x, self.bn_splits)
        return F.normalize(keys.float(), dim=1)

    def update(self) -> None:
        """Update the key encoder; enqueue all processes' keys and dequeue the oldest."""
        self.key_encoder.update(nn.Sequential(self.encoder, self.head), self.momentum)
        self.queue.enqueue(self.keys)
