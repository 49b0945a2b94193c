"""Masked language model, as in BERT (Devlin et al. 2019).

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for
Language Understanding", section 3.1; dynamic masking as in Liu et al. 2019 (RoBERTa).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import mask_tokens
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import LanguageModelHead, require_text_encoder
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class MaskedLM(Method):
    """A fraction of the tokens is to be predicted; of those 80 % are masked, 10 % replaced.

    As in the paper, tokens are masked independently, so that the visible parts of a word help to
    predict a masked one; BERT's later release masks whole words.

    Args:
        mask_ratio: fraction of the tokens that are predicted; the paper's 0.15.
    """

    modality = (Text,)
    # Batch size and epochs for minutes on a core; BERT takes 256 texts of 512 tokens, 1M steps.
    recipe = Recipe(epochs=4, batch_size=32, lr=2e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, mask_ratio: float = 0.15) -> None:
        super().__init__(encoder)
        require_text_encoder(encoder, "masked_lm", ("bidirectional",))
        self.lm_head = LanguageModelHead(self.encoder.dim, self.encoder)
        self.mask_ratio = mask_ratio

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Masked tokens, all tokens, and which are predicted, (B, n) each."""
        ids = self.encoder.tokens(batch.x)
        masked, chosen = mask_tokens(ids, self.encoder.vocabulary, self.mask_ratio)
        return masked, ids, chosen

    def scores(self, masked: Tensor, chosen: Tensor) -> Tensor:
        """Logits of the vocabulary at each chosen position: (m, vocabulary)."""
        return self.lm_head(self.encoder.states(masked)[:, 1:][chosen], self.encoder)

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Mean negative log-likelihood of a chosen token, in nats."""
        masked, ids, chosen = views
        nll = F.cross_entropy(self.scores(masked, chosen), ids[chosen], reduction="none")
        return mean_of(nll, torch.ones_like(nll, dtype=torch.bool))
