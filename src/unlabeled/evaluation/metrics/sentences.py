"""How well sentences and the order of words are recognized."""

from __future__ import annotations

import math

import numpy as np

from unlabeled.errors import UserError, notice
from unlabeled.evaluation.language import correct_answers, order_scores
from unlabeled.evaluation.metric import Metric, Subject, Value, Values, mean, mean_share
from unlabeled.modality import Text

TEXTS = 2000
"""Test texts at most."""


class SentencePairAccuracy(Metric):
    """Accuracy of `next_sentence` and `sentence_order`, the mean over five draws for each text.

    Does the second half follow the first; and which of two halves comes first?
    """

    key = "sentence_pair_accuracy"
    title = "Sentence-pair accuracy"
    percent, decimals, order = True, 1, 3

    def applies(self, subject: Subject) -> bool:
        """For methods that answer such a question."""
        texts = isinstance(subject.modality, Text) and len(subject.splits.test) > 1
        return texts and subject.has("correct")

    def compute(self, subject: Subject) -> Value:
        """With its interval over texts, or over groups."""
        share, groups = correct_answers(subject.method, subject.splits.test), subject.groups
        known = np.isfinite(share)
        return mean_share(share[known], None if groups is None else groups[known])

    def references(self, subject: Subject) -> dict[str, Values]:
        """Random answers: 50 %."""
        return {"chance": Value(0.5)}


class WordOrder(Metric):
    """How well `word_order` puts shuffled parts in order.

    Kendall's τ with the true order, and the share of orders that are exactly right.
    """

    key = "word_order"
    title = "Word order"
    order = 4

    def applies(self, subject: Subject) -> bool:
        """For `word_order`."""
        texts = isinstance(subject.modality, Text) and len(subject.splits.test) > 0
        return texts and subject.has("present", "scores")

    def compute(self, subject: Subject) -> Values:
        """With intervals over texts, or over groups."""
        if subject.shared(_orders) is None:
            return {"word_order_tau": Value(None), "word_order_exact": Value(None)}
        scores, _, rows = subject.shared(_orders)
        groups = None if subject.groups is None else subject.groups[rows]
        return {
            "word_order_tau": mean(scores[:, 0], groups),
            "word_order_exact": mean_share(scores[:, 1], groups),
        }

    def references(self, subject: Subject) -> dict[str, Values]:
        """A random order."""
        if subject.shared(_orders) is None:
            return {}
        exact = Value(1 / math.factorial(subject.shared(_orders)[1]))
        return {"chance": {"word_order_tau": Value(0.0), "word_order_exact": exact}}


def _orders(subject: Subject) -> tuple[np.ndarray, int, np.ndarray] | None:
    try:
        return order_scores(subject.method, subject.splits.test, TEXTS)
    except UserError as error:
        notice(f"the word order is not evaluated: {error}")
        return None
