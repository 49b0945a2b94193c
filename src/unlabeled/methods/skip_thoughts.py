"""Skip-thought vectors: predict the neighboring sentences of a sentence (Kiros et al. 2015).

Kiros et al. 2015, "Skip-Thought Vectors", section 2.1.
"""

import torch
from torch import Tensor, nn

from unlabeled.augmentations.tokens import to_vocabulary
from unlabeled.augmentations.vocabulary import PAD
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.decoders import SentenceDecoder
from unlabeled.encoders.text import require_text_encoder
from unlabeled.errors import UserError
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class SkipThoughts(Method):
    """Two decoders predict the sentences before and after one from its features.

    Args:
        decoder_width: of the decoders' states; 2400 in the paper.
    """

    modality = (Text,)
    min_sentences = 2
    recipe = Recipe(epochs=3, batch_size=32, lr=2e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(self, encoder: nn.Module, *, decoder_width: int = 128) -> None:
        super().__init__(encoder)
        require_text_encoder(encoder, "skip_thoughts")
        self.previous_decoder = SentenceDecoder(self.encoder, decoder_width)
        self.next_decoder = SentenceDecoder(self.encoder, decoder_width)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """A random sentence with neighbors, the previous and the next one, (B, L) each."""
        rows = to_vocabulary(batch.x, self.encoder.vocabulary)  # (B, K, L)
        if rows.shape[1] < 3:
            raise UserError(
                "skip_thoughts needs three sentences in a row; give --data sentences:FOLDER"
            )
        i = int(torch.randint(1, rows.shape[1] - 1, ()))
        return rows[:, i], rows[:, i - 1], rows[:, i + 1]

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Mean negative log-likelihood of a word of both neighbors, in nats."""
        middle, previous, following = views
        z = self.encoder.features(middle)
        nll_previous = self.previous_decoder(z, previous, self.encoder)
        nll_next = self.next_decoder(z, following, self.encoder)
        is_word = torch.cat([previous, following]) != PAD
        return mean_of(torch.cat([nll_previous, nll_next]), is_word)
