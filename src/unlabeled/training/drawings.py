"""Draw the views and the results of a method into the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.core import Method
from unlabeled.data.dataset import Samples, Splits, to_input
from unlabeled.data.loader import label_factor, make_batch, needs_partners
from unlabeled.modality import Series, Table, Text
from unlabeled.utils.drawing import contact_sheet, gif, image_sheet, series_image, to_image
from unlabeled.utils.files import write_bytes
from unlabeled.utils.state import eval_mode, preserve_rng


def draw_views(method: Method, splits: Splits, path: Path) -> None:
    """Draw samples next to their views by the method; texts and tables are not drawn."""
    if not isinstance(splits.modality, Text | Table):
        write_bytes(path, view_sheet(method, splits))


def draw_visualizations(method: Method, splits: Splits, folder: Path) -> None:
    """Draw `Method.visualize` and `animate` as `image-TITLE.png` and `video-TITLE.gif`."""
    for title, content in visualizations(method, splits).items():
        write_bytes(folder / f"image-{title.replace(' ', '-')}.png", content)
    for title, content in animations(method, splits).items():
        write_bytes(folder / f"video-{title.replace(' ', '-')}.gif", content)


def view_sheet(method: Method, splits: Splits, images: int = 6, draws: int = 4) -> bytes:
    """PNG with a row for each image: the image, then views of it, drawn with a fixed seed."""
    number = images if method.clip_length == 1 else 2 * method.clip_length
    rows = shown_rows(method, splits.train, number)
    stored = make_batch(splits.train, rows, label_factor(method, splits), needs_partners(method))
    x = to_input(stored.x, splits.value_range)
    columns = [x]
    with preserve_rng(seed=0), torch.no_grad():
        while len(columns) <= draws:
            views = _tensors(method.views(stored._replace(x=x)))
            drawable = [v for v in views if v.ndim == 4 and v.is_floating_point()]
            if not drawable:
                break
            columns += drawable
    columns = columns[: draws + 1]
    if isinstance(splits.modality, Series):
        table = [[series_image(c[i].cpu()) for c in columns] for i in range(len(x))]
        return contact_sheet(table, gap_after_first=True)
    size = max(c.shape[-1] for c in columns), max(c.shape[-2] for c in columns)
    table = [[to_image(c[i], size) for c in columns] for i in range(len(x))]
    return contact_sheet(table, gap_after_first=True)


def visualizations(method: Method, splits: Splits, images: int = 10) -> dict[str, bytes]:
    """PNG by title of `Method.visualize`: a column for each image, or rows of single ones."""
    return {t: image_sheet(x) for t, x in _drawn(method, splits, images, "visualize").items()}


def animations(method: Method, splits: Splits, images: int = 11) -> dict[str, bytes]:
    """GIF by title of `Method.animate`, its videos side by side."""
    return {t: gif(x) for t, x in _drawn(method, splits, images, "animate").items()}


def shown_rows(method: Method, part: Samples, number: int) -> np.ndarray:
    """Rows spread over all samples; for a method of clips, the first frames of the longest shot."""
    if method.clip_length == 1 or "shot" not in part.factors:
        return part.spread(number)
    shot = part.factors["shot"]
    rows = np.flatnonzero(shot == np.bincount(shot).argmax())
    return rows[np.argsort(part.factors["frame"][rows], kind="stable")][:number]


def _drawn(method: Method, splits: Splits, images: int, what: str) -> dict[str, Tensor]:
    """Results of `visualize` or `animate` on test images, with a fixed seed."""
    part = splits.test if len(splits.test) else splits.train
    rows = shown_rows(method, part, images)
    device = next(method.parameters()).device
    x = to_input(torch.from_numpy(part.x[rows]), splits.value_range).to(device)
    with preserve_rng(seed=0), eval_mode(method), torch.no_grad():
        drawn: dict[str, Tensor] = getattr(method, what)(x)
    return drawn


def _tensors(views: Any) -> list[Tensor]:
    if isinstance(views, Tensor):
        return [views]
    if isinstance(views, tuple | list):
        return [t for view in views for t in _tensors(view)]
    return []
