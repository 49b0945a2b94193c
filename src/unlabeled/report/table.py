"""The table of figures in a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from unlabeled.report.page import COLUMNS, format_figure


def print_table(title: str, result: dict[str, Any]) -> None:
    """The encoder first, then its baselines."""
    heading = f"{result['data']}: {result['n_test']:,} test images"
    print_results({title: result} | result["baselines"], heading)


def print_results(results: dict[str, dict[str, Any]], heading: str | None = None) -> None:
    """A row each."""
    probed = any(figures["linear"] is not None for figures in results.values())
    left_out = ("auc",) if probed else ("linear", "knn")  # a terminal is narrow
    columns = {key: title for key, title in COLUMNS.items() if key not in left_out}
    numbers = list(dict.fromkeys(n for f in results.values() for n in f.get("r2", {})))
    table = Table(title=heading)
    table.add_column("")
    for title in (*columns.values(), *(f"R² of {name}" for name in numbers)):
        table.add_column(title, justify="right")
    for name, figures in results.items():
        shown = [format_figure(key, figures.get(key)) for key in columns]
        shown += [format_figure("r2", figures.get("r2", {}).get(n)) for n in numbers]
        table.add_row(name, *shown)
    Console().print(table)
