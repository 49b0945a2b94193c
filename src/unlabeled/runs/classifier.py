"""Classifiers on features, stored in run folders."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor, nn

from unlabeled.errors import UserError
from unlabeled.runs.safety import JSON_BYTES, inside, read_json, read_shapes
from unlabeled.utils.files import to_json, write_bytes

BLOCK = 512
"""Number of rows at a time; k-NN compares each with all labeled samples."""
VOTE_TEMPERATURE = 0.07
"""τ of the weight exp(s/τ) of a neighbor's vote (Wu et al. 2018)."""


class Classifier(nn.Module):
    """From features (B, dim) to logits (B, K), whose softmax are calibrated probabilities.

    Args:
        classes: names of the K classes.
        temperature: the scores are divided by it (Guo et al. 2017).
        figures: what was measured on test data, and what it was learned from; for the record.
    """

    kind: ClassVar[str]

    def __init__(
        self, classes: Sequence[str], temperature: float, figures: dict[str, Any] | None
    ) -> None:
        super().__init__()
        self.classes, self.temperature = list(classes), temperature
        self.figures = figures or {}

    def scores(self, z: Tensor) -> Tensor:
        """Logits before calibration: (B, dim) -> (B, K)."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """Calibrated logits: (B, dim) -> (B, K) float32."""
        return self.scores(z) / self.temperature

    @torch.no_grad()
    def logits(self, z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n k"]:
        """Calibrated logits of features, some rows at a time."""
        parts = [self(part).numpy() for part in torch.from_numpy(z).float().split(BLOCK)]
        return np.concatenate(parts) if len(z) else np.zeros((0, len(self.classes)), np.float32)

    def record(self) -> dict[str, Any]:
        """Content of `classifier.json`, besides the weights."""
        return {
            "kind": self.kind,
            "classes": self.classes,
            "temperature": self.temperature,
            "figures": self.figures,
        }


class LinearClassifier(Classifier):
    """Logits that are linear in the features.

    Args:
        weight: (K, dim).
        bias: (K,).
        classes: names of the K classes.
        temperature: the scores are divided by it.
        figures: for the record.
    """

    kind = "linear"

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        classes: Sequence[str],
        temperature: float = 1.0,
        figures: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(classes, temperature, figures)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def scores(self, z: Tensor) -> Tensor:
        return F.linear(z, self.weight, self.bias)  # type: ignore[arg-type]


class KNNClassifier(Classifier):
    """Logarithm of the votes of the k nearest labeled samples by cosine similarity.

    A neighbor of similarity s votes with weight exp(s/τ), τ = 0.07 (Wu et al. 2018). One more vote
    of average weight is spread evenly over the classes, so that none gets probability 0.

    Args:
        bank: features of the labeled samples, (n, dim).
        labels: their classes, (n,) int64.
        k: number of neighbors; at most n.
        classes: names of the K classes.
        temperature: the scores are divided by it.
        figures: for the record.
    """

    kind = "knn"

    def __init__(
        self,
        bank: Tensor,
        labels: Tensor,
        k: int,
        classes: Sequence[str],
        temperature: float = 1.0,
        figures: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(classes, temperature, figures)
        self.register_buffer("bank", _unit(bank))
        self.register_buffer("labels", labels)
        self.k = min(k, len(bank))

    def scores(self, z: Tensor) -> Tensor:
        similarity, rows = (_unit(z) @ self.bank.T).topk(self.k)  # type: ignore[operator]  # (B, k)
        weights = (similarity / VOTE_TEMPERATURE).softmax(1)
        votes = weights.new_zeros(z.shape[0], len(self.classes))
        votes = votes.scatter_add(1, self.labels[rows], weights)  # type: ignore[index]  # (B, K)
        return (votes + 1 / (self.k * len(self.classes))).log()

    def record(self) -> dict[str, Any]:
        return super().record() | {"neighbors": self.k}


KINDS: dict[str, type[Classifier]] = {c.kind: c for c in (LinearClassifier, KNNClassifier)}
"""Kinds of classifiers by name."""


def _unit(z: Tensor) -> Tensor:
    """L2-normalize rows, whose squares may leave float32's range, in operations of ONNX."""
    return F.normalize(z / z.abs().amax(1, keepdim=True).clamp(min=1e-30), dim=1)


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Write `classifier.safetensors` and `classifier.json`.

    Raises:
        UserError: the names of its classes are too long for a run folder.
    """
    record = to_json(classifier.record()).encode()
    if len(record) > JSON_BYTES:
        raise UserError(
            f"the names of {len(classifier.classes):,} classes take {len(record):,} bytes, but a "
            f"run folder keeps {JSON_BYTES:,}; shorten them"
        )
    write_bytes(folder / "classifier.safetensors", save(classifier.state_dict()))
    write_bytes(folder / "classifier.json", record)


def load_classifier(
    folder: Path, dim: int, find: Callable[[Path, str], Path] = inside
) -> Classifier | None:
    """The classifier of an untrusted run folder; None if it has none.

    Args:
        folder: the run folder.
        dim: number of features of its encoder.
        find: the path of a file of the folder.

    Raises:
        UserError: it is damaged, or does not fit the encoder.
    """
    path, weights = (find(folder, f"classifier.{end}") for end in ("json", "safetensors"))
    if not path.exists():
        return None
    record, shapes = read_json(path), read_shapes(weights)
    fields = ("classes", "kind", "temperature", "neighbors")
    classes, kind, temperature, k = map(record.get, fields)  # type: Any, Any, Any, Any
    _require(folder, "kind", isinstance(kind, str) and kind in KINDS)
    are_names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    _require(folder, "classes", are_names and len(set(classes)) == len(classes) > 1)
    is_number = type(temperature) in (int, float) and math.isfinite(temperature)
    _require(folder, "temperature", is_number and 1e-6 <= temperature <= 1e6)
    _require(folder, "figures", isinstance(record.get("figures"), dict))
    rows = shapes.get("bank", (0,))[0]
    if kind == "linear":
        fits = shapes == {"weight": (len(classes), dim), "bias": (len(classes),)}
    else:
        fits = shapes == {"bank": (rows, dim), "labels": (rows,)} and rows > 0
        _require(folder, "neighbors", type(k) is int and 1 <= k <= max(1, rows))
    _require(folder, "weights", fits)
    state: dict[str, Any] = load_file(weights)
    labels = state.get("labels", torch.zeros(1, dtype=torch.int64))
    inner = labels.dtype == torch.int64 and labels.min() >= 0 and labels.max() < len(classes)
    floats = [value for name, value in state.items() if name != "labels"]
    finite = all(v.dtype == torch.float32 and bool(v.isfinite().all()) for v in floats)
    _require(folder, "weights", inner and finite)
    options: dict[str, Any] = {
        "classes": classes,
        "temperature": float(temperature),
        "figures": record["figures"],
    }
    if kind == "linear":
        return LinearClassifier(**state, **options).eval()
    return KNNClassifier(**state, k=int(record["neighbors"]), **options).eval()


def _require(folder: Path, field: str, holds: Any) -> None:
    if not holds:
        raise UserError(
            f"the classifier of {folder} is damaged ({field}); write it again with "
            "`unlabeled classify`"
        )
