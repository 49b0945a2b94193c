"""Texts of consecutive sentences in tokens. By default, Python's documentation."""

from collections.abc import Sequence

import numpy as np

from unlabeled.augmentations.vocabulary import END
from unlabeled.data.dataset import Splits
from unlabeled.data.readers import bpe, corpus
from unlabeled.data.readers.text import modality_of, splits_of, tokenizer_for
from unlabeled.errors import UserError

SHORTEST = 4
"""Minimum number of tokens of a sentence, which leaves out headings and numbers."""


def load(
    location: str | None = None,
    rows: int = 4,
    length: int = 32,
    vocabulary: int = 4096,
    tokenizer: str = "",
) -> Splits:
    """Consecutive sentences of documents, (N, rows, length) int32.

    A sentence ends with the token END and is padded; longer ones are cut. No sentence is in two
    samples.

    Args:
        location: as for `corpus.read`.
        rows: sentences of a sample.
        length: tokens of a sentence.
        vocabulary: tokens in all.
        tokenizer: a trained one, as JSON, to use instead.

    Raises:
        UserError: there is no text there, or too little.
    """
    name = f"sentences:{location}" if location else "sentences"
    return in_rows(corpus.read(location), name, rows, length, vocabulary, tokenizer)


def in_rows(
    documents: Sequence[corpus.Document],
    name: str,
    rows: int = 4,
    length: int = 32,
    vocabulary: int = 4096,
    tokenizer: str = "",
    tested: bool = True,
) -> Splits:
    """The sentences of documents, as `load` returns them; all are for training unless `tested`."""
    if rows < 2 or length < SHORTEST:
        raise UserError(f"give at least 2 rows of {SHORTEST} tokens, not {rows} of {length}")
    train, test = corpus.split(documents) if tested else (documents, [])
    known = tokenizer_for(train, vocabulary, tokenizer)

    def part(documents: Sequence[corpus.Document]) -> tuple[np.ndarray, list[str]]:
        tables, sources = [np.zeros((0, rows, length), np.int32)], []
        for document in documents:
            tokens = bpe.encode(known, document.sentences)
            tokens = [t for t in tokens if len(t) >= SHORTEST]
            table = np.zeros((len(tokens) // rows * rows, length), np.int32)
            for row, ids in zip(table, tokens, strict=False):
                ended = np.append(ids[: length - 1], np.int32(END))
                row[: len(ended)] = ended
            tables.append(table.reshape(-1, rows, length))
            sources += [document.source] * len(tables[-1])
        return np.concatenate(tables), sources

    return splits_of(name, part(train), part(test), modality_of(known, length, rows))
