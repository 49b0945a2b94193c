"""DenseCL: dense contrastive learning for self-supervised visual pre-training (Wang et al. 2021).

Wang, Zhang, Shen, Kong, Li 2021, "Dense Contrastive Learning for Self-Supervised Visual
Pre-Training", eq. 1–4.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe
from unlabeled.encoders.memory import Queue, shuffled_keys
from unlabeled.encoders.spatial import at_positions, grid_size
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.objectives import info_nce


class DenseCL(Method):
    """MoCo v2, and the same for each position of the feature map.

    The positive of a position is the dense key of that position of the other view whose features,
    those of the encoder before any head, have the largest cosine with its own. Its negatives are
    the means of earlier images' dense keys, in a queue of their own; as in the authors' code, these
    are normalized after the mean only. Keys have shuffled BatchNorm as in `moco`. The finer the
    encoder's map, the more positions there are: `spatial_resnet` has one of a quarter of the side.

    Args:
        dim: width of queries and keys, global and dense; 128 in the paper.
        dense_weight: λ, weight of the dense loss, that of the global one being 1 − λ; the paper's
            0.5.
        ramp_start: fraction of training before which λ is 0; the authors' code has a hook for it,
            by default of 1000 steps, that its published settings do not use.
        grid: S, side to which maps are pooled for the dense loss (default: they are not).
        queue_size: number of keys in each queue; 65536 in the paper.
        momentum: m of the key networks; 0.999 in the paper.
        temperature: τ of both losses; the paper's 0.2.
        bn_splits: parts into which shuffled keys are split, each with its BatchNorm statistics.
        shape: channels, height and width of the images (default: the data set's).
        augment: random augmentation of each view (default: the data set's).
    """

    modality = (Images,)
    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.06, weight_decay=5e-4)
    recipes = {
        "dsprites": MINUTES
        | {"epochs": 38, "lr": 2e-3, "bn_splits": 2, "queue_size": 1024, "momentum": 0.996}
    }
    presets = {
        "paper": {
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
        dim: int = 128,
        dense_weight: float = 0.5,
        ramp_start: float = 0.0,
        grid: int = 0,
        queue_size: int = 4096,
        momentum: float = 0.99,
        temperature: float = 0.2,
        bn_splits: int = 8,
        shape: tuple[int, int, int] = (3, 32, 32),
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        d, (channels, rows, columns) = self.encoder.dim, grid_size(encoder, shape, "densecl")
        if grid > min(rows, columns):
            raise UserError(
                f"grid is {grid}, but the encoder's feature map is {rows}×{columns}; give at most "
                "its side, or omit it"
            )
        self.head = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, dim))
        self.dense_head = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, dim, 1)
        )
        self.key_networks = EMA(self.networks())
        self.queue, self.dense_queue = Queue(queue_size, dim), Queue(queue_size, dim)
        self.dense_weight, self.ramp_start, self.grid = dense_weight, ramp_start, grid
        self.momentum, self.temperature, self.bn_splits = momentum, temperature, bn_splits
        self.augment = augment or SimCLRAugment()

    def networks(self) -> nn.ModuleList:
        """Encoder, global and dense head."""
        return nn.ModuleList([self.encoder, self.head, self.dense_head])

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Two random views of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.augment(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))  # (B, dim)

    def embed(self, networks: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Global (B, dim) and dense vectors (B, N, dim), and features of N positions (B, N, C)."""
        encoder, head, dense_head = networks.children()
        features, pooled = encoder.map_and_features(x)  # type: ignore[operator]
        if self.grid:
            features = F.adaptive_avg_pool2d(features, self.grid)
        dense = dense_head(features).flatten(2).transpose(1, 2)
        return head(pooled).float(), dense.float(), features.flatten(2).transpose(1, 2).float()

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """InfoNCE of images and of positions, each against its queue (eq. 4)."""
        x_query, x_key = views
        query, dense_query, features = self.embed(self.networks(), x_query)
        with torch.no_grad():
            key, dense_key, other = shuffled_keys(
                lambda part: self.embed(self.key_networks.module, part), x_key, self.bn_splits
            )
            with torch.autocast(features.device.type, enabled=False):
                cosines = F.normalize(features, dim=2) @ F.normalize(other, dim=2).mT  # (B, N, N)
            self.keys = F.normalize(key, dim=1)
            self.dense_keys = F.normalize(dense_key.mean(1), dim=1)
            positives = at_positions(F.normalize(dense_key, dim=2), cosines.argmax(2))
        tau, weight = self.temperature, self.dense_weight * (self.progress >= self.ramp_start)
        query, dense_query = F.normalize(query, dim=1), F.normalize(dense_query, dim=2)
        whole = info_nce(query, self.keys, tau, self.queue.rows)
        dense = info_nce(
            dense_query.flatten(0, 1), positives.flatten(0, 1), tau, self.dense_queue.rows
        )
        return (1 - weight) * whole + weight * dense

    def update(self) -> None:
        """Update the key networks; enqueue all processes' keys and dequeue the oldest."""
        self.key_networks.update(self.networks(), self.momentum)
        self.queue.enqueue(self.keys)
        self.dense_queue.enqueue(self.dense_keys)
