"""PIRL: a picture and its transformed copy should have the same place in memory.

Misra, van der Maaten 2020, "Self-Supervised Learning of Pretext-Invariant Representations", eq. 5.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import MINUTES, Batch, MemoryBank, Method, Recipe
from unlabeled.objectives import info_nce
from unlabeled.views import Photo, View
from unlabeled.views.image import quarter_turns


class PIRL(Method):
    """Where the rotation task asks for the turn, this asks to forget it.

    Both the picture and its turned copy, each through a head of its own, should find the picture's
    row in the bank. The softmax runs over the own row and sampled others (the paper: noise-
    contrastive estimation of the same).

    Args:
        dim: width of the projections and of the bank.
        temperature: τ.
        share: λ, weight of the turned copy's loss; the rest is the picture's own.
        negatives: rows of other pictures in each step; 32000 in the paper.
        momentum: share of a row that stays when its picture is seen again.
        pictures: rows of the bank; those of the data set.
        augment: the view that is then turned; the data set's own unless given.
    """

    recipe = Recipe(epochs=100, batch_size=256, optimizer="sgd", lr=0.03, weight_decay=1e-4)
    recipes: ClassVar = {"dsprites": MINUTES | {"epochs": 40, "lr": 2e-3}}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int = 128,
        temperature: float = 0.07,
        share: float = 0.5,
        negatives: int = 1024,
        momentum: float = 0.5,
        pictures: int = 10_000,
        augment: View | None = None,
    ) -> None:
        super().__init__(encoder)
        d = self.encoder.dim
        self.head, self.turned_head = nn.Linear(d, dim), nn.Linear(d, dim)
        self.bank = MemoryBank(pictures, dim, momentum)
        self.temperature, self.share, self.negatives = temperature, share, negatives
        self.augment = augment or Photo()

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A view and a turned one (B, C, H, H), the rows of both (B,), and rows of others."""
        turns = torch.randint(1, 4, (len(batch.x),), device=batch.x.device)
        others = self.bank.draw(self.negatives)
        turned = quarter_turns(self.augment(batch.x), turns)
        return self.augment(batch.x), turned, batch.index, others

    def loss(self, views: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """InfoNCE of the turned copy and of the picture with its row in the bank."""
        x, turned, index, others = views
        h, h_turned = self.encoder(torch.cat([x, turned])).chunk(2)
        z = F.normalize(self.head(h).float(), dim=1)  # (B, dim)
        z_turned = F.normalize(self.turned_head(h_turned).float(), dim=1)  # (B, dim)
        own, others = self.bank(index, others)
        self.seen = index, z.detach()
        return self.share * info_nce(z_turned, own, self.temperature, others) + (
            1 - self.share
        ) * info_nce(z, own, self.temperature, others)

    def update(self) -> None:
        """Rows of the pictures just seen move towards their new embeddings."""
        self.bank.follow(*self.seen)
