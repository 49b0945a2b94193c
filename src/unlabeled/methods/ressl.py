"""ReSSL: relational self-supervised learning with weak augmentation (Zheng et al. 2021).

Zheng, You, Wang, Qian, Zhang, Wang, Xu 2021, "ReSSL: Relational Self-Supervised Learning with Weak
Augmentation", eq. 3–5 and algorithm 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomAffine, RandomResizedCrop, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.memory import Queue
from unlabeled.objectives import dino


class ReSSL(Method):
    """A student has the similarities to a queue of other images that a momentum teacher has.

    The student sees a strongly augmented view, the teacher a weakly augmented one, which changes
    few similarities; a lower temperature sharpens the teacher's. Keys enter the queue after the
    loss.

    Args:
        dim: width of the embeddings; 512 in the paper.
        hidden_dim: width of the projector's hidden layer; 4096 in the paper.
        queue_size: number of keys in the queue; 131072 in the paper.
        momentum: of the teacher; 0.999 in the paper.
        student_temperature: τ_s; the paper's 0.1.
        teacher_temperature: τ_t, lower than τ_s; the paper's 0.04.
        augment: random augmentation of the student's view (default: the data set's).
        weak: random augmentation of the teacher's view (default: a crop and a flip; for data whose
            `augment` has no crops, that for labeled training).
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.06, weight_decay=5e-4)
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
            "queue_size": 131072, "momentum": 0.999,
            "augment": SimCLRAugment((0.2, 1.0), strength=0.5, blur=0.5),
            "epochs": 200, "batch_size": 256, "optimizer": "sgd", "lr": 0.05, "warmup_epochs": 5,
            "weight_decay": 1e-4,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        queue_size: int = 4096,
        momentum: float = 0.99,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        augment: Augmentation | None = None,
        weak: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(self.encoder.dim, hidden_dim, dim)
        self.teacher = EMA(nn.Sequential(self.encoder, self.projector))
        self.queue = Queue(queue_size, dim)
        self.student_temperature = student_temperature
        self.momentum, self.teacher_temperature = momentum, teacher_temperature
        self.augment = augment or SimCLRAugment()
        self.weak = weak or RandomResizedCrop((0.2, 1.0))

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A strongly and a weakly augmented view of each image, (B, C, H, W) each."""
        return self.augment(batch.x), self.weak(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Cross-entropy of the student's and the teacher's similarities to the queue."""
        strong, weak = views
        query = F.normalize(self.project(strong).float(), dim=1)  # (B, dim)
        self.keys = F.normalize(self.teacher(weak).float(), dim=1)
        with torch.autocast(query.device.type, enabled=False):
            scores, targets = (z @ self.queue.rows.T for z in (query, self.keys))  # (B, K) each
        targets = (targets / self.teacher_temperature).softmax(1)
        return dino(scores, targets, self.student_temperature)

    def update(self) -> None:
        """Update the teacher; enqueue all processes' keys and dequeue the oldest."""
        self.teacher.update(nn.Sequential(self.encoder, self.projector), self.momentum)
        self.queue.enqueue(self.keys)
