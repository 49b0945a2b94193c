"""The table of a comparison as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re

from unlabeled.evaluation.compare import Comparison
from unlabeled.evaluation.metrics import in_order
from unlabeled.evaluation.seeds import Estimate
from unlabeled.report.table import cell

LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{c: "\\" + c for c in "&%$#_{}"},
    **{"±": r"$\pm$", "−": "$-$", "–": "--", "²": r"\textsuperscript{2}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"\u00a0": "~", "[": "{[}", "]": "{]}"},  # after a line's end these would be an argument
}
"""What has a meaning of its own in LaTeX, or is not in every font."""


def to_csv(comparison: Comparison) -> str:
    """A row for each encoder and metric, with all digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["encoder", "metric", "value", "low", "high", "sd", "n", "best"])
    for name, metrics in comparison.results.items():
        for key, value in metrics.items():
            numbers = (value.value, value.low, value.high, value.sd)
            shown = ["" if number is None else number for number in numbers]
            writer.writerow([name, key, *shown, value.n, comparison.best.get(key) == name])
    return text.getvalue()


def to_markdown(comparison: Comparison) -> str:
    """A row for each encoder, a column for each metric."""
    head, rows = _rows(comparison)
    lines = [
        [_markdown(title) for title in head],
        ["---", *["---:"] * (len(head) - 1)],
        *(
            [
                _markdown(name),
                *(f"**{_markdown(c)}**" if bold else _markdown(c) for c, bold in cells),
            ]
            for name, cells in rows
        ),
    ]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{_markdown(_caption(comparison))}\n"


def to_latex(comparison: Comparison) -> str:
    """A `table` with the rules of the package booktabs."""
    head, rows = _rows(comparison)

    def line(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\"

    body = [
        line(
            [
                _latex(name),
                *(rf"\textbf{{{_latex(c)}}}" if bold else _latex(c) for c, bold in cells),
            ]
        )
        for name, cells in rows
    ]
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(_caption(comparison))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
            r"\toprule",
            line([_latex(title) for title in head]),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _rows(comparison: Comparison) -> tuple[list[str], list[tuple[str, list[tuple[str, bool]]]]]:
    """Titles of the columns, and of each encoder its name and cells: text, and whether it is best.

    A value has its deviation over seeds, or else its interval.
    """
    results, best = comparison.results, comparison.best
    metrics = in_order(results.values())
    rows = []
    for name, values in results.items():
        cells = []
        for key, metric in metrics.items():
            shown, *interval = cell(metric, values, key)
            value = values.get(key, Estimate(None))
            beside = f" ({interval[0]})" if interval and value.n == 1 else ""
            cells.append((shown + beside, best.get(key) == name))
        rows.append((name, cells))
    return ["Encoder", *(metric.title_of(key) for key, metric in metrics.items())], rows


def _caption(comparison: Comparison) -> str:
    about = comparison.about
    n = about["n_test"] or about["n_train"]
    several = any(len(runs) > 1 for runs in comparison.groups.values())
    single = any(len(runs) == 1 for runs in comparison.groups.values())
    parts = [f"On {n:,} {about['noun']} of {about['test_data']}."]
    if several:
        parts.append("Of several seeds, mean ± standard deviation.")
    if single:
        parts.append("Of single encoders, 95 % intervals over the samples.")
    if comparison.best:
        parts.append("Bold: significantly better than the next (p < 0.05, Holm).")
    return " ".join(parts)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|~&$#])", r"\\\1", text)


def _latex(text: str) -> str:
    return "".join(LATEX.get(c, c) for c in text)
