"""The images of a report, each as the bytes of a PNG or the text of an SVG."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox
from PIL import Image, ImageColor, ImageDraw, ImageFont
from torch import Tensor

from unlabeled.augmentations import Augmentation
from unlabeled.data.dataset import Splits, to_float
from unlabeled.evaluation.layers import Layer
from unlabeled.evaluation.verification import Pairs
from unlabeled.modality import Series
from unlabeled.utils.drawing import (
    LINE,
    contact_sheet,
    paste_sheet,
    put_beside,
    series_image,
    to_image,
    to_png,
)
from unlabeled.utils.state import preserve_rng

WITHIN, BETWEEN = "#0b7a75", "#d1495b"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
"""Distinguishable by the color-blind, on white and black (Okabe, Ito 2008, without yellow)."""
SHAPE_COLORS = ("#e69f00", "#56b4e9", "#cc79a7")  # distinct for the color-blind (Okabe, Ito)
THEME = {
    "#000000": "currentColor",
    "<text ": '<text fill="currentColor" ',
    LINE: f"var(--plot, {LINE})",
    WITHIN: f"var(--accent, {WITHIN})",
    "#d9d9d9": "var(--behind, #d9d9d9)",
}
"""Parts of an SVG that follow the colors of the page."""
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "font.family": "sans-serif",
}


def transformations_image(
    splits: Splits, views: dict[str, Augmentation], images: int = 5, draws: int = 3
) -> bytes:
    """PNG with a row for each transformation: its name, then images and their random changes."""
    part = splits.test if len(splits.test) else splits.train
    rows = np.linspace(0, len(part) - 1, images).astype(int)
    x = to_float(torch.from_numpy(part.x[rows]), splits.value_range)
    size = x.shape[-1], x.shape[-2]
    table = [[to_image(p, size) for p in x for _ in range(draws)]]
    with preserve_rng(seed=0):
        for view in views.values():
            changed = [view(x) for _ in range(draws)]
            table.append([to_image(c[i], size) for i in range(images) for c in changed])
    sheet = paste_sheet(table, gap_after_first=False)
    return to_png(put_beside(["as they are", *views], sheet, table[0][0].height + 4))


def contact_images(splits: Splits, images: int = 40, columns: int = 10) -> bytes:
    """PNG of the first images of the training part."""
    rows = np.arange(min(images, len(splits.train)))
    x = to_float(torch.from_numpy(splits.train.x[rows]), splits.value_range)
    shown = [to_image(p, (x.shape[-1], x.shape[-2])) for p in x]
    table = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    return contact_sheet(table, gap_after_first=False)


def label_curves_image(curves: dict[str, dict[str, list[float]]]) -> str:
    """SVG of test accuracy by the number of labels, a line each with its deviation."""
    figure, axes = _axes(6.4, 3.6)
    for name, curve in curves.items():
        x, y, sd = (np.array(curve[key], float) for key in ("labels", "test", "sd"))
        axes.plot(x, 100 * y, marker="o", markersize=3, label=name)
        axes.fill_between(x, 100 * (y - sd), 100 * (y + sd), alpha=0.15)
    axes.set(xscale="log", xlabel="labels", ylabel="test accuracy, %")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7)
    return svg(figure)


def similarity_image(matrix: np.ndarray, order: np.ndarray) -> bytes:
    """PNG of a similarity matrix with its rows in an order: red similar, blue opposite.

    From −1 to 1 in 32 steps; each pixel is a pair.
    """
    matrix = matrix[np.ix_(order, order)]
    image = Image.fromarray(((matrix + 1) * 15.999).clip(0, 31).astype(np.uint8), "P")
    colors = colormaps["RdBu_r"](np.linspace(0, 1, 32))[:, :3]
    image.putpalette((255 * colors).astype(np.uint8).tobytes())
    return to_png(image)


def partners_image(x: Tensor, near: np.ndarray, captions: list[str]) -> bytes:
    """PNG of the likeness (n, n) of n images (n, C, H, W) in [0, 1] and n captions.

    A row for each image, a column for each caption; darker is nearer, and the diagonal belongs
    together.
    """
    cell, margin, font = 40, 190, ImageFont.load_default(size=13)
    n = len(near)
    low, high = float(near.min()), float(near.max())
    image = Image.new("RGB", (cell * (n + 1), cell * n + margin), "white")
    pen = ImageDraw.Draw(image)
    for i in range(n):
        caption = Image.new("RGB", (margin - 8, cell), "white")
        written = captions[i] if len(captions[i]) < 27 else captions[i][:25] + "…"
        ImageDraw.Draw(caption).text((4, cell / 2), written, "#1c2430", font, anchor="lm")
        image.paste(caption.rotate(90, expand=True), ((i + 1) * cell, 8))
        shown = to_image(x[i], (cell, cell)).convert("RGB").resize((cell - 2, cell - 2))
        image.paste(shown, (0, margin + i * cell))
        for j in range(n):
            share = (near[i, j] - low) / max(high - low, 1e-12)
            shade = tuple(round(255 - share * (255 - c)) for c in (11, 72, 107))
            left, top = (j + 1) * cell, margin + i * cell
            pen.rectangle((left, top, left + cell - 2, top + cell - 2), fill=shade)
    return to_png(image)


def histogram_image(edges: np.ndarray, within: np.ndarray, between: np.ndarray) -> str:
    """SVG: histograms of the similarity of pairs of the same class and of different classes."""
    figure, axes = _axes(3.2, 2.0)
    for density, color, label in (
        (within, WITHIN, "same class"),
        (between, BETWEEN, "other class"),
    ):
        axes.stairs(density, edges, fill=True, alpha=0.35, color=color, label=label)
        axes.stairs(density, edges, color=color, linewidth=1)
    axes.set(xlim=(-1, 1), yticks=[], xlabel="similarity")
    axes.legend(frameon=False, loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.2))
    return svg(figure)


def curve_image(epochs: list[float], values: list[float], title: str) -> str:
    """SVG of one metric over the epochs in which it was measured."""
    figure, axes = _axes(3.2, 2.0)
    epochs, values = _measured(epochs, values)
    axes.plot(epochs, values, color=LINE, linewidth=1.5, marker="o" if len(epochs) < 3 else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", title=title)
    axes.grid(alpha=0.25)
    return svg(figure)


def _measured(epochs: list[float], values: list[float]) -> tuple[list[float], list[float]]:
    """Without the epochs that have no value: a line between single ones would not be seen."""
    known = [(e, v) for e, v in zip(epochs, values, strict=True) if not math.isnan(v)]
    return [e for e, _ in known], [v for _, v in known]


def curves_image(
    lines: dict[str, tuple[list[float], list[float]]],
    title: str,
    colors: dict[str, str] | None = None,
) -> str:
    """SVG of one metric of several runs over their epochs.

    Args:
        lines: epochs and values by the name of the run.
        title: of the metric.
        colors: of the runs; their names are then not shown (default: those of matplotlib).
    """
    figure, axes = _axes(3.2, 2.4)
    for name, line in lines.items():
        epochs, values = _measured(*line)
        axes.plot(
            epochs,
            values,
            linewidth=1.5,
            label=name,
            color=colors[name] if colors else None,
            marker="o" if len(epochs) < 3 else None,
            markersize=4,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", title=title)
    axes.grid(alpha=0.25)
    if colors is None:
        axes.legend(frameon=False, fontsize=7)
    return svg(figure)


def panels_image(lines: dict[str, tuple[list[float], list[float]]], title: str) -> str:
    """SVG of one metric of many runs: a panel each, with all others in gray behind it."""
    import matplotlib as mpl

    rows = -(-len(lines) // 3)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.0, 0.4 + 1.15 * rows), layout="constrained")
        panels = figure.subplots(rows, 3, sharex=True, sharey=True, squeeze=False).flatten()
        for i, (panel, name) in enumerate(zip(panels, lines, strict=False)):
            for other in lines.values():
                panel.plot(*other, linewidth=0.6, color="0.85")
            panel.plot(*lines[name], linewidth=1.5, color=LINE)
            panel.set_title(name, fontsize=8)
            panel.tick_params(labelsize=7, labelbottom=i >= len(lines) - 3)
        for panel in panels[len(lines) :]:
            panel.axis("off")
        figure.supxlabel("epoch", fontsize=8)
        figure.supylabel(title, fontsize=8)
        return svg(figure)


def bars_image(values: dict[str, float], title: str, share: bool = True) -> str:
    """SVG: a bar for each share, the largest on top; or for each of other figures, the smallest."""
    order = sorted(values, key=lambda name: values[name], reverse=not share)
    figure, axes = _axes(7.2, 0.6 + 0.26 * len(order))
    times = 100 if share else 1
    axes.barh(order, [times * values[name] for name in order], color=LINE, height=0.7)
    axes.set(xlabel=f"{title}, %" if share else title, axisbelow=True)
    axes.set_xlim(0, 100 if share else None)
    axes.grid(axis="x", alpha=0.25)
    return svg(figure)


def words_image(vectors: np.ndarray, words: list[list[str]]) -> str:
    """SVG: groups of words where their vectors (N, dim), group after group, lie on two axes.

    The axes are the first two principal components of the words shown.
    """
    from sklearn.decomposition import PCA

    positions = PCA(2, random_state=0).fit_transform(vectors)
    figure, axes = _axes(7.2, 5.0)
    start, labels = 0, []
    for number, group in enumerate(words):
        rows = slice(start, start + len(group))
        start += len(group)
        axes.scatter(*positions[rows].T, s=14, color=f"C{number}")
        for word, (x, y) in zip(group, positions[rows], strict=True):
            labels.append(
                axes.annotate(word, (x, y), (3, 3), textcoords="offset points", fontsize=8)
            )
    axes.margins(0.12)
    axes.set(xticks=[], yticks=[])
    _part(figure, labels)
    return svg(figure)


def _part(figure: Figure, labels: list[Annotation]) -> None:
    """Move labels up, from the lowest on, until none overlaps another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()
    placed: list[Bbox] = []
    for label in sorted(labels, key=lambda one: one.get_window_extent().y0):
        box = label.get_window_extent()
        while hit := [other for other in placed if box.overlaps(other)]:
            box = box.translated(0, max(other.y1 for other in hit) - box.y0 + 1)
        x, y = label.get_position()
        up = (box.y0 - label.get_window_extent().y0) * 72 / figure.dpi
        label.set_position((x, y + up))
        placed.append(box)


def layers_image(by_encoder: dict[str, list[Layer]], target: str) -> str:
    """SVG of linear probe accuracy and mean-centered gap by stage, with 95 % intervals."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for i, (name, layers) in enumerate(by_encoder.items()):
            stages = [layer.stage for layer in layers]
            look = {"marker": "o", "linestyle": "-" if i < 10 else "--"}  # colors come again
            for axes, times, values in (
                (left, 100, [layer.linear_probe for layer in layers]),
                (right, 1, [layer.similarity_gap_centered for layer in layers]),
            ):
                low, mean, high = (
                    np.array([getattr(v, end) for v in values], float) * times
                    for end in ("low", "value", "high")
                )
                line = axes.plot(stages, mean, label=name, **look)[0]
                axes.fill_between(stages, low, high, color=line.get_color(), alpha=0.15, lw=0)
        left.set(ylabel=f"{target}, %", title="Linear probe accuracy")
        right.set(ylabel="same class − different classes", title="Mean-centered gap")
        for axes in (left, right):
            axes.set_xlabel("stage")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.25)
        handles = left.get_legend_handles_labels()
        figure.legend(*handles, frameon=False, fontsize=7, loc="outside lower center", ncols=4)
    return svg(figure)


def neighbors_image(splits: Splits, queries: np.ndarray, neighbors: np.ndarray) -> bytes:
    """PNG with a row for each query: the query, then its nearest neighbors."""
    part = splits.test if len(splits.test) else splits.train
    table = []
    for query, others in zip(queries, neighbors, strict=True):
        x = to_float(torch.from_numpy(part.x[np.array([query, *others])]), splits.value_range)
        size = x.shape[-1], x.shape[-2]
        if isinstance(splits.modality, Series):
            table.append([series_image(one) for one in x])
        else:
            table.append([to_image(image, size) for image in x])
    return contact_sheet(table, gap_after_first=True)


def scenes_image(
    x: np.ndarray, columns: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], shapes: list[str]
) -> bytes:
    """PNG: one row a scene; first as it is, then under each title with masks and boxes on it.

    Args:
        x: scenes, uint8 (N, 1, S, S).
        columns: by title, masks (N, S, S), boxes (N, K, 4) and their classes (N, K), −1 for none.
        shapes: names of the classes; a mask has 0 for background and class + 1.
    """
    times, gap, margin = max(1, round(224 / x.shape[-1])), 8, 30
    side = times * x.shape[-1]
    width, height = (n * (side + gap) - gap for n in (1 + len(columns), len(x)))
    sheet = Image.new("RGB", (width, height + 2 * margin), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    nothing = np.zeros(x[:, 0].shape, np.uint8), np.zeros((len(x), 0, 4)), np.zeros((len(x), 0))
    for i, (title, marks) in enumerate({"the scene": nothing, **columns}.items()):
        left = i * (side + gap)
        pen.text((left + side / 2, margin / 2), title, fill="#1c2430", font=font, anchor="mm")
        for j, seen in enumerate(zip(x[:, 0], *marks, strict=True)):
            sheet.paste(_marked(*seen, times), (left, margin + j * (side + gap)))
    middle = height + 1.5 * margin
    for i, (name, color) in enumerate(zip(shapes, SHAPE_COLORS, strict=False)):
        left = 110 * i
        pen.rectangle((left, middle - 6, left + 12, middle + 6), fill=color)
        pen.text((left + 20, middle), name, fill="#1c2430", font=font, anchor="lm")
    return to_png(sheet)


def _marked(
    x: np.ndarray, mask: np.ndarray, boxes: np.ndarray, classes: np.ndarray, times: int
) -> Image.Image:
    """One scene (S, S), that many times as large, its mask tinted and its boxes around it."""
    colors = np.array([(0, 0, 0), *map(ImageColor.getrgb, SHAPE_COLORS)])
    tinted = np.where(mask[..., None] > 0, 0.25 * x[..., None] + 0.75 * colors[mask], x[..., None])
    side = times * len(x)
    image = Image.fromarray(tinted.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    for box, c in zip(times * boxes, classes, strict=True):
        if c >= 0:
            left, top, right, bottom = (int(v) for v in box.round())
            around = left - 2, top - 2, right + 1, bottom + 1
            pen.rectangle(around, outline=SHAPE_COLORS[int(c)], width=2)
    return image


def roc_image(curves: dict[str, Pairs]) -> str:
    """SVG of ROC curves: true positive rate by false positive rate, a line each."""
    figure, axes = _axes(4.2, 3.4)
    for name, curve in curves.items():
        order = np.argsort(-curve.near)
        same = curve.same[order]
        true, false = np.cumsum(same) / same.sum(), np.cumsum(~same) / (~same).sum()
        some = np.unique(np.geomspace(1, len(same), 400).astype(int)) - 1
        axes.plot(100 * false[some], 100 * true[some], linewidth=1.5, label=name)
    axes.plot([0.01, 100], [0.01, 100], color="gray", linewidth=1, linestyle=":", label="chance")
    axes.set(xscale="log", xlim=(0.01, 100), ylim=(0, 100))
    axes.set(xlabel="other pairs accepted, %", ylabel="matching pairs accepted, %")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7)
    return svg(figure)


def pairs_image(splits: Splits, rows: np.ndarray) -> bytes:
    """PNG: a column for each pair (P, 2) of test images, one above the other."""
    x = to_float(torch.from_numpy(splits.test.x[rows.ravel()]), splits.value_range)
    size = x.shape[-1], x.shape[-2]
    shown = [to_image(image, size) for image in x]
    return contact_sheet([shown[0::2], shown[1::2]], gap_after_first=False)


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def colors_of(names: Iterable[str]) -> dict[str, str]:
    """A color for each name, distinguishable by the color-blind on light and dark; they repeat."""
    return dict(zip(names, itertools.cycle(COLORS), strict=False))


def plain(name: str, most: int = 32) -> str:
    """A name for matplotlib: without formulas, and shortened in the middle."""
    half = most // 2
    name = name if len(name) <= most else f"{name[: half - 1]}…{name[-half:]}"
    return name.replace("$", r"\$")


def svg(figure: Figure) -> str:
    """The text of an SVG element, the same for the same figure."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.hashsalt": "unlabeled"}):
        figure.savefig(
            text,
            format="svg",
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
            transparent=True,
        )
    element = text.getvalue()[text.getvalue().index("<svg") :]
    for color, themed in THEME.items():
        element = element.replace(color, themed)
    return element
