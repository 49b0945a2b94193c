"""DINO: self-distillation with no labels (Caron et al. 2021).

Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", algorithm 1.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment, SimCLRAugment
from unlabeled.augmentations.image import halved
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, cosine, linear
from unlabeled.encoders.heads import PrototypeHead
from unlabeled.objectives import dino
from unlabeled.parallel import mean_over


class DINO(Method):
    """A student matches the output distribution of a momentum teacher over K prototypes.

    The teacher sees two global views, the student local crops as well. Two operations keep the
    teacher from collapse: centering by the running mean of its outputs, without which one prototype
    dominates, and sharpening by a low temperature, without which the output becomes uniform. The
    teacher's encoder is the result.

    Args:
        prototypes: K, dimensions of the output; 65536 in the paper.
        bottleneck_dim: width of the head's bottleneck before the prototypes; 256 in the paper.
        hidden_dim: width of the head's hidden layers; 2048 in the paper.
        student_temperature: τ_s; the paper's 0.1.
        teacher_temperature: τ_t, rising from 0.04 over a third of training; the paper's 0.07.
        momentum: λ of the teacher, rising to 1 along half a cosine; 0.996 in the paper.
        center_momentum: m of the center; the paper's 0.9.
        centering: whether outputs are centered; otherwise the teacher's entropy falls to 0.
        sharpening: whether the teacher has its own temperature; else its entropy rises to ln K.
        freeze_last_layer: fraction of training with frozen prototypes; one epoch in the paper.
        local_crops: number of local crops of each image; 8 in the paper.
        local_augment: augmentation of a local crop, which is halved in size unless it is smaller.
        augment: augmentation of a global view (default: the data set's).
        second_augment: that of the second global view, where it differs.
    """

    may_be_zero = ("local_crops",)
    # The paper uses AdamW at 5e-4 per 256 images, weight decay from 0.04 to 0.4, clipping at 3.
    recipe = Recipe(epochs=100, batch_size=128, lr=5e-4, weight_decay=0.04, grad_clip_norm=3.0)
    # A small crop of a sprite is mostly black.
    recipes = {
        "dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "prototypes": 256, "local_crops": 0}
    }
    presets = {
        "paper": {
            "encoder": "vit_small", "encoder_args": {"patch": 16, "drop_path": 0.1}, "size": 224,
            "prototypes": 65536, "bottleneck_dim": 256, "hidden_dim": 2048, "momentum": 0.996,
            "local_crops": 8, "augment": BYOLAugment((0.4, 1.0)),
            "freeze_last_layer": 1 / 300,  # one epoch
            "second_augment": BYOLAugment((0.4, 1.0), blur=0.1, solarize=0.2),
            "local_augment": BYOLAugment((0.05, 0.4), blur=0.5, size=96),
            "epochs": 300, "batch_size": 1024, "optimizer": "adamw", "lr": 2e-3, "final_lr": 1e-6,
            "lr_scaling": "linear", "warmup_epochs": 10, "weight_decay": 0.04,
            "final_weight_decay": 0.4,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        prototypes: int = 1024,
        bottleneck_dim: int = 128,
        hidden_dim: int = 512,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        momentum: float = 0.99,
        center_momentum: float = 0.9,
        centering: bool = True,
        sharpening: bool = True,
        freeze_last_layer: float = 0.01,
        local_crops: int = 4,
        local_augment: Augmentation | None = None,
        augment: Augmentation | None = None,
        second_augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        head = PrototypeHead(self.encoder.dim, hidden_dim, bottleneck_dim, prototypes)
        self.student: Any = nn.Sequential(self.encoder, head)
        self.teacher = EMA(self.student)
        self.encoder = self.teacher.module[0]  # type: ignore[index]
        self.center: Tensor
        self.register_buffer("center", torch.zeros(prototypes))
        self.student_temperature, self.centering = student_temperature, centering
        warmup = linear(0.04, teacher_temperature)
        self.teacher_temperature = (
            (lambda t: warmup(min(1, 3 * t))) if sharpening else (lambda t: student_temperature)
        )
        self.momentum, self.center_momentum = cosine(momentum, 1.0), center_momentum
        self.freeze_last_layer, self.local_crops = freeze_last_layer, local_crops
        self.local_augment = local_augment or SimCLRAugment(scale=(0.05, 0.4))
        self.augment = augment or SimCLRAugment(scale=(0.4, 1.0))
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Two global views (B, C, H, W), then local crops (B, C, H/2, W/2) or of their own size."""
        crops = (halved(self.local_augment(batch.x), batch.x) for _ in range(self.local_crops))
        return self.augment(batch.x), self.second_augment(batch.x), *crops

    def project(self, x: Tensor) -> Tensor:
        """The teacher's distribution: (B, C, H, W) -> (B, K)."""
        return self.targets(self.teacher(x))

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of the student on each view and the teacher on each other global view."""
        self.student[1].gradient_scale = float(self.progress >= self.freeze_last_layer)
        global_views, crops = torch.cat(views[:2]), views[2:]
        student = [*self.student(global_views).chunk(2)]  # (B, K) each
        if crops:
            student += self.student(torch.cat(crops)).chunk(len(crops))
        teacher = self.teacher(global_views)  # (2B, K)
        self.batch_center = teacher.mean(0, keepdim=True)  # one row for each part of the batch
        targets = self.targets(teacher).chunk(2)
        pairs = [(s, t) for i, t in enumerate(targets) for j, s in enumerate(student) if i != j]
        return torch.stack([dino(s, t, self.student_temperature) for s, t in pairs]).mean()

    def targets(self, outputs: Tensor) -> Tensor:
        """The teacher's outputs (B, K), centered and sharpened, as distributions."""
        return ((outputs - self.center) / self.teacher_temperature(self.progress)).softmax(1)

    def update(self) -> None:
        """Update the teacher, and the center by the mean output over all processes."""
        self.teacher.update(self.student, self.momentum(self.progress))
        if self.centering:
            center = mean_over(self.batch_center.mean(0))
            self.center.lerp_(center, 1 - self.center_momentum)

    @torch.no_grad()
    def entropy(self, x: Tensor) -> float:
        """Mean entropy of the teacher's distribution over images as a fraction of ln K."""
        p = self.project(x)
        return float(torch.special.entr(p).sum(1).mean() / math.log(p.shape[1]))

    @torch.no_grad()
    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """The attention of each head of the class token, of a transformer."""
        if not hasattr(self.encoder, "attention"):
            return {}
        attention = self.encoder.attention(x).float()  # (B, heads, rows, columns)
        attention = attention / attention.amax((2, 3), keepdim=True)
        maps = F.interpolate(attention, x.shape[2:], mode="nearest")[:, :, None]
        return {"attention": torch.cat([x[:, None], maps.expand(-1, -1, x.shape[1], -1, -1)], 1)}
