"""Distillation without labels: a student learns to have the features of a teacher.

`objective="queue"` is lightly-train's `distillationv1`, the image-level part of its default too,
as its documentation describes it: the labels of Beyer et al. 2022, "Knowledge Distillation: A Good
Teacher is Patient and Consistent", are replaced by similarities to a queue of earlier features of
the teacher, as in Fang et al. 2021, "SEED: Self-supervised Distillation for Visual Representation",
eq. 4. Its term of patches (`distillationv3`) is not here.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.errors import UserError
from unlabeled.modality import Images
from unlabeled.objectives import cosine_distance
from unlabeled.parallel import gather


class Distill(Method):
    """The student's projected features are to be those of a frozen teacher for the same view.

    Both see the same augmented image, and with mixup the same mixture of two. Features are
    normalized; the projection is discarded.

    Args:
        teacher: a run folder, `timm:NAME`, `hf:OWNER/NAME` or a folder of such weights; in Python
            also a `Run` or a module (B, C, H, W) -> (B, D).
        teacher_size: side in pixels of the images that the teacher receives (default: its own).
        objective: "queue" compares the similarities of student and teacher to features of the
            batch and the queue, "mse" their normalized features themselves.
        queue_size: number of the teacher's last features; lightly-train has from a quarter to half
            as many as images, at most 8192.
        temperature: τ of the similarities; lightly-train's 0.07.
        head_layers: layers of the projection to the teacher's dimension; 1 is linear.
        mixup: whether images are mixed with others of the batch, with a share drawn from [0, 1].
        augment: random augmentation (default: the data set's).
    """

    modality = (Images,)
    # lightly-train uses LARS at 1.8 for 1536 images, weight decay 1e-6, clipping at 1.
    base_lr = {"lars": 0.3}
    recipe = Recipe(epochs=100, batch_size=128, lr=1e-3, weight_decay=1e-4, grad_clip_norm=1.0)
    recipes = {"dsprites": MINUTES | {"epochs": 20, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        teacher: str | None = None,
        teacher_size: int | None = None,
        objective: Literal["queue", "mse"] = "queue",
        queue_size: int = 2048,
        temperature: float = 0.07,
        head_layers: int = 1,
        mixup: bool = True,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        network: Any = teacher
        if not isinstance(network, nn.Module):
            raise UserError("distill needs a teacher; give --teacher RUN, timm:NAME or hf:NAME")
        self.teacher = network.requires_grad_(False).eval()
        dim: Any = network.dim
        d = self.encoder.dim
        self.head = mlp(*[d] * head_layers, dim)
        self.queue: Tensor
        self.register_buffer("queue", torch.zeros(queue_size, dim))  # a zero is similar to none
        self.teacher_size, self.objective, self.mixup = teacher_size, objective, mixup
        self.temperature = temperature
        self.augment = augment or SimCLRAugment()

    def train(self, mode: bool = True) -> "Distill":
        """The teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def views(self, batch: Batch) -> Tensor:
        """Augmented images (B, C, H, W), mixed with one another."""
        x = self.augment(batch.x)
        if not self.mixup:
            return x
        share = torch.rand(len(x), 1, 1, 1, device=x.device)
        return x + share * (x[torch.randperm(len(x), device=x.device)] - x)

    def project(self, x: Tensor) -> Tensor:
        """The student's prediction of the teacher's features, unit vectors (B, D)."""
        return F.normalize(self.head(self.encoder(x)).float(), dim=1)

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        """The teacher's features, unit vectors (B, D)."""
        if self.teacher_size:
            side = self.teacher_size
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
        return F.normalize(self.teacher(x).float(), dim=1)

    def loss(self, views: Tensor) -> Tensor:
        """Kullback-Leibler divergence over the queue, or the squared distance of the features."""
        student, self.targets = self.project(views), self.target(views)
        if self.objective == "mse":
            return cosine_distance(student, self.targets)
        candidates = self.newest(gather(self.targets)).T / self.temperature  # (D, N)
        with torch.autocast(views.device.type, enabled=False):
            log_p = F.log_softmax(student @ candidates, 1)
            wanted = F.log_softmax(self.targets @ candidates, 1)
        return F.kl_div(log_p, wanted, reduction="batchmean", log_target=True)

    def newest(self, targets: Tensor) -> Tensor:
        """The queue after features of a batch have come in, (N, D): at least all of the batch.

        As in lightly-train, those of the batch take part in its loss; the teacher's own feature is
        then the most likely.
        """
        return torch.cat([targets, self.queue])[: max(len(targets), len(self.queue))]

    def update(self) -> None:
        """Enqueue the features of all processes."""
        self.queue.copy_(self.newest(gather(self.targets))[: len(self.queue)])
