"""The library as a scikit-learn transformer."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from unlabeled.training import train


class SelfSupervised(TransformerMixin, BaseEstimator):
    """Learn features from the pictures alone: `SelfSupervised("simclr").fit(X).transform(X)`.

    Args:
        method: a name of `unlabeled list methods`, a class or `./file.py:Class`.
        encoder: a name, a module or a class.
        epochs: passes over the pictures; the method's own number unless given.
        seed: of everything random.
        options: further arguments of `unlabeled.train`, such as `{"temperature": 0.2}`.
    """

    def __init__(
        self,
        method: Any = "simclr",
        encoder: Any = "small",
        epochs: int | None = None,
        seed: int = 0,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.method = method
        self.encoder = encoder
        self.epochs = epochs
        self.seed = seed
        self.options = options

    def fit(self, X: Any, y: Any = None) -> SelfSupervised:
        """Train on pictures in any usual form; labels are used by supervised methods alone."""
        options = dict(self.options or {})
        if self.epochs is not None:
            options["epochs"] = self.epochs
        with tempfile.TemporaryDirectory() as folder:
            self.run_ = train(
                self.method,
                X if y is None else (X, y),
                encoder=copy.deepcopy(self.encoder),
                seed=self.seed,
                out=Path(folder) / "run",
                **options,
            )
        self.run_.data = None
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features (N, dim) float32."""
        return self.run_.embed(X)
