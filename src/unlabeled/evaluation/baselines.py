"""The untrained and fitted encoders that a run is compared with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix, diags, vstack
from torch import Tensor, nn

from unlabeled.augmentations.vocabulary import FIRST_WORD
from unlabeled.data.dataset import Samples, Splits
from unlabeled.encoders.base import build, is_rebuildable, reinitialize
from unlabeled.encoders.features import FITTED_ROWS, build_for
from unlabeled.errors import UserError, notice
from unlabeled.evaluation.spectral import Kind, Spectral
from unlabeled.modality import Audio, Images, Modality, Series, Table, Text, require_part
from unlabeled.runs.run import Run
from unlabeled.utils.state import preserve_rng

RANDOM_SEED = 1234
"""Seed of the random encoder's weights."""
USUAL: dict[type[Modality], tuple[str, ...]] = {
    Images: ("raw", "pca", "histogram", "random"),
    Audio: ("mfcc", "mel", "random"),
    Text: ("tfidf", "ngrams", "random"),
    Series: ("raw", "pca", "spectrum", "random"),
    Table: ("raw", "pca", "random"),
}
RAW_DIM = 4096
"""Maximum pixels of `raw`; larger images are averaged, or the linear probe would take an hour."""
LSA_DIM = 256
"""Number of features of TF-IDF."""
PAIRS = 1 << 15
"""Number of columns that pairs of words are hashed into."""


class TFIDF(nn.Module):
    """Counts of words, weighted by inverse document frequency: (B, K, L) -> (B, 256).

    The singular value decomposition keeps the largest dimensions (latent semantic analysis).

    Args:
        vocabulary: number of tokens.
    """

    weights: Tensor
    components: Tensor

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.vocabulary, self.dim = vocabulary, LSA_DIM
        self.register_buffer("weights", torch.ones(vocabulary))
        self.register_buffer("components", torch.eye(vocabulary, LSA_DIM))

    def fit(self, train: Samples) -> TFIDF:
        """Fit on training texts."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.preprocessing import normalize

        counts = self.fit_weights(train)
        self.dim = min(LSA_DIM, counts.shape[0], self.vocabulary - 1)
        svd = TruncatedSVD(self.dim, random_state=0)
        svd.fit(normalize(counts @ diags(self.weights.numpy())))
        self.components = torch.from_numpy(svd.components_.T.copy()).float()
        return self

    def fit_weights(self, train: Samples) -> csr_matrix:
        """Fit the weights of `words`; return the counts of the texts that were used."""
        rows = np.random.default_rng(0).permutation(len(train))[:FITTED_ROWS]
        parts = torch.from_numpy(train.x[rows].astype(np.int64)).split(500)
        counts = vstack([csr_matrix(self.count(ids).numpy()) for ids in parts])
        texts_with = torch.from_numpy(counts.getnnz(0).astype(np.float32))
        self.weights = torch.log((1 + len(rows)) / (1 + texts_with)) + 1
        return counts

    def words(self, x: Tensor) -> Tensor:
        """All dimensions, without the decomposition: (B, …) -> (B, vocabulary), of unit length."""
        return self.weigh(self.count(x.long()))

    def count(self, ids: Tensor) -> Tensor:
        """Counts of each word in each text: (B, …) -> (B, vocabulary)."""
        flat = ids.flatten(1).clamp(max=self.vocabulary - 1)
        counts = torch.zeros(len(flat), self.vocabulary, device=ids.device)
        counts.scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32))
        counts[:, :FIRST_WORD] = 0
        return counts

    def weigh(self, counts: Tensor) -> Tensor:
        """Rows of unit length, or 0."""
        return F.normalize(counts * self.weights, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, K, L) -> (B, dim)."""
        return self.words(x) @ self.components


class NGrams(TFIDF):
    """TF-IDF of words and of pairs of adjacent words, hashed: (B, K, L) -> (B, 256)."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__(vocabulary + PAIRS)
        self.single = TFIDF(vocabulary)

    def count(self, ids: Tensor) -> Tensor:
        """Counts of each word and each pair of words in each text, (B, vocabulary + pairs)."""
        first, second = ids[..., :-1].flatten(1), ids[..., 1:].flatten(1)
        pairs = torch.zeros(len(ids), PAIRS, device=ids.device)
        of_words = ((first >= FIRST_WORD) & (second >= FIRST_WORD)).float()
        pairs.scatter_add_(1, (first * 1_000_003 + second) % PAIRS, of_words)
        return torch.cat([self.single.count(ids), pairs], 1)


def baselines(run: Run, splits: Splits, names: Sequence[str] | None = None) -> dict[str, nn.Module]:
    """Encoders to compare a run with, by their names.

    Args:
        run: its encoder's architecture with random weights is `random`.
        splits: the data.
        names: of raw (pixels), histogram, pca, ica, kmeans (fitted in training), random; for
            audio mel, mfcc, "mfcc and deltas"; for texts tfidf, ngrams; for series spectrum
            (default: the usual ones).
    """
    if names is None:
        names = USUAL[type(splits.modality.encoder_input)]
    encoders: dict[str, nn.Module] = {}
    for name in names:
        if name == "random":
            encoders[name] = random_of(run, splits)
        elif name == "raw":
            encoders[name] = _raw(splits)
        elif name in ("tfidf", "ngrams"):
            kind = TFIDF if name == "tfidf" else NGrams
            encoders[name] = kind(require_part(splits.modality, Text).vocabulary).fit(splits.train)
        elif name in get_args(Kind):
            try:
                rate = require_part(splits.modality, Audio).sample_rate
                encoders[name] = Spectral(rate, name)  # type: ignore[arg-type]
            except UserError as error:
                notice(str(error))
        else:
            encoders[name] = build_for(name, splits)
    return encoders


def random_of(run: Run, splits: Splits) -> nn.Module:
    """The architecture of a run's encoder with random weights."""
    name, args = run.inputs["encoder"], run.inputs["args"]
    with preserve_rng(RANDOM_SEED):
        if is_rebuildable(name, args):
            return build(name, splits.channels, splits.size, **args)
        return reinitialize(run.encoder)


def _raw(splits: Splits) -> nn.Module:
    """The pixels, averaged down to at most `RAW_DIM` values; of tables all values."""
    raw = build("raw", splits.channels, splits.size)
    if raw.dim > RAW_DIM and not isinstance(splits.modality, Table):  # type: ignore[operator]
        most = RAW_DIM // splits.channels
        size = (1, most) if splits.size[0] == 1 else (math.isqrt(most), math.isqrt(most))
        raw = build(nn.Sequential(nn.AdaptiveAvgPool2d(size), raw), splits.channels, splits.size)
    return raw
