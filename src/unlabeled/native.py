"""Nearer to the machine: small loops in C++ where there is a compiler, and memory that is kept."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import nn

from unlabeled.errors import UserError

MALLOPT = {"trim_threshold": -1, "top_pad": -2, "mmap_threshold": -3, "mmap_max": -4}
"""glibc's numbers of what can be set, in malloc.h."""
KEEPING = {"mmap_max": 0, "trim_threshold": 2**31 - 1, "top_pad": 2**28}
USUAL = {"mmap_max": 65_536, "mmap_threshold": 2**25, "trim_threshold": 2**26, "top_pad": 2**17}
"""Where glibc's own thresholds end once large tensors have come and gone."""


@contextlib.contextmanager
def keeping_memory() -> Iterator[None]:
    """Within it, memory that tensors free on the processor is kept for those of the next step.

    glibc gives the pages of large tensors back at once, so that every step of a training asks for
    them anew and the kernel fills them with zeros, a tenth to a third of the step. Where another
    library allocates, nothing happens.
    """
    libc: Any = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(libc, "mallopt") or not hasattr(libc, "malloc_trim"):
        yield
        return
    for name, value in KEEPING.items():
        libc.mallopt(MALLOPT[name], value)
    try:
        yield
    finally:
        for name, value in USUAL.items():
            libc.mallopt(MALLOPT[name], value)
        libc.malloc_trim(0)


@contextlib.contextmanager
def fused(network: nn.Module, wanted: bool) -> Iterator[None]:
    """Within it, calls of the network go through `torch.compile`, if that is wanted.

    Raises:
        UserError: there is no C++ compiler, which that needs on a processor.
    """
    if wanted:
        if not torch.cuda.is_available() and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise UserError("there is no C++ compiler here; leave compile away, or install g++")
        network.compile()
    try:
        yield
    finally:
        network._compiled_call_impl = None


@functools.cache
def library(source: Path, flags: tuple[str, ...]) -> ctypes.CDLL | None:
    """What a source compiles to; None where it cannot be, or `UNLABELED_COMPILE=0` forbids it.

    It is kept in the user's cache, under a name that holds the source, the machine, its processor
    and the compiler asked for.
    """
    if os.environ.get("UNLABELED_COMPILE") == "0":
        return None
    machine = " ".join(os.uname()) if hasattr(os, "uname") else "windows"
    machine += f"{_processor()}{os.environ.get('CXX')}"
    words = source.read_bytes() + f"{list(flags)}{machine}{torch.__version__}".encode()
    name = f"{source.stem}_{hashlib.sha256(words).hexdigest()[:16]}"
    folder = Path(os.environ.get("UNLABELED_CACHE") or user_cache_path("unlabeled")) / "kernels"
    try:
        return ctypes.CDLL(str(_built(source, flags, name, folder / name)))
    except Exception as error:  # noqa: BLE001 - whatever a compiler says, the plain way works
        if os.environ.get("UNLABELED_COMPILE") == "1":
            warnings.warn(f"no compiled {source.stem}: {error}", stacklevel=2)
        return None


def _processor() -> str:
    """What its instructions are told by; a cache may be shared by machines of one name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return " ".join(sorted({x for x in lines if x.lower().startswith(("flags", "features"))}))


def _built(source: Path, flags: tuple[str, ...], name: str, folder: Path) -> Path:
    """The shared library, compiled if it is not there yet."""
    made = folder / f"{name}.so"
    if not made.is_file():
        from torch.utils.cpp_extension import load

        folder.mkdir(parents=True, exist_ok=True)
        with _beside_python_first():
            load(
                name,
                [str(source)],
                extra_cflags=list(flags),
                build_directory=str(folder),
                is_python_module=False,
            )
    return made


@contextlib.contextmanager
def _beside_python_first() -> Iterator[None]:
    """Programs of this environment are found, too, where it is not activated: ninja is one."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        yield
    finally:
        os.environ["PATH"] = before
