"""How well words are predicted, beside models that only count."""

from __future__ import annotations

import numpy as np

from unlabeled.evaluation.intervals import Groups, bootstrap_ratio, share
from unlabeled.evaluation.language import (
    counted_tokens,
    masked_tokens,
    next_tokens,
    random_groups,
    random_rows,
)
from unlabeled.evaluation.metric import Metric, Subject, Value, Values
from unlabeled.modality import Text

TEXTS = 2000
"""Test texts at most."""


class Perplexity(Metric):
    """Exponential of the mean negative log-likelihood of a word.

    Of masked words (`masked_lm`), of each word given those before it (`causal_lm`), or given all
    others (`bidirectional_lm`); those are different quantities.
    `unigram` and, for example, `4-gram` (interpolated Kneser-Ney, of the order that is best at the
    end of the training part) count the words of the training part.
    """

    key = "perplexity"
    title = "Perplexity"
    decimals, order, higher_is_better = 1, 1, False

    def applies(self, subject: Subject) -> bool:
        """For language models."""
        return predicts_words(subject)

    def compute(self, subject: Subject) -> Value:
        """With its bootstrap interval over texts."""
        return _perplexity(subject.shared(predicted), _groups(subject))

    def references(self, subject: Subject) -> dict[str, Values]:
        """Models that count."""
        groups = _groups_of_counts(subject)
        return {name: _perplexity(rows, groups) for name, rows in subject.shared(counts).items()}


class MaskedAccuracy(Metric):
    """Share of masked words that are predicted correctly; `unigram` is the most frequent word."""

    key = "masked_accuracy"
    title = "Masked-word accuracy"
    percent, decimals, order = True, 1, 2

    def applies(self, subject: Subject) -> bool:
        """For `masked_lm`."""
        return subject.method_name == "masked_lm" and predicts_words(subject)

    def compute(self, subject: Subject) -> Value:
        """With its interval over texts."""
        return _accuracy(subject.shared(predicted), _groups(subject))

    def references(self, subject: Subject) -> dict[str, Values]:
        """The most frequent word."""
        rows = subject.shared(counts)["unigram"]
        return {"unigram": _accuracy(rows, _groups_of_counts(subject))}


def predicts_words(subject: Subject) -> bool:
    """Whether there are test texts, and the method predicts their words."""
    if not isinstance(subject.modality, Text) or not len(subject.splits.test):
        return False
    if subject.method_name == "masked_lm":
        return subject.has("scores")
    return subject.has("negative_log_likelihood")


def predicted(subject: Subject) -> np.ndarray:
    """Negative log-likelihood, words and, if masked, correct predictions of each text: (n, 2–3)."""
    function = masked_tokens if subject.method_name == "masked_lm" else next_tokens
    rows: np.ndarray = function(subject.method, subject.splits.test, TEXTS)
    return rows


def counts(subject: Subject) -> dict[str, np.ndarray]:
    """The same of models that count, of the same texts in the order of the data."""
    assert isinstance(subject.modality, Text)
    splits = subject.splits
    return counted_tokens(splits.train, splits.test, subject.modality.vocabulary, TEXTS)


def _groups(subject: Subject) -> Groups:
    return random_groups(subject.splits.test, TEXTS)


def _groups_of_counts(subject: Subject) -> Groups:
    rows = np.sort(random_rows(subject.splits.test, TEXTS))
    return None if subject.groups is None else subject.groups[rows]


def _perplexity(rows: np.ndarray, groups: Groups = None) -> Value:
    return Value.of(*bootstrap_ratio(rows[:, 0], rows[:, 1], np.exp, groups))


def _accuracy(rows: np.ndarray, groups: Groups = None) -> Value:
    words, hits = rows[:, 1], rows[:, 2]
    value = float(hits.sum() / words.sum())
    return Value.of(value, share(value, (hits - value * words) / words.sum(), groups))
