"""The table of metrics, in a terminal and in a page."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from unlabeled.errors import plural
from unlabeled.evaluation.evaluate import values_of
from unlabeled.evaluation.metric import Metric, Value
from unlabeled.evaluation.metrics import in_order
from unlabeled.evaluation.result import chosen, readable
from unlabeled.evaluation.seeds import Estimate

FIRST, OTHERS = 20, 13
"""Widths in characters of the column of titles, and of each encoder's."""

Results = Mapping[str, Mapping[str, Value]]


def print_table(result: dict[str, Any]) -> None:
    """Print a result of `evaluate`: the run first, then its baselines."""
    results = readable({result["method"]: result["metrics"]} | result["baselines"])
    title = f"{result['data']}: {_samples(result)}, 95 % intervals below the values"
    best = {key: name.replace("_", " ") for key, name in result.get("best", {}).items()}
    best |= {key: result["method"] for key, name in best.items() if name not in results}
    if best:
        title += "; * better than all others"
    print_results({name: values_of(metrics) for name, metrics in results.items()}, title, best)
    for line in chosen(readable(result.get("settings", {})), result["n_train"]):
        print(line)


def print_comparison(result: dict[str, Any]) -> None:
    """Print a result of `compare`."""
    encoders = result["encoders"]
    title = f"{result['data']}: {_samples(result)}, 95 % intervals below the values; "
    title += "* better than the next"
    results = {
        name: {key: Estimate(**value) for key, value in encoder["metrics"].items()}
        for name, encoder in encoders.items()
    }
    print_results(results, title, result["best"])
    for line in chosen(result["settings"], result["n_train"]):
        print(line)


def _samples(result: dict[str, Any]) -> str:
    return plural(result["n_test"], "test sample") if result["n_test"] else "training samples"


def print_results(
    results: Results, title: str | None = None, best: Mapping[str, str] | None = None
) -> None:
    """Print metrics with their 95 % intervals: a row for each, a column for each encoder.

    Encoders that do not fit the width of the terminal are in further tables.
    """
    console = Console()
    if title:
        console.print(title, highlight=False)
    at_once = max(1, (console.width - FIRST) // OTHERS)
    for every, metrics in _blocks(results):
        for start in range(0, len(every), at_once):
            names = every[start : start + at_once]
            table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
            table.add_column("", overflow="fold")
            for name in names:
                table.add_column(name, justify="right")
            for key, metric in metrics.items():
                shown = {name: cell(metric, results[name], key) for name in names}
                if (first := (best or {}).get(key)) in shown:
                    shown[first][0] += " *"
                table.add_row(metric.title_of(key), *map("\n".join, shown.values()))
            console.print(table)


def html_table(
    results: Results,
    *,
    emphasize_first: bool = False,
    best: Mapping[str, str] | None = None,
    colors: Mapping[str, str] | None = None,
) -> str:
    """A row for each metric, a column for each encoder; significantly best values are bold.

    Args:
        results: metrics by the name of the encoder.
        emphasize_first: whether the first column is the run that the page is about.
        best: by metric, the encoder that is bold, if one is.
        colors: of the encoders, shown beside their names.
    """
    return "\n".join(
        _html_block(
            {name: results[name] for name in names}, metrics, emphasize_first, best, colors or {}
        )
        for names, metrics in _blocks(results)
    )


def _html_block(
    results: Results,
    metrics: dict[str, Metric],
    emphasize_first: bool,
    best: Mapping[str, str] | None,
    colors: Mapping[str, str],
) -> str:
    first = ' class="first"' if emphasize_first else ""
    head = "".join(
        f"<th{'' if i else first}>{_swatch(colors, name)}{html.escape(name)}</th>"
        for i, name in enumerate(results)
    )
    rows = []
    for key, metric in metrics.items():
        cells = []
        for i, (name, values) in enumerate(results.items()):
            shown, *interval = cell(metric, values, key)
            bold = name == (best or {}).get(key)
            shown = shown.replace(" ", "\u00a0")
            text = f"<b>{shown}</b>" if bold else shown
            small = f"<small>{interval[0]}</small>" if interval else ""
            cells.append(f"<td{'' if i else first}>{text}{small}</td>")
        rows.append(f"<tr><th>{html.escape(metric.title_of(key))}</th>{''.join(cells)}</tr>")
    return f"""<div class="scroll" tabindex="0" role="group" aria-label="metrics">
<table class="metrics"><thead><tr><td></td>{head}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>"""


def _blocks(results: Results) -> list[tuple[list[str], dict[str, Metric]]]:
    """Names and metrics of one table each: metrics that the same encoders have stand together."""
    blocks: list[tuple[list[str], dict[str, Metric]]] = []
    for key, metric in in_order(results.values()).items():
        names = [name for name, values in results.items() if key in values]
        if not blocks or not set(names) <= set(blocks[-1][0]):
            blocks.append((names, {}))
        blocks[-1][1][key] = metric
    return blocks


def html_explanations(results: Results) -> str:
    """What each metric of a table is, as the items of a list."""
    metrics = {metric.key: metric for metric in in_order(results.values()).values()}
    items = []
    for metric in metrics.values():
        lines = " ".join((type(metric).__doc__ or "").split())
        if lines and type(metric) is not Metric:
            items.append(f"<li><b>{html.escape(metric.title)}.</b> {html.escape(lines)}</li>")
    return "\n".join(items)


def cell(metric: Metric, values: Mapping[str, Value], key: str) -> list[str]:
    """The value and its interval, if it has one; of several seeds with deviation and number."""
    value = values.get(key, Value(None))
    shown, _, interval = metric.format(value).partition(" (")
    interval = interval.rstrip(")")
    if isinstance(value, Estimate) and value.n > 1:
        interval = f"{interval}, n = {value.n}" if interval else f"n = {value.n}"
        if value.sd:
            deviation = metric.format(Value(value.sd))
            unit = " %" if metric.percent else ""
            shown = f"{shown.removesuffix(unit)} ± {deviation}"
    return [shown, interval] if interval else [shown]


def _swatch(colors: Mapping[str, str], name: str) -> str:
    color = colors.get(name)
    return f'<span class="swatch" style="background:{color}"></span>' if color else ""
