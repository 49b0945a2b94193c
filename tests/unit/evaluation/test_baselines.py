"""TF-IDF of words and of pairs of words against scikit-learn and a loop."""

import itertools

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfTransformer

from unlabeled import registry
from unlabeled.augmentations.vocabulary import FIRST_WORD
from unlabeled.data.dataset import Samples, Splits
from unlabeled.encoders.base import build
from unlabeled.encoders.features import build_for
from unlabeled.evaluation import language
from unlabeled.evaluation.baselines import PAIRS, TFIDF, NGrams
from unlabeled.modality import Images, Text

VOCABULARY = FIRST_WORD + 30
IDS = np.random.default_rng(0).integers(0, VOCABULARY, (80, 2, 9)).astype(np.int32)
TEXTS = Samples(IDS, modality=Text(VOCABULARY, 9, 2))


def test_words_are_weighed_as_scikit_learn_weighs_them():
    """Catches: texts counted instead of texts with the word, padding counted, rows not unit."""
    mine = TFIDF(VOCABULARY).fit(TEXTS)
    counts = np.stack([np.bincount(text.ravel(), minlength=VOCABULARY) for text in IDS])
    counts[:, :FIRST_WORD] = 0
    expected = TfidfTransformer().fit_transform(counts).toarray()
    weighed = mine.weigh(mine.count(torch.from_numpy(IDS).long())).numpy()
    np.testing.assert_allclose(weighed, expected, atol=1e-6)


def test_pairs_are_those_of_neighbors_within_a_sentence():
    """Catches: pairs across sentences, with padding, or in the other order."""
    mine = NGrams(VOCABULARY)
    counted = mine.count(torch.from_numpy(IDS).long())[:, VOCABULARY:].numpy()
    for text, row in zip(IDS.astype(int), counted, strict=True):
        expected = np.zeros(PAIRS)
        for sentence in text:
            for a, b in itertools.pairwise(sentence):
                if min(a, b) >= FIRST_WORD:
                    expected[(a * 1_000_003 + b) % PAIRS] += 1
        np.testing.assert_array_equal(row, expected)
    z = mine.fit(TEXTS)(torch.from_numpy(IDS))
    assert z.shape == (80, mine.dim)
    assert torch.isfinite(z).all()


def ranked_by_words(rows, method, hits):
    """Share of sentences that words put first among those of 20 texts."""
    encoder = build("text_transformer", 1, rows.shape[1:], vocabulary=500, width=8, layers=1)
    samples = Samples(rows, modality=Text(500, rows.shape[2], rows.shape[1]))
    tfidf = TFIDF(500)
    tfidf.fit_weights(samples)
    shares = hits(registry.find("methods", method)(encoder), tfidf.words, samples, 20)
    return np.asarray(shares).reshape(len(shares), -1)[:, 0].mean()


def test_words_find_the_sentence_of_a_text():
    """Catches a context that holds the masked sentence, and neighbors of another text."""
    rng = np.random.default_rng(0)
    of_one = rng.integers(FIRST_WORD, 500, (100, 1, 5)).repeat(4, 1)  # a text repeats its words
    alone = rng.integers(FIRST_WORD, 500, (100, 4, 5))
    for method, hits in (
        ("skip_thoughts", language.similar_neighbor_hits),
        ("masked_sentences", language.similar_sentence_hits),
    ):
        assert ranked_by_words(rng.permuted(of_one, axis=2), method, hits) == 1
        assert ranked_by_words(alone, method, hits) < 0.2


def test_encoders_are_fitted_on_rows_of_the_whole_training_part():
    """Catches the first 5,000 rows, which are of one class in a folder sorted by class."""
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(2), 6000)
    x = rng.normal(size=(12_000, 1, 1, 6)).astype(np.float32)
    x[..., 0] += 40 * y[:, None, None]
    samples = Samples(x, {"class": y}, modality=Images(1, (1, 6)))
    splits = Splits("sorted", samples, samples.take(np.arange(0)), target="class")
    z = build_for("pca", splits)(torch.from_numpy(x)).detach().numpy()
    assert abs(np.corrcoef(z[:, 0], y)[0, 1]) > 0.99
