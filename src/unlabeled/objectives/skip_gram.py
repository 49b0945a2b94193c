"""Skip-gram and CBOW with negative sampling: a step of SGD, compiled or in PyTorch.

Mikolov, Sutskever, Chen, Corrado, Dean 2013, "Distributed Representations of Words and Phrases and
their Compositionality", eq. 4; windows as matrix products as in Ji, Satish, Li, Dubey 2016,
"Parallelizing Word2Vec in Shared and Distributed Memory".
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.utils.native import library

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-O3", "-march=native", "-ffast-math")
LANES = 16
"""Vectors are padded to a multiple of this many values."""


class Windows(NamedTuple):
    """Consecutive words with a context window and negatives for each."""

    words: np.ndarray  #: (n,) int32
    left: np.ndarray  #: (n,) int32, number of context words before
    right: np.ndarray  #: (n,) int32, number of context words after
    negatives: np.ndarray  #: (n, k) int32

    def predictions(self, model: str) -> int:
        """Number of predictions: one for each context word, or with "cbow" for each window."""
        context = self.left + self.right
        return int((context > 0).sum() if model == "cbow" else context.sum())


Tables = tuple[Tensor, Tensor]
"""Vectors of words as inputs and as outputs, (V, D) each."""
Step = Callable[..., float]
"""Updates (inputs, outputs) by windows [start, stop) at a learning rate; the summed loss."""


def compiled_step() -> Step | None:
    """The step in C++, window by window; None if there is no compiler."""
    kernel = library(SOURCE, FLAGS, "word2vec is several times slower")
    if kernel is None:
        return None
    function = kernel.word2vec
    function.restype = ctypes.c_double
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, pointer, integer, *[pointer] * 4, *[integer] * 3]
    function.argtypes += [ctypes.c_float, ctypes.c_int]

    def step(
        tables: tuple[Tensor, Tensor],
        windows: Windows,
        span: tuple[int, int],
        lr: float,
        model: str,
    ) -> float:
        arrays = [np.ascontiguousarray(array, np.int32) for array in windows]
        vectors = *(table.data_ptr() for table in tables), tables[0].shape[1]
        words = *(array.ctypes.data for array in arrays), arrays[3].shape[1]
        return float(function(*vectors, *words, *span, lr, model == "cbow"))

    return step


def torch_step(
    tables: Tables, windows: Windows, span: tuple[int, int], lr: float, model: str, batch: int = 32
) -> float:
    """The step in PyTorch, `batch` windows at a time, whose gradients are added.

    Args:
        tables: vectors of words as inputs and as outputs, (V, D) each; updated in place.
        windows: words with context and negatives.
        span: first window, and the one after the last.
        lr: learning rate.
        model: "skip_gram" or "cbow".
        batch: windows in a step.

    Returns:
        the loss, summed over predictions.
    """
    inputs, outputs = tables
    words, left, right, negatives = (torch.from_numpy(np.asarray(a)).long() for a in windows)
    reach = int(max(windows.left.max(initial=0), windows.right.max(initial=0)))
    offsets = torch.tensor([o for o in range(-reach, reach + 1) if o], dtype=torch.long)
    loss = 0.0
    for at in torch.arange(*span).split(batch):
        in_window = (offsets >= -left[at, None]) & (offsets <= right[at, None])  # (B, m)
        context = words[(at[:, None] + offsets).clamp(0, len(words) - 1)]  # (B, m)
        h = inputs[context] * in_window[:, :, None]  # (B, m, D)
        predicts = in_window
        if model == "cbow":
            count = in_window.sum(1)
            h = (h.sum(1) / count.clamp(min=1)[:, None])[:, None]  # (B, 1, D)
            predicts = count[:, None] > 0
        targets = torch.cat([words[at, None], negatives[at]], 1)  # (B, 1 + k)
        w = outputs[targets]  # (B, 1 + k, D)
        sign = torch.full((1, 1, targets.shape[1]), -1.0)
        sign[..., 0] = 1
        scores = (sign * (h @ w.mT)).clamp(-30, 30)  # (B, m, 1 + k)
        valid = (targets != words[at, None]) | (sign[0] > 0)  # a negative may be the word itself
        counted = predicts[:, :, None] & valid[:, None]
        loss -= float(F.logsigmoid(scores)[counted].double().sum())
        error = lr * sign * torch.sigmoid(-scores) * counted
        change = error @ w  # (B, m, D)
        if model == "cbow":
            change = change * in_window[:, :, None]
        outputs.index_add_(0, targets.flatten(), (error.mT @ h).flatten(0, 1))
        inputs.index_add_(0, context.flatten(), change.flatten(0, 1))
    return loss
