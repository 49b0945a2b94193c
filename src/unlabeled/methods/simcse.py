"""Sentence views: the same content in other words should meet.

Gao, Yao, Chen 2021, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", where dropout
alone makes the views; synonyms as in Zhang, Zhao, LeCun 2015, section 2.3, here the nearest tokens
of the encoder that one starts with, for want of a thesaurus.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import to_tokens
from unlabeled.augmentations.vocabulary import FIRST_WORD
from unlabeled.core import Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.encoders.text import require_text_encoder
from unlabeled.errors import UserError
from unlabeled.modality import Text
from unlabeled.objectives import sup_con
from unlabeled.parallel import gather, row_ids


class SimCSE(Method):
    """Two views of each sentence, NT-Xent over the batch.

    Equal sentences of a batch are no negatives of each other, but further positives (as rows of a
    class in Khosla et al. 2020); where all differ it is the paper's loss.

    Args:
        view: "dropout", the same words through other neurons; or "synonyms", words changed for
            near ones, too, which needs an encoder that knows some: give --start.
        share: of the words that are changed.
        synonyms: nearest tokens that are drawn from.
        dim: width of the projection.
        temperature: τ of the loss; the paper's.
        dropout: share of the network's values that each view leaves out, whatever it was trained
            with before.
    """

    modality: ClassVar = (Text,)
    min_sentences: ClassVar = 2
    recipe = Recipe(epochs=2, batch_size=64, lr=5e-4, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(
        self,
        encoder: nn.Module,
        *,
        view: Literal["dropout", "synonyms"] = "dropout",
        share: float = 0.2,
        synonyms: int = 5,
        dim: int = 128,
        temperature: float = 0.05,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(encoder)
        known = require_text_encoder(encoder, "simcse")
        if not 0 <= dropout < 1:
            raise UserError(f"dropout is {dropout}, but must be from 0 to below 1")
        for layer in encoder.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = dropout
            elif isinstance(layer, nn.LSTM):
                layer.dropout = dropout if layer.num_layers > 1 else 0.0
                if view == "dropout" and not layer.dropout:
                    raise UserError("an LSTM of one layer leaves nothing out: give it more layers")
        if view == "dropout" and not dropout:
            raise UserError("without dropout both views are the same; give more than 0")
        self.head = mlp(known.dim, known.dim, dim)
        self.temperature, self.share = temperature, share
        self.near: Tensor | None
        near = nearest(known.embed.weight.detach(), synonyms) if view == "synonyms" else None
        self.register_buffer("near", near)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Two views of a sentence of each text, (B, L) each, and which sentence it is (B,)."""
        rows = to_tokens(batch.x[:, 0], self.encoder.vocabulary)  # (B, K, L)
        at = torch.randint(rows.shape[1], (len(rows),), device=rows.device)
        ids = rows[torch.arange(len(rows), device=rows.device), at]
        return self.reworded(ids), self.reworded(ids), row_ids(ids)

    def reworded(self, ids: Tensor) -> Tensor:
        """A share of the words changed for near ones."""
        if self.near is None:
            return ids
        which = torch.randint(self.near.shape[1], ids.shape, device=ids.device)
        other = self.near[ids, which]
        changed = torch.rand(ids.shape, device=ids.device) < self.share
        return torch.where(changed & (ids >= FIRST_WORD), other, ids)

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """NT-Xent of the projections of the batch of all processes."""
        *both, sentence = views
        z = self.head(self.encoder.features(torch.cat(both)))
        a, b = (gather(part) for part in z.chunk(2))
        return sup_con(torch.cat([a, b]), gather(sentence).repeat(2), self.temperature)


def nearest(weight: Tensor, number: int) -> Tensor:
    """Of each token (V, d) the nearest others by cosine that are words: (V, number)."""
    units = F.normalize(weight.float(), dim=1)
    near = units @ units.T
    near.fill_diagonal_(-torch.inf)
    near[:, :FIRST_WORD] = -torch.inf
    return near.topk(min(number, len(near) - FIRST_WORD - 1), dim=1).indices
