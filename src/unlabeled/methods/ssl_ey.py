"""SSL-EY: canonical correlations of views by the Eckhart-Young loss (Chapman et al. 2024).

Chapman, Wells, Lawry Aguila 2024, "Unconstrained Stochastic CCA: Unifying Multiview and
Self-Supervised Learning".
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation
from unlabeled.encoders.multi_view import MultiView
from unlabeled.objectives import ssl_ey


class SSLEY(MultiView):
    """Views are correlated, dimensions are not: the loss is that of canonical correlation analysis.

    There is nothing to weigh against anything else.

    Args:
        dim: width of the projector's three layers; 2048 in the paper.
        views: number of views of each image; 2 in the paper.
        augment: random augmentation of each view (default: the data set's).
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 512,
        views: int = 2,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder, (dim, dim, dim), views, augment)

    def objective(self, z: Tensor) -> Tensor:
        """The Eckhart-Young loss."""
        return ssl_ey(z)
