"""The page of a study: for each experiment the question, what was done, what was found."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabeled.report.page import page, style, video_image
from unlabeled.utils.files import write_bytes

if TYPE_CHECKING:
    from unlabeled.studies.lab import Experiment, Finding, Table

WIDE = 600
"""Pixels from which on an image takes the whole width of the page."""
LONG, WORDS = 40, ' class="words"'
"""Signs in a cell from which on it is text, whose lines wrap."""
HELD = {True: "held here", False: "did not hold here", None: "open"}


def write_page(
    study: Any,
    experiments: list[Experiment],
    findings: dict[str, Finding],
    result: dict[str, Any],
    out: Path,
) -> None:
    """Write `report/index.html` into the study's folder."""
    sections = [
        f'<p class="lead">{html.escape(study.LEAD)}</p>',
        _conditions(result),
        _contents(experiments),
        *(_section(e, findings[e.key], study.CLAIMS) for e in experiments),
        _claims(result),
    ]
    (out / "report").mkdir(exist_ok=True)
    title = study.TITLE + (" (a quick look)" if result["quick"] else "")
    body = "\n".join(sections).replace(" %", "\u00a0%")  # no line begins with a per cent sign
    write_bytes(out / "report" / "index.html", page(title, style(), body))


def _conditions(result: dict[str, Any]) -> str:
    seeds = (
        f"Main encoders: {result['seeds']} seeds, mean ± standard deviation; ablations: seed 0"
        if result["seeds"] > 1
        else "Seed 0"
    )
    quick = (
        "Trained for a few epochs on half of the images: figures are lower than in the whole "
        "study. " * bool(result["quick"])
    )
    return (
        f'<p class="note">{quick}Every encoder was trained here, from random weights, and judged '
        "in eval mode on data whose labels nothing learned from; probes run to convergence. "
        f"{seeds}. {result['cores']} cores, torch "
        f"{html.escape(result['versions']['torch'])}.</p>"
    )


def _contents(experiments: list[Experiment]) -> str:
    items = "".join(
        f'<li><a href="#{e.key}">{html.escape(e.key)} · {html.escape(e.title)}</a></li>'
        for e in experiments
    )
    return f'<nav aria-label="experiments"><ul>{items}</ul></nav>'


def _section(experiment: Experiment, finding: Finding, claims: dict[int, str]) -> str:
    told = "".join(
        f"<li><b>Claim {n}.</b> {html.escape(claims[n])} <b>{HELD[held]}</b>: "
        f"{html.escape(why)}</li>"
        for n, (held, why) in finding.claims.items()
    )
    return f"""<section id="{experiment.key}">
<h2>{html.escape(experiment.key)} · {html.escape(experiment.title)}</h2>
<p class="lead">{html.escape(experiment.question)}</p>
<p>{html.escape(finding.did)}</p>
{"".join(_table(t, f"{experiment.key}-table-{i}") for i, t in enumerate(finding.tables, 1))}
<div class="grid wide">{"".join(_image(t, c) for t, c in finding.images)}</div>
<p class="answer">{html.escape(finding.answer)}</p>
{f"<ul>{told}</ul>" if told else ""}</section>"""


def _table(table: Table, key: str) -> str:
    """The caption stands before what scrolls, so that a phone shows all of it."""
    columns = list(zip(table.columns, *table.rows, strict=True))
    kinds = [WORDS * (max(map(len, cells), default=0) > LONG) for _, *cells in columns]
    head = "".join(
        f'<th scope="col"{kind}>{html.escape(title)}</th>'
        for title, kind in zip(table.columns, kinds, strict=True)
    )
    rows = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>'
        + "".join(
            f"<td{kind}>{html.escape(cell)}</td>"
            for cell, kind in zip(cells, kinds[1:], strict=True)
        )
        + "</tr>"
        for first, *cells in table.rows
    )
    return (
        f'<p class="caption" id="{key}">{html.escape(table.caption)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{key}">'
        f'<table aria-labeledby="{key}">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _image(title: str, content: bytes | str) -> str:
    shown = html.escape(title)
    wide = ""
    if isinstance(content, str):
        drawing = content.replace("<svg", f'<svg role="img" aria-label="{shown}"', 1)
    elif content[:3] == b"GIF":
        drawing = video_image(content, title)
        wide = ' class="whole"' if int.from_bytes(content[6:8], "little") > WIDE else ""
    else:
        source = base64.b64encode(content).decode()
        drawing = f'<img class="sheet" alt="{shown}" src="data:image/png;base64,{source}">'
        width = int.from_bytes(content[16:20], "big")  # of the PNG
        wide = ' class="whole"' if width > WIDE else ""
    return f"<figure{wide}>{drawing}<figcaption>{shown}</figcaption></figure>"


def _claims(result: dict[str, Any]) -> str:
    if not result["claims"]:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{number}</th><td>{html.escape(c["claim"])}</td>'
        f"<td>{HELD[c['held']]}</td><td>{html.escape(c['why'])}</td></tr>"
        for number, c in sorted(result["claims"].items(), key=lambda item: int(item[0]))
    )
    return f"""<section id="claims"><h2>The lecture’s claims</h2>
<div class="scroll" tabindex="0" role="region" aria-label="claims"><table class="config">
<thead><tr><th scope="col">no.</th><th scope="col">claim</th><th scope="col">here</th>
<th scope="col">why</th></tr></thead><tbody>{rows}</tbody></table></div></section>"""
