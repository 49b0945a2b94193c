"""iBOT: image BERT pre-training with online tokenizer (Zhou et al. 2022).

Zhou, Wei, Wang, Shen, Xie, Yuille, Kong 2022, "iBOT: Image BERT Pre-Training with Online
Tokenizer", algorithm 1 and eq. 2–3.
"""

from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment, SimCLRAugment
from unlabeled.core import EMA, MINUTES, Batch, Method, Recipe, cosine, linear
from unlabeled.encoders.masked_distillation import (
    MaskedStudent,
    cross_view_loss,
    masked_patch_loss,
    masked_views,
    student_scores,
)
from unlabeled.modality import Images
from unlabeled.parallel import mean_over


class IBOT(Method):
    """DINO on masked views, and each masked patch predicts the teacher's output for that patch.

    The teacher sees the views complete. Class and patch tokens are projected by the same head and
    centered by running means of their own. The teacher's encoder, a transformer, is the result.

    Args:
        prototypes: K, dimensions of the output; 8192 in the paper.
        bottleneck_dim: width of the head's bottleneck before the prototypes; 256 in the paper.
        hidden_dim: width of the head's hidden layers; 2048 in the paper.
        shared_head: whether class and patch tokens have the same head, as in the paper.
        patch_weight: weight of the loss of masked patches; the paper's 1.
        mask_ratio: range of the fraction of masked patches of a view, half of which are masked at
            all; the paper's 0.3 ± 0.2.
        student_temperature: τ_s; the paper's 0.1.
        teacher_temperature: τ_t, rising from 0.04 over a third of training; the paper's 0.07.
        momentum: of the teacher, rising to 1 along half a cosine; 0.996 in the paper.
        center_momentum: of both centers; the paper's 0.9.
        freeze_last_layer: fraction of training with frozen prototypes; one epoch in the paper.
        local_crops: number of local crops of each image; 10 in the paper.
        local_augment: augmentation of a local crop, which is halved in size unless it is smaller.
        augment: augmentation of a global view (default: the data set's).
        second_augment: that of the second global view, where it differs.
    """

    modality = (Images,)
    default_encoder = {Images: "vit"}
    may_be_zero = ("local_crops",)
    recipe = Recipe(epochs=100, batch_size=128, lr=5e-4, weight_decay=0.04, grad_clip_norm=3.0)
    recipes = {
        "dsprites": MINUTES | {"epochs": 10, "lr": 1e-3, "prototypes": 256, "local_crops": 0}
    }
    presets = {
        "paper": {
            "encoder": "vit_small", "encoder_args": {"patch": 16, "drop_path": 0.1}, "size": 224,
            "prototypes": 8192, "bottleneck_dim": 256, "hidden_dim": 2048, "momentum": 0.996,
            "local_crops": 10, "augment": BYOLAugment((0.25, 1.0)),
            "freeze_last_layer": 1 / 800,  # one epoch
            "second_augment": BYOLAugment((0.25, 1.0), blur=0.1, solarize=0.2),
            "local_augment": BYOLAugment((0.05, 0.25), blur=0.5, size=96),
            "epochs": 800, "batch_size": 1024, "optimizer": "adamw", "lr": 2e-3, "final_lr": 1e-6,
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
        shared_head: bool = True,
        patch_weight: float = 1.0,
        mask_ratio: tuple[float, float] = (0.1, 0.5),
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        momentum: float = 0.99,
        center_momentum: float = 0.9,
        freeze_last_layer: float = 0.01,
        local_crops: int = 4,
        local_augment: Augmentation | None = None,
        augment: Augmentation | None = None,
        second_augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        head = hidden_dim, bottleneck_dim, prototypes
        self.student = MaskedStudent(self.encoder, head, shared_head)
        self.teacher = EMA(self.student)
        self.encoder = self.teacher.module.encoder
        self.center: Tensor
        self.patch_center: Tensor
        self.register_buffer("center", torch.zeros(prototypes))
        self.register_buffer("patch_center", torch.zeros(prototypes))
        self.patch_weight, self.mask_ratio = patch_weight, mask_ratio
        self.student_temperature = student_temperature
        self.warmup = linear(0.04, teacher_temperature)
        self.momentum, self.center_momentum = cosine(momentum, 1.0), center_momentum
        self.freeze_last_layer, self.local_crops = freeze_last_layer, local_crops
        self.local_augment = local_augment or SimCLRAugment(scale=(0.05, 0.4))
        self.augment = augment or SimCLRAugment(scale=(0.4, 1.0))
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Two global views (B, C, H, W), their masks (B, patches), then local crops."""
        local = self.local_augment, self.local_crops
        augments = self.augment, self.second_augment
        return masked_views(batch, self.encoder, augments, local, self.mask_ratio)

    def project(self, x: Tensor) -> Tensor:
        """The teacher's distribution: (B, C, H, W) -> (B, K)."""
        return self.targets(self.teacher(x)[1], self.center)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of student and teacher on different views, and on the same masked patch."""
        self.student.freeze_prototypes(self.progress < self.freeze_last_layer)
        _, scores, patch_scores = student_scores(self.student, views)
        masked: Any = torch.cat(views[2:4])
        every = torch.ones_like(masked)
        _, outputs, patch_outputs = self.teacher(torch.cat(views[:2]), None, every)
        self.batch_centers = outputs.mean(0, keepdim=True), patch_outputs.mean(0, keepdim=True)
        targets = self.targets(outputs, self.center).chunk(2)
        patch_targets = self.targets(patch_outputs[masked.flatten()], self.patch_center)
        tau = self.student_temperature
        patches = masked_patch_loss(patch_scores, patch_targets, masked, tau)
        return cross_view_loss(scores, targets, tau) + self.patch_weight * patches

    def targets(self, scores: Tensor, center: Tensor) -> Tensor:
        """The teacher's scores (n, K), centered and sharpened, as distributions."""
        return ((scores - center) / self.warmup(min(1, 3 * self.progress))).softmax(1)

    def update(self) -> None:
        """Update the teacher, and both centers by the mean outputs over all processes."""
        self.teacher.update(self.student, self.momentum(self.progress))
        for center, rows in zip((self.center, self.patch_center), self.batch_centers, strict=True):
            center.lerp_(mean_over(rows.mean(0)), 1 - self.center_momentum)
