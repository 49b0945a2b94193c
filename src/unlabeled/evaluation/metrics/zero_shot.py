"""Classification of images by the names of their classes, without a label."""

from __future__ import annotations

import numpy as np
import torch

from unlabeled.data.dataset import blocks, to_float
from unlabeled.data.readers import bpe
from unlabeled.data.readers.pairs import tokens
from unlabeled.data.targets import Classes
from unlabeled.evaluation.metric import Metric, Subject, Value, Values, accuracy, most_frequent
from unlabeled.modality import Pairs, Text


class ZeroShot(Metric):
    """Accuracy of the class whose name, as a text, is most similar to the image.

    The names alone are the prompts, without a template; of a name such as "Food & Drink" the mean
    of its parts (Radford et al. 2021, section 3.1).
    """

    key = "zero_shot"
    title = "Zero-shot accuracy"
    percent, decimals, order = True, 1, 5

    def applies(self, subject: Subject) -> bool:
        """For methods of images with texts, where classes have names in words."""
        modality, target = subject.modality, subject.splits.target
        if not isinstance(modality, Pairs) or not isinstance(modality.second, Text):
            return False
        of_names = isinstance(subject.splits.targets.get(str(target)), Classes)
        in_words = any(name.strip("0123456789") for name in subject.splits.classes)
        return (
            of_names and in_words and subject.labels is not None and subject.has("project_partner")
        )

    @torch.no_grad()
    def compute(self, subject: Subject) -> Value:
        """With its Wilson interval."""
        splits, method, means = subject.splits, subject.method, []
        assert isinstance(splits.modality, Pairs)
        assert isinstance(splits.modality.second, Text)
        tokenizer = bpe.open_tokenizer(splits.modality.second.tokenizer)
        length = splits.test.partners.shape[2]
        for name in splits.classes:
            parts = [part.strip().lower() for part in name.replace("_", " ").split("&")]
            z = method.project_partner(torch.from_numpy(tokens(tokenizer, parts, length)))
            means.append(z.mean(0) / z.mean(0).norm())
        similar = [
            method.project(to_float(torch.from_numpy(x), splits.value_range)) @ torch.stack(means).T
            for x in blocks(splits.test.x)
        ]
        predicted = torch.cat(similar).argmax(1).numpy()
        return accuracy(np.asarray(predicted == subject.y_test), subject.groups)

    def references(self, subject: Subject) -> dict[str, Values]:
        """Always the most frequent class of the training part."""
        correct = subject.y_test == most_frequent(subject.y)
        return {"chance": accuracy(correct, subject.groups)}
