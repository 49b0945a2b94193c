"""Samples of generative runs as files: images, videos, time series or text."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.errors import UserError
from unlabeled.runs.run import Run
from unlabeled.utils import drawing
from unlabeled.utils.files import write_bytes
from unlabeled.utils.state import preserve_rng

AT_ONCE = 250


def maker(run: Run) -> Any:
    """The method of a run, or the last stage of a pipeline, with `sample`.

    Raises:
        UserError: it is not generative, or not a method of this package.
    """
    name, known = run.config["method"], registry.listing("methods")
    if name not in known:  # an untrusted folder may name any file
        raise UserError(f"{run.path} was trained by {name}, your own; call its sample() in Python")
    opened = opener(name)
    if opened is None:
        raise cannot_sample(name)
    try:
        return opened(run)
    except (TypeError, KeyError) as error:
        raise UserError(f"{run.path} is damaged (config.json: {error})") from error


def cannot_sample(name: str) -> UserError:
    """The error for a method or an encoder that is not generative."""
    others = ", ".join(other for other in registry.listing("methods") if opener(other))
    return UserError(f"{name} cannot be sampled; give a run of {others}")


def opener(name: str) -> Callable[[Run], Any] | None:
    """The function that opens runs of a method for sampling; None if it is not generative."""
    location = registry.find("methods", name)
    if inspect.isclass(location):
        return _reopened if hasattr(location, "sample") else None
    return getattr(sys.modules[location.__module__], "restored", None)


def _reopened(run: Run) -> Any:
    from unlabeled.training.train import reopen  # Lightning takes seconds to import

    return reopen(run).to(next(run.encoder.parameters()).device)


def classes_named(run: Run, method: Any, words: list[str]) -> list[int]:
    """Classes by their names or numbers.

    Raises:
        UserError: the run is unconditional, or has no such class.
    """
    args = run.config.get("method_args", {})
    if "labels" not in inspect.signature(method.sample).parameters:
        raise UserError(f"{run.config['method']} has no conditions; omit --ask")
    if args.get("condition", "none") == "none":
        raise UserError(
            f"{run.path} was trained without conditions, so it cannot be asked for classes; "
            "train it with --condition class or words"
        )
    names = [str(name) for name in args.get("names", ())]
    plain = [_plain(name) for name in names]
    conditions = []
    for word in words:
        if _plain(word) in plain:
            conditions.append(plain.index(_plain(word)))
        elif word.isdigit() and int(word) < method.classes:
            conditions.append(int(word))
        else:
            kinds = "; ".join(names) if names else f"0 to {method.classes - 1}"
            raise UserError(f"nothing is known of '{word}'; ask for one of: {kinds}")
    return conditions


def _plain(words: str) -> str:
    """Normalize a name: no case, commas or spaces, and a single minus sign."""
    return re.sub(r"[\s,]+", " ", words.replace("−", "-")).strip().lower()


@torch.no_grad()
def draw(method: Any, number: int, seed: int = 0, **options: Tensor) -> np.ndarray:
    """Samples (number, C, H, W) in [0, 1], reproducible by the seed.

    Args:
        method: with a function `sample`.
        number: of samples.
        seed: random seed.
        options: a row for each sample, such as `labels`.
    """
    parts = []
    with preserve_rng(seed):
        for start in range(0, number, AT_ONCE):
            some = {k: v[start : start + AT_ONCE] for k, v in options.items()}
            parts.append(method.sample(min(AT_ONCE, number - start), **some).float().cpu())
    return torch.cat(parts).numpy()


@torch.no_grad()
def texts(
    run: Run, number: int, begin: str = "", length: int = 200, seed: int = 0
) -> list[str] | None:
    """Texts by a run that generates bytes one by one; None if it generates something else.

    Args:
        run: of a generative method.
        number: of texts.
        begin: prefix of all texts (default: a space).
        length: number of further bytes.
        seed: random seed.

    Raises:
        UserError: the run is not generative, or a number is below 1.
    """
    for name, value in (("number", number), ("length", length)):
        if value < 1:
            raise UserError(f"{name} is {value}, but must be at least 1")
    method = maker(run)
    if getattr(method, "values", None) != "bytes" or tuple(method.shape[:2]) != (1, 1):
        return None
    letters = list(begin.encode() or b" ")
    prefix = torch.tensor([letters] * number, device=next(method.parameters()).device) / 255
    with preserve_rng(seed):
        sampled = method.sample(number, prefix, length + len(letters))
    rows = (255 * sampled).round().byte().cpu().numpy()
    return [row.tobytes().decode("utf-8", "replace") for row in rows]


def sample(
    run: Run, number: int, out: Path, ask: list[str] | None = None, seed: int = 0
) -> list[Path]:
    """Write samples as `samples.npz`, `sheet.png`, and a file for each, a GIF for videos.

    Args:
        run: of a method that generates images.
        number: of samples, for each class.
        out: the folder.
        ask: names or numbers of classes.
        seed: random seed.

    Returns:
        the files.

    Raises:
        UserError: the run does not generate images, is unconditional, or the folder is not empty.
    """
    if number < 1:
        raise UserError(f"number is {number}, but must be at least 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty; choose a new folder with --out")
    words = list(ask or [])
    method = maker(run)
    classes = classes_named(run, method, words) if words else []
    options = {}
    if classes:
        conditions = torch.tensor(classes).repeat_interleave(number)
        options["labels"] = conditions.to(next(method.parameters()).device)
    x = draw(method, number * max(1, len(classes)), seed, **options)
    out.mkdir(parents=True, exist_ok=True)
    labels = np.repeat(words, number) if words else np.full(len(x), "")
    with (out / "samples.npz").open("wb") as file:
        np.savez_compressed(file, x=x.astype(np.float32), asked=labels)
    files = [out / "samples.npz"]
    if min(x.shape[2:]) < 4:
        return files  # series: no images of them
    images = torch.from_numpy(x)
    videos = x.shape[1] not in (1, 3)
    for i, (image, label) in enumerate(zip(images, labels, strict=True), 1):
        named = "-".join(filter(None, (f"{i:04}", re.sub(r"[^\w+−-]+", "-", str(label)))))
        content = drawing.gif(image[None, :, None]) if videos else drawing.image(image)
        files.append(out / f"{named}.{'gif' if videos else 'png'}")
        write_bytes(files[-1], content)
    sheet = drawing.sample_sheet(images, words, number if words else 10)
    files.append(out / "sheet.png")
    write_bytes(files[-1], sheet)
    return files
