"""Several runs beside each other: one table, one page."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from unlabeled.errors import UserError, notice
from unlabeled.evaluation.evaluate import examine
from unlabeled.report import plots
from unlabeled.report.page import COLUMNS, CURVES, format_figure, page, style, write_report
from unlabeled.runs.run import Run
from unlabeled.runs.safety import inside, read_json
from unlabeled.utils.files import read_csv, write_bytes

LEFT_OUT = ("versions", "views")


def compare(
    runs: list[Run], out: Path, data: Any = None, labels_from: Any = None, test: Any = None
) -> dict[str, dict[str, Any]]:
    """The figures of each run by its name, and a page with them, their curves and differences.

    A run that was evaluated before is not evaluated again, unless `data` or `test` is given.

    Raises:
        UserError: fewer than two runs, or `out` is no .html file.
    """
    if len(runs) < 2:
        raise UserError("give at least two run folders to compare")
    if out.suffix != ".html":
        raise UserError(f"--out is {out}; name an .html file")
    names = _names(runs)
    results = {
        name: _result(run, data, labels_from, test) for name, run in zip(names, runs, strict=True)
    }
    on = [(_tested(r), r["target"], r["n_test"]) for r in results.values()]
    if len(set(on)) > 1:
        told = "the runs were judged on different data; give --data to judge all on the same"
        notice(told)
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
        raise UserError("a run is named twice; give each once")
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    return [str(run.path) for run in runs]


def _result(run: Run, data: Any, labels_from: Any, test: Any) -> dict[str, Any]:
    known = inside(run.path, "evaluation.json")
    if data is None and test is None and known.is_file():
        found = read_json(known)
        figures = (found.get(key, "") for key in COLUMNS)
        if all(isinstance(f, float | int | None) for f in figures) and {
            "data": str,
            "n_test": int,
        } == {key: type(found.get(key)) for key in ("data", "n_test")}:
            return found | {"run": run.config, "target": str(found.get("target"))}
    evaluation = examine(run, data, labels_from=labels_from, test=test)
    if data is None and test is None:
        write_report(run, evaluation)
    return evaluation.table


def _tested(result: dict[str, Any]) -> str:
    """The data that the figures are of."""
    return str(result.get("test_data") or result["data"])


def _table(results: dict[str, dict[str, Any]]) -> str:
    best = {
        key: max((r[key] for r in results.values() if r[key] is not None), default=None)
        for key in ("linear", "knn", "similarity_gap", "similarity_gap_centered")
    }
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(
            f"<td>{'<b>' if best.get(key) == r[key] and r[key] is not None else ''}"
            f"{format_figure(key, r.get(key))}</td>"
            for key in COLUMNS
        )
        + "</tr>"
        for name, r in results.items()
    )
    head = "".join(f"<th>{title}</th>" for title in COLUMNS.values())
    where = {f"{r['n_test']:,} test images of {_tested(r)}" for r in results.values()}
    return f"""<section><h2>What they are worth</h2>
<div class="scroll"><table>
<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>
<p class="note">Measured on {html.escape("; ".join(sorted(where)))}, in eval mode. RankMe compares
runs of one method only. One seed each says little about small differences.</p></section>"""


def _curves(runs: dict[str, Run]) -> str:
    known = {
        name: read_csv(path)
        for name, run in runs.items()
        if (path := inside(run.path, "metrics.csv")).is_file()
    }
    figures = "".join(
        f"<figure>{plots.curves_image(lines, title)}</figure>"
        for key, title in CURVES.items()
        if (
            lines := {n: (c["epoch"], c[key]) for n, c in known.items() if {key, "epoch"} <= set(c)}
        )
    )
    return f"""<section><h2>How they learned</h2><div class="grid">{figures}</div>
<p class="note">Losses of different methods are different quantities; compare their shape
only.</p></section>"""


def _differences(results: dict[str, dict[str, Any]]) -> str:
    flat = {name: _flat(r["run"]) for name, r in results.items()}
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
        return '<section><h2>Where they differ</h2><p class="note">In nothing.</p></section>'
    return f"""<section><h2>Where they differ</h2>
<div class="scroll"><table class="config"><thead><tr><th></th>{head}</tr></thead>
<tbody>{rows}</tbody></table></div></section>"""


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in config.items():
        if key in LEFT_OUT:
            continue
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = "–" if value is None else str(value)
    return found
