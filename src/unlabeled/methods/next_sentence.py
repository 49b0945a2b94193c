"""Next sentence: do these follow each other?

Devlin, Chang, Lee, Toutanova 2019, "BERT: Pre-training of Deep Bidirectional Transformers for
Language Understanding", section 3.1, task 2.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import derangement, to_tokens
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import SentencePairHead, require_text_encoder
from unlabeled.errors import UserError
from unlabeled.modality import Text


class NextSentence(Method):
    """A text's second half is replaced by another text's in half of the cases: was it?

    As in BERT, hidden words are asked for at once.

    Args:
        words: weight of the surprise of hidden words; 0 hides none.
        share: of the words that are hidden.
    """

    modality: ClassVar = (Text,)
    min_sentences: ClassVar = 2
    recipe = Recipe(epochs=5, batch_size=32, lr=1e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, words: float = 1.0, share: float = 0.15) -> None:
        super().__init__(encoder)
        self.verdict = SentencePairHead(
            require_text_encoder(encoder, "next_sentence", ("bidirectional",)), words, share
        )

    def halves(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of a first half and of a second one, (B, K / 2 · L), and if it follows (B,)."""
        half = batch.x.shape[2] // 2
        rows = to_tokens(batch.x[:, 0], self.encoder.vocabulary)  # (B, K, L)
        first, second = rows[:, :half].flatten(1), rows[:, half:].flatten(1)
        follows = torch.rand(len(rows), device=rows.device) < 0.5
        other = second[derangement(len(rows), rows.device)]
        follows = follows | (other == second).all(1)  # the same words, or no other text there
        return first, torch.where(follows[:, None], second, other), follows

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """What is seen, the whole text, which words are hidden, (B, n); where the second half
        begins, and whether it follows (B,).

        Raises:
            UserError: there is no other text in the batch.
        """
        if len(batch.x) < 2:
            raise UserError(
                "next_sentence takes second halves from other texts of the batch, which holds 1 "
                "for each process; give a larger --batch-size"
            )
        first, second, follows = self.halves(batch)
        return *self.verdict.views(first, second, self.encoder), follows

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of following or not, and of the hidden words."""
        *seen, follows = views
        scores, surprise = self.verdict(seen, self.encoder)
        return F.binary_cross_entropy_with_logits(scores, follows.to(scores)) + surprise

    def right(self, batch: Batch) -> Tensor:
        """Whether each answer is (B,)."""
        first, second, follows = self.halves(batch)
        return (self.verdict.score(first, second, self.encoder) > 0) == follows
