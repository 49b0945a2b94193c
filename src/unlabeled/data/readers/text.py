"""Texts in tokens: pieces of documents, in order. By default, Python's documentation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from unlabeled.augmentations.vocabulary import END
from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.readers import bpe, corpus
from unlabeled.data.targets import Classes, Target
from unlabeled.errors import UserError
from unlabeled.modality import Text


def load(
    location: str | None = None, length: int = 64, vocabulary: int = 4096, tokenizer: str = ""
) -> Splits:
    """Pieces of `length` tokens, (N, 1, length) int32; a piece never spans two documents.

    A paragraph ends with the token END; the last piece of a document is filled with padding. The
    factor `source` is the file. Byte pairs are learned from the training part.

    Args:
        location: as for `corpus.read`.
        length: tokens of a piece.
        vocabulary: tokens in all.
        tokenizer: a trained one, as JSON, to use instead.

    Raises:
        UserError: there is no text there, or too little.
    """
    name = f"text:{location}" if location else "text"
    return in_pieces(corpus.read(location), name, length, vocabulary, tokenizer)


def in_pieces(
    documents: Sequence[corpus.Document],
    name: str,
    length: int = 64,
    vocabulary: int = 4096,
    tokenizer: str = "",
    tested: bool = True,
) -> Splits:
    """The pieces of documents, as `load` returns them; all are for training unless `tested`."""
    if length < 4:
        raise UserError(f"pieces of {length} tokens are too short; give at least 4")
    train, test = corpus.split(documents) if tested else (documents, [])
    known = tokenizer_for(train, vocabulary, tokenizer)

    def part(documents: Sequence[corpus.Document]) -> tuple[np.ndarray, list[str]]:
        pieces, sources = [np.zeros((0, length), np.int32)], []
        for document in documents:
            tokens = bpe.encode(known, document.paragraphs)
            end = np.array([END], np.int32)
            row = np.concatenate([np.concatenate([t, end]) for t in tokens] or [end[:0]])
            row = np.pad(row, (0, -len(row) % length))
            pieces.append(row.reshape(-1, length))
            sources += [document.source] * len(pieces[-1])
        return np.concatenate(pieces)[:, None], sources

    return splits_of(name, part(train), part(test), modality_of(known, length))


def tokenizer_for(
    documents: Sequence[corpus.Document], vocabulary: int, tokenizer: str = ""
) -> Any:
    """The tokenizer in `tokenizer`, as JSON, or one that is trained on these documents."""
    if tokenizer:
        return bpe.open_tokenizer(tokenizer)
    texts = (paragraph for document in documents for paragraph in document.paragraphs)
    return bpe.train_tokenizer(texts, vocabulary)


def splits_of(
    name: str,
    train: tuple[np.ndarray, list[str]],
    test: tuple[np.ndarray, list[str]],
    modality: Text,
) -> Splits:
    """Two parts of tokens, and the file of each row, as a data set.

    Raises:
        UserError: there is nothing to learn from.
    """
    if not len(train[0]):
        raise UserError(f"{name} has too little text to learn from; give more")
    files = sorted({*train[1], *test[1]})
    code = {file: i for i, file in enumerate(files)}
    targets: dict[str, Target] = {"source": Classes(tuple(files))}
    first, second = (
        Samples(
            x,
            {"source": np.array([code[s] for s in sources], np.int64)},
            targets=targets,
            modality=modality,
        )
        for x, sources in (train, test)
    )
    return Splits(name, first, second, target="source" if len(files) > 1 else None)


def modality_of(tokenizer: Any, length: int, sentences: int = 1) -> Text:
    """The modality of texts in the tokens of a tokenizer."""
    return Text(tokenizer.get_vocab_size(), length, sentences, tokenizer.to_str())


def read(texts: Sequence[str], tokenizer: str, size: tuple[int, int]) -> np.ndarray:
    """Texts in memory as (N, *size) int32: longer ones are cut, shorter ones padded.

    Raises:
        UserError: they are no strings.
    """
    if not all(isinstance(text, str) for text in texts):
        raise UserError("this run reads texts: give a list of strings, a file or a folder of text")
    known = bpe.open_tokenizer(tokenizer)
    x = np.zeros((len(texts), *size), np.int32)
    for row, text in enumerate(texts):
        parts = corpus.sentences(text) if size[0] > 1 else [text]
        for line, tokens in enumerate(bpe.encode(known, parts[: size[0]])):
            ended = np.append(tokens[: size[1] - 1], np.int32(END))
            x[row, line, : len(ended)] = ended
    return x
