"""Word vectors: nearest words, analogies, agreement with people, and the formats of word2vec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from unlabeled.errors import UserError
from unlabeled.files import write_bytes

LONGEST = 1000
"""Bytes of a word in a file."""


class Words:
    """Words and their vectors.

    Args:
        words: by falling frequency.
        vectors: (words, dim).
        path: the file they are in.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray, path: Path | None = None) -> None:
        self.words, self.vectors, self.path = list(words), vectors, path
        self.row = {word: row for row, word in enumerate(self.words)}
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.units = vectors / np.maximum(lengths, 1e-12)

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, word: str) -> np.ndarray:
        """The vector of a word.

        Raises:
            UserError: it was never learnt.
        """
        return self.vectors[self._row(word)]

    def _row(self, word: str) -> int:
        row = self.row.get(word, self.row.get(word.lower()))
        if row is None:
            raise UserError(f"'{word}' is none of the {len(self):,} words that were learnt")
        return row

    def nearest(self, word: str, number: int = 10) -> list[tuple[str, float]]:
        """Other words by the cosine of their vectors with that word's."""
        row = self._row(word)
        return self._best(self.units @ self.units[row], [row], number)

    def analogy(self, words: Sequence[str], number: int = 10) -> list[tuple[str, float]]:
        """What is to c as b is to a: near b − a + c, unit vectors (3CosAdd; Mikolov et al. 2013).

        Args:
            words: a, b and c.
            number: of answers.
        """
        rows = [self._row(word) for word in words]
        aim = self.units[rows[1]] - self.units[rows[0]] + self.units[rows[2]]
        return self._best(self.units @ (aim / np.linalg.norm(aim)), rows, number)

    def similarity(self, pairs: Iterable[tuple[str, str, float]]) -> dict[str, float]:
        """Agreement with people on how near words are.

        Args:
            pairs: two words, and what people said.

        Returns:
            Spearman's `rho` over the pairs whose words are known, and the share `known` of them.

        Raises:
            UserError: fewer than three pairs are known.
        """
        pairs = list(pairs)
        rows = [(self.row.get(a.lower()), self.row.get(b.lower()), said) for a, b, said in pairs]
        known = [(a, b, said) for a, b, said in rows if a is not None and b is not None]
        if len(known) < 3:
            raise UserError(f"{len(known)} of {len(pairs)} pairs are of known words; give others")
        first, second, said = (list(column) for column in zip(*known, strict=True))
        near = (self.units[first] * self.units[second]).sum(1)
        return {"rho": float(spearmanr(near, said)[0]), "known": len(known) / len(pairs)}

    def analogies(
        self, sections: dict[str, list[tuple[str, str, str, str]]], most: int = 30_000
    ) -> dict[str, tuple[int, int]]:
        """Analogies solved, and asked, by section; those with an unknown word are left out.

        Args:
            sections: a, b, c, d in lower case: a is to b as c is to d.
            most: frequent words that may be the answer.
        """
        units = self.units[:most]
        found: dict[str, tuple[int, int]] = {}
        for name, questions in sections.items():
            asked = [[self.row.get(word, most) for word in question] for question in questions]
            rows = np.array([q for q in asked if max(q) < len(units)], int).reshape(-1, 4)
            right = 0
            for part in np.array_split(rows, max(1, len(rows) // 500)):
                a, b, c, d = part.T
                near = (units[b] - units[a] + units[c]) @ units.T  # (questions, words)
                near[np.arange(len(part))[:, None], part[:, :3]] = -np.inf
                right += int((near.argmax(1) == d).sum())
            found[name] = right, len(rows)
        return found

    def _best(self, near: np.ndarray, besides: list[int], number: int) -> list[tuple[str, float]]:
        near = near.copy()
        near[besides] = -np.inf
        rows = np.argsort(-near)[: min(number, len(self) - len(set(besides)))]
        return [(self.words[row], float(near[row])) for row in rows]

    def save(self, path: Path) -> None:
        """In word2vec's format, which gensim and others read: binary for `.bin`, else text."""
        head = f"{len(self)} {self.vectors.shape[1]}\n"
        rows = self.vectors.astype("<f4")
        if path.suffix == ".bin":
            content = head.encode() + b"".join(
                word.encode() + b" " + row.tobytes() + b"\n"
                for word, row in zip(self.words, rows, strict=True)
            )
        else:
            lines = (
                f"{word} {' '.join(map(repr, row.tolist()))}"
                for word, row in zip(self.words, rows.astype(np.float64), strict=True)
            )
            content = (head + "\n".join(lines) + "\n").encode()
        write_bytes(path, content)
        self.path = path


def load(path: str | Path) -> Words:
    """Vectors in word2vec's formats, or those of a run's folder.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        if (path / "last.ckpt").is_file() and not (path / "vectors.bin").is_file():
            raise UserError(f"the training of {path} has not ended; go on with --resume")
        path = path / "vectors.bin"
    if not path.is_file():
        raise UserError(
            f"{path} does not exist; name a folder that `unlabeled train word2vec` wrote"
        )
    content = path.read_bytes()
    try:
        head, _, body = content.partition(b"\n")
        rows, dim = (int(number) for number in head.split())
        if not (0 < rows <= len(body) and 0 < dim <= len(body)):
            raise ValueError("its first line promises more than there is")
        read = _binary if path.suffix == ".bin" else _text
        words, vectors = read(body, rows, dim)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: {error}; train it again") from error
    return Words(words, vectors, path)


def _binary(body: bytes, rows: int, dim: int) -> tuple[list[str], np.ndarray]:
    words, vectors, at = [], [], 0
    for _ in range(rows):
        end = body.find(b" ", at, at + LONGEST)
        if end < 0 or end + 1 + 4 * dim > len(body):
            raise ValueError("it ends too early")
        words.append(body[at:end].lstrip(b"\n").decode())
        vectors.append(np.frombuffer(body, "<f4", dim, end + 1))
        at = end + 1 + 4 * dim
    return words, np.stack(vectors)


def _text(body: bytes, rows: int, dim: int) -> tuple[list[str], np.ndarray]:
    lines = [line.rstrip().split(" ") for line in body.decode().rstrip("\n").split("\n")]
    if len(lines) != rows or any(len(line) != dim + 1 for line in lines):
        raise ValueError("its lines are not as its first one says")
    return [line[0] for line in lines], np.array([line[1:] for line in lines], np.float32)


def read_pairs(path: str | Path) -> list[tuple[str, str, float]]:
    """Two words and a number a line, between tabs or commas; # begins a comment.

    Raises:
        UserError: a line is something else.
    """
    found = []
    for number, line in _lines(path):
        parts = [part.strip() for part in line.replace(",", "\t").split("\t")]
        try:
            first, second, said = parts
            found.append((first, second, float(said)))
        except ValueError as error:
            raise UserError(
                f"line {number} of {path} is not two words and a number with tabs between"
            ) from error
    return found


def read_analogies(path: str | Path) -> dict[str, list[tuple[str, str, str, str]]]:
    """Four words a line under `: section`, as questions-words.txt; in lower case.

    Raises:
        UserError: a line is something else.
    """
    sections: dict[str, list[Any]] = {}
    for number, line in _lines(path):
        if line.startswith(":"):
            sections[line[1:].strip()] = []
            continue
        words = tuple(line.lower().split())
        if len(words) != 4 or not sections:
            raise UserError(f"line {number} of {path} is not four words below a line ': section'")
        next(reversed(sections.values())).append(words)
    return sections


def _lines(path: str | Path) -> list[tuple[int, str]]:
    place = Path(path).expanduser()
    try:
        text = place.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{place} is no text: {error}") from error
    lines = enumerate(text.splitlines(), 1)
    return [(i, line) for i, line in lines if line.strip() and not line.startswith("#")]
