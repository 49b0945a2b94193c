"""MSF: mean shift for self-supervised learning (Koohpayegani et al. 2021).

Koohpayegani, Tejankar, Pirsiavash 2021, "Mean Shift for Self-Supervised Learning", section 3.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomAffine, RandomResizedCrop, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.memory import Queue, nearest
from unlabeled.parallel import gather


class MeanShift(Method):
    """BYOL that predicts not only the target, but also its nearest neighbors among earlier ones.

    Targets of the batch enter the queue before the neighbors are found, so that the nearest is the
    target itself; with one neighbor it is BYOL with one direction.

    Args:
        dim: width of the embeddings; 512 in the paper.
        hidden_dim: width of the hidden layer of projector and predictor; 4096 in the paper.
        neighbors: number of nearest neighbors, the target included; the paper's 5.
        queue_size: number of targets in the queue; 1,024,000 in the paper.
        momentum: of the target network; the paper's 0.99.
        augment: random augmentation of the predictor's view (default: the data set's).
        weak: random augmentation of the target's view (default: a crop and a flip; for data whose
            `augment` has no crops, that for labeled training).
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.05, weight_decay=5e-4)
    recipes = {
        "dsprites": MINUTES
        | {
            "epochs": 38,
            "lr": 2e-3,
            "queue_size": 1024,
            "weak": RandomAffine(20.0, 0.1, (0.9, 1.1)),
        }
    }
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "dim": 512, "hidden_dim": 4096,
            "queue_size": 1_024_000,
            "augment": SimCLRAugment((0.2, 1.0), strength=0.5, blur=0.5),
            "epochs": 200, "batch_size": 256, "optimizer": "sgd", "lr": 0.05, "warmup_epochs": 0,
            "weight_decay": 1e-4, "decay_biases": True,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        neighbors: int = 5,
        queue_size: int = 4096,
        momentum: float = 0.99,
        augment: Augmentation | None = None,
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(self.encoder.dim, hidden_dim, dim)
        self.predictor = mlp(dim, hidden_dim, dim)
        self.target = EMA(nn.Sequential(self.encoder, self.projector))
        self.queue = Queue(queue_size, dim)
        self.neighbors, self.momentum = neighbors, momentum
        self.augment = augment or SimCLRAugment()
        self.weak = weak or RandomResizedCrop((0.2, 1.0))

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A strongly and a weakly augmented view of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.weak(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared distance of predictions and the neighbors of their targets."""
        strong, weak = views
        p = F.normalize(self.predictor(self.project(strong)).float(), dim=1)  # (B, dim)
        self.targets = F.normalize(self.target(weak).float(), dim=1)
        rows = self.queue.after(gather(self.targets))
        near = nearest(rows, self.targets, self.neighbors)  # (B, neighbors, dim)
        return 2 - 2 * (p * near.mean(1)).sum(1).mean()

    def update(self) -> None:
        """Update the target network; enqueue all processes' targets and dequeue the oldest."""
        self.target.update(nn.Sequential(self.encoder, self.projector), self.momentum)
        self.queue.enqueue(self.targets)
