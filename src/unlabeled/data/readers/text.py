"""Texts as tokens: pieces of documents, in order. By default, Python's documentation."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.augmentations.vocabulary import END
from unlabeled.data.dataset import LazyImages, Samples, Splits
from unlabeled.data.disk import DiskArray, store
from unlabeled.data.readers import bpe, cache, corpus
from unlabeled.data.readers.documents import Document, Documents
from unlabeled.data.targets import Classes, Target
from unlabeled.errors import UserError, notice
from unlabeled.modality import Text
from unlabeled.utils.files import write_json

LEARNED = 100_000_000
"""Maximum bytes of text that a tokenizer is trained on."""

Rows = np.ndarray | LazyImages
"""Tokens (N, S, L) int32."""


def load(
    location: str | None = None, length: int = 64, vocabulary: int = 4096, tokenizer: str = ""
) -> Splits:
    """Pieces of `length` tokens, (N, 1, length) int32; a piece never spans two documents.

    A paragraph ends with the token END; the last piece of a document is filled with padding. The
    factor `source` is the file. Byte pairs are learned from the training part.

    Args:
        location: as for `corpus.read`.
        length: tokens of a piece.
        vocabulary: number of tokens of a new tokenizer.
        tokenizer: a trained tokenizer to use instead, as JSON.

    Raises:
        UserError: there is no text there, or too little.
    """
    name = f"text:{location}" if location else "text"
    return in_pieces(corpus.read(location), name, length, vocabulary, tokenizer)


def in_pieces(
    documents: Sequence[Document],
    name: str,
    length: int = 64,
    vocabulary: int = 4096,
    tokenizer: str = "",
    tested: bool = True,
) -> Splits:
    """The pieces of documents, as `load` returns them; all are for training unless `tested`."""
    if length < 4:
        raise UserError(f"pieces of {length} tokens are too short; give at least 4")

    def pieces(known: Any, document: Document) -> Iterator[np.ndarray]:
        end = np.array([END], np.int32)
        rest = end[:0]
        for tokens in bpe.encode_batches(known, document.paragraphs):
            row = np.concatenate([rest, *(part for own in tokens for part in (own, end))])
            complete = len(row) // length * length
            yield row[:complete].reshape(-1, 1, length)
            rest = row[complete:]
        yield np.pad(rest, (0, -len(rest) % length)).reshape(-1, 1, length)

    return encoded(documents, name, (1, length), pieces, vocabulary, tokenizer, tested)


def encoded(
    documents: Sequence[Document],
    name: str,
    size: tuple[int, int],
    tables: Callable[[Any, Document], Iterator[np.ndarray]],
    vocabulary: int,
    tokenizer: str,
    tested: bool,
) -> Splits:
    """Encode documents as a data set of tokens, in the cache if they are too large for memory.

    Args:
        documents: the texts.
        name: of the data set.
        size: number of sentences, and of tokens in each.
        tables: yields the tokens of a document, given a tokenizer, in blocks of (n, *size).
        vocabulary: number of tokens of a new tokenizer.
        tokenizer: a trained tokenizer to use instead, as JSON.
        tested: whether a part is for testing.
    """

    def parts(folder: Path | None) -> tuple[Any, list[tuple[Any, list[str]]]]:
        train, test = corpus.split(documents) if tested else (documents, [])
        known = tokenizer_for(train, vocabulary, tokenizer, getattr(documents, "size", 0))
        few = folder and known.get_vocab_size() <= 1 << 16
        dtype = np.uint16 if few else np.int32
        pieces = []
        for kind, part in (("train", train), ("test", test)):
            sources: list[str] = []

            def blocks(
                part: Sequence[Document] = part, sources: list[str] = sources
            ) -> Iterator[np.ndarray]:
                yield np.zeros((0, *size), np.int32)
                for document in part:
                    for table in tables(known, document):
                        sources.extend([document.source] * len(table))
                        yield table

            path = folder / f"{kind}.bin" if folder else None
            pieces.append((store(blocks(), path, dtype), sources))
        return known, pieces

    if not isinstance(documents, Documents):
        known, (learned, tried) = parts(None)
        return splits_of(name, learned, tried, modality_of(known, size[1], size[0]))

    def fill(folder: Path) -> bool:
        known, documents = parts(folder)
        index: dict[str, Any] = {"dtype": documents[0][0].dtype.str, "tokenizer": known.to_str()}
        for kind, (_, sources) in zip(("train", "test"), documents, strict=True):
            index[f"{kind}_sources"], codes = np.unique(sources, return_inverse=True)
            index[f"{kind}_sources"] = list(map(str, index[f"{kind}_sources"]))
            np.save(folder / f"{kind}_source.npy", codes.astype(np.int32))
        write_json(folder / "index.json", index, indent=None)
        return True

    def read(folder: Path) -> tuple[str, list[tuple[Rows, list[str]]]]:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        found: list[tuple[Rows, list[str]]] = []
        for kind in ("train", "test"):
            codes = np.load(folder / f"{kind}_source.npy", allow_pickle=False).tolist()
            array = DiskArray(folder / f"{kind}.bin", index["dtype"], (len(codes), *size))
            sources = index[f"{kind}_sources"]
            found.append(
                (
                    LazyImages(array, convert=_as_tokens, dtype=np.int32),  # type: ignore[arg-type]
                    [sources[code] for code in codes],
                )
            )
        return index["tokenizer"], found

    asked = [1, documents.stamp, size, tables.__qualname__, vocabulary, tokenizer, tested]
    key = f"tokens-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]}"
    expected = 2 * documents.size  # the text, and about half as many tokens of two bytes
    content, (learned, tried) = cache.get_or_build(key, fill, read, expected, f"tokens of {name}")
    modality = modality_of(bpe.open_tokenizer(content), size[1], size[0])
    return splits_of(name, learned, tried, modality)


def _as_tokens(x: np.ndarray) -> np.ndarray:
    return x.astype(np.int32)


def tokenizer_for(
    documents: Sequence[Document], vocabulary: int, tokenizer: str = "", size: int = 0
) -> Any:
    """The tokenizer in `tokenizer`, as JSON, or one that is trained on these documents.

    Args:
        documents: training documents.
        vocabulary: number of tokens.
        tokenizer: a trained tokenizer, as JSON.
        size: bytes of all documents; of large ones, only evenly spaced paragraphs are used, since
            the trainer's memory grows with the number of different words.
    """
    if tokenizer:
        return bpe.open_tokenizer(tokenizer)
    texts = (paragraph for document in documents for paragraph in document.paragraphs)
    every = -(-size // LEARNED) or 1
    if every > 1:
        notice(f"the tokenizer learns from one in {every:,} paragraphs, {LEARNED / 1e6:,.0f} MB")
    return bpe.train_tokenizer(itertools.islice(texts, 0, None, every), vocabulary)


def splits_of(
    name: str,
    train: tuple[Rows, list[str]],
    test: tuple[Rows, list[str]],
    modality: Text,
) -> Splits:
    """A data set of training and test tokens, with the file of each row.

    Raises:
        UserError: there is no training text.
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
    """Texts in memory as (N, *size) int32: longer ones are cut, with a notice, shorter ones padded.

    Raises:
        UserError: they are not strings.
    """
    if not all(isinstance(text, str) for text in texts):
        raise UserError("this run reads texts: give a list of strings, a file or a folder of text")
    known = bpe.open_tokenizer(tokenizer)
    x, cut = np.zeros((len(texts), *size), np.int32), 0
    for row, text in enumerate(texts):
        parts = corpus.sentences(text) if size[0] > 1 else [text]
        ids = bpe.encode(known, parts[: size[0]])
        cut += len(parts) > size[0] or max(map(len, ids), default=0) >= size[1]
        for line, tokens in enumerate(ids):
            ended = np.append(tokens[: size[1] - 1], np.int32(END))
            x[row, line, : len(ended)] = ended
    if cut:
        most = f"{size[0]} sentences of " * (size[0] > 1) + f"{size[1] - 1:,} tokens"
        notice(f"{cut:,} of {len(texts):,} texts are longer than {most} and are cut")
    return x
