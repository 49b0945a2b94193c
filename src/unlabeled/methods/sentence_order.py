"""Sentence order: which of these came first?

Lan et al. 2020, "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
section 3.1: the topic alone, which gives away a next sentence, does not help here.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import Verdict, reader
from unlabeled.views.tokens import tokens_of


class SentenceOrder(Method):
    """A text's halves change places in half of the cases: did they?

    Args:
        words: weight of the surprise of hidden words; 0 hides none.
        share: of the words that are hidden.
    """

    network: ClassVar[str] = "text_transformer"
    reads: ClassVar = "sentences"
    recipe = Recipe(epochs=5, batch_size=32, lr=1e-3, weight_decay=0.01, clip=1.0)

    def __init__(self, encoder: nn.Module, *, words: float = 1.0, share: float = 0.15) -> None:
        super().__init__(encoder)
        self.verdict = Verdict(reader(encoder, "sentence_order", ("both",)), words, share)

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """What is seen, the whole text, which words are hidden, (B, n); where the second half
        begins, and whether they are in order (B,).
        """
        half = batch.x.shape[2] // 2
        rows = tokens_of(batch.x[:, 0], self.encoder.vocabulary)  # (B, K, L)
        order = torch.rand(len(rows), device=rows.device) < 0.5
        first, second = rows[:, :half].flatten(1), rows[:, half : 2 * half].flatten(1)
        before, after = (
            torch.where(order[:, None], one, other)
            for one, other in ((first, second), (second, first))
        )
        return *self.verdict.views(before, after, self.encoder), order

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of the order, and of the hidden words."""
        return self.verdict.loss(views, self.encoder)
