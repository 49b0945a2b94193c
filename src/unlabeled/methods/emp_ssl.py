"""EMP-SSL: extreme multi-patch self-supervised learning (Tong et al. 2023).

Tong, Chen, Ma, LeCun 2023, "EMP-SSL: Towards Self-Supervised Learning in One Training Epoch",
section 3.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation
from unlabeled.core import MINUTES, Recipe
from unlabeled.encoders.multi_view import MultiView
from unlabeled.objectives import emp_ssl


class EMPSSL(MultiView):
    """Many crops of each image agree with their mean, while each has a large total coding rate.

    With many crops, a few epochs are enough: 20 to 200 of an image are seen in each step of the
    paper's. Its crops have a quarter of the area, enlarged to the image's size.

    Args:
        dim: width of the projection; 1024 in the paper.
        hidden_dim: width of the projector's two hidden layers; 4096 in the paper.
        views: number of crops of each image; 20 to 200 in the paper.
        epsilon: ε, squared distortion of the coding rate; the paper's 0.2.
        invariance: λ, weight of the similarity to the mean; the paper's 200.
        augment: random augmentation of each crop (default: the data set's).
    """

    # As many crops in all as of 100 epochs of two views, in fewer steps.
    recipe = Recipe(epochs=25, batch_size=128, optimizer="adamw", lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 10, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        views: int = 8,
        epsilon: float = 0.2,
        invariance: float = 200.0,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder, (hidden_dim, hidden_dim, dim), views, augment)
        self.epsilon, self.invariance = epsilon, invariance

    def objective(self, z: Tensor) -> Tensor:
        """Minus the total coding rate and the similarity to the mean."""
        return emp_ssl(z, self.epsilon, self.invariance)
