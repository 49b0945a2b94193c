"""Figures of similarity for papers and notebooks: `unlabeled.plot`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from unlabeled.errors import UserError, notice
from unlabeled.report.plots import STYLE

ON_LIGHT = "#111111"
"""Color of text on light cells; pure black follows the color scheme of the page."""
PIXELS = 1_500
"""Rows and columns from which on neighboring pairs are averaged."""
MOST_CLASSES = 40
"""More values of a factor get no borders and names."""


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
        for (i, j), value in np.ndenumerate(values):
            red, green, blue, _ = image.cmap(image.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 and np.isfinite(value)
            text = f"{value:.2f}".replace("-", "−") if np.isfinite(value) else "–"
            axes.text(*(j, i, text), ha="center", va="center", color="white" if dark else ON_LIGHT)
        axes.set_xticks(range(k), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(k), names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, shrink=0.85)
        axes.set_title(title)
    return figure


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
