"""Deep metric learning with labels, by any named objective of `unlabeled list objectives`.

The seven losses of the lectures and related ones; each function in `objectives` names its paper.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.objectives.named import ObjectiveName, check_options, loss_by_name
from unlabeled.parallel import gather


class Metric(Method):
    """Images of a class are brought close together and images of different classes apart.

    A batch holds one view of each image and four images of each class. Objectives of pairs take two
    images of each class at a time. The result is evaluated on classes it never saw.

    Args:
        objective: loss to minimize; `unlabeled list objectives` describes each.
        dim: width of a linear projection; 0 compares the features.
        margin: of the objective, where it has one (default: the objective's default).
        temperature: of the objective, where it has one (default: the objective's default).
        regularization: of the objective, where it has one (default: the objective's default).
        mining: triplets that count: "all", "hard" or "semi-hard".
        augment: random augmentation (default: the data set's for labeled training).
    """

    supervised = True
    weak_augment = True
    samples_per_class = 4
    recipe = Recipe(epochs=40, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {
        "omniglot": {"epochs": 20, "schedule": "one_cycle"},
        "dsprites": MINUTES | {"epochs": 8, "lr": 4e-3},
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        objective: ObjectiveName = "contrastive",
        dim: int = 0,
        margin: float | None = None,
        temperature: float | None = None,
        regularization: float | None = None,
        mining: str | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.head = nn.Linear(self.encoder.dim, dim) if dim else nn.Identity()
        self.objective = objective
        options = {"margin": margin, "temperature": temperature, "mining": mining}
        self.options = check_options(objective, options | {"regularization": regularization})
        self.augment = augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """One random view of each image (B, C, H, W), and its label (B,)."""
        assert batch.y is not None
        return self.augment(batch.x), batch.y

    def project(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        x, y = views
        return loss_by_name(self.objective, gather(self.project(x)), gather(y), **self.options)
