"""unlabeled: learn representations without labels, and evaluate them honestly.

>>> import unlabeled as ul
>>> run = ul.train("simclr", data="dsprites")
>>> ul.evaluate(run)["metrics"]["linear_probe"]
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
    from unlabeled.evaluation.classify import classify
    from unlabeled.evaluation.evaluate import evaluate
    from unlabeled.evaluation.few_labels import few_labels
    from unlabeled.evaluation.finetune import finetune
    from unlabeled.evaluation.rdm import rdm
    from unlabeled.evaluation.rdm_comparison import compare_rdms, noise_ceiling
    from unlabeled.evaluation.sampling import sample
    from unlabeled.evaluation.similarity import cka
    from unlabeled.modality import Audio, Images, Pairs, Series, Table, Text, Video
    from unlabeled.report import figures as plot
    from unlabeled.report.compare import compare
    from unlabeled.report.explore import explore
    from unlabeled.runs.export import export
    from unlabeled.runs.run import Run, load
    from unlabeled.sklearn.self_supervised import SelfSupervised
    from unlabeled.training.train import train

_WHERE = {
    "EMA": "core",
    "Batch": "core",
    "Method": "core",
    "Recipe": "core",
    "open_data": "data",
    "UserError": "errors",
    "classify": "evaluation.classify",
    "evaluate": "evaluation.evaluate",
    "few_labels": "evaluation.few_labels",
    "finetune": "evaluation.finetune",
    "rdm": "evaluation.rdm",
    "compare_rdms": "evaluation.rdm_comparison",
    "noise_ceiling": "evaluation.rdm_comparison",
    "sample": "evaluation.sampling",
    "cka": "evaluation.similarity",
    "Audio": "modality",
    "Images": "modality",
    "Pairs": "modality",
    "Series": "modality",
    "Table": "modality",
    "Text": "modality",
    "Video": "modality",
    "compare": "report.compare",
    "explore": "report.explore",
    "export": "runs.export",
    "Run": "runs.run",
    "load": "runs.run",
    "SelfSupervised": "sklearn.self_supervised",
    "train": "training.train",
}
_MODULES = {
    "augmentations": "augmentations",
    "data": "data",
    "encoders": "encoders",
    "evaluation": "evaluation",
    "methods": "methods",
    "objectives": "objectives",
    "plot": "report.figures",
    "sklearn": "sklearn",
}

__all__ = [
    "EMA",
    "Audio",
    "Batch",
    "Images",
    "Method",
    "Pairs",
    "Recipe",
    "Run",
    "SelfSupervised",
    "Series",
    "Table",
    "Text",
    "UserError",
    "Video",
    "__version__",
    "cka",
    "classify",
    "compare",
    "compare_rdms",
    "evaluate",
    "explore",
    "export",
    "few_labels",
    "finetune",
    "load",
    "noise_ceiling",
    "open_data",
    "plot",
    "rdm",
    "sample",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import unlabeled` and the command's help stay quick."""
    if name in _WHERE:
        return getattr(importlib.import_module(f"unlabeled.{_WHERE[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"unlabeled.{_MODULES[name]}")
    raise AttributeError(f"module 'unlabeled' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
