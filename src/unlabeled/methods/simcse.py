"""SimCSE: simple contrastive learning of sentence embeddings (Gao et al. 2021).

Gao, Yao, Chen 2021, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", where dropout is
the only augmentation; synonym replacement as in Zhang, Zhao, LeCun 2015, "Character-level
Convolutional Networks for Text Classification", section 2.3, here by the nearest tokens of the
initial encoder instead of a thesaurus.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations.tokens import to_vocabulary
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

    NT-Xent is SimCLR's: both views of the other sentences are negatives, and both give anchors. The
    paper contrasts first views with second ones only (eq. 4), and its head is a linear layer and
    tanh, here an MLP with BatchNorm. Equal sentences of a batch are positives of each other instead
    of negatives, as rows of a class in Khosla et al. 2020.

    Args:
        view: "dropout", the same words with other dropout masks; or "synonyms", which also replaces
            words and needs a trained encoder: give --init.
        replace_ratio: fraction of the words that are replaced.
        synonyms: number of nearest tokens from which a replacement is drawn.
        dim: width of the projection.
        temperature: τ of the loss; the paper's 0.05.
        dropout: of the encoder's layers, whatever it was trained with before; the paper's 0.1.
    """

    modality = (Text,)
    min_sentences = 2
    recipe = Recipe(epochs=2, batch_size=64, lr=5e-4, weight_decay=0.01, grad_clip_norm=1.0)

    def __init__(
        self,
        encoder: nn.Module,
        *,
        view: Literal["dropout", "synonyms"] = "dropout",
        replace_ratio: float = 0.2,
        synonyms: int = 5,
        dim: int = 128,
        temperature: float = 0.05,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(encoder)
        text_encoder = require_text_encoder(encoder, "simcse")
        if not 0 <= dropout < 1:
            raise UserError(f"dropout is {dropout}, but must be from 0 to below 1")
        if view == "dropout" and not dropout:
            raise UserError("dropout is 0, which makes both views the same; give more than 0")
        set_dropout(encoder, dropout, required=view == "dropout")
        self.head = mlp(text_encoder.dim, text_encoder.dim, dim)
        self.temperature, self.replace_ratio = temperature, replace_ratio
        self.neighbors: Tensor | None
        embedding = text_encoder.embed.weight.detach()
        neighbors = nearest_tokens(embedding, synonyms) if view == "synonyms" else None
        self.register_buffer("neighbors", neighbors)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Two views of a sentence of each text, (B, L) each, and which sentence it is (B,)."""
        rows = to_vocabulary(batch.x, self.encoder.vocabulary)  # (B, K, L)
        i = torch.randint(rows.shape[1], (len(rows),), device=rows.device)
        ids = rows[torch.arange(len(rows), device=rows.device), i]
        return self.augment(ids), self.augment(ids), row_ids(ids)

    def augment(self, ids: Tensor) -> Tensor:
        """Tokens (B, L), a fraction of the words replaced by synonyms where those are used."""
        if self.neighbors is None:
            return ids
        which = torch.randint(self.neighbors.shape[1], ids.shape, device=ids.device)
        synonym = self.neighbors[ids, which]
        replaced = torch.rand(ids.shape, device=ids.device) < self.replace_ratio
        return torch.where(replaced & (ids >= FIRST_WORD), synonym, ids)

    def loss(self, views: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """NT-Xent of the projections of all processes' batch."""
        ids1, ids2, sentence = views
        z = self.head(self.encoder.features(torch.cat([ids1, ids2])))
        z1, z2 = (gather(part) for part in z.chunk(2))
        return sup_con(torch.cat([z1, z2]), gather(sentence).repeat(2), self.temperature)


def set_dropout(encoder: nn.Module, p: float, required: bool) -> None:
    """Set the probability of all dropout layers.

    Raises:
        UserError: dropout is required, but an LSTM of one layer has none.
    """
    for layer in encoder.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = p
        elif isinstance(layer, nn.LSTM):
            layer.dropout = p if layer.num_layers > 1 else 0.0
            if required and not layer.dropout:
                raise UserError("an LSTM of one layer has no dropout; give it more layers")


def nearest_tokens(embedding: Tensor, number: int) -> Tensor:
    """Of each token (V, d) the nearest other words by cosine: (V, number)."""
    units = F.normalize(embedding.float(), dim=1)
    cosine = units @ units.T
    cosine.fill_diagonal_(-torch.inf)
    cosine[:, :FIRST_WORD] = -torch.inf
    return cosine.topk(min(number, len(cosine) - FIRST_WORD - 1), dim=1).indices
