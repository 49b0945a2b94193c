"""W-MSE: whitening for self-supervised representation learning (Ermolov et al. 2021).

Ermolov, Siarohin, Sangineto, Sebe 2021, "Whitening for Self-Supervised Representation Learning",
section 3.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation
from unlabeled.core import MINUTES
from unlabeled.encoders.multi_view import MultiView
from unlabeled.objectives import wmse


class WMSE(MultiView):
    """The distance of whitened views is minimized; whitening keeps them from collapse.

    Args:
        dim: width of the projection, of which a batch should have twice as many images or more; 64
            in the paper for CIFAR-10.
        hidden_dim: width of the projector's hidden layer; 1024 in the paper.
        views: number of views of each image; 2 or 4 in the paper.
        shrinkage: share of the mean variance in the covariance matrix; 0 in the paper.
        augment: random augmentation of each view (default: the data set's).
    """

    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3, "dim": 16}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 64,
        hidden_dim: int = 512,
        views: int = 2,
        shrinkage: float = 1e-3,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder, (hidden_dim, dim), views, augment)
        self.shrinkage = shrinkage

    def objective(self, z: Tensor) -> Tensor:
        """Whitening MSE."""
        return wmse(z, self.shrinkage)
