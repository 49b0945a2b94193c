"""What `evaluate` returns: a dictionary that notebooks show as a table."""

from __future__ import annotations

from typing import Any

from unlabeled.errors import plural
from unlabeled.evaluation.metric import Value
from unlabeled.evaluation.metrics import in_order
from unlabeled.utils.files import short_name
from unlabeled.utils.notebook import table


class Result(dict[str, Any]):
    """The metrics of a run and its baselines, as JSON; a table in notebooks."""

    def _repr_html_(self) -> str:
        """Metrics with their 95 % intervals: a row for each, the run beside its baselines."""
        results = {self["method"]: self["metrics"]} | self["baselines"]
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
