"""Word vectors: nearest words, analogies, agreement with people's ratings, and file formats."""

from __future__ import annotations

import gzip
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from unlabeled.errors import UserError, notice, suggest
from unlabeled.utils.files import read_text, write_bytes

MOST = 5_000
"""Number of the most frequent words that a misspelled one is compared with."""
FASTTEXT = 793_712_314
"""Magic number of fastText's binary models."""


class Words:
    """Words and their vectors.

    Args:
        words: words by decreasing frequency.
        vectors: (words, dim).
        path: the file they are in.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray, path: Path | None = None) -> None:
        self.words, self.vectors, self.path = list(words), vectors, path
        self.row: dict[str, int] = {}
        for row, word in enumerate(self.words):
            self.row.setdefault(word, row)  # the more frequent of duplicates
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.units = vectors / np.maximum(lengths, 1e-12)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, word: str) -> np.ndarray:
        """The vector of a word.

        Raises:
            UserError: the word has no vector.
        """
        return self.vectors[self._row(word)]

    def _row(self, word: str) -> int:
        composed = unicodedata.normalize("NFC", word)
        spellings = (word, composed, composed.lower(), "_".join(composed.lower().split()))
        row = next((self.row[one] for one in spellings if one in self.row), None)
        if row is None:
            advice = suggest(word, self.words[:MOST], "check the spelling")
            raise UserError(f"'{word}' is not among the {len(self):,} words with vectors; {advice}")
        return row

    def nearest(self, word: str, number: int = 10) -> list[tuple[str, float]]:
        """Nearest neighbors of a word by cosine similarity."""
        row = self._row(word)
        return self._best(self.units @ self.units[row], [row], number)

    def analogy(self, words: Sequence[str], number: int = 10) -> list[tuple[str, float]]:
        """Words that are to c as b is to a: nearest to b − a + c (3CosAdd; Mikolov et al. 2013).

        Args:
            words: a, b and c.
            number: number of answers.
        """
        rows = [self._row(word) for word in words]
        aim = self.units[rows[1]] - self.units[rows[0]] + self.units[rows[2]]
        return self._best(self.units @ (aim / np.linalg.norm(aim)), rows, number)

    def similarity(self, pairs: Iterable[tuple[str, str, float]]) -> dict[str, float]:
        """Agreement with people's ratings of similarity.

        Of spellings such as "May" and "may", the most frequent one is compared.

        Args:
            pairs: two words and their rating.

        Returns:
            Spearman's `rho` over the pairs whose words have vectors, and their share `known`.

        Raises:
            UserError: fewer than three pairs have vectors.
        """
        pairs, row = list(pairs), self._folded()
        rows = [(row.get(a.lower()), row.get(b.lower()), rating) for a, b, rating in pairs]
        known = [(a, b, rating) for a, b, rating in rows if a is not None and b is not None]
        if len(known) < 3:
            raise UserError(
                f"only {len(known)} of {len(pairs)} pairs have vectors; give at least 3 that do"
            )
        first, second, rating = (list(column) for column in zip(*known, strict=True))
        near = (self.units[first] * self.units[second]).sum(1)
        return {"rho": float(spearmanr(near, rating)[0]), "known": len(known) / len(pairs)}

    def analogies(
        self, sections: dict[str, list[tuple[str, str, str, str]]], most: int = 30_000
    ) -> dict[str, tuple[int, int]]:
        """Numbers of solved and of all analogies by section, without those with unknown words.

        Spellings as in `similarity`.

        Args:
            sections: a, b, c, d in lower case: a is to b as c is to d.
            most: number of the most frequent words that may be the answer.
        """
        spellings = list(self._folded().items())[:most]
        units = self.units[[row for _, row in spellings]]
        number = {word: i for i, (word, _) in enumerate(spellings)}
        counts: dict[str, tuple[int, int]] = {}
        for name, questions in sections.items():
            asked = [[number.get(word, most) for word in question] for question in questions]
            rows = np.array([q for q in asked if max(q) < len(units)], int).reshape(-1, 4)
            right = 0
            for part in np.array_split(rows, max(1, len(rows) // 500)):
                a, b, c, d = part.T
                near = (units[b] - units[a] + units[c]) @ units.T  # (questions, words)
                near[np.arange(len(part))[:, None], part[:, :3]] = -np.inf
                right += int((near.argmax(1) == d).sum())
            counts[name] = right, len(rows)
        return counts

    def _folded(self) -> dict[str, int]:
        """Words in lower case -> row of their most frequent spelling, in the order of the rows."""
        rows: dict[str, int] = {}
        for row, word in enumerate(self.words):
            rows.setdefault(word.lower(), row)
        return rows

    def _best(self, near: np.ndarray, besides: list[int], number: int) -> list[tuple[str, float]]:
        near = near.copy()
        near[besides] = -np.inf
        rows = np.argsort(-near)[: min(number, len(self) - len(set(besides)))]
        return [(self.words[row], float(near[row])) for row in rows]

    def save(self, path: Path) -> None:
        """Write word2vec's format, which gensim and others read: binary for `.bin`, or else text.

        The format ends each word with a space, so spaces in words become underscores, with a
        notice.

        Raises:
            UserError: a word is empty, or two words become equal.
        """
        words = _without_spaces(self.words)
        head = f"{len(self)} {self.vectors.shape[1]}\n"
        rows = self.vectors.astype("<f4")
        if path.suffix == ".bin":
            content = head.encode() + b"".join(
                word.encode() + b" " + row.tobytes() + b"\n"
                for word, row in zip(words, rows, strict=True)
            )
        else:
            lines = (
                f"{word} {' '.join(map(repr, row.tolist()))}"
                for word, row in zip(words, rows.astype(np.float64), strict=True)
            )
            content = (head + "\n".join(lines) + "\n").encode()
        write_bytes(path, content)
        self.path = path


def _without_spaces(words: list[str]) -> list[str]:
    """Words as they are written to a file."""
    written = ["_".join(word.split()) or "_" * bool(word) for word in words]
    changed = [word for word, one in zip(words, written, strict=True) if one != word]
    if "" in written:
        raise UserError("an empty word cannot be written to a file of vectors; remove it")
    if changed and len(set(written)) < len(set(words)):
        raise UserError(
            f"'{changed[0]}' and others with spaces are written with underscores, as words that "
            "are there already; rename them"
        )
    if changed:
        notice(
            f"spaces in {len(changed):,} words, such as {changed[0]!r}, become underscores in the "
            "file"
        )
    return written


def load(path: str | Path) -> Words:
    """Load vectors from a run, or from a file of word2vec, GloVe or fastText, plain or .gz.

    Text may begin with a line with the numbers of words and of values, as in word2vec's and
    fastText's `.vec`, or not, as in GloVe's. Words may contain spaces.

    Raises:
        UserError: there are no vectors, or the file is damaged.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        if (path / "encoder.json").is_file():
            raise UserError(f"{path} has no word vectors; give what `train word2vec` wrote")
        if (path / "last.ckpt").is_file() and not (path / "vectors.bin").is_file():
            raise UserError(f"the training of {path} has not ended; continue it with --resume")
        path = path / "vectors.bin"
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; give a folder that `unlabeled train word2vec` wrote, or a "
            "file of vectors"
        )
    try:
        content = path.read_bytes()
        name = path.name.lower()
        if name.endswith(".gz"):
            content, name = gzip.decompress(content), name.removesuffix(".gz")
        if int.from_bytes(content[:4], "little") == FASTTEXT:
            raise UserError(f"{path} is a fastText model; give the .vec file that belongs to it")
        words, vectors = (_binary if name.endswith(".bin") else _text)(content)
    except (ValueError, EOFError, OSError, zlib.error) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged: {error}; train or copy it again") from error
    return Words(words, vectors, path)


def _head(line: bytes) -> tuple[int, int] | None:
    """Numbers of words and of values if the first line has them, or else None."""
    numbers = line.split()
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return None
    return int(numbers[0]), int(numbers[1])


def _binary(content: bytes) -> tuple[list[str], np.ndarray]:
    line, _, body = content.partition(b"\n")
    head = _head(line)
    if head is None:
        raise ValueError("its first line does not say how many words and values there are")
    rows, dim = head
    if not (0 < rows <= len(body) and 0 < dim <= len(body)):
        raise ValueError("its first line announces more than it contains")
    words, vectors, at = [], [], 0
    for _ in range(rows):
        end = body.find(b" ", at)
        if end < 0 or end + 1 + 4 * dim > len(body):
            raise ValueError("it ends too early")
        words.append(body[at:end].lstrip(b"\n").decode())
        vectors.append(np.frombuffer(body, "<f4", dim, end + 1))
        at = end + 1 + 4 * dim
    return words, np.stack(vectors)


def _text(content: bytes) -> tuple[list[str], np.ndarray]:
    lines = content.decode("utf-8-sig").rstrip("\r\n").split("\n")
    head = _head(lines[0].encode())
    if head is not None:
        rows, dim = head
        lines = lines[1:]
        if len(lines) != rows:
            raise ValueError(f"its first line says {rows:,} words, but there are {len(lines):,}")
    lines = [line.rstrip("\r\n \t").replace("\t", " ") for line in lines]
    if head is None:  # words with spaces are few
        dim = Counter(line.count(" ") for line in lines).most_common(1)[0][0]
    if dim < 1 or any(line.count(" ") < dim for line in lines):
        raise ValueError("its lines are not of one length")
    words, vectors = [], np.empty((len(lines), dim), np.float32)
    for row, line in zip(vectors, lines, strict=True):  # all values as objects would fill memory
        word, *row[:] = line.rsplit(" ", dim)
        words.append(word)
    return words, vectors


def read_pairs(path: str | Path) -> list[tuple[str, str, float]]:
    """Read lines of two words and a number, separated by tabs or commas; # begins a comment.

    Raises:
        UserError: a line has another format.
    """
    pairs = []
    for number, line in _lines(path):
        parts = [part.strip() for part in line.replace(",", "\t").split("\t")]
        try:
            first, second, rating = parts
            pairs.append((first, second, float(rating)))
        except ValueError as error:
            raise UserError(
                f"line {number} of {path} is not two words and a number separated by tabs"
            ) from error
    return pairs


def read_analogies(path: str | Path) -> dict[str, list[tuple[str, str, str, str]]]:
    """Read lines of four words under `: section`, as in questions-words.txt, in lower case.

    Raises:
        UserError: a line has another format, or there are no analogies.
    """
    sections: dict[str, list[Any]] = {}
    for number, line in _lines(path):
        if line.startswith(":"):
            sections[line[1:].strip()] = []
            continue
        words = tuple(line.lower().split())
        if len(words) != 4 or not sections:
            raise UserError(
                f"line {number} of {path} is not four words below ': section'; correct it"
            )
        next(reversed(sections.values())).append(words)
    if not any(sections.values()):
        raise UserError(f"{path} holds no analogies; give lines of four words below ': section'")
    return sections


def _lines(path: str | Path) -> list[tuple[int, str]]:
    text = read_text(Path(path).expanduser())
    lines = enumerate(text.splitlines(), 1)
    return [(i, line) for i, line in lines if line.strip() and not line.startswith("#")]
