"""Small loops in C++, built once by PyTorch's extension loader where there is a compiler."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import warnings
from pathlib import Path

import torch
from platformdirs import user_cache_path


@functools.cache
def library(source: Path, flags: tuple[str, ...]) -> ctypes.CDLL | None:
    """What a source compiles to; None where it cannot be, or `UNLABELED_COMPILE=0` forbids it.

    It is kept in the user's cache, under a name that holds the source and the machine.
    """
    if os.environ.get("UNLABELED_COMPILE") == "0":
        return None
    machine = " ".join(os.uname()) if hasattr(os, "uname") else "windows"
    words = source.read_bytes() + f"{list(flags)}{machine}{torch.__version__}".encode()
    name = f"{source.stem}_{hashlib.sha256(words).hexdigest()[:16]}"
    folder = Path(os.environ.get("UNLABELED_CACHE") or user_cache_path("unlabeled")) / "kernels"
    try:
        return ctypes.CDLL(str(_built(source, flags, name, folder / name)))
    except Exception as error:  # noqa: BLE001 - whatever a compiler says, the plain way works
        if os.environ.get("UNLABELED_COMPILE") == "1":
            warnings.warn(f"no compiled {source.stem}: {error}", stacklevel=2)
        return None


def _built(source: Path, flags: tuple[str, ...], name: str, folder: Path) -> Path:
    """The shared library, compiled if it is not there yet."""
    made = folder / f"{name}.so"
    if not made.is_file():
        from torch.utils.cpp_extension import load

        folder.mkdir(parents=True, exist_ok=True)
        load(
            name,
            [str(source)],
            extra_cflags=list(flags),
            build_directory=str(folder),
            is_python_module=False,
        )
    return made
