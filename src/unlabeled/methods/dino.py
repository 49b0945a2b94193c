"""DINO: learn to say what a slow teacher says, who sees more of the image.

Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", algorithm 1.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, cosine, linear
from unlabeled.encoders.heads import PrototypeHead
from unlabeled.objectives import dino
from unlabeled.parallel import mean_over


class DINO(Method):
    """Student and teacher put each image into K classes that nobody named.

    The teacher sees two whole views, the student small crops as well. Two things keep the teacher
    from saying the same of all: its scores are centered by their running mean, else one class wins;
    and sharpened by a low temperature, else all become alike. The teacher is what is kept.

    Args:
        classes_learned: K; 65536 in the paper.
        bottleneck: width before the last layer.
        hidden: width of the head's hidden layers; 2048 in the paper.
        temperature: of the student.
        teacher_temperature: of the teacher, after a rise from 0.04 over the first third.
        momentum: of the teacher, rising to 1 along half a cosine; 0.996 in the paper.
        center_momentum: of the center.
        centering: without it one class wins, the teacher's entropy falls to 0.
        sharpening: without it the teacher's temperature is the student's, and its entropy rises to
            ln K.
        frozen: share of training before the last layer moves; one epoch in the paper.
        crops: small crops of each image; 8 in the paper.
        small: the view that makes a small crop, which then is halved in size.
        augment: the whole views; the data set's own unless given.
    """

    may_be_zero = ("crops",)
    # The paper's is AdamW at 5e-4 per 256 images, weight decay 0.04 rising to 0.4, clipping at 3.
    recipe = Recipe(epochs=100, batch_size=128, lr=5e-4, weight_decay=0.04, grad_clip_norm=3.0)
    recipes: ClassVar = {
        "dsprites": {
            **MINUTES,
            "epochs": 38,
            "lr": 2e-3,
            "classes_learned": 256,
            "crops": 0,  # a small crop of a sprite is mostly black
        }
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        classes_learned: int = 1024,
        bottleneck: int = 128,
        hidden: int = 512,
        temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        momentum: float = 0.99,
        center_momentum: float = 0.9,
        centering: bool = True,
        sharpening: bool = True,
        frozen: float = 0.01,
        crops: int = 4,
        small: Augmentation | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        head = PrototypeHead(self.encoder.dim, hidden, bottleneck, classes_learned)
        self.student: Any = nn.Sequential(self.encoder, head)
        self.teacher = EMA(self.student)
        self.encoder = self.teacher.module[0]  # type: ignore[index]
        self.center: Tensor
        self.register_buffer("center", torch.zeros(classes_learned))
        self.temperature, self.centering = temperature, centering
        rise = linear(0.04, teacher_temperature)
        self.teacher_temperature = (
            (lambda t: rise(min(1, 3 * t))) if sharpening else (lambda t: temperature)
        )
        self.momentum, self.center_momentum = cosine(momentum, 1.0), center_momentum
        self.frozen, self.crops = frozen, crops
        self.small = small or SimCLRAugment(scale=(0.05, 0.4))
        self.augment = augment or SimCLRAugment(scale=(0.4, 1.0))

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Two whole views (B, C, H, W), then small crops (B, C, H/2, W/2)."""
        crops = (F.avg_pool2d(self.small(batch.x), 2) for _ in range(self.crops))
        return self.augment(batch.x), self.augment(batch.x), *crops

    def project(self, x: Tensor) -> Tensor:
        """What the teacher says: (B, C, H, W) -> (B, K)."""
        return self.targets(self.teacher(x))

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of the student on each view with the teacher on each other whole one."""
        self.student[1].gradient_scale = float(self.progress >= self.frozen)
        whole, small = torch.cat(views[:2]), views[2:]
        scores = [*self.student(whole).chunk(2)]  # (B, K) each
        if small:
            scores += self.student(torch.cat(small)).chunk(len(small))
        taught = self.teacher(whole)  # (2B, K)
        self.mean_score = taught.mean(0)
        targets = self.targets(taught).chunk(2)
        pairs = [(s, t) for i, t in enumerate(targets) for j, s in enumerate(scores) if i != j]
        return torch.stack([dino(s, t, self.temperature) for s, t in pairs]).mean()

    def targets(self, scores: Tensor) -> Tensor:
        """What the teacher says, (B, K): centered, sharpened, sums to 1."""
        return ((scores - self.center) / self.teacher_temperature(self.progress)).softmax(1)

    def update(self) -> None:
        """The teacher follows; the center, used before, moves to the mean score of all."""
        self.teacher.update(self.student, self.momentum(self.progress))
        if self.centering:
            self.center.lerp_(mean_over(self.mean_score), 1 - self.center_momentum)

    @torch.no_grad()
    def entropy(self, x: Tensor) -> float:
        """Of what the teacher says of an image, on average, as a share of ln K: 0 one, 1 all."""
        p = self.targets(self.teacher(x))
        return float(torch.special.entr(p).sum(1).mean() / math.log(p.shape[1]))

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """Each image and where each head of a transformer's last block looks."""
        if not hasattr(self.encoder, "attention"):
            return {}
        look = self.encoder.attention(x).float()  # (B, heads, rows, columns)
        look = look / look.amax((2, 3), keepdim=True)
        maps = F.interpolate(look, x.shape[2:], mode="nearest")[:, :, None]
        return {"attention": torch.cat([x[:, None], maps.expand(-1, -1, x.shape[1], -1, -1)], 1)}
