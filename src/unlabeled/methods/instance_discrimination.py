"""Instance discrimination with a memory bank (Wu et al. 2018).

Wu, Xiong, Yu, Lin 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination".
"""

import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.core import MINUTES, Batch, MemoryBank, Method, Recipe
from unlabeled.objectives import info_nce


class InstanceDiscrimination(Method):
    """Every image is a class; its weight vector is its row in a memory bank of past embeddings.

    The softmax of eq. 2 runs over the image's row and a random sample of other rows, drawn from the
    whole bank at each step; a drawn row is excluded for its own image only. The paper approximates
    the softmax over all rows by noise-contrastive estimation.

    Args:
        dim: width of embeddings and memory bank; the paper's 128.
        temperature: τ of the softmax; the paper's 0.07.
        negatives: rows drawn at each step; 4096 in the paper.
        momentum: weight of a row of the memory bank when it is updated; the paper's 0.5.
        bank_size: rows of the memory bank, one for each training image; the data set's.
        augment: random augmentation of the view (default: the data set's).
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.03, weight_decay=5e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 50, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        temperature: float = 0.07,
        negatives: int = 1024,
        momentum: float = 0.5,
        bank_size: int = 10_000,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.head = nn.Linear(self.encoder.dim, dim)
        self.bank = MemoryBank(bank_size, dim, momentum)
        self.temperature, self.negatives = temperature, negatives
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A random view of each image (B, C, H, W), its row (B,), and rows of negatives (K,)."""
        negatives = self.bank.draw(self.negatives)
        return self.augment(batch.x), batch.index, negatives

    def project(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """InfoNCE of each view's embedding, its row and the negatives."""
        x, index, negatives = views
        z = F.normalize(self.project(x).float(), dim=1)  # (B, dim)
        self.embeddings = index, z.detach()
        rows = self.bank.rows
        return info_nce(z, rows[index], self.temperature, rows[negatives], index, negatives)

    def update(self) -> None:
        self.bank.update(*self.embeddings)
