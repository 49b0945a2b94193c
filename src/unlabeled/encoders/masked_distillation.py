"""What iBOT and DINOv2 share: a transformer with heads, and losses of crops and masked patches."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation
from unlabeled.augmentations.image import halved
from unlabeled.augmentations.masks import block_masks
from unlabeled.core import Batch
from unlabeled.encoders.heads import PrototypeHead
from unlabeled.errors import UserError
from unlabeled.objectives import dino


class MaskedStudent(nn.Module):
    """A transformer whose class token and patch tokens have scores for K prototypes.

    Args:
        encoder: the transformer, with `patch` and `encode_patches`.
        head: hidden_dim, bottleneck_dim and number of prototypes of `PrototypeHead`.
        shared_head: whether class and patch tokens have the same head.
    """

    def __init__(self, encoder: Any, head: tuple[int, int, int], shared_head: bool) -> None:
        super().__init__()
        if not hasattr(encoder, "encode_patches") or encoder.patch is None:
            raise UserError(
                f"patches can be masked in transformers only, not in {type(encoder).__name__}; "
                "give --encoder vit, vit_tiny, vit_small or vit_base, or one of timm or hf"
            )
        self.encoder = encoder
        self.head = PrototypeHead(encoder.dim, *head)
        self.patch_head = self.head if shared_head else PrototypeHead(encoder.dim, *head)
        self.mask_token = nn.Parameter(torch.zeros(encoder.dim))

    def forward(
        self, x: Tensor, masked: Tensor | None = None, chosen: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Features (B, dim), their scores (B, K), and those of the chosen patches (n, K).

        Args:
            x: images (B, C, H, W).
            masked: (B, patches), where the mask token hides the patch.
            chosen: (B, patches), of which n are true (default: none).
        """
        z, tokens = self.encoder.encode_patches(x, masked, self.mask_token)
        scores = self.head(z)
        return z, scores, scores[:0] if chosen is None else self.patch_head(tokens[chosen])

    def freeze_prototypes(self, frozen: bool) -> None:
        """Keep the prototypes of both heads, or let them learn."""
        self.head.gradient_scale = self.patch_head.gradient_scale = float(not frozen)


def masked_views(
    batch: Batch,
    encoder: Any,
    augments: tuple[Augmentation, Augmentation],
    local: tuple[Augmentation, int],
    mask_ratio: tuple[float, float],
) -> tuple[Tensor, ...]:
    """Two global views (B, C, H, W), their masks (B, patches), then local crops.

    Half of the views are masked by blocks, the fraction of whose patches is drawn from a range.

    Args:
        batch: of images.
        encoder: the transformer, for the side of a patch.
        augments: of the global views.
        local: augmentation and number of the local crops.
        mask_ratio: the range.
    """
    views = [augment(batch.x) for augment in augments]
    rows, columns = (side // encoder.patch for side in views[0].shape[2:])
    masks = block_masks(2 * len(views[0]), (rows, columns), 0.5, mask_ratio).to(views[0].device)
    crops = (halved(local[0](batch.x), batch.x) for _ in range(local[1]))
    return *views, *masks.chunk(2), *crops


def student_scores(
    student: MaskedStudent, views: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Of masked global views and local crops: features of the former (2B, dim), scores of each
    view's class token (B, K), and those of the masked patches (n, K).
    """
    global_views, masked, crops = torch.cat([*views[:2]]), torch.cat([*views[2:4]]), views[4:]
    z, scores, patches = student(global_views, masked, masked)
    by_view = [*scores.chunk(2)]
    if crops:
        by_view += student(torch.cat([*crops]))[1].chunk(len(crops))
    return z, by_view, patches


def cross_view_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], tau: float) -> Tensor:
    """DINO's loss: the mean over all pairs of a view of the student and another one of the teacher.

    Args:
        student: scores of each view, (B, K), global ones first.
        teacher: probabilities of each global view, (B, K).
        tau: temperature of the student.
    """

    def losses() -> Iterator[Tensor]:
        for i, target in enumerate(teacher):
            for j, scores in enumerate(student):
                if i != j:
                    yield dino(scores, target, tau)

    return torch.stack([*losses()]).mean()


def masked_patch_loss(student: Tensor, teacher: Tensor, masked: Tensor, tau: float) -> Tensor:
    """Loss of masked patches of iBOT: the mean over views of that over a view's masked patches.

    A view without any counts as 0, as in the code of iBOT and of DINOv2; in the equation of iBOT
    (eq. 2) a sum over patches stands in place of their mean.

    Args:
        student: scores of the masked patches, (n, K).
        teacher: probabilities of the same patches, (n, K).
        masked: (B, patches), of which n are true.
        tau: temperature of the student.
    """
    with torch.autocast(student.device.type, enabled=False):
        costs = -(teacher * F.log_softmax(student.float() / tau, 1)).sum(1)
    per_patch = 1 / masked.sum(1, keepdim=True).clamp(min=1)
    return (costs * per_patch.expand_as(masked)[masked]).sum() / len(masked)
