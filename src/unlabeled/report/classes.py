"""The classes of a report: a table of their scores, and the confusion matrix."""

from __future__ import annotations

import html

import numpy as np

from unlabeled.evaluation.metrics import metric_of
from unlabeled.evaluation.per_class import PerClass

LARGEST = 20
"""Maximum number of classes of a confusion matrix."""
DARKEST = 45
"""Maximum percentage of color in a cell, so that numbers are readable in both color schemes."""


def classes_section(result: PerClass | None, method: str, target: str) -> str:
    """Precision, recall and F1 of each class, and the confusion matrix or most confused pairs."""
    if result is None:
        return ""
    many = len(result.scores) > LARGEST
    table = _scores(result)
    if many:
        table = f"<details><summary>All {len(result.scores):,} classes</summary>{table}</details>"
    confusion = _pairs(result) if many else _matrix(result)
    return f"""<section><h2>Classes</h2>
<p class="note">Answers of the linear probe on features of {html.escape(method)} for
{html.escape(target)}, on the test part. Precision: the share of answers with a class that are
right. Recall: the share of samples of a class that are recognized, with its 95&nbsp;% interval.
F1: the harmonic mean of both.</p>
{table}{confusion}</section>"""


def _scores(result: PerClass) -> str:
    accuracy = metric_of("linear_probe")
    rows = []
    for score in result.scores:
        recall, _, interval = accuracy.format(score.recall).partition(" (")
        recall = recall.removesuffix(" %")
        small = f"<small>{interval.rstrip(')')}</small>" if interval else ""
        cells = (_percent(score.precision), f"{recall}{small}", _percent(score.f1))
        rows.append(
            f"<tr><th>{html.escape(score.name)}</th><td>{score.n:,}</td>"
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
        )
    return f"""<div class="scroll" tabindex="0" role="group" aria-label="scores of each class">
<table class="metrics"><thead><tr><td></td><th>n</th>
<th>precision, %</th><th>recall, %</th><th>F1, %</th></tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>"""


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _matrix(result: PerClass) -> str:
    names = [html.escape(score.name) for score in result.scores]
    head = "".join(f"<th><span>{name}</span></th>" for name in names)
    rows = []
    for i, counts in enumerate(result.confusion):
        total = max(1, int(counts.sum()))
        cells = "".join(_cell(int(n), n / total, i == j) for j, n in enumerate(counts))
        rows.append(f"<tr><th>{names[i]}</th>{cells}</tr>")
    right = int(np.trace(result.confusion))
    return f"""<h3>Confusion matrix</h3>
<div class="scroll" tabindex="0" role="group" aria-label="confusion matrix">
<table class="confusion"><thead><tr><td></td>{head}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>
<p class="note">Rows: the true class. Columns: the answer. Numbers of test samples; the color is
their share of the row. {right:,} of {int(result.confusion.sum()):,} are on the diagonal.</p>"""


def _cell(n: int, share: float, correct: bool) -> str:
    color = "--accent" if correct else "--wrong"
    style = f"color-mix(in srgb, var({color}) {DARKEST * share:.0f}%, transparent)"
    return f'<td style="background:{style}">{n:,}</td>' if n else "<td></td>"


def _pairs(result: PerClass) -> str:
    rows = "".join(
        f'<tr><th>{html.escape(true)}</th><td class="text">{html.escape(answer)}</td>'
        f"<td>{n:,}</td><td>{_percent(share)}</td></tr>"
        for true, answer, n, share in result.confused()
    )
    if not rows:
        return ""
    return f"""<h3>Most confused classes</h3>
<div class="scroll" tabindex="0" role="group" aria-label="confused classes">
<table class="metrics"><thead><tr><th>true class</th>
<th class="text">answer</th><th>n</th><th>of the class, %</th></tr></thead>
<tbody>{rows}</tbody></table>
</div>"""
