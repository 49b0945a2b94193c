"""The metrics that runs are evaluated by, one or a few related ones in a file.

A file here with a subclass of `Metric` is all that a metric takes: tables, pages and JSON find it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable
from functools import cache

from unlabeled.evaluation.metric import Metric


def find_metrics() -> list[Metric]:
    """Every metric, in the order of tables."""
    return _discovered(tuple(__path__))


@cache
def _discovered(folders: tuple[str, ...]) -> list[Metric]:
    modules = [
        importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(folders)
    ]
    classes = [
        value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, Metric)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    return sorted((c() for c in classes), key=lambda metric: (metric.order, metric.key))


def metric_of(key: str) -> Metric:
    """The metric that a key of results belongs to; one without a title where it is unknown."""
    fitting = [m for m in find_metrics() if key == m.key or key.startswith(f"{m.key}_")]
    if fitting:
        return max(fitting, key=lambda metric: len(metric.key))
    unknown = Metric()
    unknown.key = unknown.title = key  # type: ignore[misc]
    return unknown


def in_order(results: Iterable[Iterable[str]]) -> dict[str, Metric]:
    """The keys of all results, in the order of tables, each with its metric."""
    groups: dict[str, tuple[Metric, list[str]]] = {}
    for key in dict.fromkeys(key for result in results for key in result):
        metric = metric_of(key)
        groups.setdefault(metric.key, (metric, []))[1].append(key)
    ordered = sorted(groups.values(), key=lambda group: (group[0].order, group[0].key))
    return {key: metric for metric, keys in ordered for key in metric.shown(keys)}
