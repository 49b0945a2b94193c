"""ELECTRA: pre-training text encoders as discriminators rather than generators (Clark et al. 2020).

Clark, Luong, Le, Manning 2020, "ELECTRA: Pre-training Text Encoders as Discriminators Rather Than
Generators", section 2.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import choose_tokens
from unlabeled.augmentations.vocabulary import FIRST_WORD, MASK, PAD, UNKNOWN
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.text import TokenGenerator, require_text_encoder
from unlabeled.errors import UserError
from unlabeled.modality import Text
from unlabeled.parallel import mean_of


class ELECTRA(Method):
    """A small generator fills masked tokens; the encoder tells replaced tokens from original ones.

    The generator is a masked language model, trained as such and not to deceive. A token is drawn
    from its distribution for each masked one, and counts as original where it is the right one. The
    encoder, the discriminator, classifies every token of the text. Both share the embeddings of
    tokens and positions, which learn from both losses. The generator is discarded.

    All chosen tokens are masked, as in the paper's equations; the authors' code leaves 15 % of them
    as they are. Special tokens are not drawn, except UNKNOWN.

    Args:
        mask_ratio: fraction of the tokens that are masked; the paper's 0.15.
        generator_ratio: width of the generator as a fraction of the encoder's; the paper's 1/4 for
            Small, 1/3 for Base.
        discriminator_weight: λ, weight of the discriminator's loss; the paper's 50.
    """

    modality = (Text,)
    # The paper's Small takes 1M steps of 128 texts of 128 tokens at 5e-4, 10,000 of them warmup.
    recipe = Recipe(epochs=4, batch_size=32, lr=1e-3, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(
        self,
        encoder: nn.Module,
        *,
        mask_ratio: float = 0.15,
        generator_ratio: float = 0.25,
        discriminator_weight: float = 50.0,
    ) -> None:
        super().__init__(encoder)
        text_encoder = require_text_encoder(encoder, "electra", ("bidirectional",))
        blocks: Any = text_encoder.bodies[0].blocks
        if not len(blocks):
            raise UserError(
                "electra's generator has as many blocks as the encoder; give at least 1"
            )
        width = round(generator_ratio * text_encoder.width)
        if width < 1:
            raise UserError(
                f"generator_ratio is {generator_ratio}, which leaves no width of "
                f"{text_encoder.width}; give more, such as 0.25"
            )
        dim = text_encoder.dim
        self.generator = TokenGenerator(text_encoder, width)
        self.discriminator = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, 1))
        self.mask_ratio, self.discriminator_weight = mask_ratio, discriminator_weight

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, which of them are masked, and uniform numbers to draw by, (B, n) each."""
        ids = self.encoder.tokens(batch.x)
        draws = torch.rand(ids.shape, device=ids.device)
        return ids, choose_tokens(ids, self.mask_ratio), draws

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Mean over masked tokens of the generator's, λ times that of the discriminator's over all.

        In nats: −log of the right token's probability, and binary cross-entropy.
        """
        ids, masked, _ = views
        logits, filled = self.corrupt(views)
        nll = F.cross_entropy(logits, ids[masked], reduction="none")
        costs = F.binary_cross_entropy_with_logits(
            self.scores(filled), (filled != ids).to(nll), reduction="none"
        )
        generator = mean_of(nll, torch.ones_like(nll, dtype=torch.bool))
        discriminator = mean_of(costs.flatten(), (ids != PAD).flatten())
        return generator + self.discriminator_weight * discriminator

    def scores(self, ids: Tensor) -> Tensor:
        """Logits of being replaced of each token, (B, n)."""
        return self.discriminator(self.encoder.states(ids)[:, 1:])[:, :, 0].float()

    def corrupt(self, views: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Logits of masked tokens (m, vocabulary), and all tokens with draws from these (B, n)."""
        ids, masked, draws = views
        logits = self.generator(torch.where(masked, MASK, ids), masked, self.encoder)
        return logits, ids.masked_scatter(masked, draw_words(logits.detach(), draws[masked]))


def draw_words(logits: Tensor, draws: Tensor) -> Tensor:
    """A token for each row of logits (m, vocabulary), by uniform numbers (m,) in [0, 1).

    It is the first at which the cumulative distribution exceeds the number, so that a sample takes
    one number; special tokens other than UNKNOWN have probability 0.
    """
    special = torch.arange(logits.shape[1], device=logits.device) < FIRST_WORD
    special[UNKNOWN] = False
    cumulative = logits.masked_fill(special, -torch.inf).softmax(1).cumsum(1)
    return (cumulative <= draws[:, None]).sum(1).clamp(max=logits.shape[1] - 1)
