"""Texts as documents of paragraphs, their words, and tokenizers that learn from them."""

from __future__ import annotations

import gzip
import importlib
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.errors import UserError
from unlabeled.tokens import SPECIAL, UNKNOWN

ENDINGS = (".txt", ".md", ".rst", ".txt.gz", ".gz")
WRAPPED = 120
"""Letters at most in any line of a file whose lines are broken to a width."""
TEST_SHARE = 0.1
"""Of each document, at its end, kept for testing where no file is named test."""
WORD = re.compile(r"[^\W\d_]+")
"""A word for word2vec: letters in a row, in lower case."""
SENTENCE = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["'”’)\]]))\s+(?=["'“‘(\[]*[A-Z0-9])""")
PART = re.compile(r"(?<![a-z])(train|test|valid)(?:ation)?(?![a-z])", re.IGNORECASE)
"""What a file's name says it is for."""
TITLES = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|Capt|Col|Gen|Rev|Mme|Mlle|vs|[A-Z])\.$")
SPACES = ("Ġ", "Ċ", "ĉ", "▁")
"""How tokens spell a space, a line break and a tab before a word (byte pairs, SentencePiece)."""
MOST = 1 << 16
"""Tokens of a vocabulary."""


@dataclass(frozen=True)
class Document:
    """One text.

    Args:
        source: the file it is from, without `train` and `test`.
        paragraphs: in order; a paragraph is no longer broken into lines.
        test: whether its file is named test.
    """

    source: str
    paragraphs: list[str]
    test: bool = False


def read(place: str | Path | None = None) -> list[Document]:
    """Documents of a file, of all files of a folder, or of Python's own documentation.

    In a file of short lines, broken to a width, an empty line ends a paragraph and the file is a
    document. In one of long lines a line is a paragraph and an empty line ends a document. Files
    whose name has the word `test` in it are for testing, those with `valid` or `validation` are
    left out; `.gz` is unpacked.

    Raises:
        UserError: there is no text, or it is not UTF-8.
    """
    if place is None:
        return python_documentation()
    path = Path(place).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(ENDINGS))
    elif path.is_file():
        files = [path]
    else:
        raise UserError(f"no text at '{place}': give a file of text, plain or .gz, or a folder")
    chosen = [p for p in files if _part(p) != "valid"] or files
    documents = [document for p in chosen for document in _documents(p)]
    if not documents:
        raise UserError(f"{place} holds no text ({', '.join(ENDINGS)}); give files that do")
    return documents


def python_documentation() -> list[Document]:
    """The language reference that CPython ships for its `help()`: a topic is a document."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise UserError(
            "this Python came without its documentation; give a file or a folder of text"
        ) from error
    return [Document("python", _paragraphs(topics[name])) for name in sorted(topics)]


def split(documents: Sequence[Document]) -> tuple[list[Document], list[Document]]:
    """Documents to learn from, and to test on: those named so, else the end of each."""
    if any(document.test for document in documents):
        parts = [d for d in documents if not d.test], [d for d in documents if d.test]
        if parts[0]:
            return parts
    train, test = [], []
    for document in documents:
        cut = round((1 - TEST_SHARE) * len(document.paragraphs))
        train.append(Document(document.source, document.paragraphs[:cut]))
        test.append(Document(document.source, document.paragraphs[cut:], True))
    return train, test


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph: cut after a stop before a capital, not after a title."""
    found: list[str] = []
    for part in SENTENCE.split(paragraph):
        if found and TITLES.search(found[-1]):
            found[-1] += " " + part
        elif part.strip():
            found.append(part.strip())
    return found


def lines_of_words(
    documents: Iterable[Document], pattern: re.Pattern[str] = WORD
) -> Iterator[list[str]]:
    """Each paragraph as words in lower case."""
    for document in documents:
        for paragraph in document.paragraphs:
            if words := pattern.findall(paragraph.lower()):
                yield words


def train_tokenizer(texts: Iterable[str], vocabulary: int = 4096) -> Any:
    """Byte pairs (Sennrich, Haddow, Birch 2016) of these texts; no sign is unknown to it.

    Args:
        texts: to learn from.
        vocabulary: tokens in all, at most 65,536.

    Raises:
        UserError: the library `tokenizers` is missing, or the vocabulary is too small or large.
    """
    if not 300 <= vocabulary <= MOST:
        raise UserError(f"a vocabulary has 300 to {MOST:,} tokens, not {vocabulary:,}")
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def open_tokenizer(content: str | Path) -> Any:
    """A tokenizer from its JSON, or the file that holds it.

    Raises:
        UserError: it is none, or one of others, without the tokens that are no words.
    """
    named = content if isinstance(content, Path) else "the tokenizer"
    try:
        text = content.read_text(encoding="utf-8") if isinstance(content, Path) else content
        tokenizer = _library().Tokenizer.from_str(text)
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{named} is damaged: {error}; train it again") from error
    if [tokenizer.id_to_token(i) for i in range(len(SPECIAL))] != SPECIAL:
        raise UserError(f"{named} does not begin with {' '.join(SPECIAL)}; train one here")
    return tokenizer


def word_starts(tokenizer: str) -> str:
    """For each token of a tokenizer, given as JSON, "1" if it begins a word and "0" if not.

    A byte pair or a piece of a sentence begins a word where it begins with the sign of a space, a
    WordPiece where it does not begin with ##. Where no token has a mark, each is a word.

    Raises:
        UserError: the tokenizer marks where words end instead.
    """
    known = open_tokenizer(tokenizer)
    model = json.loads(tokenizer)["model"]
    if model.get("end_of_word_suffix"):
        raise UserError("this tokenizer marks the ends of words, not where they begin; train one")
    tokens = [known.id_to_token(i) or "" for i in range(len(SPECIAL), known.get_vocab_size())]
    if prefix := model.get("continuing_subword_prefix"):
        starts = [not token.startswith(prefix) for token in tokens]
    else:
        starts = [token.startswith(SPACES) for token in tokens]
        starts = starts if any(starts) else [True] * len(tokens)
    return "1" * len(SPECIAL) + "".join("01"[start] for start in starts)


def encode(tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Tokens of each text, uint16."""
    found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(one.ids, np.uint16) for one in found]


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            "text needs the library tokenizers: pip install 'unlabeled[text]'"
        ) from error
    return tokenizers


def _documents(path: Path) -> list[Document]:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        text = content.decode("utf-8-sig")
    except (UnicodeDecodeError, EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path} cannot be read as text: {error}; save it as UTF-8") from error
    name, part = path.name.partition(".")[0], _part(path)
    source = (PART.sub("", name).strip("_-. ") or name) if part else name
    test = part == "test"
    lines = text.splitlines()
    if max(map(len, lines), default=0) <= WRAPPED:
        return [Document(source, found, test)] if (found := _paragraphs(text)) else []
    parts = re.split(r"\n\s*\n", text)
    whole = ([line.strip() for line in part.splitlines() if line.strip()] for part in parts)
    return [Document(source, lines, test) for lines in whole if lines]


def _part(path: Path) -> str:
    """What a file is for by its name: train, test, valid, or nothing."""
    found = PART.search(path.name)
    return found[1].lower() if found else ""


def _paragraphs(text: str) -> list[str]:
    """Paragraphs between empty lines, each in one line."""
    found = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [paragraph for paragraph in found if paragraph]
