"""DCL: decoupled contrastive learning (Yeh et al. 2022).

Yeh, Hong, Hsu, Liu, Chen, LeCun 2022, "Decoupled Contrastive Learning", eq. 5 and 6.
"""

from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.encoders.multi_view import MultiView
from unlabeled.objectives import nt_xent


class DCL(MultiView):
    """SimCLR whose denominator leaves the positive out, so that small batches learn as well.

    With the positive in the denominator, the gradient of a pair is multiplied by 1 − its softmax,
    which is small where negatives are few and easy.

    Args:
        dim: width of the projection; 128 in the paper.
        hidden_dim: width of the projector's hidden layer; 2048 in the paper.
        temperature: τ of the loss; the paper's 0.1 for ImageNet.
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
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder, (hidden_dim, dim), 2, augment)
        self.temperature = temperature

    def objective(self, z: Tensor) -> Tensor:
        """NT-Xent without the positive in its denominator."""
        a, b = z.unbind(1)
        return nt_xent(a, b, self.temperature, keep_positive=False)
