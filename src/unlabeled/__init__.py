"""unlabeled: learn representations without labels, and say honestly what they are worth.

>>> import unlabeled as ul
>>> run = ul.train("simclr", data="dsprites")
>>> features = run.embed(images)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unlabeled.version import __version__

if TYPE_CHECKING:
    from unlabeled.core import EMA, Batch, Method, Recipe
    from unlabeled.data import open_data
    from unlabeled.errors import UserError
    from unlabeled.evaluation.evaluate import evaluate
    from unlabeled.runs.run import Run, load
    from unlabeled.sklearn.self_supervised import SelfSupervised
    from unlabeled.training.train import train


_WHERE = {
    "EMA": "core",
    "Batch": "core",
    "Method": "core",
    "Recipe": "core",
    "Run": "runs.run",
    "UserError": "errors",
    "evaluate": "evaluation.evaluate",
    "load": "runs.run",
    "open_data": "data",
    "train": "training.train",
    "SelfSupervised": "sklearn.self_supervised",
}
_MODULES = ("augmentations", "data", "encoders", "evaluation", "methods", "objectives", "sklearn")

__all__ = [
    "EMA",
    "Batch",
    "Method",
    "Recipe",
    "Run",
    "SelfSupervised",
    "UserError",
    "__version__",
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
