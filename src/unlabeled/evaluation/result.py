"""The result of `evaluate`: a dictionary that notebooks show as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from unlabeled.errors import plural
from unlabeled.evaluation.metric import Value
from unlabeled.evaluation.metrics import in_order, metric_of
from unlabeled.utils.files import short_name
from unlabeled.utils.notebook import table

T = TypeVar("T")


def readable(results: Mapping[str, T]) -> dict[str, T]:
    """Results by display names: the run's unchanged, those of its baselines with spaces."""
    names = list(results)
    return {name if name in names[:1] else name.replace("_", " "): results[name] for name in names}


def chosen(settings_by_encoder: Mapping[str, dict[str, Any]], n_train: int) -> list[str]:
    """Settings of the probes of each encoder, a line for each metric with settings."""
    by_key: dict[str, dict[str, dict[str, Any]]] = {}
    for encoder, settings in settings_by_encoder.items():
        for key, setting in settings.items():
            by_key.setdefault(key, {})[encoder] = setting
    lines = []
    for key, settings in by_key.items():
        setting, values = {}, []
        for encoder, setting in settings.items():
            value = setting.get("penalty", setting.get("neighbors"))
            values.append(f"{value:,g} ({encoder})")
        how = "as given, or by default where labels are too few to choose"
        if setting["folds"]:
            how = f"by {setting['folds']}-fold cross-validation on training labels"
        if 0 < setting["samples"] < n_train:
            how += f", {setting['samples']:,} of {n_train:,}"
        name = "penalty" if "penalty" in setting else "neighbors"
        lines.append(f"{metric_of(key).title_of(key)}: {name} {', '.join(values)}, {how}")
    return lines


class Result(dict[str, Any]):
    """The metrics of a run and its baselines, as JSON; a table in notebooks."""

    def _repr_html_(self) -> str:
        """Metrics with their 95 % intervals: a row for each, the run beside its baselines."""
        results = readable({self["method"]: self["metrics"]} | self["baselines"])
        rows = []
        for key, metric in in_order(results.values()).items():
            texts = (
                metric.format(Value(**values[key])) if key in values else ""
                for values in results.values()
            )
            rows.append([metric.title_of(key), *(text.replace(" (", "\n(") for text in texts)])
        n = self["n_test"]
        where = plural(n, "test sample") if n else plural(self["n_train"], "training sample")
        target = f", {self['target']}" if self["target"] else ""
        caption = f"{short_name(self['data'])}{target}: {where}, 95 % intervals below the values"
        return table(caption, ["", *results], rows)
