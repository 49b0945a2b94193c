"""Draw the figures of the README and the first page of the site: maps, similarity matrices.

python bench/maps.py runs/demo/simclr

Of test images of dSprites, by their pixels and by the features of that run: t-SNE of 2,000 images
as docs/_static/maps-light.png and maps-dark.png, cosine similarities of 150 images of each
shape, also for random weights, as similarity-light.png and similarity-dark.png.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image
from sklearn.manifold import TSNE

import unlabeled as ul
from unlabeled.data.sets.dsprites import SHAPES
from unlabeled.encoders.features import embed
from unlabeled.evaluation.baselines import random_of

OUT = Path(__file__).parent.parent / "docs" / "_static"
IMAGES, OF_EACH = 2000, 150
COLORS = ("#0072b2", "#e69f00", "#009e73")
INK = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor")
TEXT = {"light": "#333333", "dark": "#dddddd"}


def maps(places: dict[str, np.ndarray], shape: np.ndarray) -> Figure:
    """Maps of images, (N, 2) for each way to describe them, colored by shape."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots(1, len(places))
    for axis, (title, place) in zip(axes, places.items(), strict=True):
        for k, name in enumerate(SHAPES):
            axis.scatter(*place[shape == k].T, s=5, lw=0, color=COLORS[k], label=name)
        axis.set_title(title)
        axis.axis("off")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False,
                  markerscale=2.5)  # fmt: skip
    return figure


def similarities(rows: dict[str, np.ndarray]) -> Figure:
    """A matrix of cosine similarities for each way to describe images, (N, D), sorted by shape."""
    figure = Figure(figsize=(8, 3.1), layout="constrained")
    axes = figure.subplots(1, len(rows))
    middles = OF_EACH * (np.arange(len(SHAPES)) + 0.5)
    for axis, (title, z) in zip(axes, rows.items(), strict=True):
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        shown = axis.imshow(unit @ unit.T, vmin=0, vmax=1, cmap="viridis")
        axis.set_title(title)
        axis.set_xticks(middles, SHAPES)
        axis.set_yticks(middles, SHAPES if axis is axes[0] else [""] * len(SHAPES))
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.colorbar(shown, ax=list(axes), label="cosine similarity", shrink=0.75)
    return figure


def write(figure: Figure, path: Path) -> None:
    """A transparent PNG of 256 colors, which is a fraction of the size."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=160, transparent=True)
    Image.open(drawn).quantize(256).save(path, optimize=True)


def main(folder: str) -> None:
    """Write the four files."""
    run, data = ul.load(folder), ul.open_data("dsprites")
    test = data.test
    shape = test.factors["shape"]
    x = test.x[:IMAGES]
    rows = {"pixels": x.reshape(IMAGES, -1) / 255, "features": run.embed(x)}
    places = {
        title: TSNE(metric="cosine", init="pca", random_state=0).fit_transform(z)
        for title, z in rows.items()
    }
    some = np.concatenate([np.flatnonzero(shape == k)[:OF_EACH] for k in range(len(SHAPES))])
    shown = {
        "pixels": test.x[some].reshape(len(some), -1) / 255,
        "random weights": embed(random_of(run, data), test.x[some], data.value_range),
        "SimCLR, no labels": run.embed(test.x[some]),
    }
    for theme, color in TEXT.items():
        settings: Any = dict.fromkeys(INK, color) | {"font.size": 11}
        with mpl.rc_context(settings):
            for name, figure in (
                ("maps", maps(places, shape[:IMAGES])), ("similarity", similarities(shown)),
            ):  # fmt: skip
                write(figure, OUT / f"{name}-{theme}.png")


if __name__ == "__main__":
    main(sys.argv[1])
