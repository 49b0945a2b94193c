"""Sentence order: which of these came first?

Lan et al. 2020, "ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
section 3.1: the topic alone, which gives away a next sentence, does not help here.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import to_tokens
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import SentencePairHead, require_text_encoder
from unlabeled.modality import Text


class SentenceOrder(Method):
    """Two halves of a text, in both orders: which is how they were written?

    ALBERT asks of one order whether it is right. Where texts are few, more is learned from both:
    what is said of a text in whatever order does not matter then.

    Args:
        words: weight of the surprise of hidden words; 0 hides none.
        share: of the words that are hidden.
    """

    modality: ClassVar = (Text,)
    min_sentences: ClassVar = 2
    recipe = Recipe(epochs=5, batch_size=32, lr=3e-4, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, words: float = 1.0, share: float = 0.15) -> None:
        super().__init__(encoder)
        self.verdict = SentencePairHead(
            require_text_encoder(encoder, "sentence_order", ("bidirectional", "causal")),
            words,
            share,
        )

    def halves(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens of the first half and of the second, (B, K / 2 · L) each."""
        half = batch.x.shape[2] // 2
        rows = to_tokens(batch.x[:, 0], self.encoder.vocabulary)  # (B, K, L)
        return rows[:, :half].flatten(1), rows[:, half : 2 * half].flatten(1)

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """What is seen, the whole text, which words are hidden, (2 B, n); where the later half
        begins (2 B,). All texts as they were written, then all with their halves changed over.
        """
        first, second = self.halves(batch)
        before, after = torch.cat([first, second]), torch.cat([second, first])
        return self.verdict.views(before, after, self.encoder)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of the right order of the two, and of the hidden words."""
        scores, surprise = self.verdict(views, self.encoder)
        written, changed = scores.chunk(2)
        return F.softplus(changed - written).mean() + surprise

    def right(self, batch: Batch) -> Tensor:
        """Whether the order of each is found (B,)."""
        first, second = self.halves(batch)
        written = self.verdict.score(first, second, self.encoder)
        return written > self.verdict.score(second, first, self.encoder)
