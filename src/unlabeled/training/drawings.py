"""Draw what a method sees and what it produces, for the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.core import Batch, Method
from unlabeled.data.dataset import Samples, Splits, to_float
from unlabeled.data.loader import labels_of
from unlabeled.utils.drawing import contact_sheet, film_picture, sheet_picture, to_image
from unlabeled.utils.files import write_bytes
from unlabeled.utils.state import eval_mode, preserve_rng


def draw_views(method: Method, splits: Splits, path: Path) -> None:
    """A picture of what the method sees, beside what it was made from."""
    if splits.vocabulary and method.reads != "pairs":
        return  # of texts there is nothing to draw
    write_bytes(path, views_picture(method, splits))


def draw_pictures(method: Method, splits: Splits, folder: Path) -> None:
    """What the method makes of pictures, as `picture-TITLE.png` and `film-TITLE.gif`."""
    for title, content in made_pictures(method, splits).items():
        write_bytes(folder / f"picture-{title.replace(' ', '-')}.png", content)
    for title, content in made_films(method, splits).items():
        write_bytes(folder / f"film-{title.replace(' ', '-')}.gif", content)


def views_picture(method: Method, splits: Splits, pictures: int = 6, draws: int = 4) -> bytes:
    """PNG: one row a picture; first as it is, then views of it, always the same draws."""
    rows = shown_rows(method, splits.train, pictures if method.clip == 1 else 2 * method.clip)
    part = splits.train.take(rows)
    x = to_float(torch.from_numpy(part.x[:]), splits.range)
    target = labels_of(method, splits)
    y = torch.from_numpy(part.factors[target]) if target else None
    columns = [x]
    with preserve_rng(seed=0), torch.no_grad():
        while len(columns) <= draws:
            views = method.views(Batch(x, torch.from_numpy(rows), y))
            shown = [v for v in _tensors(views) if _is_pictures(v)]
            if not shown:
                break
            columns += shown
    columns = columns[: draws + 1]
    size = max(c.shape[-1] for c in columns), max(c.shape[-2] for c in columns)
    table = [[to_image(c[i], size) for c in columns] for i in range(len(x))]
    return contact_sheet(table, gap_after_first=True)


def made_pictures(method: Method, splits: Splits, pictures: int = 10) -> dict[str, bytes]:
    """PNG by title of what a method draws: a column for each picture, or rows of single ones."""
    drawn = _made(method, splits, pictures, "pictures")
    return {title: sheet_picture(tensor) for title, tensor in drawn.items()}


def made_films(method: Method, splits: Splits, pictures: int = 11) -> dict[str, bytes]:
    """GIF by title of what a method makes that moves, its films side by side."""
    films = _made(method, splits, pictures, "films")
    return {title: film_picture(tensor) for title, tensor in films.items()}


def shown_rows(method: Method, part: Samples, number: int) -> np.ndarray:
    """Rows all over the pictures; for a method of clips, the first frames of the longest shot."""
    if method.clip == 1 or "shot" not in part.factors:
        return np.linspace(0, len(part) - 1, min(number, len(part))).astype(int)
    shot = part.factors["shot"]
    rows = np.flatnonzero(shot == np.bincount(shot).argmax())
    return rows[np.argsort(part.factors["frame"][rows], kind="stable")][:number]


def _made(method: Method, splits: Splits, pictures: int, what: str) -> dict[str, Tensor]:
    """What the method's `pictures` or `films` makes of test pictures, always the same."""
    part = splits.test if len(splits.test) else splits.train
    rows = shown_rows(method, part, pictures)
    device = next(method.parameters()).device
    x = to_float(torch.from_numpy(part.x[rows]), splits.range).to(device)
    with preserve_rng(seed=0), eval_mode(method), torch.no_grad():
        drawn: dict[str, Tensor] = getattr(method, what)(x)
    return drawn


def _tensors(views: Any) -> list[Tensor]:
    if isinstance(views, Tensor):
        return [views]
    if isinstance(views, tuple | list):
        return [t for view in views for t in _tensors(view)]
    return []


def _is_pictures(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_floating_point()
