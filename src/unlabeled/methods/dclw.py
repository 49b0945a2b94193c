"""DCLW: decoupled contrastive learning with weighted positives (Yeh et al. 2022).

Yeh, Hong, Hsu, Liu, Chen, LeCun 2022, "Decoupled Contrastive Learning", section 3.2.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.encoders.multi_view import MultiView
from unlabeled.objectives import dclw


class DCLW(MultiView):
    """DCL that attracts views which are far from each other more strongly.

    Args:
        dim: width of the projection; 128 in the paper.
        hidden_dim: width of the projector's hidden layer; 2048 in the paper.
        temperature: τ of the loss; the paper's 0.1 for ImageNet.
        sigma: σ of the weights, which fall with the similarity; the paper's 0.5.
        augment: random augmentation of each view (default: the data set's).
    """

    base_lr = {"lars": 0.3}
    presets = {
        "paper": {
            "encoder": "resnet50", "size": 224, "hidden_dim": 2048,
            "augment": SimCLRAugment((0.08, 1.0), strength=1.0, blur=0.5),
            "epochs": 200, "batch_size": 256, "optimizer": "lars", "lr": 0.3, "warmup_epochs": 10,
            "weight_decay": 1e-6,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        hidden_dim: int = 512,
        temperature: float = 0.1,
        sigma: float = 0.5,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder, (hidden_dim, dim), 2, augment)
        self.temperature, self.sigma = temperature, sigma

    def objective(self, z: Tensor) -> Tensor:
        """DCL with von Mises-Fisher weights."""
        a, b = z.unbind(1)
        return dclw(a, b, self.temperature, self.sigma)
