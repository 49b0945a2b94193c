"""Shuffled words: put the words of a sentence, or the sentences of a paragraph, in order again.

Logeswaran, Lee, Radev 2018, "Sentence Ordering and Coherence Modeling using Recurrent Neural
Networks", for the task; the order is scored by Plackett and Luce's model (Xia et al. 2008, ListMLE)
instead of a pointer network.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import reader
from unlabeled.parallel import mean_of
from unlabeled.tokens import END, FIRST_WORD, PAD
from unlabeled.views.tokens import packed, tokens_of


class ShuffledWords(Method):
    """Each part gets a score, and the part that comes first should have the highest.

    −log p of the right order, where the first part is drawn in proportion to the exponentials of
    the scores, the next one likewise of those that are left, and so on.

    Args:
        unit: words (of each sentence those after the first, whose capital would tell that it
            comes first), or sentences.
        number: of words; of sentences all are taken.
    """

    network: ClassVar[str] = "text_transformer"
    reads: ClassVar = "sentences"
    recipe = Recipe(epochs=5, batch_size=32, lr=1e-3, weight_decay=0.01, clip=1.0)

    def __init__(
        self,
        encoder: nn.Module,
        *,
        unit: Literal["words", "sentences"] = "words",
        number: int = 6,
    ) -> None:
        super().__init__(encoder)
        known = reader(encoder, "shuffled_words", ("both",))
        self.rank = nn.Sequential(
            nn.Linear(known.dim, known.dim), nn.GELU(), nn.Linear(known.dim, 1)
        )
        self.unit, self.number = unit, number

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Shuffled tokens (B, n), where each part ends in them (B, k), and its place (B, k)."""
        rows = tokens_of(batch.x[:, 0], self.encoder.vocabulary)  # (B, K, L)
        if self.unit == "words":
            at = int(torch.randint(rows.shape[1], ()))
            words = rows[:, at, 1 : 1 + self.number]
            place = torch.rand(words.shape, device=words.device).argsort(1)  # which goes where
            here = torch.arange(words.shape[1], device=words.device).expand_as(words)
            return words.gather(1, place), here, place
        place = torch.rand(rows.shape[:2], device=rows.device).argsort(1)
        mixed = rows.gather(1, place[:, :, None].expand_as(rows))
        mixed = torch.where(mixed == END, PAD, mixed)
        end = torch.full_like(mixed[:, :, :1], END)  # one for each, even if it was cut
        ids = packed(torch.cat([mixed, end], 2).flatten(1))
        here = (ids == END).int().argsort(dim=1, descending=True, stable=True)
        return ids, here[:, : rows.shape[1]], place

    def asked(self, ids: Tensor, here: Tensor) -> Tensor:
        """Which parts (B, k) are there: of a short sentence what follows its words is not."""
        last = ids.gather(1, here)
        return last >= FIRST_WORD if self.unit == "words" else last != PAD

    def scores(self, ids: Tensor, here: Tensor) -> Tensor:
        """Of each part, how early it came, by the mean of its states: (B, k)."""
        states = self.encoder.states(ids)[:, 1:]
        end, at = here[:, :, None], torch.arange(ids.shape[1], device=ids.device)
        begin = F.pad(end[:, :-1] + 1, (0, 0, 1, 0))
        within = ((begin <= at) & (at <= end)).to(states.dtype)  # (B, k, n)
        means = within @ states / within.sum(2, keepdim=True)
        return self.rank(means)[:, :, 0].float()

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """−log p of the right order, for each part: log k! / k where nothing is known."""
        ids, here, place = views
        first = place.argsort(1)  # where the first one went, and the second …
        asked = self.asked(ids, here).gather(1, first)
        ordered = self.scores(ids, here).gather(1, first).masked_fill(~asked, -1e4)
        left = ordered.flip(1).logcumsumexp(1).flip(1)
        return mean_of(left - ordered, asked)
