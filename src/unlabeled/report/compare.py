"""Compare several runs in one page."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from unlabeled.errors import UserError, notice
from unlabeled.evaluation.evaluate import measure, values_of
from unlabeled.report import plots
from unlabeled.report.page import CURVES, page, style, write_report
from unlabeled.report.table import html_explanations, html_table
from unlabeled.runs.run import Run
from unlabeled.runs.safety import inside, read_json
from unlabeled.utils.files import read_csv, write_bytes

LEFT_OUT = ("versions", "views")
"""Of the configuration."""


def compare(
    runs: list[Run], out: Path, data: Any = None, labels_from: Any = None, test: Any = None
) -> dict[str, dict[str, Any]]:
    """Write a page with the metrics of several runs, their curves and their differences.

    A run that was evaluated before is not evaluated again, unless `data` or `test` is given.

    Returns:
        what `evaluate` returns of each run, by its name.

    Raises:
        UserError: fewer than two runs, or `out` is no .html file.
    """
    if len(runs) < 2:
        raise UserError("give at least two run folders to compare")
    if out.suffix != ".html":
        raise UserError(f"--out is {out}; give an .html file")
    names = _names(runs)
    results = {
        name: _result(run, data, labels_from, test) for name, run in zip(names, runs, strict=True)
    }
    on = [(_tested(r), r["target"], r["n_test"]) for r in results.values()]
    if len(set(on)) > 1:
        notice("the runs were evaluated on different data; give --data to evaluate all on the same")
    sections = [
        _table(results),
        _curves(dict(zip(names, runs, strict=True))),
        _differences(results),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, page(" · ".join(names), style(), "\n".join(filter(None, sections))))
    return results


def _names(runs: list[Run]) -> list[str]:
    """The folders' names, with as many parents as tell them apart."""
    parts = [run.path.resolve().parts for run in runs]
    if len(set(parts)) < len(parts):
        raise UserError("the same run is given twice; give each run once")
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(run.path) for run in runs]


def _result(run: Run, data: Any, labels_from: Any, test: Any) -> dict[str, Any]:
    """What `evaluate` returns of a run, from its folder if it is there and as it should be."""
    path = inside(run.path, "evaluation.json")
    if data is None and test is None and path.is_file():
        result = read_json(path)
        types = {"data": str, "n_test": int}
        try:
            values_of(result.get("metrics"))
        except ValueError:
            types = {"metrics": type(None)}  # not to be used
        if {key: type(result.get(key)) for key in types} == types and "metrics" in result:
            return result | {"config": run.config, "target": str(result.get("target"))}
    evaluation = measure(run, data, labels_from=labels_from, test=test)
    if data is None and test is None:
        write_report(run, evaluation)
    return evaluation.to_json()


def _tested(result: dict[str, Any]) -> str:
    """The data that the metrics were measured on."""
    return str(result.get("test_data") or result["data"])


def _table(results: dict[str, dict[str, Any]]) -> str:
    metrics = {name: values_of(result["metrics"]) for name, result in results.items()}
    where = {f"{r['n_test']:,} test samples of {_tested(r)}" for r in results.values()}
    return f"""<section><h2>Metrics</h2>
{html_table(metrics)}
<p class="note">Measured on {html.escape("; ".join(sorted(where)))}, in eval mode, with 95&nbsp;%
intervals over the test samples. They do not include the variation between training runs.</p>
<ul>{html_explanations(metrics)}</ul></section>"""


def _curves(runs: dict[str, Run]) -> str:
    histories = {
        name: read_csv(path)
        for name, run in runs.items()
        if (path := inside(run.path, "metrics.csv")).is_file()
    }
    figures = "".join(
        f"<figure>{plots.curves_image(lines, title)}</figure>"
        for key, title in CURVES.items()
        if (
            lines := {
                n: (c["epoch"], c[key]) for n, c in histories.items() if {key, "epoch"} <= set(c)
            }
        )
    )
    return f"""<section><h2>Training</h2><div class="grid">{figures}</div>
<p class="note">Losses of different methods are different quantities; compare their shape
only.</p></section>"""


def _differences(results: dict[str, dict[str, Any]]) -> str:
    flat = {name: _flat(r["config"]) for name, r in results.items()}
    keys = list(dict.fromkeys(key for config in flat.values() for key in config))
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th>"
        + "".join(f"<td>{html.escape(config.get(key, '–'))}</td>" for config in flat.values())
        + "</tr>"
        for key in keys
        if len({config.get(key) for config in flat.values()}) > 1
    )
    head = "".join(f"<th>{html.escape(name)}</th>" for name in flat)
    if not rows:
        return '<section><h2>Differences in configuration</h2><p class="note">None.</p></section>'
    return f"""<section><h2>Differences in configuration</h2>
<div class="scroll"><table class="config"><thead><tr><th></th>{head}</tr></thead>
<tbody>{rows}</tbody></table></div></section>"""


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if key in LEFT_OUT:
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = "–" if value is None else str(value)
    return flat
