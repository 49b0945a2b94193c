"""Next sentence prediction, as in BERT (Devlin et al. 2019).

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for
Language Understanding", section 3.1, task 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import derangement, to_vocabulary
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import SentencePairHead, require_text_encoder
from unlabeled.errors import UserError
from unlabeled.modality import Text


class NextSentence(Method):
    """For half of the texts the second half is another text's; the network classifies which.

    The masked language model is trained at the same time, as in BERT.

    Args:
        mlm_weight: weight of the masked language model's loss; 0 masks nothing; 1 in BERT.
        mask_ratio: fraction of the tokens that are predicted; the paper's 0.15.
    """

    modality = (Text,)
    min_sentences = 2
    recipe = Recipe(epochs=5, batch_size=32, lr=1e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(
        self, encoder: nn.Module, *, mlm_weight: float = 1.0, mask_ratio: float = 0.15
    ) -> None:
        super().__init__(encoder)
        require_text_encoder(encoder, "next_sentence", ("bidirectional",))
        self.head = SentencePairHead(self.encoder, mlm_weight, mask_ratio)

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of first and second halves, (B, K / 2 · L), and whether they belong (B,)."""
        half = batch.x.shape[1] // 2
        rows = to_vocabulary(batch.x, self.encoder.vocabulary)  # (B, K, L)
        first, second = rows[:, :half].flatten(1), rows[:, half:].flatten(1)
        is_next = torch.rand(len(rows), device=rows.device) < 0.5
        other = second[derangement(len(rows), rows.device)]
        is_next = is_next | (other == second).all(1)  # another text with the same words
        return first, torch.where(is_next[:, None], second, other), is_next

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Masked tokens, all tokens, which are predicted, (B, n) each; where the second half
        begins, and whether it is the next one (B,).

        Raises:
            UserError: there is no other text in the batch.
        """
        if len(batch.x) < 2:
            raise UserError(
                "next_sentence takes second halves from other texts of the batch, which holds 1 "
                "for each process; give a larger --batch-size"
            )
        first, second, is_next = self.pairs(batch)
        return *self.head.views(first, second, self.encoder), is_next

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """Cross-entropy of next or not, and of the masked tokens."""
        *tokens, is_next = views
        logits, mlm_loss = self.head(tokens, self.encoder)
        return F.binary_cross_entropy_with_logits(logits, is_next.to(logits)) + mlm_loss

    def correct(self, batch: Batch) -> Tensor:
        """Whether each prediction is correct (B,)."""
        first, second, is_next = self.pairs(batch)
        return (self.head.score(first, second, self.encoder) > 0) == is_next
