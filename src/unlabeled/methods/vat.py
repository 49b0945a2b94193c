"""VAT: virtual adversarial training (Miyato et al. 2018).

Miyato, Maeda, Koyama, Ishii 2018, "Virtual Adversarial Training: A Regularization Method for
Supervised and Semi-Supervised Learning", algorithm 1 and eq. 8.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, RandomCrop
from unlabeled.core import HALF_LABELED, Batch, Method, Recipe
from unlabeled.objectives import labeled_cross_entropy
from unlabeled.utils.state import untracked


class VAT(Method):
    """Predictions are to stay the same under the virtual adversarial perturbation of an image.

    That is the perturbation of length ε that changes the prediction most, found by the power
    method. Cross-entropy with labels and entropy minimization are added; all images count in the
    regularizers, labeled or not, as in the paper.

    BatchNorm normalizes each pass by its batch; only the pass of clean images updates the running
    statistics (the authors' code excludes unlabeled images from them, too). All passes are in full
    precision, since the search takes differences of almost equal predictions.

    Args:
        weight: α, of the local distributional smoothness; the paper's 1.
        entropy_weight: of the conditional entropy ("VAT+EntMin"); 0 is VAT alone; the paper's 1.
        epsilon: ε, norm of the perturbation, in units where white is 1.
        xi: ξ, norm of the step of the power method. The paper's 1e-6 is less than single precision
            can add to a white pixel.
        power_iterations: K, of the power method; the paper's 1.
        classes: number of classes (default: the data set's).
        augment: random augmentation (default: the data set's for labeled training).
    """

    supervised = True
    may_be_zero = ("power_iterations",)
    weak_augment = True
    # 32 labeled images beside 128 unlabeled ones, in the authors' code.
    recipe = Recipe(epochs=100, batch_size=160, lr=2e-3, labeled_fraction=0.2)
    recipes = {"dsprites": HALF_LABELED | {"epochs": 5, "lr": 4e-3, "epsilon": 2.0}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        weight: float = 1.0,
        entropy_weight: float = 1.0,
        epsilon: float = 8.0,
        xi: float = 0.1,
        power_iterations: int = 1,
        classes: int = 10,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.classifier = nn.Linear(self.encoder.dim, classes)
        self.weight, self.entropy_weight = weight, entropy_weight
        self.epsilon, self.xi, self.power_iterations = epsilon, xi, power_iterations
        self.augment = augment or RandomCrop()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A view of each image (B, C, H, W), noise (B, C·H·W), and its label or −1 (B,)."""
        assert batch.y is not None
        x = self.augment(batch.x)
        return x, torch.randn_like(x).flatten(1), batch.y

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """ℓ + α R_vadv + H(y | x), each a mean over its images."""
        x, noise, y = views
        with torch.autocast(x.device.type, enabled=False):
            logits = self.classifier(self.encoder(x))  # (B, classes)
            clean = logits.detach()
            with untracked(self.encoder):
                r_vadv = self.epsilon * self.adversarial_direction(x, noise, clean)
                smoothness = divergence(clean, self.classifier(self.encoder(x + r_vadv))).mean()
            entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1).mean()
        supervised_loss = labeled_cross_entropy(logits, y)
        return supervised_loss + self.weight * smoothness + self.entropy_weight * entropy

    def adversarial_direction(self, x: Tensor, noise: Tensor, clean: Tensor) -> Tensor:
        """Unit vectors along which predictions change most: noise (B, C·H·W) -> (B, C, H, W).

        Power iterations by the gradient of the divergence from the logits `clean` (B, classes).
        """
        d = F.normalize(noise, dim=1)
        for _ in range(self.power_iterations):
            with torch.enable_grad():
                d = d.detach().requires_grad_()
                perturbed = self.classifier(self.encoder(x + self.xi * d.view_as(x)))
                (gradient,) = torch.autograd.grad(divergence(clean, perturbed).sum(), d)
            d = F.normalize(gradient, dim=1)
        return d.view_as(x)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(softmax p ‖ softmax q) of logits, (B, K) and (B, K) -> (B,)."""
    log_p = p.log_softmax(1)
    return (log_p.exp() * (log_p - q.log_softmax(1))).sum(1)
