"""unlabeled: learn representations without labels, and say honestly what they are worth.

>>> import unlabeled as ul
>>> run = ul.train("simclr", data="dsprites")
>>> features = run.embed(pictures)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.core import EMA, Batch, Method, Recipe
    from unlabeled.datasets import open_data
    from unlabeled.errors import UserError
    from unlabeled.estimator import SelfSupervised
    from unlabeled.evaluation.evaluate import evaluate
    from unlabeled.run import Run, load
    from unlabeled.training import train

__version__ = "0.1.0"

_WHERE = {
    "EMA": "core",
    "Batch": "core",
    "Method": "core",
    "Recipe": "core",
    "Run": "run",
    "UserError": "errors",
    "evaluate": "evaluation.evaluate",
    "load": "run",
    "open_data": "datasets",
    "train": "training",
    "SelfSupervised": "estimator",
}
_MODULES = ("datasets", "encoders", "evaluation", "methods", "objectives", "views")

__all__ = [
    "EMA",
    "Batch",
    "Method",
    "Recipe",
    "Run",
    "SelfSupervised",
    "UserError",
    "evaluate",
    "load",
    "open_data",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import unlabeled` and the command's help stay quick."""
    if name in _WHERE:
        return getattr(importlib.import_module(f"unlabeled.{_WHERE[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"unlabeled.{name}")
    raise AttributeError(f"module 'unlabeled' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES, "__version__"])
