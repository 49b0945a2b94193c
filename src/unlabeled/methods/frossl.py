"""FroSSL: Frobenius norm minimization for self-supervised learning (Skean et al. 2024).

Skean, Dhakal, Jacobs, Sanchez Giraldo 2024, "FroSSL: Frobenius Norm Minimization for Efficient
Multiview Self-Supervised Learning", section 3.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation
from unlabeled.encoders.multi_view import MultiView
from unlabeled.objectives import frossl


class FroSSL(MultiView):
    """Views agree, while the entropy of each view's covariance matrix is maximized.

    Rényi's entropy of order 2 is minus the logarithm of the squared Frobenius norm, so that no
    eigenvalues are computed.

    Args:
        dim: width of the projector's three layers; 1024 in the paper for CIFAR-10.
        views: number of views of each image; 2 or more.
        invariance: λ, weight of the distance of the views.
        augment: random augmentation of each view (default: the data set's).
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 512,
        views: int = 2,
        invariance: float = 1.0,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder, (dim, dim, dim), views, augment)
        self.invariance = invariance

    def objective(self, z: Tensor) -> Tensor:
        """Logarithms of the Frobenius norms, and the distance of the views."""
        return frossl(z, self.invariance)
