"""Bidirectional language model: predict each token from all others (Peters et al. 2018).

Peters et al. 2018, "Deep contextualized word representations" (ELMo), predicts a token from each
direction; here both directions predict it together, as in Melamud, Goldberger, Dagan 2016,
"context2vec: Learning Generic Context Embedding with Bidirectional LSTM".
"""

import torch
from torch import Tensor, nn

from unlabeled.augmentations.tokens import random_start
from unlabeled.augmentations.vocabulary import PAD
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import LanguageModelHead, require_text_encoder
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class BidirectionalLM(Method):
    """p(w_i | all other words), by a forward and a backward network and one head on both states.

    Args:
        random_start: largest fraction of a text that is skipped at its start in training.
    """

    modality = (Text,)
    encoder_args = {"direction": "forward_backward"}
    recipe = Recipe(epochs=4, batch_size=32, lr=2e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, random_start: float = 0.25) -> None:
        super().__init__(encoder)
        require_text_encoder(encoder, "bidirectional_lm", ("forward_backward",))
        self.lm_head = LanguageModelHead(self.encoder.dim, self.encoder)
        self.random_start = random_start

    def views(self, batch: Batch) -> Tensor:
        """Tokens (B, n)."""
        return random_start(self.encoder.tokens(batch.x), self.random_start)

    def loss(self, views: Tensor) -> Tensor:
        """Mean negative log-likelihood of a token, in nats."""
        return mean_of(self.negative_log_likelihood(views), views != PAD)

    def negative_log_likelihood(self, ids: Tensor) -> Tensor:
        """−log p of each token given all others, nats: (B, n) -> (B, n)."""
        states = torch.cat(self.encoder.left_and_right_states(ids), 2)
        return self.lm_head.negative_log_likelihood(states, ids, self.encoder)
