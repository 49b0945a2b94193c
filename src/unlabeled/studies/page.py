"""The report page of a study: question, setup, tables, images and answer of each experiment."""

import base64
import html
from pathlib import Path
from typing import Any

from unlabeled.report.page import page, style, video_image
from unlabeled.studies.lab import Chooser, Experiment, Finding, Table
from unlabeled.utils.files import write_bytes

WIDE = 600
"""Images at least this wide, in pixels, span the page."""
PHONE = 260
"""Width in points of drawings that fit a phone."""
LONG = 40
"""Cells with more characters are wrapped as text."""
CHOOSE = """<script>
for (const box of document.querySelectorAll(".chooser")) {
  const menus = [...box.querySelectorAll("select")];
  const show = () => {
    const chosen = menus.map((menu) => menu.value);
    for (const part of box.querySelectorAll("[data-choice]")) {
      const choice = part.dataset.choice.split("|");
      part.hidden = choice.some((value, i) => value !== chosen[i]);
    }
  };
  for (const menu of menus) menu.addEventListener("change", show);
  show();
}
</script>"""
HELD = {True: "held here", False: "did not hold here", None: "undecided"}


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
    title = study.TITLE + (" (quick)" if result["quick"] else "")
    body = "\n".join(sections).replace(" %", "\u00a0%")  # no line begins with %
    write_bytes(out / "report" / "index.html", page(title, style(), body))


def _conditions(result: dict[str, Any]) -> str:
    seeds = (
        f"Figures with ± are the mean and standard deviation of {result['seeds']} seeds, others "
        "are of seed 0"
        if result["seeds"] > 1
        else "Seed 0"
    )
    quick = "Trained for a few epochs on half of the samples, so figures are lower than in full. "
    if result["decides"]:
        quick = "Fewer variants than in full. "
    return (
        f'<p class="note">{quick * result["quick"]}Every encoder was trained for this study from '
        "random weights and evaluated in eval mode on held-out test data; probes run to "
        f"convergence. {seeds}; {result['cores']} cores, torch "
        f"{html.escape(result['versions']['torch'])}.</p>"
    )


def _contents(experiments: list[Experiment]) -> str:
    items = "".join(
        f'<li><a href="#{e.key}">{html.escape(e.key)} · {html.escape(e.title)}</a></li>'
        for e in experiments
    )
    return f'<nav aria-label="experiments"><ul>{items}</ul></nav>'


def _section(experiment: Experiment, finding: Finding, claims: dict[int, str]) -> str:
    claim_list = "".join(
        f"<li><b>Claim {n}.</b> {html.escape(claims[n])} <b>{HELD[held]}</b>: "
        f"{html.escape(why)}</li>"
        for n, (held, why) in finding.claims.items()
    )
    return f"""<section id="{experiment.key}">
<h2>{html.escape(experiment.key)} · {html.escape(experiment.title)}</h2>
<p class="lead">{html.escape(experiment.question)}</p>
<div class="first">{"".join(_image(t, c) for t, c in finding.images[:1])}</div>
<p>{html.escape(finding.setup)}</p>
{"".join(_table(t, f"{experiment.key}-table-{i}") for i, t in enumerate(finding.tables, 1))}
<div class="grid wide">{"".join(_image(t, c) for t, c in finding.images[1:])}</div>
{_chooser(finding.chooser, experiment.key) if finding.chooser else ""}
<p class="answer">{html.escape(finding.answer)}</p>
{f"<ul>{claim_list}</ul>" if claim_list else ""}</section>"""


def _chooser(chooser: Chooser, key: str) -> str:
    """Menus, and the images of each choice; without scripts those of the first choices."""
    menus = "".join(
        f"<label>{html.escape(title)} <select>"
        + "".join(f"<option>{html.escape(choice)}</option>" for choice in choices)
        + "</select></label> "
        for title, choices in chooser.menus.items()
    )
    first = tuple(choices[0] for choices in chooser.menus.values())
    parts = ""
    for choice, images in chooser.images.items():
        hidden = "" if choice == first[: len(choice)] else " hidden"
        figures = "".join(_image(title, content) for title, content in images)
        parts += f'<div data-choice="{html.escape("|".join(choice))}"{hidden}>{figures}</div>'
    return f"""<div class="chooser" id="{key}-chooser"><p>{menus}</p>
<div class="grid wide">{parts}</div></div>
{CHOOSE}"""


def _table(table: Table, key: str) -> str:
    """A table that scrolls sideways below its caption."""
    columns = list(zip(table.columns, *table.rows, strict=True))
    kinds = [_kind(cells) for _, *cells in columns]
    head = "".join(
        f'<th scope="col"{kind}>{html.escape(title)}</th>' if title else "<td></td>"
        for title, kind in zip(table.columns, kinds, strict=True)
    )
    rows = ""
    for first, *cells in table.rows:
        row = zip(cells, kinds[1:], strict=True)
        rows += f'<tr><th scope="row">{html.escape(first)}</th>'
        rows += "".join(f"<td{kind}>{html.escape(cell)}</td>" for cell, kind in row) + "</tr>"
    return (
        f'<p class="caption" id="{key}">{html.escape(table.caption)}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{key}">'
        f'<table aria-labelledby="{key}">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _kind(cells: list[str]) -> str:
    """Class of a column: long cells are wrapped, words are aligned on the left."""
    if max(map(len, cells), default=0) > LONG:
        return ' class="words"'
    return ' class="text"' * (bool(cells) and all(cell[:1].isalpha() for cell in cells))


def _image(title: str, content: bytes | str) -> str:
    label = html.escape(title)
    wide = ""
    if isinstance(content, str):
        drawing = content.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
        region = f'class="scroll" tabindex="0" role="region" aria-label="{label}"'
        if float(content.partition('width="')[2].partition("pt")[0]) > PHONE:
            drawing = f"<div {region}>{drawing}</div>"  # or labels would be too small
    elif content[:3] == b"GIF":
        drawing = video_image(content, title)
        wide = ' class="wide"' if int.from_bytes(content[6:8], "little") > WIDE else ""
    else:
        source = base64.b64encode(content).decode()
        drawing = f'<img class="sheet" alt="{label}" src="data:image/png;base64,{source}">'
        width = int.from_bytes(content[16:20], "big")  # of the PNG
        wide = ' class="wide"' if width > WIDE else ""
    return f"<figure{wide}>{drawing}<figcaption>{label}</figcaption></figure>"


def _claims(result: dict[str, Any]) -> str:
    if not result["claims"]:
        return ""
    claims = sorted(result["claims"].items(), key=lambda item: int(item[0]))
    rows = "".join(
        f'<li value="{number}"><p>{html.escape(c["claim"])}</p><p><b>{HELD[c["held"]]}</b>: '
        f'{html.escape(c["why"])} (<a href="#{c["where"]}">{c["where"]}</a>)</p></li>'
        for number, c in claims
    )
    return f'<section id="claims"><h2>Claims</h2><ol>{rows}</ol></section>'
