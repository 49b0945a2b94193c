"""PIRL: self-supervised learning of pretext-invariant representations (Misra, van der Maaten 2020).

Misra, van der Maaten 2020, "Self-Supervised Learning of Pretext-Invariant Representations", eq. 5.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.augmentations.image import rotate90
from unlabeled.augmentations.patches import standardize_tiles, tiles
from unlabeled.core import MINUTES, Batch, MemoryBank, Method, Recipe
from unlabeled.encoders.heads import encode_tiles
from unlabeled.objectives import info_nce


class PIRL(Method):
    """Representations of an image and of its pretext-transformed copy match a memory bank's row.

    Where a pretext task predicts the transformation, this makes the representation invariant to
    it. Image and transformed copy have a head each, f and g. The softmax runs over the image's row
    and sampled negatives, where the paper uses noise-contrastive estimation of the same.

    Args:
        task: pretext transformation: "rotation" by 90°, 180° or 270°, or "jigsaw", nine tiles in
            random order, whose features are concatenated.
        dim: width of embeddings and memory bank; the paper's 128.
        temperature: τ of the softmax; the paper's 0.07.
        pretext_weight: λ, of the transformed copy's loss; the image's has 1 − λ; the paper's 0.5.
        negatives: rows drawn at each step; 32000 in the paper.
        momentum: weight of a row of the memory bank when it is updated; the paper's 0.5.
        bank_size: rows of the memory bank, one for each training image; the data set's.
        shape: channels, height and width of the images (default: the data set's).
        augment: random augmentation before the transformation (default: the data set's).
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.03, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 40, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        task: Literal["rotation", "jigsaw"] = "rotation",
        dim: int = 128,
        temperature: float = 0.07,
        pretext_weight: float = 0.5,
        negatives: int = 1024,
        momentum: float = 0.5,
        bank_size: int = 10_000,
        shape: tuple[int, int, int] = (3, 32, 32),
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        d = self.encoder.dim
        self.image_head, self.pretext_head = nn.Linear(d, dim), nn.Linear(d, dim)
        self.join = nn.Linear(9 * dim, dim) if task == "jigsaw" else nn.Identity()
        self.task, self.tile_size = task, min(shape[1:]) // 2
        self.bank = MemoryBank(bank_size, dim, momentum)
        self.temperature, self.negatives = temperature, negatives
        self.pretext_weight, self.augment = pretext_weight, augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A view (B, C, H, W), a transformed one, their rows (B,), and rows of negatives (K,)."""
        negatives = self.bank.draw(self.negatives)
        transformed = self.transform(self.augment(batch.x))
        return self.augment(batch.x), transformed, batch.index, negatives

    def transform(self, x: Tensor) -> Tensor:
        """Rotated images (B, C, H, H), or tiles in random order (B, 9, C, s, s)."""
        if self.task == "rotation":
            return rotate90(x, torch.randint(1, 4, (len(x),), device=x.device))
        patches = standardize_tiles(tiles(x, 3, size=self.tile_size))
        order = torch.rand(len(x), 9, device=x.device).argsort(1)
        return patches[torch.arange(len(x), device=x.device)[:, None], order]

    def loss(self, views: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """InfoNCE of the transformed copy and of the image with the image's row."""
        x, transformed, index, negatives = views
        if self.task == "rotation":
            h, h_pretext = self.encoder(torch.cat([x, transformed])).chunk(2)
            g = self.pretext_head(h_pretext)
        else:
            h = self.encoder(x)
            g = self.join(encode_tiles(nn.Sequential(self.encoder, self.pretext_head), transformed))
        f = F.normalize(self.image_head(h).float(), dim=1)  # (B, dim)
        g = F.normalize(g.float(), dim=1)  # (B, dim)
        self.embeddings = index, f.detach()
        memory, noise = self.bank.rows[index], self.bank.rows[negatives]
        pretext_loss, image_loss = (
            info_nce(v, memory, self.temperature, noise, index, negatives) for v in (g, f)
        )
        return self.pretext_weight * pretext_loss + (1 - self.pretext_weight) * image_loss

    def update(self) -> None:
        self.bank.update(*self.embeddings)
