"""The report: one self-contained HTML page, readable on a laptop and a phone."""

from __future__ import annotations

import base64
import html
import math
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.dataset import Samples, Splits
from unlabeled.evaluation.evaluate import Evaluation, Judged
from unlabeled.evaluation.knn import NEIGHBORS
from unlabeled.report import plots
from unlabeled.runs.run import Run
from unlabeled.runs.safety import inside
from unlabeled.training import health
from unlabeled.utils import drawing
from unlabeled.utils.files import read_csv, write_bytes, write_json

SHOWN = 300
"""Images in a similarity matrix, drawn by a fixed seed."""
FACTORS = 5
QUERIES = 6

COLUMNS = {
    "linear": "linear probe",
    "knn": "k-NN",
    "auc": "pairs",
    "similarity_gap": "gap",
    "similarity_gap_centered": "gap, centered",
    "rankme": "RankMe",
    "dim": "features",
}
CURVES = {
    "loss": "loss",
    "std": "std (0: collapse, 1: spread out)",
    "rankme": "RankMe (effective dimensions)",
    "projection_std": "std of what the loss compares",
    "alignment": "alignment (0: views agree)",
    "uniformity": "uniformity (0: collapse)",
    "lr": "learning rate",
}


def write_report(run: Run, evaluation: Evaluation) -> Path:
    """Write `evaluation.json` and `report/index.html` into the run folder; the page's path."""
    splits, judged = evaluation.splits, evaluation.judged
    write_json(inside(run.path, "evaluation.json"), evaluation.table)
    sections = [
        _headline(run, splits, judged),
        _figures_table(splits, judged),
        _views(run),
        _made(run),
        _matrices(splits, judged),
        _histograms(splits, judged),
        _curves(run),
        _neighbors(splits, judged),
        _reading(splits),
        _configuration(run),
    ]
    folder = inside(run.path, "report")
    folder.mkdir(exist_ok=True)
    title = f"{run.config['method']} on {splits.name}"
    path = folder / "index.html"
    write_bytes(path, page(title, style(), "\n".join(filter(None, sections))))
    return path


def style() -> str:
    """The house's style sheet."""
    return resources.files("unlabeled.report").joinpath("style.css").read_text(encoding="utf-8")


def page(title: str, style: str, body: str) -> bytes:
    """A self-contained page."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<main>
<p class="brand">unlabeled</p>
<h1>{html.escape(title)}</h1>
{body}
</main>
</body>
</html>
""".encode()


def _headline(run: Run, splits: Splits, judged: list[Judged]) -> str:
    first, *others = judged
    if first.figures["linear"] is None and first.figures["auc"] is not None:
        told = ", ".join(f"{o.title} {_percent(o.figures['auc'])}" for o in others)
        return (
            f'<p class="lead">No {html.escape(str(splits.target))} of the test '
            f"{splits.noun} was seen in training. <b>{html.escape(first.title)}</b> finds a pair "
            "of the same one nearer than a pair of two in "
            f"<b>{_percent(first.figures['auc'])}</b> of all cases; for comparison: "
            f"{html.escape(told)}. Guessing gives 50 %.</p>"
        )
    if first.figures["linear"] is None:
        scores = [
            f"<b>{html.escape(name)}</b> with an R² of {format_figure('r2', value)}"
            for name, value in first.figures.get("r2", {}).items()
        ]
        why = "The data has no labels, so this page shows what can be known without them"
        if scores:
            why = f"From its features ridge regression predicts {', '.join(scores)}"
        return (
            f'<p class="lead">An encoder of {first.figures["dim"]} features, learned from '
            f"{run.config['images']:,} {splits.noun}. {why}.</p>"
        )
    told = ", ".join(f"{o.title} {_percent(o.figures['linear'])}" for o in others)
    return (
        f'<p class="lead">From the features of <b>{html.escape(first.title)}</b> a linear decoder '
        f"reads <b>{html.escape(str(splits.target))}</b> of {len(splits.test):,} test "
        f"{splits.noun} with <b>{_percent(first.figures['linear'])}</b> accuracy; "
        f"for comparison: {html.escape(told)}. "
        f"Always naming the commonest class gives {_commonest(splits):.0%}.</p>"
    )


def _commonest(splits: Splits) -> float:
    counts = np.bincount(splits.test.factors[str(splits.target)])
    return float(counts.max() / counts.sum())


def _figures_table(splits: Splits, judged: list[Judged]) -> str:
    numbers = judged[0].figures.get("r2", {})
    titles = [*COLUMNS.values(), *(f"R² of {html.escape(name)}" for name in numbers)]
    head = "".join(f"<th>{title}</th>" for title in titles)
    rows = "".join(
        f"<tr{' class=first' if i == 0 else ''}><th>{html.escape(j.title)}</th>"
        + "".join(f"<td>{format_figure(key, j.figures[key])}</td>" for key in COLUMNS)
        + "".join(f"<td>{format_figure('r2', j.figures['r2'][name])}</td>" for name in numbers)
        + "</tr>"
        for i, j in enumerate(judged)
    )
    noun = splits.noun
    where = f"{len(splits.test):,} test {noun}" if len(splits.test) else f"the training {noun}"
    return f"""<section><h2>What it is worth</h2>
<div class="scroll"><table>
<thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table></div>
<p class="note">Measured on {where}, every encoder in eval mode (BatchNorm uses its running
statistics). Linear probe: logistic regression on standardized features of the
{len(splits.train):,} training {noun}, to convergence. k-NN: {NEIGHBORS} neighbors, weighted
votes. Pairs: area under the ROC curve of telling pairs of one class from pairs of two. Gap: mean
cosine similarity of pairs of one class minus that of pairs of two; centered:
after the features’ mean is taken off.</p></section>"""


def _views(run: Run) -> str:
    path = inside(run.path, "views.png")
    if not path.is_file():
        return ""
    return f"""<section><h2>What the learner saw</h2>
{_image(path.read_bytes(), "images and their random views", "sheet")}
<p class="note">Left: some of the training set. Right: random views of each.</p></section>"""


def _made(run: Run) -> str:
    """What the method drew after training."""
    figures = "".join(
        _figure(path.read_bytes(), path.stem.removeprefix("image-").replace("-", " "), "sheet")
        for path in sorted(run.path.glob("image-*.png"))
        if not path.is_symlink()
    )
    figures += "".join(
        _video(path.read_bytes(), path.stem.removeprefix("video-").replace("-", " "))
        for path in sorted(run.path.glob("video-*.gif"))
        if not path.is_symlink()
    )
    return f"<section><h2>What it draws</h2>{figures}</section>" if figures else ""


def _matrices(splits: Splits, judged: list[Judged]) -> str:
    part = _shown(splits)
    known = list(part.factors)
    if not known:
        return ""
    rows = np.sort(np.random.default_rng(0).permutation(len(part))[:SHOWN])
    names = sorted(known, key=lambda name: name != splits.target)[:FACTORS]
    blocks = []
    for name in names:
        own = rows[part.known(name)[rows]]
        order = np.argsort(part.factors[name][own], kind="stable")
        figures = "".join(
            _figure(plots.similarity_image(_of(j, splits)[own], order), j.title) for j in judged
        )
        blocks.append(f'<h3>sorted by {html.escape(name)}</h3><div class="tiles">{figures}</div>')
    return f"""<section><h2>Which {splits.noun} look alike to it</h2>
<p class="note">Similarity of {len(rows)} {splits.noun}, each with each (cosine of the
features minus their mean): <span class="red">red</span> alike, white unrelated,
<span class="blue">blue</span> opposite. Blocks along the diagonal: the
encoder groups images by that factor.</p>
{"".join(blocks)}</section>"""


def _histograms(splits: Splits, judged: list[Judged]) -> str:
    part = _shown(splits)
    if not splits.target:
        return ""
    y = part.factors[splits.target]
    target = html.escape(splits.target)
    figures = "".join(
        f"<figure>{plots.histogram_image(_of(j, splits), y)}"
        f"<figcaption>{html.escape(j.title)}</figcaption></figure>"
        for j in judged
    )
    return f"""<section><h2>Same {target}, other {target}</h2>
<div class="grid">{figures}</div>
<p class="note">How the similarity of all pairs of {splits.noun} is distributed (features minus
their mean). The further the two hills stand apart, the better the classes are told
apart.</p></section>"""


def _curves(run: Run) -> str:
    path = inside(run.path, "metrics.csv")
    columns = read_csv(path) if path.is_file() else {}
    if "epoch" not in columns:
        return ""
    figures = "".join(
        f"<figure>{plots.curve_image(columns['epoch'], columns[key], title)}</figure>"
        for key, title in CURVES.items()
        if key in columns
    )
    *before, last = ({k: v[i] for k, v in columns.items()} for i in range(len(columns["epoch"])))
    alarm = health.alarm(last, before)
    state = f'<p class="alarm">{html.escape(alarm)}</p>' if alarm else ""
    watched = min(health.SAMPLE, run.config["images"])
    return f"""<section><h2>How it learned</h2>{state}
<div class="grid">{figures}</div>
<p class="note">Health is measured without labels on the same {watched} training
images after every epoch; epoch 0 is the random encoder.</p></section>"""


def _neighbors(splits: Splits, judged: list[Judged]) -> str:
    part = _shown(splits)
    queries = np.random.default_rng(1).permutation(len(part))[: min(QUERIES, len(part))]
    figures = "".join(
        _figure(plots.neighbors_image(_of(j, splits), splits, queries), j.title, "sheet")
        for j in judged
    )
    return f"""<section><h2>Nearest neighbors</h2>
<div class="grid wide">{figures}</div>
<p class="note">Left: one of the {splits.noun}. Right: those whose features are nearest to its
own.</p></section>"""


def _reading(splits: Splits) -> str:
    return """<section><h2>How to read this</h2><ul>
<li>A high linear probe says that a factor can be read off by the simplest decoder. It is the
fairest single figure, and it needs labels.</li>
<li>A high gap says that the encoder ignores what changes within a class. Features that are never
negative (after ReLU and pooling) are alike in part whatever they show; the centered gap takes that
off.</li>
<li>RankMe, std, alignment and uniformity need no labels, and none of them alone says that a
representation is good: random weights often have a higher RankMe than a good encoder. Use them to
see collapse, and to compare runs of one method.</li>
</ul></section>"""


def _configuration(run: Run) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(_flat(value))}</td></tr>"
        for key, value in run.config.items()
    )
    return f"""<section><h2>What made it</h2>
<div class="scroll"><table class="config"><tbody>{rows}</tbody></table></div></section>"""


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_flat(v)}" for k, v in value.items())
    return "–" if value is None else str(value)


def _shown(splits: Splits) -> Samples:
    return splits.test if len(splits.test) else splits.train


def _of(judged: Judged, splits: Splits) -> np.ndarray:
    return judged.test if len(splits.test) else judged.train


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def format_figure(key: str, value: float | None) -> str:
    """A figure of a table as people read it."""
    if value is None or math.isnan(value):
        return "–"
    if key in ("linear", "knn", "auc"):
        return _percent(value)
    return {"dim": f"{value:,}", "rankme": f"{value:,.1f}"}.get(key, f"{value:.3f}")


def _figure(png: bytes, caption: str, kind: str = "square") -> str:
    image = _image(png, caption, kind)
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _video(gif: bytes, caption: str) -> str:
    """A GIF, and its last frame for those who want nothing to move."""
    told = html.escape(caption)
    return f"<figure>{video_image(gif, caption)}<figcaption>{told}</figcaption></figure>"


def video_image(gif: bytes, alt: str) -> str:
    """The element of a GIF that stands still where the reader prefers that."""
    moving, still = (base64.b64encode(c).decode() for c in (gif, drawing.still(gif)))
    return (
        '<image><source media="(prefers-reduced-motion: reduce)" '
        f'srcset="data:image/png;base64,{still}">'
        f'<img class="sheet" alt="{html.escape(alt)}" src="data:image/gif;base64,{moving}">'
        "</image>"
    )


def _image(png: bytes, alt: str, kind: str) -> str:
    source = base64.b64encode(png).decode()
    return f'<img class="{kind}" alt="{html.escape(alt)}" src="data:image/png;base64,{source}">'
