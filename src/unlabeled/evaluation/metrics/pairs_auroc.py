"""AUROC of pairs of samples of the same class."""

from __future__ import annotations

from unlabeled.errors import UserError
from unlabeled.evaluation.metric import MOST_FREQUENT, Metric, Subject, Value, Values
from unlabeled.evaluation.verification import auroc


class PairsAUROC(Metric):
    """Area under the ROC curve of detecting pairs of the same class by cosine similarity.

    The features are mean-centered. Classes need not have been seen in training. Random ranking and
    constant features give 0.5.
    """

    key = "auroc"
    title = "AUROC of same-class pairs"
    order = 30

    def applies(self, subject: Subject) -> bool:
        """Where test samples have classes."""
        return subject.has_labels

    def compute(self, subject: Subject) -> Value:
        """Undefined where all pairs are of one kind."""
        try:
            return Value.of(*auroc(subject.test, subject.y_test, subject.groups))
        except UserError:
            return Value(None)

    def references(self, subject: Subject) -> dict[str, Values]:
        """Random ranking, or that of a predictor that always names the same class: 0.5."""
        return {MOST_FREQUENT if subject.can_classify else "chance": Value(0.5)}
