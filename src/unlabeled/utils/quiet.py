"""Silence warnings and logs of other libraries that users cannot act on."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any

from unlabeled.errors import Notice

FOREIGN = (
    *("lightning", "lightning_fabric", "lightning_utilities", "torch", "torchmetrics"),
    *("tensorboard", "tensorflow", "onnx", "onnxscript", "onnxruntime", "timm", "transformers"),
    *("huggingface_hub", "tokenizers", "tqdm", "joblib", "sklearn", "umap", "numba", "matplotlib"),
)
"""Packages whose warnings and logs concern their own internals."""
LOGGERS = [logging.getLogger(name) for name in (*FOREIGN, "lightning.pytorch", "lightning.fabric")]


@contextmanager
def quiet() -> Iterator[None]:
    """Context that hides warnings of other libraries and their logs below the level of errors.

    Their progress bars are hidden, too, unless standard error is a terminal. Errors, notices of
    this library, and warnings of the user's code are still shown.
    """
    before = [logger.level for logger in LOGGERS]
    bars: Any = sys.modules.get("transformers.utils.logging")
    barred = bars and bars.is_progress_bar_enabled() and not (sys.stderr and sys.stderr.isatty())
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=rf"({'|'.join(FOREIGN)})(\.|$)")
            _hush()
            if barred:
                bars.disable_progress_bar()
            yield
    finally:
        for logger, level in zip(LOGGERS, before, strict=True):
            logger.setLevel(level)
        if barred:
            bars.enable_progress_bar()


@contextmanager
def silent() -> Iterator[None]:
    """Context that hides all logs, warnings and standard error.

    For exporters, which log at length what they then raise as an error.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def only_notices(shown: bool = True) -> None:
    """From now on, show only this library's notices, or no warnings at all."""
    for name in ("HF_HUB_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")  # read when they are imported
    warnings.simplefilter("ignore")
    if shown:
        warnings.simplefilter("always", Notice)
    warnings.showwarning = _plainly  # type: ignore[assignment]
    _hush()


def _hush() -> None:
    for logger in LOGGERS:
        logger.setLevel(max(logger.level, logging.ERROR))


def _plainly(message: Any, *_: Any) -> None:
    with suppress(OSError):  # a terminal may have gone
        print(f"warning: {message}", file=sys.stderr)
