"""Self-supervised methods as scikit-learn transformers."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from unlabeled import registry
from unlabeled.core import Recipe
from unlabeled.data.readers.arrays import from_memory
from unlabeled.data.split import split
from unlabeled.data.standardize import read_rows, standardized
from unlabeled.errors import Stopped, UserError
from unlabeled.modality import Series, Table
from unlabeled.training.config import TrainConfig
from unlabeled.training.train import train


class SelfSupervised(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Learn features from the samples alone: `SelfSupervised("simclr").fit(X).transform(X)`.

    `X` are images, or for a method of series (N, T) or (N, T, C), or for one of tables (N, columns)
    as an array or a data frame.

    All arguments of `unlabeled.train`, fields of the recipe and arguments of the method, such as
    `temperature`, are parameters of the estimator, so that a grid search can vary them.

    Args:
        method: a name of `unlabeled list methods`, a class or `./file.py:Class`.
        encoder: a name, a module or a class (default: that of the method).
        epochs: passes over the images (default: that of the method).
        seed: of weights, order and views.
        shape: of an image, (height, width) or (channels, height, width), if `X` is (N, pixels).
        options: the other arguments.
    """

    def __init__(
        self,
        method: Any = "simclr",
        encoder: Any = None,
        epochs: int | None = None,
        seed: int = 0,
        shape: tuple[int, ...] | None = None,
        **options: Any,
    ) -> None:
        self.method = method
        self.encoder = encoder
        self.epochs = epochs
        self.seed = seed
        self.shape = shape
        self.options = options

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters by name."""
        return super().get_params(deep) | self.options

    def set_params(self, **params: Any) -> SelfSupervised:
        """Set parameters.

        Raises:
            UserError: there is no such parameter.
        """
        own = set(inspect.signature(type(self)).parameters) - {"options"}
        cls = _class_of(params.get("method", self.method))
        functions = train, TrainConfig, Recipe, cls
        known = {p for function in functions for p in inspect.signature(function).parameters}
        for name, value in params.items():
            if name in own:
                setattr(self, name, value)
            elif name in known:
                self.options[name] = value
            else:
                raise UserError(
                    f"Invalid parameter '{name}' for {cls.__name__}; valid are "
                    f"{', '.join(sorted(own | known))}"
                )
        return self

    def fit(self, X: Any, y: Any = None) -> SelfSupervised:
        """Train on images in any usual form; only supervised methods use the labels."""
        options = dict(self.options)
        if fixed := {"data", "out", "resume"} & set(options):
            raise UserError(f"an estimator takes no '{min(fixed)}'; unlabeled.train does")
        if self.epochs is not None:
            options["epochs"] = self.epochs
        cls, images = _class_of(self.method), self._images(X)
        given = (images, y) if y is not None and cls.supervised else images
        samples = read_rows(given, None, cls.modality)
        samples = from_memory(given) if samples is None else samples
        default = cls.encoder_for(type(samples.modality))
        if len(samples) == 1:
            raise UserError("X has 1 sample; give at least 2")
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.run_ = train(
                    self.method,
                    standardized(split(samples, "array", share=0)),
                    encoder=default if self.encoder is None else self.encoder,
                    seed=self.seed,
                    out=Path(folder) / "run",
                    **options,
                )
            except Stopped as error:
                message = "an estimator keeps nothing of a fit that was stopped; call fit again"
                raise Stopped(message, error.number) from None
        self.run_.data = self.run_.method = None
        self.n_features_in_ = int(np.prod(samples.x.shape[1:]))
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.array([str(name) for name in X.columns], object)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Features (N, dim) float32."""
        check_is_fitted(self, "run_")
        return self.run_.embed(self._images(X))

    @property
    def _n_features_out(self) -> int:
        return self.run_.dim

    def _images(self, X: Any) -> Any:
        if isinstance(X, str | Path):
            raise UserError(f"'{X}': give arrays here; unlabeled.train takes folders and files")
        if hasattr(X, "columns") and self._holds(Table):
            return X
        if not isinstance(X, torch.utils.data.Dataset | torch.Tensor) and not hasattr(X, "tocsr"):
            X = np.asarray(X)
        if np.ndim(X) == 1 and not isinstance(X, torch.utils.data.Dataset):
            raise UserError(f"X has the shape {X.shape}, but needs several axes. Reshape your data")
        if getattr(X, "ndim", 0) != 2 or hasattr(X, "tocsr") or self._holds(Series, Table):
            return X
        if self.shape is None:
            raise UserError(
                f"rows of {X.shape[1]} numbers are not images yet; give their shape, such as "
                f"shape=(28, 28), or reshape them to (N, height, width)"
            )
        if int(np.prod(self.shape)) != X.shape[1]:
            raise UserError(f"rows of {X.shape[1]} numbers are not images of shape {self.shape}")
        return np.asarray(X).reshape(len(X), *self.shape)

    def _holds(self, *kinds: type) -> bool:
        """Whether the method learns from one of these alone."""
        return _class_of(self.method).modality in [(kind,) for kind in kinds]

    def __sklearn_tags__(self) -> Tags:
        """Rows are samples where their shape is known, or the method takes them."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.shape is not None or self._holds(Series, Table)
        tags.input_tags.three_d_array = True
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _class_of(method: Any) -> Any:
    return registry.find("methods", method) if isinstance(method, str) else method
