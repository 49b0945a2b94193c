"""DINOv2: learning robust visual features without supervision (Oquab et al. 2024).

Oquab et al. 2024, "DINOv2: Learning Robust Visual Features without Supervision", section 4.
Registers: Darcet, Oquab, Mairal, Bojanowski 2024, "Vision Transformers Need Registers".
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
from unlabeled.objectives import koleo
from unlabeled.parallel import gather


class DINOv2(Method):
    """DINO's loss of class tokens, iBOT's of masked patches, and KoLeo, which spreads the features.

    Class and patch tokens have heads of their own. The teacher's outputs are assigned to prototypes
    by the Sinkhorn-Knopp algorithm instead of being centered by a running mean. The teacher's
    encoder, a transformer, is the result; registers are an argument of it (`vit_small` and others).
    `--init hf:facebook/dinov2-small` or `--init timm:vit_small_patch14_dinov2` goes on from public
    weights, with new heads; timm's transformers take one size of images: `--local-crops 0`.

    Args:
        prototypes: K, dimensions of each head's output; 131072 in the paper.
        bottleneck_dim: width of the heads' bottleneck before the prototypes; 256 in the code.
        hidden_dim: width of the heads' hidden layers; 2048 in the code.
        shared_head: whether class and patch tokens have the same head; not in the paper.
        patch_weight: weight of the loss of masked patches; the code's 1.
        koleo_weight: weight of KoLeo, added for both global views; the paper's 0.1.
        mask_ratio: range of the fraction of masked patches of a view, half of which are masked at
            all; the code's.
        sinkhorn_iterations: iterations of the Sinkhorn-Knopp algorithm; the paper's 3.
        student_temperature: τ_s; the code's 0.1.
        teacher_temperature: τ_t, rising from 0.04 over a third of training; the code's 0.07.
        momentum: of the teacher, rising to 1 along half a cosine; 0.994 in the paper.
        freeze_last_layer: fraction of training with frozen prototypes; one epoch in the code.
        local_crops: number of local crops of each image; 8 in the paper.
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
        "paper": {  # of ViT-L/14, for the largest transformer here
            "encoder": "vit_base", "size": 224,
            "encoder_args": {"patch": 14, "drop_path": 0.4, "layer_scale": 1e-5, "registers": 4},
            "prototypes": 131072, "bottleneck_dim": 256, "hidden_dim": 2048, "momentum": 0.994,
            "local_crops": 8, "augment": BYOLAugment((0.32, 1.0)),
            "freeze_last_layer": 1 / 500,  # one epoch
            "second_augment": BYOLAugment((0.32, 1.0), blur=0.1, solarize=0.2),
            "local_augment": BYOLAugment((0.05, 0.32), blur=0.5, size=98),
            "epochs": 500, "batch_size": 3072, "optimizer": "adamw", "lr": 3.5e-4,
            "final_lr": 1e-6, "lr_scaling": "sqrt", "warmup_epochs": 80, "weight_decay": 0.04,
            "final_weight_decay": 0.2,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        prototypes: int = 1024,
        bottleneck_dim: int = 128,
        hidden_dim: int = 512,
        shared_head: bool = False,
        patch_weight: float = 1.0,
        koleo_weight: float = 0.1,
        mask_ratio: tuple[float, float] = (0.1, 0.5),
        sinkhorn_iterations: int = 3,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        momentum: float = 0.99,
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
        self.patch_weight, self.koleo_weight = patch_weight, koleo_weight
        self.mask_ratio, self.sinkhorn_iterations = mask_ratio, sinkhorn_iterations
        self.student_temperature = student_temperature
        self.warmup = linear(0.04, teacher_temperature)
        self.momentum, self.freeze_last_layer = cosine(momentum, 1.0), freeze_last_layer
        self.local_crops = local_crops
        self.local_augment = local_augment or SimCLRAugment(scale=(0.05, 0.4))
        self.augment = augment or SimCLRAugment(scale=(0.4, 1.0))
        self.second_augment = second_augment or self.augment

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Two global views (B, C, H, W), their masks (B, patches), then local crops."""
        local = self.local_augment, self.local_crops
        augments = self.augment, self.second_augment
        return masked_views(batch, self.encoder, augments, local, self.mask_ratio)

    def project(self, x: Tensor) -> Tensor:
        """The teacher's distribution, which is not balanced here: (B, C, H, W) -> (B, K)."""
        return (self.teacher(x)[1] / self.warmup(min(1, 3 * self.progress))).softmax(1)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """The losses of class tokens and of masked patches, and KoLeo of each global view."""
        self.student.freeze_prototypes(self.progress < self.freeze_last_layer)
        z, scores, patch_scores = student_scores(self.student, views)
        masked: Any = torch.cat(views[2:4])
        _, targets, patch_targets = self.teacher(torch.cat(views[:2]), None, masked)
        tau = self.student_temperature
        loss = cross_view_loss(scores, self.sinkhorn(targets).chunk(2), tau)
        patches = masked_patch_loss(patch_scores, self.sinkhorn(patch_targets), masked, tau)
        spread = sum(koleo(gather(view)) for view in z.chunk(2))  # not between views of an image
        return loss + self.patch_weight * patches + self.koleo_weight * spread

    @torch.no_grad()
    def sinkhorn(self, scores: Tensor) -> Tensor:
        """Assignments (n, K) of scores (n, K); over all processes, prototypes are used equally.

        Processes may have different numbers of rows, as of masked patches.
        """
        log_q = scores / self.warmup(min(1, 3 * self.progress))
        for _ in range(self.sinkhorn_iterations):
            log_sums = gather(log_q.logsumexp(0)[None])  # of each process's rows
            log_q = (log_q - log_sums.logsumexp(0)).log_softmax(1)
        return log_q.exp()

    def update(self) -> None:
        """Update the teacher."""
        self.teacher.update(self.student, self.momentum(self.progress))
