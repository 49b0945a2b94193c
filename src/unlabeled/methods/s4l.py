"""S4L-Rotation: self-supervised semi-supervised learning (Zhai et al. 2019).

Zhai, Oliver, Kolesnikov, Beyer 2019, "S4L: Self-Supervised Semi-Supervised Learning", eq. 1 and 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.augmentations.image import rotate90
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe
from unlabeled.modality import Images
from unlabeled.objectives import labeled_cross_entropy


class S4L(Method):
    """A class head and a rotation head, both on all four rotations of each image.

    The rotation of labeled images is predicted, too, and their class from all four rotations, as in
    the authors' code. The rotation of images that occur in every orientation, such as dSprites, can
    only be guessed; there the labels are all there is to learn from.

    Args:
        weight: w, of the rotation loss; the paper's 1.
        classes: number of classes (default: the data set's).
        augment: augmentation before the rotation (default: the data set's for labeled training).
    """

    modality = (Images,)
    supervised = True
    weak_augment = True
    # The paper uses SGD at 0.1 for 256 images, weight decay 2e-4 (10 % of ImageNet's labels), and
    # as many labeled images as unlabeled ones (section 3).
    recipe = Recipe(epochs=100, batch_size=128, lr=2e-3, labeled_fraction=0.5)
    # As many images go through the network in a step as with two views of 128.
    recipes = {"dsprites": HALF_LABELED | {"epochs": 3, "batch_size": 64, "lr": 4e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        weight: float = 1.0,
        classes: int = 10,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.rotation_head = nn.Linear(self.encoder.dim, 4)
        self.weight, self.augment = weight, augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One random view of each image (B, C, H, H), and its label or −1 (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """L_l + w L_rot: cross-entropy of classes and of rotations, both over all rotations."""
        x, y = views
        turns = torch.arange(4, device=x.device).repeat_interleave(len(x))  # (4B,)
        h = self.encoder(rotate90(x.repeat(4, 1, 1, 1), turns))  # (4B, dim)
        rotation_loss = F.cross_entropy(self.rotation_head(h).float(), turns)
        return labeled_cross_entropy(self.classifier(h), y.repeat(4)) + self.weight * rotation_loss
