"""word2vec: a word by the company it keeps.

Mikolov, Chen, Corrado, Dean 2013, "Efficient Estimation of Word Representations in Vector Space";
Mikolov, Sutskever, Chen, Corrado, Dean 2013, "Distributed Representations of Words and Phrases and
their Compositionality", for negative sampling and subsampling.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.core import check_options
from unlabeled.data.readers import bpe, corpus
from unlabeled.data.sets import books
from unlabeled.errors import Stopped, UserError, notice
from unlabeled.runs.word_vectors import Words
from unlabeled.training.checkpoints import SAVE_EVERY, kept, signals
from unlabeled.training.folder import prepare_folder, record_data
from unlabeled.utils.files import write_csv, write_json
from unlabeled.utils.native import library

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-O3", "-march=native", "-ffast-math")
LANES = 16
LONGEST = 10_000
"""Words of a line at most, as in word2vec.c and gensim; longer ones are cut."""
PART = 20_000
"""Words that are drawn for at once; the learning rate falls from part to part."""
TABLE = 1 << 22
"""Entries of the table that negatives are drawn from."""
ENOUGH = 3_000_000
"""Words to be read in all, where no number of epochs is given."""
LEAST = 1e-4
"""The learning rate at the end, as gensim's."""


class Windows(NamedTuple):
    """Words in a row, and what was drawn for each."""

    words: np.ndarray  #: (n,) int32
    left: np.ndarray  #: (n,) int32, how many words before it are its context
    right: np.ndarray  #: (n,) int32, how many after it
    negatives: np.ndarray  #: (n, k) int32

    def asked(self, model: str) -> int:
        """How many questions they put: one for each context word, or one for each window."""
        context = self.left + self.right
        return int((context > 0).sum() if model == "cbow" else context.sum())


def word2vec(
    data: Any,
    *,
    model: Literal["skip_gram", "cbow"] = "skip_gram",
    dim: int = 100,
    window: int = 5,
    negatives: int = 5,
    min_count: int = 5,
    subsample: float = 1e-4,
    epochs: int | None = None,
    lr: float = 0.025,
    seed: int = 0,
    threads: int = 1,
    pattern: str = "",
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Words:
    """Vectors of words that foretell their neighbors, by skip-gram or CBOW.

    Skip-gram asks each context word for the word in the middle, against `negatives` words drawn by
    their count to the power 3/4; CBOW asks the mean of the context. The context words of a window
    share its negatives, so that a window is a product of two small matrices (Ji, Satish, Li, Dubey
    2016); word2vec.c and gensim draw them for each pair. As in both, CBOW's context words each get
    the whole gradient of their mean, and a negative that is the word itself is left out.

    Args:
        data: a file of text or a folder of such files, plain or .gz; `text` is Python's
            documentation, `books` and `books:FOLDER` are the files of that data set; in Python also
            lists of words. Spaces in a word become underscores, and it is said.
        model: skip_gram or cbow.
        dim: width of the vectors.
        window: words on either side at most; how many is drawn for each word.
        negatives: words drawn against each.
        min_count: rarer words are left out.
        subsample: frequent words are left out at random above this share; 0 leaves all in.
        epochs: passes over the text; unless given from 8 to 50, the more the shorter it is.
        lr: learning rate at the start; it falls in a straight line.
        seed: of the vectors and of all that is drawn.
        threads: that move the same vectors without waiting for each other (Hogwild); with one, a
            run that was stopped and resumed ends in the same bytes as one that was not; with more,
            no run can be repeated bit for bit, resumed or not.
        pattern: regular expression of a word, on text in lower case; unless given, letters and
            digits in a row, joined by apostrophes, hyphens and underscores.
        out: the folder for `vectors.bin` and `vectors.txt`, which gensim opens; runs/word2vec
            unless given.
        resume: go on from the folder's last checkpoint, or start where there is none. One is
            written after each epoch, every five minutes, and on Ctrl-C, SIGTERM or SIGHUP.
        progress: print the loss of each epoch.

    Returns:
        the words with their vectors.

    Raises:
        UserError: there is no text, too few words occur often enough, or the folder was made with
            other arguments.
        Stopped: a signal came; the state is saved.
    """
    check_options(word2vec, dict(locals()))
    if epochs == 0:
        raise UserError("epochs is 0, but must be at least 1")
    args = {
        "model": model, "dim": dim, "window": window, "negatives": negatives,
        "min_count": min_count, "subsample": subsample, "threads": threads, "pattern": pattern,
    }  # fmt: skip
    folder = Path(out or "runs/word2vec")
    known, lines = vocabulary(_lines(data, pattern), min_count)
    rng = np.random.default_rng(seed)
    state = State(start(len(known), dim, rng), rng)
    draw = Drawing(np.array(list(known.values())), window, negatives, subsample, rng)
    step = compiled() or stepped
    tokens = sum(map(len, lines))
    epochs = epochs or min(50, max(8, ENOUGH // tokens))
    each = -(-tokens // PART)  # parts of an epoch
    config = {
        "method": "word2vec",
        "method_args": args,
        "data": record_data(data),
        "recipe": {"epochs": epochs, "lr": lr},
        "seed": seed,
        "words": len(known),
        "tokens": tokens,
    }
    if checkpoint := prepare_folder(folder, config, resume):
        state.load(checkpoint)
    saved = time.perf_counter()
    started = saved - state.seconds
    with signals() as asked, ThreadPoolExecutor(threads) as pool:
        for epoch in range(state.done // each + 1, epochs + 1):
            for part in itertools.islice(parts(lines), state.done % each, None):
                drawn = draw(part)
                rate = max(LEAST, lr - (lr - LEAST) * state.done / (epochs * each))
                move = functools.partial(step, state.tables, drawn, lr=rate, model=model)
                state.loss += sum(pool.map(move, spans(drawn, threads)))
                state.questions += drawn.asked(model)
                state.done += 1
                now = time.perf_counter()
                state.seconds = now - started
                if ended := state.done % each == 0:
                    state.end_epoch(epoch, tokens)
                if ended or asked or now - saved > SAVE_EVERY:
                    state.save(folder)
                    saved = now
                if asked:
                    raise Stopped(
                        f"stopped in epoch {epoch} of {epochs} and saved in {folder}; run the same "
                        "command with --resume to continue",
                        asked[0],
                    )
            if progress:
                mean, speed = state.history[-1]["loss"], state.history[-1]["words_per_second"]
                print(f"epoch {epoch}: loss {mean:.4f}, {speed:,.0f} words/s", file=sys.stderr)
    found = Words(list(known), state.tables[0][:, :dim].numpy().copy())
    found.save(folder / "vectors.txt")
    found.save(folder / "vectors.bin")
    write_csv(folder / "metrics.csv", state.history)
    figures = {"words": len(known), "tokens": tokens, **state.history[-1]}
    write_json(folder / "word2vec.json", figures | {"seed": seed, "seconds": state.seconds})
    return found


@dataclass
class State:
    """Where a training is, between two parts.

    Args:
        tables: vectors and outputs.
        rng: what draws.
        done: parts.
        loss: summed over the epoch.
        questions: of the epoch.
        seconds: in all.
        history: a row for each epoch.
    """

    tables: tuple[Tensor, Tensor]
    rng: np.random.Generator
    done: int = 0
    loss: float = 0.0
    questions: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def end_epoch(self, epoch: int, tokens: int) -> None:
        """Note its mean loss and the speed so far; the next one's sums start at 0."""
        mean, speed = self.loss / max(1, self.questions), epoch * tokens / self.seconds
        self.history.append({"epoch": epoch, "loss": mean, "words_per_second": speed})
        self.loss, self.questions = 0.0, 0

    def save(self, folder: Path) -> None:
        """As the folder's last checkpoint."""
        content = vars(self) | {"rng": json.dumps(self.rng.bit_generator.state)}
        content["in_epoch"] = {"epoch": len(self.history), "steps": self.done}
        with kept(folder) as aside, aside.open("wb") as file:
            torch.save(content, file)

    def load(self, path: Path) -> None:
        """What `save` wrote."""
        content = torch.load(path, weights_only=True)
        del content["in_epoch"]
        self.rng.bit_generator.state = json.loads(content.pop("rng"))
        vars(self).update(content)


def _lines(data: Any, pattern: str) -> Iterator[list[str]]:
    """Paragraphs in words; lists of words are taken as they are."""
    if not isinstance(data, str | Path):
        return _one_piece(data)
    try:
        word = re.compile(pattern) if pattern else None
    except re.error as error:
        raise UserError(f"the pattern '{pattern}' is no regular expression: {error}") from error
    name, _, place = str(data).partition(":")
    if name in ("books", "text"):
        registry.say_which("datasets", str(data))
    if name == "books":
        documents = books.documents(place or None)
    else:
        documents = corpus.read((place or None) if name == "text" else data)
    kept = [d for d in documents if not d.test] or documents
    return _one_piece(bpe.lines_of_words(kept, word))


def _one_piece(lines: Iterable[list[str]]) -> Iterator[list[str]]:
    """Words as a file of vectors can hold them: without spaces, and never empty."""
    spaced = empty = 0
    example = ""
    for line in lines:
        if isinstance(line, str):
            raise UserError(f"'{line[:40]}' is a text, not a list of words; split it")
        joined = ["_".join(word.split()) for word in line]
        if joined != line:
            changed = [word for word, one in zip(line, joined, strict=True) if one and one != word]
            spaced, example = spaced + len(changed), example or next(iter(changed), "")
            empty += joined.count("")
            joined = [word for word in joined if word]
        yield joined
    if spaced or empty:
        messages = [
            f"spaces in {spaced:,} words, such as '{example[:40]}', become underscores",
            f"{empty:,} empty words are left out",
        ]
        said = [message for message, count in zip(messages, (spaced, empty), strict=True) if count]
        notice("; ".join(said))


def vocabulary(
    lines: Iterator[list[str]], min_count: int
) -> tuple[dict[str, int], list[np.ndarray]]:
    """Words with their counts, most frequent first, and the lines in their numbers (n,) int32."""
    kept = list(lines)
    counts = Counter(word for line in kept for word in line)
    often = {word: n for word, n in counts.most_common() if n >= min_count}
    if len(often) < 2:
        raise UserError(
            f"{len(often)} words occur at least {min_count} times; give more text, or a smaller "
            "--min-count"
        )
    row = {word: i for i, word in enumerate(often)}
    coded = (np.array([row[w] for w in line if w in row], np.int32) for line in kept)
    cut = (line[at : at + LONGEST] for line in coded for at in range(0, len(line), LONGEST))
    return often, list(cut)


def start(words: int, dim: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Vectors in ±1/dim, as gensim's (word2vec.c: half of that, which CBOW learns less from), and
    outputs of 0, (words, dim rounded up to whole lanes).
    """
    wide = -(-dim // LANES) * LANES
    vectors = np.zeros((words, wide), np.float32)
    vectors[:, :dim] = (2 * rng.random((words, dim), np.float32) - 1) / dim
    return torch.from_numpy(vectors), torch.zeros(words, wide)


def parts(lines: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Some lines at a time, as words in a row and the line of each."""
    words = np.concatenate(lines)
    line = np.repeat(np.arange(len(lines)), [len(one) for one in lines])
    return ((words[at : at + PART], line[at : at + PART]) for at in range(0, len(words), PART))


class Drawing:
    """What chance decides: which words stay, how wide windows are, which words are negatives.

    Args:
        counts: of the words (V,).
        window: on either side at most.
        negatives: for each word.
        subsample: t; a word of share f stays with probability √(t/f) + t/f, as word2vec.c has it
            (the paper: √(t/f)).
        rng: draws.
    """

    def __init__(
        self,
        counts: np.ndarray,
        window: int,
        negatives: int,
        subsample: float,
        rng: np.random.Generator,
    ) -> None:
        share = counts / counts.sum()
        ratio = subsample / share
        self.stays = np.sqrt(ratio) + ratio if subsample else np.ones(len(counts))
        weight = counts**0.75
        edges = np.cumsum(weight) / weight.sum()
        middles = (np.arange(TABLE) + 0.5) / TABLE
        self.table = np.searchsorted(edges, middles).clip(max=len(counts) - 1).astype(np.int32)
        self.window, self.negatives, self.rng = window, negatives, rng

    def __call__(self, part: tuple[np.ndarray, np.ndarray]) -> Windows:
        """Windows of words (n,) and their lines (n,)."""
        words, line = part
        kept = self.rng.random(len(words), np.float32) < self.stays[words]
        words, line = words[kept], line[kept]
        radius = self.rng.integers(1, self.window + 1, len(words), np.int32)
        first = np.searchsorted(line, line, "left")
        last = np.searchsorted(line, line, "right")
        place = np.arange(len(words))
        left = np.minimum(radius, place - first).astype(np.int32)
        right = np.minimum(radius, last - 1 - place).astype(np.int32)
        drawn = self.rng.integers(TABLE, size=(len(words), self.negatives), dtype=np.int32)
        return Windows(words, left, right, self.table[drawn])


def spans(drawn: Windows, threads: int) -> list[tuple[int, int]]:
    """The windows of each thread, from and to."""
    edges = np.linspace(0, len(drawn.words), threads + 1).astype(int)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


Step = Callable[..., float]
"""Moves tables by windows, from and to, at a learning rate; the summed loss."""


def compiled() -> Step | None:
    """The loop in C++, window after window; None where there is no compiler."""
    found = library(SOURCE, FLAGS, "word2vec is several times slower")
    if found is None:
        return None
    call = found.word2vec
    call.restype = ctypes.c_double
    pointer, whole = ctypes.c_void_p, ctypes.c_int64
    call.argtypes = [pointer, pointer, whole, *[pointer] * 4, *[whole] * 3]
    call.argtypes += [ctypes.c_float, ctypes.c_int]

    def step(
        tables: tuple[Tensor, Tensor], drawn: Windows, span: tuple[int, int], lr: float, model: str
    ) -> float:
        arrays = [np.ascontiguousarray(array, np.int32) for array in drawn]
        return float(
            call(
                *(table.data_ptr() for table in tables),
                tables[0].shape[1],
                *(array.ctypes.data for array in arrays),
                arrays[3].shape[1],
                *span,
                lr,
                model == "cbow",
            )
        )

    return step


def stepped(
    tables: tuple[Tensor, Tensor],
    drawn: Windows,
    span: tuple[int, int],
    lr: float,
    model: str,
    batch: int = 32,
) -> float:
    """The same in PyTorch, `batch` windows at a time, whose gradients are added."""
    inputs, outputs = tables
    words, left, right, negatives = (torch.from_numpy(np.asarray(a)).long() for a in drawn)
    reach = int(max(drawn.left.max(initial=0), drawn.right.max(initial=0)))
    offsets = torch.tensor([o for o in range(-reach, reach + 1) if o], dtype=torch.long)
    loss = 0.0
    for at in torch.arange(*span).split(batch):
        near = (offsets >= -left[at, None]) & (offsets <= right[at, None])  # (B, m)
        around = words[(at[:, None] + offsets).clamp(0, len(words) - 1)]  # (B, m)
        h = inputs[around] * near[:, :, None]  # (B, m, D)
        asked = near
        if model == "cbow":
            many = near.sum(1)
            h = (h.sum(1) / many.clamp(min=1)[:, None])[:, None]  # (B, 1, D)
            asked = many[:, None] > 0
        targets = torch.cat([words[at, None], negatives[at]], 1)  # (B, 1 + k)
        w = outputs[targets]  # (B, 1 + k, D)
        sign = torch.full((1, 1, targets.shape[1]), -1.0)
        sign[..., 0] = 1
        scores = (sign * (h @ w.mT)).clamp(-30, 30)  # (B, m, 1 + k), of being right
        counted = asked[:, :, None] & ((targets != words[at, None]) | (sign[0] > 0))[:, None]
        loss -= float(torch.nn.functional.logsigmoid(scores)[counted].double().sum())
        error = lr * sign * torch.sigmoid(-scores) * counted
        moved = error @ w  # (B, m, D)
        if model == "cbow":
            moved = moved * near[:, :, None]
        outputs.index_add_(0, targets.flatten(), (error.mT @ h).flatten(0, 1))
        inputs.index_add_(0, around.flatten(), moved.flatten(0, 1))
    return loss
