"""Draw the views of every method for its page of the site.

python bench/method_views.py [METHOD …]        writes docs/_static/views/METHOD.png, for `make docs`

Rendered images of two colored sprites, or what the method takes instead, beside what `Method.views`
makes of them with a fixed seed: augmented images, tiles, or images with masked patches in gray.
Methods of texts, and those that are trained on the images themselves, have no figure.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.core import Method
from unlabeled.data.dataset import Splits, to_input
from unlabeled.data.loader import label_factor, make_batch, needs_partners
from unlabeled.data.sets.dsprites import Grid
from unlabeled.errors import UserError
from unlabeled.modality import Images, Video
from unlabeled.training.drawings import shown_rows
from unlabeled.training.prepare import prepare
from unlabeled.utils.drawing import contact_sheet, to_image

OUT = Path(__file__).parent.parent / "docs" / "_static" / "views"
ROWS, COLUMNS = 4, 5
GRAY = 0.5
UNCLEAR = {"colorization", "diffusion"}
"""Methods whose views say nothing without their loss: color bins, noise beside the image."""
VISIBLE = {"spark"}
"""Methods whose mask is true where a patch is seen."""


def sprites(images: int = 64, seed: int = 0) -> np.ndarray:
    """Two sprites of one color each over a colored gradient, uint8 (N, 64, 64, 3)."""
    rng = np.random.default_rng(seed)
    grid = Grid()
    x = np.linspace(0, 1, 64)[None, None, :, None]
    left, right = rng.uniform(0.05, 0.95, (2, images, 1, 1, 3))
    drawn = (1 - x) * left + x * right * np.ones((1, 64, 1, 1))
    for _ in range(2):
        mask = grid[rng.integers(len(grid), size=images)][..., None]
        drawn = np.where(mask > 0, rng.uniform(0, 1, (images, 1, 1, 3)), drawn)
    return (255 * drawn).round().astype(np.uint8)


def tensors(views: Any) -> Iterator[Tensor]:
    """All tensors of nested tuples."""
    if isinstance(views, Tensor):
        yield views
    elif isinstance(views, tuple | list):
        for view in views:
            yield from tensors(view)


def joined(tiles: Tensor) -> Tensor:
    """Tiles (B, k, C, s, s) of each image as one, (B, C, n·s, n·s), n² ≥ k; the rest is white."""
    side = math.ceil(math.sqrt(tiles.shape[1]))
    low, high = tiles.amin((1, 2, 3, 4), True), tiles.amax((1, 2, 3, 4), True)
    tiles = torch.nn.functional.pad((tiles - low) / (high - low), (1, 1, 1, 1), value=1.0)
    empty = torch.full_like(tiles[:, :1], 1.0).expand(-1, side**2 - tiles.shape[1], -1, -1, -1)
    grid = torch.cat([tiles, empty], 1).unflatten(1, (side, side))
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def masked(x: Tensor, hidden: Tensor) -> Tensor:
    """Images (B, C, H, W) with hidden patches, (B, N) or (B, …, rows, columns), in gray."""
    if hidden.ndim == 2:
        hidden = hidden.unflatten(1, (math.isqrt(hidden.shape[1]), -1))
    hidden = hidden.reshape(len(x), 1, *hidden.shape[-2:]).float()
    return torch.where(torch.nn.functional.interpolate(hidden, x.shape[-2:]) > 0.5, GRAY, x)


def drawable(method: Method, name: str, views: Any, size: tuple[int, int]) -> list[Tensor]:
    """What of the views can be drawn as images (B, C, H, W)."""
    images: list[Tensor] = []
    covered = 0
    for view in tensors(views):
        if view.ndim == 5 and view.is_floating_point():
            images.append(joined(view))
        elif view.ndim == 4 and view.is_floating_point() and max(view.shape[-2:]) <= max(size):
            images.append(view)
        elif view.dtype == torch.bool and covered < len(images) and view.ndim > 1:
            images[covered] = masked(images[covered], ~view if name in VISIBLE else view)
            covered += 1
        elif view.dtype == torch.int64 and view.ndim == 2 and images and not covered:
            covered = 1  # the indices of visible patches, or an order in which they are first
            patches = math.prod(getattr(method, "grid", None) or _grid(method, images[-1]))
            shown = view[:, : getattr(method, "visible", None) or view.shape[1]]
            hidden = torch.ones(len(view), patches, dtype=torch.bool).scatter(1, shown, False)
            images[-1] = masked(images[-1], hidden)
    return images


def _grid(method: Any, x: Tensor) -> tuple[int, int]:
    return x.shape[-2] // method.patch, x.shape[-1] // method.patch


def sheet(name: str, method: Method, splits: Splits) -> bytes | None:
    """PNG with a row for each image; None if its views are the images, or cannot be drawn."""
    rows = shown_rows(method, splits.train, max(ROWS, method.clip_length))
    stored = make_batch(splits.train, rows, label_factor(method, splits), needs_partners(method))
    x = to_input(stored.x, splits.value_range)
    size = x.shape[-1], x.shape[-2]
    columns: list[Tensor] = []
    torch.manual_seed(0)
    with torch.no_grad():
        while len(columns) < COLUMNS - 1:
            views = drawable(method, name, method.views(stored._replace(x=x)), size)
            views = [v for v in views if len(v) == len(x)]
            views = [v for v in views if v.shape != x.shape or not torch.allclose(v, x)]
            if not views:
                break
            columns += views
    if not columns:
        return None
    shown = range(0, len(x), max(1, len(x) // ROWS))
    table = [[to_image(c[i], size) for c in [x, *columns[: COLUMNS - 1]]] for i in shown]
    return contact_sheet(table, gap_after_first=True)


def drawn(name: str) -> bytes | None:
    """The figure of a method; None where there is none."""
    cls: Any = registry.find("methods", name)
    if name in UNCLEAR or not {Images, Video} & {*getattr(cls, "modality", ())}:
        return None
    x = sprites()
    everything = (x, (x, np.arange(len(x)) % 2), "dsprites", "colored_sprites")
    for data in everything[1:] if cls.supervised else everything:
        try:
            job = prepare(name, data, batch_size=16)
        except UserError:
            continue
        return sheet(name, job.method, job.splits)
    return None


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    names = sys.argv[1:] or list(registry.listing("methods"))
    for name in names:
        (OUT / f"{name}.png").unlink(missing_ok=True)
        if content := drawn(name):
            (OUT / f"{name}.png").write_bytes(content)
    print(f"{OUT}: {len(list(OUT.glob('*.png')))} figures")
