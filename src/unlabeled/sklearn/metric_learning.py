"""Linear metrics from labels, as scikit-learn transformers: x -> Lx, so that neighbors agree.

The objectives are the library's own, `mahalanobis` and `lmnn`, minimized over L by L-BFGS.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from unlabeled.encoders.features import deviations
from unlabeled.objectives import lmnn, mahalanobis
from unlabeled.objectives.similarity import squared_distances


class _LinearMetric(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """A matrix L (n_components, n_features) from labeled rows; the metric is A = LᵀL."""

    def __init__(self, n_components: int | None = None, max_iter: int = 200) -> None:
        self.n_components = n_components
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any) -> _LinearMetric:
        """Learn L from rows X (n, d) and their classes y (n,).

        Features are first brought to deviation 1, so that their scale does not matter; those that
        never vary get no weight.

        Raises:
            ValueError: there is only one class.
        """
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"{type(self).__name__} needs rows of two classes; these have 1 class")
        spread = deviations(X)
        X = (X - X.mean(0)) / spread
        x, labels = torch.from_numpy(X), torch.from_numpy(codes)
        width = min(self.n_components or X.shape[1], X.shape[1])
        start = np.diag(np.isfinite(spread).astype(float))  # what never varies costs nothing
        if width < X.shape[1]:
            start = PCA(min(width, len(X))).fit(X).components_
        cost = self._cost(x, labels)

        def slope(flat: np.ndarray) -> tuple[float, np.ndarray]:
            linear = torch.from_numpy(flat.reshape(start.shape)).requires_grad_()
            value = cost(x @ linear.T, linear)
            (grad,) = torch.autograd.grad(value, linear)
            return value.item(), grad.numpy().ravel()

        options = {"maxiter": self.max_iter}
        result = minimize(slope, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        self.components_ = result.x.reshape(start.shape) / spread
        self.n_iter_ = int(result.nit)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Rows whose Euclidean distance is the metric: (n, d) -> (n, n_components)."""
        check_is_fitted(self, "components_")
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return X @ self.components_.T

    @property
    def metric_(self) -> np.ndarray:
        """A = LᵀL (d, d), positive semi-definite."""
        return self.components_.T @ self.components_

    @property
    def _n_features_out(self) -> int:
        return len(self.components_)

    def __sklearn_tags__(self) -> Tags:
        """Fitting needs classes."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _cost(self, x: Tensor, y: Tensor) -> Any:
        """A function of the transformed rows and of L, to be minimized."""
        raise NotImplementedError


class Mahalanobis(_LinearMetric):
    """Rows of a class near, those of others not all at one point (Xing, Ng, Jordan, Russell 2002).

    The paper's cost over a full matrix A = LᵀL; it maximizes Σ_other d under Σ_same d² ≤ 1 by
    projections, which has the same optimum up to the length of A.

    At its optimum it overfits few rows, since it rewards any direction that divides them: a penalty
    on L and few steps from L = 1 prevent that. Both defaults are the best of twelve pairs by mean
    accuracy of five-fold cross-validation on 70 % of scikit-learn's iris, wine, breast cancer and
    digits, without the other rows (`bench/metric_learning.py --defaults`); other data may need
    others: search over them.

    Args:
        n_components: rows of L (default: the number of features).
        max_iter: of L-BFGS.
        ridge: weight of the squared entries of L, for features of deviation 1.
    """

    def __init__(
        self, n_components: int | None = None, max_iter: int = 8, ridge: float = 0.2
    ) -> None:
        super().__init__(n_components, max_iter)
        self.ridge = ridge

    def _cost(self, x: Tensor, y: Tensor) -> Any:
        return lambda z, linear: mahalanobis(z, y) + self.ridge * linear.pow(2).sum()


class LMNN(_LinearMetric):
    """Large margin nearest neighbors: k of one's class nearer than any other (Weinberger 2009).

    Target neighbors are the nearest of a row's class at the start, as in the paper, and so are the
    defaults k and μ. Memory grows with the square of the number of rows.

    Args:
        n_neighbors: k target neighbors of each row.
        weight: μ, of the push; the rest is the pull's.
        n_components: rows of L (default: the number of features).
        max_iter: of L-BFGS.
    """

    def __init__(
        self,
        n_neighbors: int = 3,
        weight: float = 0.5,
        n_components: int | None = None,
        max_iter: int = 200,
    ) -> None:
        super().__init__(n_components, max_iter)
        self.n_neighbors = n_neighbors
        self.weight = weight

    def _cost(self, x: Tensor, y: Tensor) -> Any:
        targets = target_neighbors(x, y, self.n_neighbors)
        return lambda z, _: lmnn(z, y, targets, self.weight)


def target_neighbors(x: Tensor, y: Tensor, k: int) -> Tensor:
    """Row numbers (n, k) of the nearest of each row's class; of smaller classes all, repeated.

    A row alone in its class is its own target, which pulls nothing.
    """
    squared = squared_distances(x).masked_fill(y[:, None] != y, torch.inf)
    squared.fill_diagonal_(torch.inf)
    near, rows = squared.topk(min(k, len(x)), largest=False)
    first = torch.where(near[:, :1].isfinite(), rows[:, :1], torch.arange(len(x))[:, None])
    return torch.where(near.isfinite(), rows, first)
