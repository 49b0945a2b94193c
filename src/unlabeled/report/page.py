"""The report: one self-contained HTML page, readable on a laptop and a phone."""

from __future__ import annotations

import base64
import html
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.targets import MultiLabel
from unlabeled.errors import notice, plural
from unlabeled.evaluation.evaluate import Evaluation, values_of
from unlabeled.evaluation.metric import Subject, Value
from unlabeled.evaluation.metrics import in_order
from unlabeled.evaluation.per_class import per_class
from unlabeled.evaluation.result import chosen, readable
from unlabeled.evaluation.saved import on_other_data
from unlabeled.modality import Table, Text
from unlabeled.report import plots
from unlabeled.report.classes import classes_section
from unlabeled.report.table import html_explanations, html_table
from unlabeled.runs.run import Run
from unlabeled.runs.safety import inside
from unlabeled.training import health
from unlabeled.utils import drawing
from unlabeled.utils.files import read_csv, short_name, write_bytes

SHOWN = 300
"""Number of images in a similarity matrix, drawn with a fixed seed."""
FACTORS = 5
"""Maximum number of factors by which matrices are sorted."""
QUERIES, NEIGHBORS = 6, 6
"""Number of samples whose neighbors are shown, and of neighbors of each."""

CURVES = {
    "loss": "loss",
    "knn": "k-NN (held-out labels)",
    "linear_probe": "linear probe (held-out labels)",
    "std": "std (0: collapse, 1: spread out)",
    "rankme": "RankMe (effective dimensions)",
    "projection_std": "std of the projections",
    "alignment": "alignment (0: views agree)",
    "uniformity": "uniformity (0: collapse)",
    "lr": "learning rate",
}


OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "muon": "Muon", "sgd": "SGD", "lars": "LARS"}
SCHEDULES = {
    "one_cycle": "one cycle",
    "warmup_cosine": "warmup, then cosine decay",
    "constant": "constant",
}
"""Names in `Recipe`, in words."""


def write_report(run: Run, evaluation: Evaluation) -> Path:
    """Write `evaluation.json` and `report/index.html` into the run folder; the page's path."""
    evaluation.save()
    splits, subjects = evaluation.splits, evaluation.subjects
    sections = [
        _headline(run, evaluation),
        _metrics(evaluation),
        classes_section(per_class(subjects[0]), subjects[0].name, str(splits.target)),
        _other_data(run, evaluation),
        _views(run),
        _drawings(run),
        _matrices(splits, subjects),
        _histograms(splits, subjects),
        _curves(run),
        _neighbors(splits, subjects),
        _explanations(evaluation),
        _configuration(run),
    ]
    folder = inside(run.path, "report")
    folder.mkdir(exist_ok=True)
    title = f"{run.config['method']} on {short_name(splits.name)}"
    path = folder / "index.html"
    write_bytes(path, page(title, style(), "\n".join(filter(None, sections))))
    return path


def style() -> str:
    """The style sheet of all pages."""
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


def _headline(run: Run, evaluation: Evaluation) -> str:
    """The first metric that encoders are ranked by, of the run and its baselines."""
    splits, results = evaluation.splits, evaluation.results
    results = readable(results)
    name, own = next(iter(results.items()))
    encoder = f"An encoder trained on {plural(run.config.get('images') or 0, splits.noun)}"
    if not run.is_trained:
        encoder = f"The encoder {html.escape(run.source)}"
    ranked = ((k, m) for k, m in in_order([own]).items() if m.higher_is_better is not None)
    key, metric = next(ranked, (None, None))
    if key is None or metric is None:
        return (
            f'<p class="lead">{encoder}. The '
            "data has no labels, so this page shows what can be measured without them.</p>"
        )
    others = ", ".join(
        f"{html.escape(other)} {metric.format(Value(values[key].value))}".replace(" ", "\u00a0")
        for other, values in results.items()
        if key in values and other != name
    )
    target = f" for {html.escape(splits.target)}" if splits.target else ""
    tested = plural(len(splits.test), f"test {splits.noun}")
    return (
        f'<p class="lead">{html.escape(metric.title_of(key))}{target} on {tested}: '
        f"<b>{metric.format(own[key])}</b>."
        + (f" For comparison: {others}.</p>" if others else "</p>")
    )


def _metrics(evaluation: Evaluation) -> str:
    splits = evaluation.splits
    n = len(splits.test)
    where = plural(n, f"test {splits.noun}") if n else f"the training {splits.noun}"
    result = evaluation.to_json()
    names = dict(zip(evaluation.results, readable(evaluation.results), strict=True))
    best = {key: names[name] for key, name in result["best"].items()}
    bold = (
        "Bold: better than every other encoder on the same test samples, so that the 95&nbsp;% "
        "interval of each paired difference is above 0. "
        if best
        else ""
    )
    settings = "".join(
        f"<li>{html.escape(line)}.</li>"
        for line in chosen(readable(result["settings"]), result["n_train"])
    )
    settings = f'<ul class="note">{settings}</ul>' if settings else ""
    return f"""<section><h2>Metrics</h2>
{html_table(readable(evaluation.results), emphasize_first=True, best=best)}
<p class="note">{bold}Measured on {where}, with 95&nbsp;% intervals over them. Probes and
neighbors use {plural(len(splits.train), f"training {splits.noun}")}. Every encoder is in eval mode
(BatchNorm uses its running statistics). How each metric is computed is explained
below.</p>{settings}</section>"""


def _other_data(run: Run, evaluation: Evaluation) -> str:
    """The run's metrics on the data of earlier evaluations."""
    results: dict[str, dict[str, Value]] = {}
    tested: dict[str, Any] = {}
    for name, content in on_other_data(run, evaluation.to_json()).items():
        try:
            results[name], tested[name] = values_of(content.get("metrics")), content.get("n_test")
        except ValueError:
            notice(f"the earlier evaluation on {name} is damaged and not shown; evaluate it again")
    if not results:
        return ""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in results)
    rows = "".join(
        f'<tr><th scope="row">{html.escape(metric.title_of(key))}</th>'
        + "".join(
            f"<td>{metric.format(values[key]) if key in values else '–'}</td>"
            for values in results.values()
        )
        + "</tr>"
        for key, metric in in_order(list(results.values())).items()
    )
    numbers = "".join(f"<td>{html.escape(str(number))}</td>" for number in tested.values())
    return f"""<section><h2>Other data</h2>
<div class="scroll" tabindex="0" role="group" aria-label="other data">
<table class="metrics"><thead><tr><th scope="col">metric</th>{head}</tr></thead>
<tbody>{rows}<tr><th scope="row">test samples</th>{numbers}</tr></tbody></table></div>
<p class="note">Earlier evaluations of the same weights, from the folder <code>evaluations</code>.
</p></section>"""


def _views(run: Run) -> str:
    path = inside(run.path, "views.png")
    if not path.is_file():
        return ""
    return f"""<section><h2>Training samples and their views</h2>
{_image(path.read_bytes(), "training samples and their random views", "sheet")}
<p class="note">Left: samples of the training set. Right: random views of each.</p></section>"""


def _drawings(run: Run) -> str:
    """Images that the method drew after training."""
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
    return f"<section><h2>Outputs of the method</h2>{figures}</section>" if figures else ""


def _matrices(splits: Splits, subjects: list[Subject]) -> str:
    part = _shown(splits)
    names = [name for name, values in part.factors.items() if values.ndim == 1]
    if not names:
        return ""
    rows = np.sort(np.random.default_rng(0).permutation(len(part))[:SHOWN])
    blocks = []
    for name in sorted(names, key=lambda name: name != splits.target)[:FACTORS]:
        labeled = rows[part.known(name)[rows]]
        if not len(labeled):
            continue
        order = np.argsort(part.factors[name][labeled], kind="stable")
        figures = "".join(
            _figure(plots.similarity_image(s.similarity_matrix(labeled), order), s.name)
            for s in subjects
        )
        blocks.append(f'<h3>Sorted by {html.escape(name)}</h3><div class="tiles">{figures}</div>')
    if not blocks:
        return ""
    return f"""<section><h2>Similarity matrices</h2>
<p class="note">Cosine similarity of each two of {len(rows)} {splits.noun}, after mean-centering:
<span class="red">red</span> similar, white unrelated, <span class="blue">blue</span> opposite.
Blocks along the diagonal: the encoder groups {splits.noun} by that factor.</p>
{"".join(blocks)}</section>"""


def _histograms(splits: Splits, subjects: list[Subject]) -> str:
    if not splits.target or isinstance(splits.targets.get(splits.target), MultiLabel):
        return ""
    figures = "".join(
        f"<figure>{_described(plots.histogram_image(*s.similarity_histograms()), s.name)}"
        f"<figcaption>{html.escape(s.name)}</figcaption></figure>"
        for s in subjects
    )
    return f"""<section><h2>Similarity within and between classes</h2>
<div class="grid">{figures}</div>
<p class="note">Cosine similarity of all pairs of {splits.noun}, after mean-centering: pairs with
the same {html.escape(splits.target)} and pairs with a different one. The less the two distributions
overlap, the better the classes are separated.</p></section>"""


def _curves(run: Run) -> str:
    path = inside(run.path, "metrics.csv")
    columns = read_csv(path) if path.is_file() else {}
    if "epoch" not in columns:
        return ""
    figures = "".join(
        f"<figure>{_described(plots.curve_image(columns['epoch'], columns[key], title), title)}"
        "</figure>"
        for key, title in CURVES.items()
        if key in columns
    )
    *before, last = ({k: v[i] for k, v in columns.items()} for i in range(len(columns["epoch"])))
    alarm = health.alarm(last, before)
    state = f'<p class="alarm">{html.escape(alarm)}</p>' if alarm else ""
    probed = ""
    if "linear_probe" in columns:
        probed = (
            " Accuracies are those on labels held out from the training, none of the test part."
        )
    watched = min(health.SAMPLE, run.config["images"])
    return f"""<section><h2>Training</h2>{state}
<div class="grid">{figures}</div>
<p class="note">All but the loss, the learning rate and accuracies are measured without labels, on
the same {watched} training samples after every epoch; epoch 0 is the untrained
encoder.{probed}</p></section>"""


def _neighbors(splits: Splits, subjects: list[Subject]) -> str:
    if isinstance(splits.modality, Text | Table):
        return ""
    part = _shown(splits)
    queries = np.random.default_rng(1).permutation(len(part))[: min(QUERIES, len(part))]
    figures = "".join(
        _figure(
            plots.neighbors_image(splits, queries, s.neighbors(queries, NEIGHBORS)), s.name, "sheet"
        )
        for s in subjects
    )
    return f"""<section><h2>Nearest neighbors</h2>
<div class="grid wide">{figures}</div>
<p class="note">Left: a query. Right: the {splits.noun} with the most similar features.</p>
</section>"""


def _explanations(evaluation: Evaluation) -> str:
    return f"""<section><h2>How to read this page</h2><ul>
{html_explanations(evaluation.results)}
<li><b>Intervals.</b> 95&nbsp;% intervals over the test samples. They do not include the variation
between training runs; train with several seeds to measure that.</li>
<li><b>Metrics without labels.</b> RankMe, std, alignment and uniformity show collapse and compare
runs of one method. None of them alone says that a representation is good: random weights often
have a higher RankMe than a good encoder.</li>
</ul></section>"""


def _configuration(run: Run) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(key)}</th><td>{html.escape(_flat(value))}</td></tr>'
        for key, value in run.config.items()
    )
    words = html.escape(_in_words(run))
    return f"""<section><h2>Configuration</h2>
{f"<p>{words}</p>" if words else ""}{_how_made(run.config)}
<div class="scroll" tabindex="0" role="group" aria-label="configuration">
<table class="config"><tbody>{rows}</tbody></table></div></section>"""


def _in_words(run: Run) -> str:
    """How a run was trained, in a sentence; "" for an encoder by name."""
    config, recipe = run.config, run.config.get("recipe")
    if not run.is_trained or not isinstance(recipe, dict):
        return ""
    amounts = {k: v for k, v in recipe.items() if isinstance(v, int | float)}
    if not {"epochs", "batch_size", "lr"} <= set(amounts):
        return ""
    optimizer = OPTIMIZERS.get(str(recipe.get("optimizer")), str(recipe.get("optimizer")))
    schedule = SCHEDULES.get(str(recipe.get("schedule")), str(recipe.get("schedule")))
    parts = [
        f"batch size {amounts['batch_size']:,}",
        optimizer,
        f"a learning rate of {amounts['lr']:g} ({schedule})",
    ]
    for key, words in (
        ("weight_decay", "weight decay"),
        ("grad_clip_norm", "gradients clipped to"),
    ):
        parts += [f"{words} {amounts[key]:g}"] if amounts.get(key) else []
    where = f" of {short_name(config['data'])}" if isinstance(config.get("data"), str) else ""
    images = plural(config.get("images") or 0, run.modality.noun)
    return (
        f"Trained for {plural(int(amounts['epochs']), 'epoch')} with {', '.join(parts)}, "
        f"on {images}{where}."
    )


ENDINGS = {
    "epochs": "ran all its epochs",
    "max_steps": "ended at max_steps of the trainer, before the last epoch was complete",
    "max_time": "ended at max_time of the trainer, before the last epoch was complete",
    "callback": "was ended early by a callback of the trainer",
    "error": "was ended by an error",
}
"""What `stopped_by` in config.json means."""


def _how_made(config: dict[str, Any]) -> str:
    """Provenance of the run, as sentences."""
    if not isinstance(config.get("command"), str):
        return ""
    sentences = [
        "Made in Python."
        if config["command"] == "Python"
        else f"Made by <code>{html.escape(config['command'])}</code>."
    ]
    reason = config.get("stopped_by")
    ending = ENDINGS.get(str(reason), f"was stopped by {reason}" if reason else "has not ended")
    sentences.append(f"The training {html.escape(ending)}.")
    for name, state in _items(config.get("git")):
        commit = state.get("commit") if isinstance(state, dict) else None
        changed = ", with uncommitted changes" if commit and state.get("dirty") else ""
        where = f"is of commit {commit}{changed}" if commit else "is in no git repository"
        sentences.append(f"{html.escape(name)} {html.escape(where)}.")
    flags = [f"{k} = {_flat(v)}" for k, v in _items(_dict(config.get("settings")).get("trainer"))]
    if flags:
        sentences.append(f"Settings of Lightning's Trainer: {html.escape('; '.join(flags))}.")
    if resumed := config.get("resumed"):
        times = len(resumed) if isinstance(resumed, list) else 1
        sentences.append(f"It was resumed {times} time{'s' * (times > 1)}.")
    return f'<p class="note">{" ".join(sentences)}</p>'


def _dict(value: Any) -> dict[str, Any]:
    """A dictionary of an untrusted config.json; empty if it is something else."""
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(_dict(value).items())


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{k} {_flat(v)}" for k, v in value.items()) or None
    return "–" if value is None else short_name(str(value))


def _shown(splits: Splits) -> Samples:
    return splits.test if len(splits.test) else splits.train


def _described(svg: str, label: str) -> str:
    """An SVG that screen readers announce as one image."""
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)


def _figure(png: bytes, caption: str, kind: str = "square") -> str:
    image = _image(png, caption, kind)
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _video(gif: bytes, caption: str) -> str:
    """A GIF, and its last frame for readers who prefer reduced motion."""
    image = video_image(gif, caption)
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"


def video_image(gif: bytes, alt: str) -> str:
    """The element of a GIF, which is a still image for readers who prefer reduced motion."""
    moving, still = (base64.b64encode(c).decode() for c in (gif, drawing.still(gif)))
    return (
        '<picture><source media="(prefers-reduced-motion: reduce)" '
        f'srcset="data:image/png;base64,{still}">'
        f'<img class="sheet" alt="{html.escape(alt)}" src="data:image/gif;base64,{moving}">'
        "</picture>"
    )


def _image(png: bytes, alt: str, kind: str) -> str:
    source = base64.b64encode(png).decode()
    return f'<img class="{kind}" alt="{html.escape(alt)}" src="data:image/png;base64,{source}">'
