"""MMCR: maximum manifold capacity representations (Yerxa et al. 2023).

Yerxa, Kuang, Simoncelli, Chung 2023, "Learning Efficient Coding of Natural Images with Maximum
Manifold Capacity Representations", section 3.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment
from unlabeled.encoders.multi_view import MultiView
from unlabeled.objectives import mmcr


class MMCR(MultiView):
    """The nuclear norm of the centroids of each image's views is maximized.

    A centroid is long if its views agree, and centroids of all lengths have the largest nuclear
    norm where they are orthogonal. The authors' code for ImageNet averages the centroids with those
    of a momentum encoder, which the paper's equations do not have; it is not done here.

    Args:
        dim: width of the projection; 512 in the paper for ImageNet.
        hidden_dim: width of the projector's two hidden layers; 8192 in the paper.
        views: number of views of each image; 2, 4 or 8 in the paper for ImageNet.
        compression: λ, weight of the views' own nuclear norms; the paper's 0.
        augment: random augmentation of each view (default: the data set's).
    """

    base_lr = {"lars": 0.8}
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "dim": 512, "hidden_dim": 8192, "views": 2,
            "augment": BYOLAugment(blur=0.5, solarize=0.1),
            "epochs": 100, "batch_size": 2048, "optimizer": "lars", "lr": 6.4, "final_lr": 6.4e-3,
            "warmup_epochs": 10, "weight_decay": 1e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        views: int = 2,
        compression: float = 0.0,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder, (hidden_dim, hidden_dim, dim), views, augment)
        self.compression = compression

    def objective(self, z: Tensor) -> Tensor:
        """Minus the nuclear norm of the centroids."""
        return mmcr(z, self.compression)
