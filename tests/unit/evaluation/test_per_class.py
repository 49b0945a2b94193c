"""Scores of each class against scikit-learn, and what the page shows of them."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.targets import Classes
from unlabeled.evaluation.intervals import wilson
from unlabeled.evaluation.metric import Subject
from unlabeled.evaluation.per_class import per_class
from unlabeled.evaluation.probe import Probe
from unlabeled.report.classes import classes_section


def scores_of(y, predicted, classes):
    """Scores where a probe has answered like that."""
    names = Classes(tuple(f"<{i}>" for i in range(classes)))
    x = np.zeros((len(y), 1, 1, 1), np.float32)
    part = Samples(x, {"label": y}, targets={"label": names})
    subject = Subject("mine", Splits("data", part, part, target="label"), torch.nn.Identity())
    subject.__dict__["probe"] = Probe(1.0, 1.0, predicted)
    return per_class(subject)


def test_scores_are_scikit_learns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 200)
    predicted = np.where(rng.random(200) < 0.6, y, rng.integers(0, 5, 200))
    mine = scores_of(y, predicted, 5)
    precision, recall, f1, n = precision_recall_fscore_support(y, predicted)
    assert [s.n for s in mine.scores] == n.tolist()
    assert [s.precision for s in mine.scores] == pytest.approx(precision)
    assert [s.recall.value for s in mine.scores] == pytest.approx(recall)
    assert [s.f1 for s in mine.scores] == pytest.approx(f1)
    assert (mine.confusion == confusion_matrix(y, predicted)).all()
    hits = int(mine.confusion[2, 2])
    assert (mine.scores[2].recall.low, mine.scores[2].recall.high) == wilson(hits, int(n[2]))
    counts = [n for _, _, n, _ in mine.confused()]
    wrong = mine.confusion[~np.eye(5, dtype=bool)]
    assert counts == sorted(wrong[wrong > 0].tolist(), reverse=True)[:20]


def test_classes_without_samples_or_answers_have_no_score():
    mine = scores_of(np.array([0, 0, 2, 2]), np.array([0, 1, 0, 0]), 4)
    scores = {s.name: s for s in mine.scores}
    assert set(scores) == {"<0>", "<1>", "<2>"}
    assert scores["<1>"].recall.value is scores["<1>"].f1 is None
    assert scores["<1>"].precision == 0
    assert scores["<2>"].precision is None
    assert scores["<2>"].recall.value == 0
    assert scores["<2>"].f1 is None


def test_few_classes_are_a_matrix_and_many_the_most_confused_pairs():
    for classes in (20, 21):
        y = np.repeat(np.arange(classes), 3)
        predicted = y.copy()
        predicted[0] = 7
        page = classes_section(scores_of(y, predicted, classes), "simclr", "a<b")
        assert ("Confusion matrix" in page) == (classes == 20)
        assert ("Most confused classes" in page) == (classes == 21)
        assert "&lt;7&gt;" in page
        assert "<7>" not in page
        assert "a&lt;b" in page
    assert '<td class="text">&lt;7&gt;</td><td>1</td><td>33.3</td>' in page
    assert classes_section(None, "simclr", "label") == ""
