"""word2vec: skip-gram and CBOW with negative sampling (Mikolov et al. 2013).

Mikolov, Chen, Corrado, Dean 2013, "Efficient Estimation of Word Representations in Vector Space";
Mikolov, Sutskever, Chen, Corrado, Dean 2013, "Distributed Representations of Words and Phrases and
their Compositionality", for negative sampling and subsampling.
"""

import functools
import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator, default_rng
from torch import Tensor

from unlabeled.core import check_options
from unlabeled.data.readers.word_lines import Lines, read_lines
from unlabeled.errors import Stopped, UserError
from unlabeled.objectives.skip_gram import LANES, Windows, compiled_step, torch_step
from unlabeled.runs.word_vectors import Words
from unlabeled.training.checkpoints import SAVE_EVERY, checkpoint_file, signals, write_state
from unlabeled.training.folder import prepare_folder, record_data
from unlabeled.utils.files import reserved, write_csv, write_json
from unlabeled.utils.progress import line

CHUNK = 20_000
"""Words for which windows are sampled at once; the learning rate falls from chunk to chunk."""
TABLE_SIZE = 1 << 22
"""Entries of the table that negatives are drawn from."""
WORDS_IN_ALL = 3_000_000
"""Words to be read in all epochs, where no number of epochs is given."""
MIN_LR = 1e-4
"""The learning rate at the end, gensim's."""


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
    """Train word vectors by skip-gram or CBOW with negative sampling.

    In skip-gram each context word predicts the center word against `negatives` words, drawn by
    their count to the power 3/4; in CBOW the mean of the context does. The context words of a
    window share its negatives, so that a window is a product of two small matrices (Ji, Satish, Li,
    Dubey 2016); word2vec.c and gensim draw them for each pair. As in both, each of CBOW's context
    words gets the whole gradient of their mean, and a negative that is the center word is omitted.

    Args:
        data: a file of text or a folder of such files, plain or .gz; `text` is Python's
            documentation, `books` and `books:FOLDER` are the files of that data set; in Python also
            lists of words. Spaces in a word become underscores, with a notice.
        model: skip_gram or cbow.
        dim: width of the vectors.
        window: context words on either side at most; the number is drawn for each word.
        negatives: words drawn against each center word.
        min_count: rarer words are left out.
        subsample: threshold t of the share above which frequent words are dropped at random; 0
            keeps all.
        epochs: passes over the text (default: from 8 to 50, more for shorter texts).
        lr: learning rate at the start; it decreases linearly to 1e-4.
        seed: of the vectors and of all sampling.
        threads: threads that update the same vectors without locks (Hogwild); with one, a run that
            was stopped and resumed ends in the same bytes as one that was not; with more, no run
            can be repeated bit for bit, resumed or not.
        pattern: regular expression of a word, on text in lower case (default: letters and digits in
            a row, joined by apostrophes, hyphens and underscores).
        out: the folder for `vectors.bin` and `vectors.txt`, which gensim opens (default:
            runs/word2vec).
        resume: continue from the folder's last checkpoint, or start where there is none. One is
            written after each epoch, every five minutes, and on Ctrl-C, SIGTERM or SIGHUP.
        progress: print the loss of each epoch.

    Returns:
        the words with their vectors.

    Raises:
        UserError: there is no text, too few words occur often enough, or the folder was made with
            other arguments or is in use.
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
    vocabulary, lines = read_lines(data, pattern, min_count)
    tokens = len(lines)
    sizes = {"words": len(vocabulary), "tokens": tokens}
    epochs = epochs or min(50, max(8, WORDS_IN_ALL // tokens))
    rng = default_rng(seed)
    # In ±1/dim, as gensim's; word2vec.c takes half of that, from which CBOW learns less.
    start = (2 * rng.random((len(vocabulary), dim), np.float32) - 1) / dim
    inputs = F.pad(torch.from_numpy(start), (0, -dim % LANES))
    state = State((inputs, torch.zeros_like(inputs)), rng)
    counts = np.array(list(vocabulary.values()))
    sampler = WindowSampler(counts, window, negatives, subsample, rng)
    config: dict[str, Any] = {"method": "word2vec", "method_args": args, "data": record_data(data)}
    config |= {"recipe": {"epochs": epochs, "lr": lr}, "seed": seed, **sizes}
    with reserved(folder):
        if checkpoint := prepare_folder(folder, config, resume):
            state.load(checkpoint)
        for row in fit(state, sampler, lines, model, epochs, lr, threads, folder):
            if progress:
                loss, speed = row["loss"], row["words_per_second"]
                line(f"epoch {row['epoch']}/{epochs}: loss {loss:.4f}, {speed:,.0f} words/s")
        vectors = Words(list(vocabulary), state.tables[0][:, :dim].numpy().copy())
        vectors.save(folder / "vectors.txt")
        vectors.save(folder / "vectors.bin")
        write_csv(folder / "metrics.csv", state.history)
        figures = sizes | state.history[-1] | {"seed": seed, "seconds": state.seconds}
        write_json(folder / "word2vec.json", figures)
    return vectors


@dataclass
class State:
    """State of a training between two chunks.

    Args:
        tables: vectors of words as inputs and as outputs.
        rng: of all sampling.
        chunks: done.
        loss: summed over the epoch.
        predictions: of the epoch.
        seconds: in all.
        history: a row for each epoch.
    """

    tables: tuple[Tensor, Tensor]
    rng: Generator
    chunks: int = 0
    loss: float = 0.0
    predictions: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def save(self, folder: Path) -> None:
        """Write the folder's last checkpoint."""
        content = vars(self) | {"rng": json.dumps(self.rng.bit_generator.state)}
        content["in_epoch"] = {"epoch": len(self.history), "steps": self.chunks}
        with checkpoint_file(folder) as aside:
            write_state(aside, content)

    def load(self, path: Path) -> None:
        """Read what `save` wrote."""
        content = torch.load(path, weights_only=True)
        del content["in_epoch"]
        self.rng.bit_generator.state = json.loads(content.pop("rng"))
        vars(self).update(content)


class WindowSampler:
    """Sample windows: which words are kept, how wide windows are, and their negatives.

    Args:
        counts: of the words (V,).
        window: on either side at most.
        negatives: for each word.
        subsample: t; a word of share f is kept with probability √(t/f) + t/f, as in word2vec.c (the
            paper: √(t/f)).
        rng: of all sampling.
    """

    def __init__(
        self, counts: np.ndarray, window: int, negatives: int, subsample: float, rng: Generator
    ) -> None:
        ratio = subsample / (counts / counts.sum())
        self.keep = np.sqrt(ratio) + ratio if subsample else np.ones(len(counts))
        weight = counts**0.75
        edges = np.cumsum(weight) / weight.sum()
        middles = (np.arange(TABLE_SIZE) + 0.5) / TABLE_SIZE
        self.table = np.searchsorted(edges, middles).clip(max=len(counts) - 1).astype(np.int32)
        self.window, self.negatives, self.rng = window, negatives, rng

    def __call__(self, words: np.ndarray, line: np.ndarray) -> Windows:
        """Windows of words (n,), which do not cross from one line (n,) to another."""
        is_kept = self.rng.random(len(words), np.float32) < self.keep[words]
        words, line = words[is_kept], line[is_kept]
        radius = self.rng.integers(1, self.window + 1, len(words), np.int32)
        first, last = np.searchsorted(line, line, "left"), np.searchsorted(line, line, "right")
        position = np.arange(len(words))
        left = np.minimum(radius, position - first).astype(np.int32)
        right = np.minimum(radius, last - 1 - position).astype(np.int32)
        rows = self.rng.integers(TABLE_SIZE, size=(len(words), self.negatives), dtype=np.int32)
        return Windows(words, left, right, self.table[rows])


def fit(
    state: State,
    sampler: WindowSampler,
    lines: Lines,
    model: str,
    epochs: int,
    lr: float,
    threads: int,
    folder: Path,
) -> Iterator[dict[str, float]]:
    """Train from the state on, and yield the history's row of each epoch.

    Raises:
        Stopped: a signal came; the state is saved.
    """
    step = compiled_step() or torch_step
    epoch_chunks = -(-len(lines) // CHUNK)
    saved = time.perf_counter()
    started = saved - state.seconds
    with signals() as received, ThreadPoolExecutor(threads) as pool:
        for epoch in range(state.chunks // epoch_chunks + 1, epochs + 1):
            for start in range(state.chunks % epoch_chunks * CHUNK, len(lines), CHUNK):
                windows = sampler(*lines.block(start, start + CHUNK))
                done = state.chunks / (epochs * epoch_chunks)
                rate = lr - max(0.0, lr - MIN_LR) * done
                update = functools.partial(step, state.tables, windows, lr=rate, model=model)
                edges = np.linspace(0, len(windows.words), threads + 1).astype(int).tolist()
                state.loss += sum(pool.map(update, itertools.pairwise(edges)))  # a span a thread
                state.predictions += windows.predictions(model)
                state.chunks += 1
                now = time.perf_counter()
                state.seconds = now - started
                if ended := state.chunks % epoch_chunks == 0:
                    mean = state.loss / max(1, state.predictions)
                    speed = epoch * len(lines) / state.seconds
                    row = {"epoch": epoch, "loss": mean, "words_per_second": speed}
                    state.history.append(row)
                    state.loss, state.predictions = 0.0, 0
                if ended or received or now - saved > SAVE_EVERY:
                    state.save(folder)
                    saved = now
                if received:
                    raise Stopped(
                        f"stopped in epoch {epoch} of {epochs} and saved in {folder}; run the same "
                        "command with --resume to continue",
                        received[0],
                    )
            yield state.history[-1]
