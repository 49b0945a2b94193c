"""Siamese verification network: a contrastive loss on pairs of images (Chopra et al. 2005).

Bromley et al. 1993, "Signature Verification using a Siamese Time Delay Neural Network"; Chopra,
Hadsell, LeCun 2005, "Learning a Similarity Metric Discriminatively". The loss is the lectures':
s·d² for matching pairs and max(1 − d², 0) for the others.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import Batch, Method, Recipe
from unlabeled.objectives import siamese
from unlabeled.parallel import gather


class Siamese(Method):
    """One network embeds both images of a pair; matching pairs are to be close, others far apart.

    It learns from identities, such as a folder for each person (`--labels-from folders`), and is
    evaluated on others. All pairs of a batch are used, which holds four images of each identity.

    Args:
        weight: s, of matching pairs; 1 in the lectures.
        augment: random augmentation (default: the data set's for labeled training).
    """

    supervised = True
    weak_augment = True
    samples_per_class = 4
    recipe = Recipe(epochs=40, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"omniglot": {"epochs": 60, "schedule": "one_cycle"}}

    def __init__(
        self, encoder: nn.Module, *, weight: float = 1.0, augment: Augmentation | None = None
    ) -> None:
        super().__init__(encoder)
        self.weight, self.augment = weight, augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One random view of each image (B, C, H, W), and its identity (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), batch.y

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        x, y = views
        return siamese(gather(self.encoder(x)), gather(y), self.weight)
