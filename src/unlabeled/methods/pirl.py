"""PIRL: an image and its transformed copy should have the same place in memory.

Misra, van der Maaten 2020, "Self-Supervised Learning of Pretext-Invariant Representations", eq. 5.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, SimCLRAugment
from unlabeled.augmentations.image import rotate90
from unlabeled.augmentations.patches import standardize_tiles, tiles
from unlabeled.core import MINUTES, Batch, MemoryBank, Method, Recipe
from unlabeled.objectives import info_nce


class PIRL(Method):
    """Where a pretext task asks what was done to an image, this asks to forget it.

    Both the image and its turned or shuffled copy, each through a head of its own, should find
    the image's row in the bank. The softmax runs over the own row and sampled others (the paper:
    noise-contrastive estimation of the same).

    Args:
        task: "rotation" turns the copy by quarters; "jigsaw" cuts it into nine tiles in random
            order, whose features a head sees side by side.
        dim: width of the projections and of the bank.
        temperature: τ.
        share: λ, weight of the copy's loss; the rest is the image's own.
        negatives: rows drawn in each step, each left out for its own image; 32000 in the paper.
        momentum: share of a row that stays when its image is seen again.
        images: rows of the bank; those of the data set.
        shape: channels, height and width of the images; the data set's own unless given.
        augment: the view that is then turned or cut; the data set's own unless given.
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.03, weight_decay=1e-4)
    recipes: ClassVar = {"dsprites": MINUTES | {"epochs": 40, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        task: Literal["rotation", "jigsaw"] = "rotation",
        dim: int = 128,
        temperature: float = 0.07,
        share: float = 0.5,
        negatives: int = 1024,
        momentum: float = 0.5,
        images: int = 10_000,
        shape: tuple[int, int, int] = (3, 32, 32),
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        d = self.encoder.dim
        self.head, self.turned_head = nn.Linear(d, dim), nn.Linear(d, dim)
        self.join = nn.Linear(9 * dim, dim) if task == "jigsaw" else nn.Identity()
        self.task, self.tile = task, min(shape[1:]) // 2
        self.bank = MemoryBank(images, dim, momentum)
        self.temperature, self.share, self.negatives = temperature, share, negatives
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A view (B, C, H, W), a turned or cut one, the rows of both (B,), rows of others."""
        others = self.bank.draw(self.negatives)
        changed = self.change(self.augment(batch.x))
        return self.augment(batch.x), changed, batch.index, others

    def change(self, x: Tensor) -> Tensor:
        """Turned images (B, C, H, H), or their tiles in random order (B, 9, C, s, s)."""
        if self.task == "rotation":
            return rotate90(x, torch.randint(1, 4, (len(x),), device=x.device))
        cut = standardize_tiles(tiles(x, 3, size=self.tile))
        order = torch.rand(len(x), 9, device=x.device).argsort(1)
        return cut[torch.arange(len(x), device=x.device)[:, None], order]

    def loss(self, views: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """InfoNCE of the changed copy and of the image with its row in the bank."""
        x, changed, index, others = views
        if self.task == "rotation":
            h, h_changed = self.encoder(torch.cat([x, changed])).chunk(2)
            z_changed = self.turned_head(h_changed)
        else:
            h, parts = self.encoder(x), self.turned_head(self.encoder(changed.flatten(0, 1)))
            z_changed = self.join(parts.view(len(x), -1))
        z = F.normalize(self.head(h).float(), dim=1)  # (B, dim)
        z_changed = F.normalize(z_changed.float(), dim=1)  # (B, dim)
        own, noise = self.bank.rows[index], self.bank.rows[others]
        self.seen = index, z.detach()
        changed_loss, loss = (
            info_nce(v, own, self.temperature, noise, index, others) for v in (z_changed, z)
        )
        return self.share * changed_loss + (1 - self.share) * loss

    def update(self) -> None:
        """Rows of the images just seen move towards their new embeddings."""
        self.bank.update(*self.seen)
