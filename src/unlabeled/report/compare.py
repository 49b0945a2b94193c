"""Compare several encoders: in one page, and in tables for other programs."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unlabeled.errors import UserError, plural
from unlabeled.evaluation.compare import (
    HOW_MADE,
    MEASURES,
    SIMILARITY_ROWS,
    Comparison,
    compare_runs,
)
from unlabeled.evaluation.metric import Metric, Value
from unlabeled.evaluation.metrics import in_order
from unlabeled.evaluation.result import chosen
from unlabeled.evaluation.seeds import PairTest
from unlabeled.report import figures, plots
from unlabeled.report.formats import to_csv, to_latex, to_markdown
from unlabeled.report.page import CURVES, page, style
from unlabeled.report.table import html_explanations, html_table
from unlabeled.runs.run import Run
from unlabeled.runs.safety import inside
from unlabeled.utils.files import read_csv, short_name, to_json, write_bytes

TESTS = {
    "paired": "paired: of two single encoders, on the same test samples; other seeds may differ",
    "Welch": "Welch: Welch's t-test over the seeds of both, for these test samples",
    "t-test": "t-test: of one encoder and the seeds of the other, for these test samples",
}
MOST_ROWS = 40
"""Maximum rows of the table of differences that is shown unfolded."""


def compare(
    runs: Sequence[Run | str | Path],
    out: str | Path | Sequence[str | Path] | None = None,
    data: Any = None,
    *,
    labels_from: Any = None,
    test: Any = None,
    groups_from: Any = None,
    encoder: Any = None,
    size: int | None = None,
    tile: int | None = None,
    max_pixels: int | None = None,
) -> dict[str, Any]:
    """Compare encoders on the same data, with tests of their differences.

    Runs whose configuration is the same but for the seed are one column: mean ± standard deviation
    over the seeds, and the 95 % t-interval of the mean. The best value is marked only where it is
    significantly better than the next and no single training's luck. Features and metrics are
    stored in the user's cache folder, so that only new weights and data are computed.

    Args:
        runs: two or more run folders, runs, or encoders by name, such as `timm:NAME` and
            `histogram`; `random` is the encoder of the first trained run with random weights.
        out: a file, or several, to write: a page (.html), or a table (.csv, .md, .tex, .json)
            (default: none).
        data: what to evaluate all on (default: the data of the first trained run).
        labels_from: source of labels of samples in files, as for `unlabeled.train`.
        test: other data to test on, as for `unlabeled.train`.
        groups_from: what samples have in common, as for `unlabeled.train`: intervals and tests are
            then over groups (default: the first trained run's, if `data` is omitted, too).
        encoder: the network of runs whose encoder is your own, as for `unlabeled.load`.
        size: side in pixels of the images that encoders by name receive, as for `unlabeled.load`.
        tile: side of the squares that larger images in files are cut into for all encoders
            (default: as in the training of the first trained run).
        max_pixels: of images in files, likewise.

    Returns:
        content of .json files: `encoders`, by name, has `runs`, `seeds` and `metrics`, each with
        `value`, `low`, `high`, `sd` and `n`; `best` the name of the best encoder by metric;
        `differences` the test of each pair in each metric, with `p` and `p_holm`; `settings` those
        of the probes of each run, chosen on training labels; `similarity` the
        matrices of `cka_debiased` and `rsa` (k, k); `runs` the metrics and configuration of each.

    Raises:
        UserError: there are fewer than two, `out` has another suffix, the data does not fit, or the
            encoders would not be tested on the same samples.
    """
    paths = [out] if out is None or isinstance(out, str | Path) else out
    files = [Path(file) for file in paths if file is not None]
    for file in files:
        if file.suffix.lower() not in FORMATS:
            raise UserError(f"--out is {file}; give a .html, .csv, .md, .tex or .json file")
    comparison = compare_runs(
        runs,
        data,
        labels_from=labels_from,
        test=test,
        groups_from=groups_from,
        encoder=encoder,
        size=size,
        tile=tile,
        max_pixels=max_pixels,
    )
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, FORMATS[file.suffix.lower()](comparison).encode())
    return comparison.to_json()


def to_html(comparison: Comparison) -> str:
    """The page."""
    colors = plots.colors_of(comparison.groups)
    sections = [
        _lead(comparison),
        _table(comparison, colors),
        _differences(comparison),
        _similarity(comparison),
        _curves(comparison, colors),
        _configurations(comparison),
        _explanations(comparison),
    ]
    body = "\n".join(filter(None, sections))
    return page(" · ".join(comparison.groups), style(), body).decode()


FORMATS: dict[str, Callable[[Comparison], str]] = {
    ".html": to_html,
    ".csv": to_csv,
    ".md": to_markdown,
    ".tex": to_latex,
    ".json": lambda comparison: to_json(comparison.to_json()) + "\n",
}
"""Writers by the suffix of --out."""


def _lead(comparison: Comparison) -> str:
    about = comparison.about
    n, noun = about["n_test"], about["noun"]
    tested = plural(n or about["n_train"], f"{'test' if n else 'training'} {noun}")
    target = f", labeled by {html.escape(about['target'])}" if about["target"] else ""
    groups = f" in {plural(about['n_test_groups'], 'group')}" if about["n_test_groups"] else ""
    data = html.escape(short_name(about["test_data"]))
    return f'<p class="lead">On {tested}{groups} of {data}{target}.</p>'


def _table(comparison: Comparison, colors: dict[str, str]) -> str:
    results, best = comparison.results, comparison.best
    singles = [n for n, runs in comparison.groups.items() if len(runs) == 1]
    seeds = (
        "Several seeds: mean ± standard deviation, the 95&nbsp;% t-interval of the mean, and the "
        "number of seeds. "
        if len(singles) < len(comparison.groups)
        else ""
    )
    single = (
        "A single encoder: the 95&nbsp;% interval over the test samples, which does not include "
        "the variation between training runs. "
        if singles
        else ""
    )
    marked = (
        "Bold: significantly better than the next."
        if best
        else "Nothing is bold, because no encoder is known to be better than the next."
    )
    more = (
        " Train with several seeds (--seed 1, --seed 2, …) to compare trainings."
        if any(comparison.runs[comparison.groups[n][0]].run.is_trained for n in singles)
        else ""
    )
    chosen_for = {name: measured.settings for name, measured in comparison.runs.items()}
    lines = chosen(chosen_for, comparison.about["n_train"])
    settings = "".join(f"<li>{html.escape(line)}.</li>" for line in lines)
    settings = f'<ul class="note">{settings}</ul>' if settings else ""
    return f"""<section><h2>Metrics</h2>
{html_table(results, best=best, colors=colors)}
<p class="note">{seeds}{single}{marked}{more} Probes and neighbors use
{comparison.about["n_train"]:,} training {comparison.about["noun"]}.</p>{settings}</section>"""


def _differences(comparison: Comparison) -> str:
    if not comparison.tests:
        return ""
    metrics = in_order(m.metrics for m in comparison.runs.values())
    rows = "".join(_difference(test, metrics[test.metric]) for test in comparison.tests)
    used = "; ".join(
        text for name, text in TESTS.items() if name in {t.test for t in comparison.tests}
    )
    is_open = " open" if len(comparison.tests) <= MOST_ROWS else ""
    return f"""<section><h2>Differences</h2>
<details{is_open}><summary>{len(comparison.tests)} tests</summary>
<div class="scroll" tabindex="0" role="group" aria-label="differences">
<table class="differences"><thead><tr><th>metric</th><th class="text">encoders</th>
<th>difference</th><th>p (Holm)</th><th class="text">test</th></tr></thead>
<tbody>{rows}</tbody></table></div></details>
<p class="note">The first minus the second, with the 95&nbsp;% interval below. p is of the
hypothesis that both are equal, corrected by Holm's method for the number of pairs in the metric;
below it the uncorrected one. Bold: p below 0.05, where the test answers for other seeds.
n: encoders of each. {used}.</p>
</section>"""


def _difference(test: PairTest, metric: Metric) -> str:
    difference = test.difference
    shown, _, interval = metric.format(
        Value(difference.value, difference.low, difference.high)
    ).partition(" (")
    shown, holm = shown.replace(" ", "\u00a0"), _p(test.p_holm)
    holm = f"<b>{holm}</b>" if test.is_significant and test.seeds else holm
    cells = (
        f"<th>{html.escape(metric.title_of(test.metric))}</th>",
        f'<td class="text">{html.escape(test.a)} − {html.escape(test.b)}</td>',
        f"<td>{shown}<small>{interval.rstrip(')')}</small></td>",
        f"<td>{holm}<small>{_p(difference.p)}</small></td>",
        f'<td class="text">{test.test}<small>n = {test.n[0]}, {test.n[1]}</small></td>',
    )
    return f"<tr>{''.join(cells)}</tr>"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else "&lt;&nbsp;0.001"


def _similarity(comparison: Comparison) -> str:
    if not comparison.similarity:
        return ""
    names = [plots.plain(name) for name in comparison.runs]
    images = "".join(
        f"<figure>{plots.svg(figures.similarity_matrix(names, matrix, title=MEASURES[key]))}"
        "</figure>"
        for key, matrix in comparison.similarity.items()
    )
    about = comparison.about
    n = min(SIMILARITY_ROWS, about["n_test"] or about["n_train"])
    return f"""<section><h2>Similarity of the encoders</h2>
<div class="grid wide">{images}</div>
<p class="note">Of the features of {n:,} {about["noun"]}; 1 is the same representation. CKA
(Kornblith et al. 2019) compares them up to rotation and scale, without the bias of few samples; RSA
is Spearman's correlation of their dissimilarities.</p></section>"""


def _curves(comparison: Comparison, colors: dict[str, str]) -> str:
    histories = {
        name: read_csv(path)
        for name, one in comparison.runs.items()
        if one.run.is_trained and (path := inside(one.run.path, "metrics.csv")).is_file()
    }
    group_of = {run: group for group, runs in comparison.groups.items() for run in runs}
    images = "".join(
        f"<figure>{plots.curves_image(lines, title, {n: colors[group_of[n]] for n in lines})}"
        "</figure>"
        for key, title in CURVES.items()
        if (
            lines := {
                n: (c["epoch"], c[key]) for n, c in histories.items() if {key, "epoch"} <= set(c)
            }
        )
    )
    if not images:
        return ""
    shown = dict.fromkeys(group_of[name] for name in histories)
    legend = "".join(
        f'<li><span class="swatch" style="background:{colors[name]}"></span>{html.escape(name)}'
        "</li>"
        for name in shown
    )
    return f"""<section><h2>Training</h2><ul class="legend">{legend}</ul>
<div class="grid">{images}</div>
<p class="note">A line for each run. Losses of different methods are different quantities; compare
their shape only.</p></section>"""


def _configurations(comparison: Comparison) -> str:
    flat = {name: _flat(one.run.config) for name, one in comparison.runs.items()}
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
        return '<section><h2>Differences in configuration</h2><p class="note">None.</p></section>'
    return f"""<section><h2>Differences in configuration</h2>
<div class="scroll" tabindex="0" role="group" aria-label="configurations">
<table class="config"><thead><tr><td></td>{head}</tr></thead>
<tbody>{rows}</tbody></table></div></section>"""


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if key in HOW_MADE:
            continue
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = "–" if value is None else short_name(str(value))
    return flat


def _explanations(comparison: Comparison) -> str:
    return f"""<section><h2>How each metric is computed</h2>
<ul>{html_explanations(comparison.results)}</ul></section>"""
