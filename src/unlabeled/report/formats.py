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
    **{"≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "→": r"$\rightarrow$", "…": r"\dots{}"},
    **{"\u00a0": "~", "[": "{[}", "]": "{]}"},  # after a line's end these would be an argument
}
"""Escapes of special characters of LaTeX, and of characters that some fonts lack."""
LAST = "\u017f"
"""Letters that pdfLaTeX supports."""
QUOTES = "‘’‚“”„—•€™"
"""Further characters that pdfLaTeX supports."""


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
    """A `table` with the rules of booktabs, as wide as the text at most.

    A column for each encoder, a row for each metric, with its interval in a row below.
    """
    results, best = comparison.results, comparison.best

    def line(*cells: str) -> str:
        return " & ".join(cells) + r" \\"

    body = []
    for key, metric in in_order(results.values()).items():
        shown, below = [], []
        for name, values in results.items():
            value, *interval = cell(metric, values, key)
            bold = best.get(key) == name
            shown.append(rf"\textbf{{{_latex(value)}}}" if bold else _latex(value))
            below.append(rf"{{\scriptsize {_latex(interval[0])}}}" if interval else "")
        body.append(line(_latex(metric.title_of(key)), *shown))
        if any(below):
            body.append(line("", *below))
    rare = sorted(
        {c for name in results for c in name if c not in LATEX and c > LAST and c not in QUOTES}
    )
    needs = [f"% {' '.join(rare)}: compile with XeLaTeX or LuaLaTeX"] if rare else []
    return "\n".join(
        [
            r"% \usepackage{booktabs, graphicx}",
            *needs,
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(_caption(comparison))} Below each value: its 95~\% interval.}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{l{'r' * len(results)}}}",
            r"\toprule",
            line("", *map(_latex, results)),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
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
