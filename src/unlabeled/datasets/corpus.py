"""Texts as documents of paragraphs, their words, and tokenizers that learn from them."""

from __future__ import annotations

import functools
import importlib
import json
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.datasets import folders
from unlabeled.errors import Notice, UserError
from unlabeled.files import read_text
from unlabeled.tokens import SPECIAL, UNKNOWN

ENDINGS = (".txt", ".md", ".rst", ".tokens", ".raw", ".gz")
WRAPPED = 120
"""Letters at most in any line of a file whose lines are broken to a width."""
SHORT = 40
"""Letters of lines that nobody breaks prose to."""
ONE_EACH = 0.8
"""Share of lines of one sentence from which on each line is one."""
TEST_SHARE = 0.1
"""Of each document, at its end, kept for testing where no file is named test."""
FULL_STOPS = "。！？｡؟۔।॥።։။។"
"""They end a sentence wherever they stand: Chinese, Japanese, Arabic, Urdu, Hindi and others."""
STOP = re.compile(
    rf"[{FULL_STOPS}][{FULL_STOPS}.!?…]*[”’»)\]}}」』】）》〉]*"
    r"""|[.!?…]+["'”’»›)\]}」』】）》〉“‘]*(?=\s|$)"""
    r"""|(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e]["'”’»)\]]*(?=\s|$)"""  # Greek questions
    r"|[!?]+[”’」』】）》〉]*(?=[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])"
)
"""What may end a sentence, with the quotes and brackets that it closes."""
OPENING = re.compile(r"""\s*(?:[—–]\s*)?["'“‘’«‹„‚¿¡(\[{「『（【《〈]*""")
"""What may stand before the first letter of a sentence."""
ENDED = re.compile(rf"""[{FULL_STOPS}.!?…]["'”’»›)\]}}」』】）》〉“‘]*\s*$""")
"""A line that ends as a sentence does."""
ABBREVIATIONS = frozenset(
    re.findall(
        r"\w+",
        "Mr Mrs Ms Dr St Prof Capt Col Gen Rev Mme Mlle Messrs vs Lt Sgt Maj Hon Gov Sen Rep Mt Ft "
        "Fig Figs Eq Eqs al cf approx Sr Sra Srta Dra Ud Uds Sig Dott Hr Fr Nr Str bzw vgl ca Bd "
        "Abb Kap inkl evtl ggf sog Ing Dipl EE ул им см проф акад стр рис гг",
    )
)
"""Words whose full stop ends no sentence."""
BEFORE_NUMBERS = frozenset(
    re.findall(
        r"\w+",
        "No Nos pp vol Vol ch Ch sec Sec art Art Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec "
        "pág núm",
    )
)
"""Words whose full stop ends none before a number."""
MONTH = re.compile(
    r"\s*(?:Jan|Feb|März|Apr|Mai|Jun|Jul|Aug|Sept|Okt|Nov|Dez|Jahrh|Jh)", re.IGNORECASE
)
"""After a number and a full stop, as German writes dates."""
TOO_FEW = 10
"""Documents; of so many without a part for testing, every tenth is one."""
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff"
    r"\uf900-\ufaff\uff66-\uff9f"
)
"""Letters of Thai, Lao, Burmese, Khmer, Japanese and Chinese, which has no spaces between words."""
LAST = re.compile(r"(^|[^\w])(\w+)\.$")
"""The word before a full stop, and what stands before it."""
SPACES = ("Ġ", "Ċ", "ĉ", "▁")
"""How tokens spell a space, a line break and a tab before a word (byte pairs, SentencePiece)."""
SPELLED = str.maketrans("’‐‑", "'--", "\u00ad")
"""One spelling of an apostrophe and of a hyphen in words; no marks where a word may be broken."""
UNSPACED_WORD = re.compile(rf"[{UNSPACED}]")
MOST = 1 << 16
"""Tokens of a vocabulary."""


@dataclass(frozen=True)
class Document:
    """One text.

    Args:
        source: the file it is from, without `train` and `test`.
        paragraphs: in order; a paragraph is no longer broken into lines.
        test: whether its file is named test.
        by_line: whether each paragraph is one sentence, as its file has one in each line.
    """

    source: str
    paragraphs: list[str]
    test: bool = False
    by_line: bool = False

    @property
    def sentences(self) -> list[str]:
        """Of all paragraphs, in order."""
        if self.by_line:
            return self.paragraphs
        return [sentence for paragraph in self.paragraphs for sentence in sentences(paragraph)]


def read(place: str | Path | None = None) -> list[Document]:
    """Documents of a file, of all files of a folder, or of Python's own documentation.

    A file of short lines is a document. Where its lines were broken to a width, they are joined,
    and an empty line ends a paragraph; where they end as sentences do, or leave room for the next
    word, each line is a paragraph, and it is said which. In a file of long lines a line is a
    paragraph and an empty line ends a document. Where nearly every line is one sentence, it stays
    one, whatever it holds. Of a folder, files whose name begins or ends with the word `test` are
    for testing, and those with `valid` or `validation` are left out, or for testing where no other
    is; which ones is said. Linked folders are followed; `.gz` is unpacked.

    Raises:
        UserError: there is no text, or it cannot be read as text.
    """
    if place is None:
        return python_documentation()
    path = Path(place).expanduser()
    if path.is_dir():
        listing = folders.walk(path)
        names = [name for name in listing.names if folders.ending(name) in ENDINGS]
        folders.say_links(listing, path)
        others = folders.unread({*listing.names} - {*names}, path)
        folders.say_left_out(path, len(names), "text file", others, listing)
        parts = _parts(names, path)
    elif path.is_file():
        parts = {path.name: split_named(path.name)[0]}
        path = path.parent
    else:
        raise UserError(f"no text at '{place}': give a file of text, plain or .gz, or a folder")
    documents: list[Document] = []
    lines: dict[str, list[str]] = {}  # what lines are taken for, and the files of which it is so
    for file, part in parts.items():
        held, taken = _documents(path / file, part)
        documents += held
        lines.setdefault(taken, []).append(file)
    if not documents:
        raise UserError(
            f"{place} holds no text ({', '.join(ENDINGS)}), or nothing is in it; give files with "
            "text"
        )
    for taken, names in lines.items():
        if taken:
            of = names[0] if len(names) == 1 else f"{len(names):,} files such as {names[0]}"
            warnings.warn(f"{of}: {taken}", Notice, stacklevel=2)
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
    """Documents to learn from, and to test on: those named so, else the end of each.

    The end is the last tenth of the paragraphs. Where no document has enough of them, it is every
    tenth document, or, of few documents, the last tenth of the sentences, or of the words.
    """
    if any(document.test for document in documents):
        parts = [d for d in documents if not d.test], [d for d in documents if d.test]
        if parts[0]:
            return parts
    if all(_cut(len(d.paragraphs)) == len(d.paragraphs) for d in documents):
        if len(documents) >= TOO_FEW:
            train = [d for i, d in enumerate(documents, 1) if i % TOO_FEW]
            return train, [replace(d, test=True) for d in documents[TOO_FEW - 1 :: TOO_FEW]]
        pairs = [_ends(document) for document in documents]
        return [train for train, _ in pairs], [test for _, test in pairs if test.paragraphs]
    train, test = [], []
    for document in documents:
        cut = _cut(len(document.paragraphs))
        train.append(replace(document, paragraphs=document.paragraphs[:cut]))
        test.append(replace(document, paragraphs=document.paragraphs[cut:], test=True))
    return train, test


def _cut(number: int) -> int:
    """How many of so many are to learn from."""
    return round((1 - TEST_SHARE) * number)


def _ends(document: Document) -> tuple[Document, Document]:
    """A document of few paragraphs without its last sentences, words or letters, and those."""
    kinds: tuple[Callable[[str], list[str]], ...] = (sentences, str.split, list)
    for kind in kinds[1:] if document.by_line and len(document.paragraphs) == 1 else kinds:
        parts = [(row, one) for row, whole in enumerate(document.paragraphs) for one in kind(whole)]
        if len(parts) > 1:
            break
    cut = len(parts) - max(1, len(parts) - _cut(len(parts)), min(4, len(parts) // 4))

    def joined(kept: list[tuple[int, str]]) -> list[str]:
        rows = groupby(kept, lambda part: part[0])
        glue = [" " if " " in whole and kind is not list else "" for whole in document.paragraphs]
        return [glue[row].join(one for _, one in held) for row, held in rows]

    train, test = (replace(document, paragraphs=joined(p)) for p in (parts[:cut], parts[cut:]))
    return train, replace(test, test=True)


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, in any script.

    A sentence ends at a full-width or otherwise unmistakable stop, and at . ! ? … before a space
    and a capital, a number, or a letter of a script without capitals; quotes and brackets that
    close stay with it. The full stop of an abbreviation or initial ends none.
    """
    parts: list[str] = []
    start = 0
    for stop in STOP.finditer(paragraph):
        end = stop.end()
        if stop[0][0] in FULL_STOPS:
            quoted = paragraph.count('"', start, end) % 2
            end += bool(quoted and paragraph.startswith('"', end))
        elif not _begins(paragraph, end) or _abbreviated(paragraph, start, end):
            continue
        parts.append(paragraph[start:end].strip())
        start = end
    parts.append(paragraph[start:].strip())
    return [sentence for sentence in parts if sentence]


def _begins(text: str, at: int) -> bool:
    """Whether a sentence may begin there: with a capital, a number, or where there are none."""
    opening = OPENING.match(text, at)
    first = text[opening.end() : opening.end() + 1] if opening else ""
    small = first.lower() != first.upper() and not (first.isupper() or first.istitle())
    georgian = "\u10d0" <= first <= "\u10ff"  # has capitals, but in headings only
    if not first:
        return not text[at:].strip()  # a quote alone, left over, begins nothing
    return first.isnumeric() or (first.isalpha() and (georgian or not small))


def _abbreviated(text: str, start: int, end: int) -> bool:
    """Whether the full stop before `end` is that of an abbreviation, an initial, or a date."""
    last = LAST.search(text, max(start, end - 20), end)
    if not last:
        return False
    before, word = last.groups()
    after = text[end : end + 8].lstrip()[:2]
    number = after[:1].isdigit()
    if word.isdigit():
        return len(word) <= 2 and MONTH.match(text, end) is not None
    if len(word) > 1:
        return word in ABBREVIATIONS or (number and word in BEFORE_NUMBERS)
    if word.lower() == word.upper() or before in ("'", "’"):
        return False  # a script without capitals; the end of don't
    pair = before == "." or (after[1:] == "." and after[0].isalpha())  # e.g., z. B.
    cyrillic = "а" <= word <= "я" and not text[start : last.start(2)].rstrip()[-1:].isdigit()
    return word.isupper() or number or pair or cyrillic


def lines_of_words(
    documents: Iterable[Document], pattern: re.Pattern[str] | None = None
) -> Iterator[list[str]]:
    """Each paragraph as words in lower case, of letters in their composed form (NFC).

    Args:
        documents: the text.
        pattern: of a word; `word_pattern` unless given.
    """
    pattern = pattern or word_pattern()
    words = unspaced = 0
    example = ""
    for document in documents:
        for paragraph in document.paragraphs:
            text = unicodedata.normalize("NFC", paragraph).lower().translate(SPELLED)
            if line := [match[0] for match in pattern.finditer(text)]:
                words += len(line)
                for word in line if UNSPACED_WORD.search(text) else ():
                    if UNSPACED_WORD.search(word):
                        unspaced, example = unspaced + 1, example or word
                yield line
    if unspaced:
        warnings.warn(
            f"{unspaced:,} of {words:,} words are of a script without spaces between words, such "
            f"as '{example[:20]}': all letters in a row count as one word; put spaces between "
            "words first",
            Notice,
            stacklevel=2,
        )


@functools.cache
def word_pattern() -> re.Pattern[str]:
    """Of a word in lower case: letters, marks on them and digits in a row, as in C2034 and 4711.

    Apostrophes, hyphens and underscores join within a word (don't, e-mail, new_york), full stops
    and commas within numbers (3.14); c++ and c# are words, too.
    """
    marks = "".join(c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c)[0] == "M")
    sign = rf"(?:[^\W_]|[{re.escape(marks)}\u200c\u200d])"
    joined = rf"(?:(?:['\-]|_+|(?<=\d)[.,](?=\d)){sign}+)*"
    return re.compile(rf"[^\W_]{sign}*{joined}(?:\+\+\d*(?!\w)|(?<=\b\w)#(?!\w))?")


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


def split_named(name: str) -> tuple[str, str]:
    """What a file is for by the first or last word of its name (train, validation or test, else
    nothing), and the rest of the name.
    """
    stem = name.rpartition("/")[2].lower().removesuffix(".gz")
    stem = name.rpartition("/")[2][: len(stem)]
    words = list(re.finditer(r"[^\W\d_]+", stem.rpartition(".")[0] or stem))
    kinds = {folders.SPLITS.get(w[0].lower()): w for w in (*words[-1:], *words[:1])}
    kinds.pop(None, None)
    source = stem.partition(".")[0]
    if len(kinds) != 1:
        return "", source
    ((kind, word),) = kinds.items()
    rest = source[: word.start()] + source[word.end() :]
    return str(kind), rest.strip("_-. ") or source


def _parts(names: list[str], path: Path) -> dict[str, str]:
    """The files of a folder that are used, each with what it is for; said where names decide."""
    parts = {name: split_named(name)[0] for name in names}
    held = {kind: [n for n in names if parts[n] == kind] for kind in ("test", "validation")}
    if len(held["test"]) + len(held["validation"]) == len(names):
        return dict.fromkeys(names, "")  # nothing else to learn from
    if held["validation"] and not held["test"]:
        held = {"test": held["validation"], "validation": []}
    if held["test"]:
        message = f"of the text in {path}, {_shown(held['test'])} is tested on"
        if held["validation"]:
            message += f" and {_shown(held['validation'])} is left out, for validation"
        warnings.warn(f"{message}, by their names", Notice, stacklevel=2)
    return {
        name: "test" if name in held["test"] else ""
        for name in names
        if name not in held["validation"]
    }


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _documents(path: Path, part: str = "") -> tuple[list[Document], str]:
    """The documents of a file, and what its lines were taken for, where that is not plain."""
    text = read_text(path)
    source, test = split_named(path.name)[1], part == "test"
    lines = text.splitlines()
    longest = max(map(len, lines), default=0)
    broken = _broken(lines)
    if longest <= WRAPPED and broken is not False:
        paragraphs = _paragraphs(text)
        taken = "its lines were broken to a width and are joined into paragraphs" if broken else ""
        return [Document(source, paragraphs, test)] if paragraphs else [], taken
    kept = [" ".join(line.split()) for line in lines if line.strip()]
    by_line = len(kept) > 1 and (
        sum(len(sentences(line)) == 1 for line in kept) >= ONE_EACH * len(kept)
    )
    taken = "each line is taken as a sentence" if by_line else ""
    if longest <= WRAPPED:
        taken = taken or "each line is taken as a paragraph"
        return [Document(source, kept, test, by_line)], taken
    parts = re.split(r"\n\s*\n", "\n".join(lines))
    whole = ([line.strip() for line in part.splitlines() if line.strip()] for part in parts)
    return [Document(source, lines, test, by_line) for lines in whole if lines], taken


def _broken(lines: list[str]) -> bool | None:
    """Whether lines were broken to a width; None where no line follows another.

    They were not where most end as sentences do, where most leave room for the first word of the
    next one, or where they are all short.
    """
    inner = [(a.rstrip(), b) for a, b in pairwise(lines) if a.strip() and b.strip()]
    if not inner:
        return None
    lengths = sorted(len(line) for line, _ in inner)
    width = lengths[min(len(lengths) - 1, int(0.9 * len(lengths)))]
    ended = sum(bool(ENDED.search(line)) for line, _ in inner)
    roomy = sum(len(line) + 1 + len(after.split()[0]) <= width for line, after in inner)
    short = len(inner) >= TOO_FEW and width < SHORT
    return not (short or 2 * max(ended, roomy) > len(inner))


def _paragraphs(text: str) -> list[str]:
    """Paragraphs between empty lines, each in one line."""
    found = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return [paragraph for paragraph in found if paragraph]
