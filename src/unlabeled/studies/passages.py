"""Passages of books as a classification task with few labels, for the study `words`."""

import functools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import nn

from unlabeled.augmentations.vocabulary import FIRST_WORD
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers import bpe, corpus, text
from unlabeled.data.split import sample_labels
from unlabeled.data.targets import Classes
from unlabeled.evaluation.probe import linear_probe
from unlabeled.modality import Text, require_part
from unlabeled.studies.lab import Lab

CAPITALIZED = re.compile(r"\b[A-Z][a-z]+\b")


def book_accuracy(
    lab: Lab, encoders: Mapping[str, nn.Module], passages: Splits
) -> dict[str, dict[int, tuple[float, float]]]:
    """Mean and standard deviation of linear probe accuracy by labels per book; also of TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    y, y_test = (part.factors["book"] for part in (passages.train, passages.test))
    draws = {
        n: [sample_labels(y, n * len(passages.classes), s) for s in range(lab.settings.draws)]
        for n in lab.settings.labels
    }

    def summary(accuracy: Callable[[np.ndarray], float]) -> dict[int, tuple[float, float]]:
        values = {n: [accuracy(rows) for rows in each] for n, each in draws.items()}
        return {n: (float(np.mean(v)), float(np.std(v, ddof=1))) for n, v in values.items()}

    def probe_accuracy(rows: np.ndarray, z: np.ndarray, z_test: np.ndarray) -> float:
        return linear_probe(z[rows], y[rows], z_test, y_test).test

    results = {}
    for title, encoder in encoders.items():
        z, z_test = lab.features(f"books, {title}", encoder, passages)
        results[title] = summary(functools.partial(probe_accuracy, z=z, z_test=z_test))
    tokenizer = require_part(lab.data.modality, Text).tokenizer
    words, words_test = (decode(part.x[:], tokenizer) for part in (passages.train, passages.test))
    tf_idf = TfidfVectorizer(sublinear_tf=True, min_df=1).fit(words)
    t, t_test = tf_idf.transform(words), tf_idf.transform(words_test)

    def tf_idf_accuracy(rows: np.ndarray) -> float:
        model = LogisticRegression(C=10, max_iter=1000).fit(t[rows], y[rows])
        return float(model.score(t_test, y_test))

    return results | {"TF-IDF": summary(tf_idf_accuracy)}


def decode(x: np.ndarray, tokenizer: str) -> list[str]:
    """Texts of rows of tokens, so that TF-IDF gets the same words as networks."""
    opened = bpe.open_tokenizer(tokenizer)
    return [opened.decode(row[row >= FIRST_WORD].tolist()) for row in x.reshape(len(x), -1)]


def book_passages(
    documents: Sequence[corpus.Document], tokenizer: str, sizes: tuple[int, int]
) -> Splits:
    """Passages of four sentences without names, the same number from each book.

    Args:
        documents: texts of books and other sources.
        tokenizer: tokenizer of the encoders.
        sizes: numbers of training and test passages of each book.
    """
    documents = [d for d in documents if d.source == "books"]
    names = proper_names(documents)
    modality = text.modality_of(bpe.open_tokenizer(tokenizer), 32, 4)
    parts: list[Samples] = []
    for test, number in zip((False, True), sizes, strict=True):
        texts: list[str] = []
        y: list[int] = []
        for book, document in enumerate(d for d in documents if d.test == test):
            sentences = document.sentences
            passages = [" ".join(sentences[i : i + 4]) for i in range(0, len(sentences) - 3, 4)]
            long = [p for p in passages if len(p.split()) > 30]
            rows = np.random.default_rng(0).permutation(len(long))[:number]
            texts += [anonymize(long[i], names) for i in rows]
            y += [book] * len(rows)
        x = text.read(texts, tokenizer, (4, 32))
        classes = Classes(tuple(str(b + 1) for b in range(max(y) + 1)))
        parts.append(
            Samples(x, {"book": np.array(y)}, targets={"book": classes}, modality=modality)
        )
    train, test_part = parts
    return Splits("passages", train, test_part, "book")


def proper_names(documents: Sequence[corpus.Document]) -> set[str]:
    """Words that are capitalized within sentences at least nine times out of ten."""
    capital: Counter[str] = Counter()
    small: Counter[str] = Counter()
    for document in documents:
        for paragraph in document.paragraphs:
            small.update(re.findall(r"\b[a-z]+\b", paragraph))
            capital.update(re.findall(r"(?<=[a-z,;] )[A-Z][a-z]+\b", paragraph))
    return {word for word, n in capital.items() if small[word.lower()] < n / 9}


def anonymize(passage: str, names: set[str]) -> str:
    """Replace all names of a passage by the same word."""
    return CAPITALIZED.sub(lambda match: "Someone" if match[0] in names else match[0], passage)
