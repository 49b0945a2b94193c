"""How well word vectors agree with people, and solve analogies."""

from __future__ import annotations

import math

from unlabeled.evaluation.intervals import Z, wilson
from unlabeled.evaluation.metric import Metric, Subject, Value


class WordSimilarity(Metric):
    """Spearman correlation of the cosine similarity of two words with people's ratings.

    Over the pairs whose words have vectors; the interval is that of Bonett and Wright 2000.
    """

    key = "similarity"
    title = "Word similarity (Spearman)"
    order = 1

    def applies(self, subject: Subject) -> bool:
        """Not to encoders: `evaluate_words` computes it."""
        return False


class WordAnalogies(Metric):
    """Share of analogies (a is to b as c is to d) whose d is the most similar word to b − a + c.

    Over the questions whose words all have vectors.
    """

    key = "analogies"
    title = "Word analogies"
    percent, decimals, order = True, 1, 2

    def applies(self, subject: Subject) -> bool:
        """Not to encoders: `evaluate_words` computes it."""
        return False


def correlation(rho: float, n: int) -> Value:
    """A rank correlation of n pairs with its interval."""
    if n <= 3 or abs(rho) >= 1:
        return Value.of(rho)
    half = Z * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Value.of(rho, (math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)))


def solved(correct: int, asked: int) -> Value:
    """A share of analogies with its Wilson interval."""
    return Value.of(correct / asked, wilson(correct, asked)) if asked else Value(None)
