"""FixMatch: semi-supervised learning with consistency and confidence (Sohn et al. 2020).

Sohn et al. 2020, "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence",
algorithm 1.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop, SimCLRAugment
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe
from unlabeled.encoders.heads import classify_views
from unlabeled.objectives import labeled_cross_entropy


class FixMatch(Method):
    """A confident prediction of a weakly augmented view is the pseudo-label of a strong one.

    Labeled images are among the unlabeled ones, too (the paper's section 2, footnote). Both views
    go through the network as one batch, so that BatchNorm sees them together, as in the authors'
    code, which evaluates a moving average of the weights; here the network is the result.

    Args:
        weight: λ_u, of the unlabeled loss; the paper's 1.
        threshold: τ, probability from which a pseudo-label is used; the paper's 0.95.
        classes: number of classes (default: the data set's).
        weak: weak augmentation (default: the data set's for labeled training).
        augment: strong augmentation (default: the data set's).
    """

    supervised = True
    # The paper's but for its 2²⁰ steps and Nesterov momentum (table 4): μ = 7 unlabeled images for
    # each labeled one.
    recipe = Recipe(
        epochs=100, batch_size=512, optimizer="sgd", lr=0.03, weight_decay=5e-4,
        labeled_fraction=1 / 8,
    )  # fmt: skip
    recipes = {"dsprites": HALF_LABELED | {"epochs": 5, "lr": 4e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        weight: float = 1.0,
        threshold: float = 0.95,
        classes: int = 10,
        weak: Augmentation | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.weight, self.threshold = weight, threshold
        self.weak, self.augment = weak or RandomCrop(), augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A weak and a strong view of each image, (B, C, H, W) each; its label or −1 (B,)."""
        assert batch.y is not None
        return self.weak(batch.x), self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """ℓ_s + λ_u ℓ_u, eq. 3 and 4; rows below the threshold count as 0 in the latter's mean."""
        x_weak, x_strong, y = views
        weak, strong = classify_views(self.encoder, self.classifier, x_weak, x_strong)
        confidence, pseudo_label = weak.detach().softmax(1).max(1)  # (B,) each
        losses = F.cross_entropy(strong, pseudo_label, reduction="none")  # (B,)
        unlabeled_loss = (losses * (confidence >= self.threshold)).mean()
        return labeled_cross_entropy(weak, y) + self.weight * unlabeled_loss
