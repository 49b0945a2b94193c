"""Detection of replaced tokens, beside a baseline of word frequencies."""

from __future__ import annotations

import numpy as np

from unlabeled.evaluation.intervals import Groups, share
from unlabeled.evaluation.language import random_groups, replaced_tokens, word_frequencies
from unlabeled.evaluation.metric import MOST_FREQUENT, Metric, Subject, Value, Values
from unlabeled.evaluation.verification import ranked_correctly
from unlabeled.modality import Text

TEXTS = 2000
"""Test texts at most."""


class ReplacedAUROC(Metric):
    """Area under the ROC curve of telling replaced words from original ones (`electra`).

    The run's own generator replaces words of the test texts, so that runs with other generators are
    asked other questions. `unigram` takes rare words for replaced; random ranking gives 0.5.
    """

    key = "replaced_auroc"
    title = "Replaced-word AUROC"
    order = 1

    def applies(self, subject: Subject) -> bool:
        """For `electra`."""
        return judges_words(subject)

    def compute(self, subject: Subject) -> Value:
        """With its interval over texts; undefined where no word, or every one, is replaced."""
        text, _, replaced, score = subject.shared(judged).T
        return _area(text, replaced > 0, score, _groups(subject))

    def references(self, subject: Subject) -> dict[str, Values]:
        """The rarer a word, the likelier it is replaced."""
        assert isinstance(subject.modality, Text)
        text, word, replaced, _ = subject.shared(judged).T
        frequency = word_frequencies(subject.splits.train, subject.modality.vocabulary)
        rarity = -frequency[word.astype(int)]
        return {"unigram": _area(text, replaced > 0, rarity, _groups(subject))}


class ReplacedAccuracy(Metric):
    """Share of words that are rightly called replaced or original (`electra`).

    The most frequent class is that of original words, most of all.
    """

    key = "replaced_accuracy"
    title = "Replaced-word accuracy"
    percent, decimals, order = True, 1, 2

    def applies(self, subject: Subject) -> bool:
        """For `electra`."""
        return judges_words(subject)

    def compute(self, subject: Subject) -> Value:
        """With its interval over texts."""
        text, _, replaced, score = subject.shared(judged).T
        return _share(text, (score > 0) == (replaced > 0), _groups(subject))

    def references(self, subject: Subject) -> dict[str, Values]:
        """All words are called original."""
        text, _, replaced, _ = subject.shared(judged).T
        return {MOST_FREQUENT: _share(text, replaced == 0, _groups(subject))}


def judges_words(subject: Subject) -> bool:
    """Whether there are test texts, and the method replaces some of their words and judges all."""
    texts = isinstance(subject.modality, Text) and len(subject.splits.test) > 0
    return texts and subject.has("corrupt", "scores")


def judged(subject: Subject) -> np.ndarray:
    """Text, word, whether it replaces another, and the logit of that, of each word: (m, 4)."""
    return replaced_tokens(subject.method, subject.splits.test, TEXTS)


def _groups(subject: Subject) -> Groups:
    return random_groups(subject.splits.test, TEXTS)


def _share(text: np.ndarray, correct: np.ndarray, groups: Groups = None) -> Value:
    value = float(correct.mean())
    influence = _by_text(text, (correct - value) / len(correct))
    return Value.of(value, share(value, influence, _of_first(groups, len(influence))))


def _area(
    text: np.ndarray, replaced: np.ndarray, score: np.ndarray, groups: Groups = None
) -> Value:
    if replaced.all() or not replaced.any():
        return Value(None)
    correct, n = ranked_correctly(score, replaced), int(replaced.sum())
    area = float(correct[replaced].mean())
    influence = _by_text(text, (correct - area) / np.where(replaced, n, len(replaced) - n))
    return Value.of(area, share(area, influence, _of_first(groups, len(influence))))


def _of_first(groups: Groups, n: int) -> Groups:
    """The groups up to the last text that has words."""
    return None if groups is None else groups[:n]


def _by_text(text: np.ndarray, influence: np.ndarray) -> np.ndarray:
    return np.bincount(text.astype(int), influence)
