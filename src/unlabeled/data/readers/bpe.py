"""Byte-pair tokenizers: trained, opened and applied."""

import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.augmentations.vocabulary import SPECIAL, UNKNOWN
from unlabeled.data.readers.corpus import MOST
from unlabeled.data.readers.documents import Document
from unlabeled.data.readers.segment import UNSPACED
from unlabeled.errors import UserError, notice

SPACES = ("Ġ", "Ċ", "ĉ", "▁")
"""Prefixes of tokens for a space, line break or tab before a word (byte pairs, SentencePiece)."""
SPELLED = str.maketrans("’‐‑", "'--", "\u00ad")
"""Unify apostrophes and hyphens in words, and remove soft hyphens."""
BATCH = 1 << 20
"""Characters that are encoded at once."""
UNSPACED_WORD = re.compile(rf"[{UNSPACED}]")


def lines_of_words(
    documents: Iterable[Document], pattern: re.Pattern[str] | None = None
) -> Iterator[list[str]]:
    """Each paragraph as words in lower case, of letters in their composed form (NFC).

    Args:
        documents: the text.
        pattern: of a word (default: `word_pattern`).
    """
    words = unspaced = 0
    example = ""
    for document in documents:
        for paragraph in document.paragraphs:
            text = unicodedata.normalize("NFC", paragraph).lower().translate(SPELLED)
            if pattern:
                line = [match[0] for match in pattern.finditer(text)]
            else:  # no word contains a space, and parts recur, so that caching them pays
                line = list(chain.from_iterable(map(_words, text.split())))
            if line:
                words += len(line)
                for word in line if UNSPACED_WORD.search(text) else ():
                    if UNSPACED_WORD.search(word):
                        unspaced, example = unspaced + 1, example or word
                yield line
    if unspaced:
        notice(
            f"{unspaced:,} of {words:,} words are of a script without spaces between words, such "
            f"as '{example[:20]}': all letters in a row count as one word; put spaces between "
            "words first"
        )


@functools.lru_cache(1 << 18)
def _words(part: str) -> list[str]:
    """Words of a text without spaces."""
    return [match[0] for match in word_pattern().finditer(part)]


@functools.cache
def word_pattern() -> re.Pattern[str]:
    """Pattern of a lower-case word: letters, combining marks and digits, as in c2034 and 4711.

    Apostrophes, hyphens and underscores join parts of a word (don't, e-mail, new_york), periods and
    commas those of a number (3.14); c++ and c# are words, too.
    """
    marks = "".join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c)[0] == "M")
    sign = rf"(?:[^\W_]|[{re.escape(marks)}\u200c\u200d])"
    joined = rf"(?:(?:['\-]|_+|(?<=\d)[.,](?=\d)){sign}+)*"
    return re.compile(rf"[^\W_]{sign}*{joined}(?:\+\+\d*(?!\w)|(?<=\b\w)#(?!\w))?")


def train_tokenizer(texts: Iterable[str], vocabulary: int = 4096) -> Any:
    """Train byte pairs (Sennrich, Haddow, Birch 2016) on texts; no character is unknown to them.

    Args:
        texts: training texts.
        vocabulary: number of tokens, at most 65,536.

    Raises:
        UserError: the library `tokenizers` is missing, or the vocabulary is too small or large.
    """
    if not 300 <= vocabulary <= MOST:
        raise UserError(f"a vocabulary has 300 to {MOST:,} tokens, not {vocabulary:,}")
    library = _library()
    tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = library.normalizers.NFC()
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
    """Open a tokenizer from its JSON, or from the file that contains it.

    Raises:
        UserError: it is not a tokenizer, or lacks the special tokens of this library.
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

    A byte pair or SentencePiece begins a word if it begins with the mark of a space, a WordPiece if
    it does not begin with ##. If no token has a mark, each is a word.

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
    """Tokens of each text, int32."""
    encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    return [np.array(encoding.ids, np.int32) for encoding in encodings]


def encode_batches(tokenizer: Any, texts: Iterable[str]) -> Iterator[list[np.ndarray]]:
    """Tokens of each text as `encode` returns them, about a million characters at a time."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= BATCH:
            yield encode(tokenizer, batch)
            batch, size = [], 0
    if batch:
        yield encode(tokenizer, batch)


def _library() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise UserError(
            "text needs the library tokenizers: pip install 'unlabeled[text]'"
        ) from error
    return tokenizers
