"""Pseudo-Label: the predicted class is the label of unlabeled images (Lee 2013).

Lee 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural
Networks", eq. 15 and 16.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe
from unlabeled.errors import UserError
from unlabeled.objectives import labeled_cross_entropy
from unlabeled.parallel import mean_of


class PseudoLabel(Method):
    """Cross-entropy with labels, and with the most probable class of unlabeled images.

    Only unlabeled images get a pseudo-label, as in the paper. The weight α of their loss is 0 at
    first and then rises linearly. Beside the paper, whose `threshold` is 0, uncertain classes are
    left out: with few labels most of them are wrong at first.

    Args:
        weight: α_f, final weight of the unlabeled loss; the paper's 3.
        threshold: probability from which a pseudo-label is used; others count as 0 in the mean.
        ramp_start: T₁, fraction of training at which α begins to rise; 100 epochs in the paper.
        ramp_end: T₂, fraction of training at which α reaches `weight`; 600 epochs in the paper.
        classes: number of classes (default: the data set's).
        augment: random augmentation (default: the data set's for labeled training). The paper
            uses dropout only.
    """

    supervised = True
    weak_augment = True
    # 32 labeled images beside 256 unlabeled ones, section 3.
    recipe = Recipe(epochs=100, batch_size=288, lr=2e-3, labeled_fraction=1 / 9)
    recipes = {"dsprites": HALF_LABELED | {"epochs": 5, "lr": 4e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        weight: float = 3.0,
        threshold: float = 0.95,
        ramp_start: float = 0.1,
        ramp_end: float = 0.6,
        classes: int = 10,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        if not 0 <= ramp_start < ramp_end:
            raise UserError(
                f"ramp_start is {ramp_start} and ramp_end {ramp_end}; give a ramp_end above it"
            )
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.weight, self.threshold = weight, threshold
        self.ramp_start, self.ramp_end = ramp_start, ramp_end
        self.augment = augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One random view of each image (B, C, H, W), and its label or −1 (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Eq. 15: the mean over labeled rows plus α times the mean over unlabeled ones."""
        x, y = views
        logits = self.classifier(self.encoder(x)).float()  # (B, classes)
        confidence, pseudo_label = logits.detach().softmax(1).max(1)  # (B,) each
        losses = F.cross_entropy(logits, pseudo_label, reduction="none")  # (B,)
        losses = losses * (confidence >= self.threshold)
        return labeled_cross_entropy(logits, y) + self.alpha() * mean_of(losses, y < 0)

    def alpha(self) -> float:
        """Eq. 16: the weight at the current progress."""
        ramp = (self.progress - self.ramp_start) / (self.ramp_end - self.ramp_start)
        return self.weight * min(max(ramp, 0.0), 1.0)
