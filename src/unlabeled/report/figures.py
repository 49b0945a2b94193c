"""Figures for papers and notebooks: `unlabeled.plot`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from unlabeled.errors import UserError, notice
from unlabeled.evaluation import knn, rsa
from unlabeled.report.plots import BETWEEN, STYLE, WITHIN, colors_of
from unlabeled.utils.state import preserve_rng

ON_LIGHT = "#111111"
"""Color of text on light cells; pure black follows the color scheme of the page."""
PIXELS = 1_500
"""Maximum rows and columns; of larger matrices, neighboring pairs are averaged."""
MOST_CLASSES = 40
"""Maximum values of a factor that have borders and names."""


class InlineFigure(Figure):
    """A figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png", dpi=120, facecolor="white")
        return content.getvalue()


def rdm(
    matrix: np.ndarray,
    sort_by: Any = None,
    *,
    names: Sequence[str] | None = None,
    title: str = "",
    label: str = "dissimilarity",
    cmap: str = "viridis",
) -> Figure:
    """Draw a representational dissimilarity matrix (RDM); undefined pairs are gray.

    Args:
        matrix: dissimilarities, (N, N), such as `unlabeled.rdm` gives.
        sort_by: value of a factor for each row, (N,): rows and columns are sorted by it, with
            borders between its values and their names beside them, up to 40.
        names: names of the values of the factor, in sorted order; of the rows if there is no
            factor.
        title: above the figure.
        label: of the color bar.
        cmap: colors, by their name in matplotlib.

    Raises:
        UserError: the matrix is not square, or `sort_by` or `names` are not of its size.
    """
    matrix = np.asarray(matrix)
    n = len(matrix)
    if matrix.ndim != 2 or n != matrix.shape[1] or not n:
        raise UserError(f"a matrix of shape {matrix.shape} is not an RDM; pass (N, N)")
    order, starts, shown = np.arange(n), np.arange(n), [str(i) for i in range(n)]
    if sort_by is not None:
        values = np.asarray(sort_by)
        if values.shape != (n,):
            raise UserError(
                f"sort_by has {values.size} values for {n} rows; pass one value for each row"
            )
        order = np.argsort(values, kind="stable")
        kinds, starts = np.unique(values[order], return_index=True)
        shown = [str(kind) for kind in kinds]
    if names is not None:
        if len(names) != len(shown):
            raise UserError(f"{len(names)} names are given for {len(shown)} values; pass one each")
        shown = list(names)
    with mpl.rc_context(STYLE):
        figure = InlineFigure(figsize=(5.2, 4.4), layout="constrained")
        axes = figure.subplots()
        axes.set_facecolor("0.8")
        image = axes.imshow(_averaged(matrix, order), cmap=cmap, extent=(0, n, n, 0))
        figure.colorbar(image, ax=axes, label=label, shrink=0.85)
        named = sort_by is not None or names is not None
        if named and len(shown) <= MOST_CLASSES:
            ends = np.append(starts, n)
            if sort_by is not None:
                width = 0.8 if len(shown) <= 12 else 0.3
                for end in ends[1:-1]:
                    axes.axhline(end, color="white", linewidth=width)
                    axes.axvline(end, color="white", linewidth=width)
            middles, long = (ends[1:] + ends[:-1]) / 2, max(map(len, shown)) * len(shown) > 40
            axes.set_xticks(middles, shown, rotation=90 if long else 0)
            axes.set_yticks(middles, shown)
            axes.tick_params(length=0, labelsize=min(9, 200 / len(shown)))
        elif sort_by is not None:
            axes.set(xlabel="sorted by the factor")
        axes.spines[:].set_visible(False)
        axes.set_title(title)
    return figure


def similarity_matrix(
    names: Sequence[str], values: np.ndarray, *, title: str = "", cmap: str = "viridis"
) -> Figure:
    """Draw the similarity of each pair of encoders, with its value in each cell.

    Args:
        names: of the encoders, k.
        values: similarities, (k, k), such as `similarity_of_encoders` gives for a measure; row i
            and column j are the similarity of i with j. Colors go from 0 (or the least) to 1.
        title: above the figure, such as the measure.
        cmap: colors, by their name in matplotlib.

    Raises:
        UserError: there is not one row and one column for each name.
    """
    values, k = np.asarray(values, np.float64), len(names)
    if values.shape != (k, k) or not k:
        raise UserError(f"a matrix of shape {values.shape} does not fit {k} names; pass ({k}, {k})")
    low = min(0.0, float(np.nanmin(values, initial=0)))
    side = max(2.4, 0.55 * k + 0.09 * max(map(len, names)))
    with mpl.rc_context(STYLE):
        figure = InlineFigure(figsize=(side + 0.9, side), layout="constrained")
        axes = figure.subplots()
        axes.set_facecolor("0.8")
        image = axes.imshow(values, cmap=cmap, vmin=low, vmax=1)
        _write_values(image, values)
        axes.set_xticks(range(k), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(k), names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, shrink=0.85)
        axes.set_title(title)
    return figure


def matrix(
    values: Mapping[str, Mapping[str, float]],
    *,
    label: str = "",
    title: str = "",
    limits: tuple[float, float] = (0.0, 1.0),
    cmap: str = "viridis",
) -> Figure:
    """Draw a table of figures with its cells in colors, such as what each encoder knows.

    Args:
        values: by row, the figures by column; what is missing or NaN is gray.
        label: of the color bar.
        title: above the figure.
        limits: figures that have the first and the last color; those beyond have the same.
        cmap: colors, by their name in matplotlib.
    """
    rows, columns = list(values), list(dict.fromkeys(c for row in values.values() for c in row))
    table = np.array([[values[r].get(c, np.nan) for c in columns] for r in rows], np.float64)
    size = 1.6 + 0.09 * max(map(len, rows)) + 0.62 * len(columns), 1.1 + 0.34 * len(rows)
    with mpl.rc_context(STYLE):
        figure = InlineFigure(figsize=size, layout="constrained")
        axes = figure.subplots()
        axes.set_facecolor("0.8")
        image = axes.imshow(table, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
        _write_values(image, table)
        axes.set_xticks(
            range(len(columns)), columns, rotation=30, ha="left", rotation_mode="anchor"
        )
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label=label)
        axes.set_title(title)
    return figure


def images(
    x: Any, columns: int = 10, *, titles: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Draw images in a grid.

    Args:
        x: images (N, C, H, W) with 1 or 3 channels, uint8, or floats in [0, 1].
        columns: images of a row.
        titles: above each image.
        title: above the figure.

    Raises:
        UserError: they are no images, or there is not one title for each.
    """
    x = _as_images(x)
    if titles is not None and len(titles) != len(x):
        raise UserError(f"{len(titles)} titles are given for {len(x)} images; pass one each")
    columns = min(columns, len(x))
    rows = -(-len(x) // columns)
    height = 0.86 if titles is None else 1.08
    with mpl.rc_context(STYLE):
        size = 0.8 * columns + 0.1, height * rows + (0.3 if title else 0.05)
        figure = InlineFigure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for i, axes in enumerate(grid.flat):
            axes.axis("off")
            if i < len(x):
                axes.imshow(x[i] if x.shape[3] == 3 else x[i, :, :, 0], cmap="gray", vmin=0, vmax=1)
                axes.set_title(titles[i] if titles is not None else "", fontsize=8)
        if title:
            figure.suptitle(title, fontsize=10)
    return figure


def views(
    augment: Callable[[torch.Tensor], torch.Tensor], x: Any, draws: int = 8, *, seed: int = 0
) -> Figure:
    """Draw images, the first of each row, and random views of them.

    Args:
        augment: a random augmentation, such as `data.augment`.
        x: images (N, C, H, W), uint8, or floats in [0, 1]; a row each.
        draws: views of each.
        seed: of the views.
    """
    x = torch.as_tensor(np.asarray(x))
    x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
    with preserve_rng(seed):
        drawn = [x, *(augment(x) for _ in range(draws))]
    shown = torch.stack(drawn, 1).flatten(0, 1)
    names = ["image", *[""] * draws] * len(x)
    return images(shown, draws + 1, titles=names)


def histogram(
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    kind: rsa.Kind = "centered",
    *,
    title: str = "",
) -> Figure:
    """Draw how similar pairs of the same class are, and pairs of different classes.

    Args:
        features: (N, d).
        labels: classes (N,), −1 for none.
        kind: cosine, centered (cosine after the mean is subtracted) or pearson.
        title: above the figure.
    """
    edges, within, between = rsa.histograms(features, labels, kind)
    with mpl.rc_context(STYLE):
        figure = InlineFigure(figsize=(4.2, 2.4), layout="constrained")
        axes = figure.subplots()
        for density, color, label in (
            (within, WITHIN, "same class"),
            (between, BETWEEN, "other class"),
        ):
            axes.stairs(density, edges, fill=True, alpha=0.5, color=color, label=label)
        name = {"cosine": "cosine similarity", "centered": "mean-centered cosine similarity"}
        axes.set(xlabel=name.get(kind, "Pearson correlation"), ylabel="density", xlim=(-1, 1))
        axes.set_title(title)
        axes.legend(frameon=False)
    return figure


def neighbors(
    features: Float[np.ndarray, "n d"], x: Any, queries: Sequence[int] = (0, 1, 2, 3), k: int = 8
) -> Figure:
    """Draw images, the first of each row, and the most similar others.

    Args:
        features: (N, d); cosine similarity after their mean is subtracted.
        x: the images (N, C, H, W).
        queries: rows of the images that begin a row of the figure.
        k: neighbors of each; fewer if there are fewer other images.
    """
    features, k = features - features.mean(0), min(k, len(features) - 1)
    near, indices = knn.nearest(features, features[list(queries)], k + 1)
    shown, titles = [], []
    for query, similar, rows in zip(queries, near, indices, strict=True):
        others = [(row, s) for row, s in zip(rows, similar, strict=True) if row != query][:k]
        shown += [query, *(row for row, _ in others)]
        titles += ["image", *(f"{s:.2f}" for _, s in others)]
    return images(np.asarray(x)[shown], k + 1, titles=titles)


def curves(
    lines: Mapping[str, tuple[Sequence[Any], Sequence[Any]]],
    *,
    xlabel: str = "",
    ylabel: str = "",
    log: bool = False,
    title: str = "",
) -> Figure:
    """Draw lines through points, such as accuracies by the number of labels.

    Args:
        lines: by name, x and y of the points.
        xlabel: below the figure.
        ylabel: beside it.
        log: whether x is on a logarithmic scale, with a mark at each of its values.
        title: above the figure.
    """
    colors = colors_of(lines)
    with mpl.rc_context(STYLE):
        figure = InlineFigure(figsize=(5.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for name, (x, y) in lines.items():
            axes.plot(x, y, marker="o", markersize=3, color=colors[name], label=name)
        if log:
            ticks = sorted({value for x, _ in lines.values() for value in x if value > 0})
            axes.set_xscale("log")
            axes.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
            axes.minorticks_off()
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_title(title)
        if len(lines) > 1:
            axes.legend(frameon=False)
    return figure


def bars(
    values: Mapping[str, float | tuple[float, float, float]],
    *,
    label: str = "accuracy",
    chance: float | None = None,
    title: str = "",
) -> Figure:
    """Draw a bar for each figure, with its interval if there is one.

    Args:
        values: by name, a figure, or a figure with the ends of its interval.
        label: below the figure.
        chance: a dashed line.
        title: above the figure.
    """
    with mpl.rc_context(STYLE):
        figure = InlineFigure(figsize=(5.6, 0.7 + 0.3 * len(values)), layout="constrained")
        axes = figure.subplots()
        for row, (name, value) in enumerate(values.items()):
            middle, *ends = value if isinstance(value, tuple) else (value,)
            error = [[middle - ends[0]], [ends[1] - middle]] if ends else None
            axes.barh(row, middle, 0.7, color=WITHIN, xerr=error, error_kw={"linewidth": 1})
            last = ends[1] if ends else middle
            axes.annotate(
                f"{middle:.3g}", (last, row), (4, 0), textcoords="offset points", va="center"
            )
            axes.annotate(
                name, (0, row), (-6, 0), textcoords="offset points", va="center", ha="right"
            )
        if chance is not None:
            axes.axvline(chance, color="0.4", linestyle="--", linewidth=1)
            axes.annotate("chance", (chance, 1), (0, 2), ("data", "axes fraction"),
                          textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
        axes.set_yticks([])
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set(xlabel=label)
        axes.set_title(title)
    return figure


def _write_values(image: AxesImage, values: Float[np.ndarray, "n m"]) -> None:
    """Write each value into its cell, light on dark colors."""
    for (i, j), value in np.ndenumerate(values):
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 and np.isfinite(value)
        text = f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "–"
        color = "white" if dark else ON_LIGHT
        image.axes.text(j, i, text, ha="center", va="center", color=color)


def _as_images(x: Any) -> Float[np.ndarray, "n h w c"]:
    """Images (N, C, H, W) as floats (N, H, W, C) in [0, 1]."""
    x = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not len(x):
        raise UserError(f"an array of shape {x.shape} holds no images; pass (N, 1 or 3, H, W)")
    scaled = x / 255 if x.dtype == np.uint8 else x
    return scaled.astype(np.float32).clip(0, 1).transpose(0, 2, 3, 1)


def _averaged(
    matrix: Float[np.ndarray, "n n"], order: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "m m"]:
    """The matrix in an order; if it is large, the mean of neighboring pairs, by blocks."""
    n = len(matrix)
    if n <= PIXELS:
        return matrix[np.ix_(order, order)]
    step = -(-n // PIXELS)
    notice(f"each pixel is the mean of {step} × {step} of the {n:,} × {n:,} pairs")
    starts = np.arange(0, n, step)
    sizes = np.diff(np.append(starts, n))
    rows = (matrix[order[start : start + step]].mean(0)[order] for start in starts)
    return np.stack([np.add.reduceat(row, starts) / sizes for row in rows])
