"""Small loops compiled from C++ if there is a compiler, and reuse of memory between steps."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from unlabeled.errors import UserError, notice, reason

MALLOPT = {"trim_threshold": -1, "top_pad": -2, "mmap_threshold": -3, "mmap_max": -4}
"""Numbers of glibc's parameters, from malloc.h."""
KEEPING = {"mmap_max": 0, "trim_threshold": 2**31 - 1, "top_pad": 2**28}
USUAL = {"mmap_max": 65_536, "mmap_threshold": 2**25, "trim_threshold": 2**26, "top_pad": 2**17}
"""Values that glibc's dynamic thresholds reach after large tensors were freed."""


@contextlib.contextmanager
def keeping_memory() -> Iterator[None]:
    """Context in which memory freed by tensors on the CPU is reused in the next step.

    glibc returns the pages of large tensors at once, so every training step requests them again and
    the kernel fills them with zeros, which takes a tenth to a third of the step. With another
    allocator, nothing changes.
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


@functools.cache
def library(source: Path, flags: tuple[str, ...], slower: str) -> ctypes.CDLL | None:
    """Compile a C++ source; None if that fails, or if `UNLABELED_COMPILE=0` forbids it.

    The library is cached under a hash of the source, the machine, its processor and the compiler.

    Args:
        source: C++ that needs no other library.
        flags: of the compiler.
        slower: what is slower without it, for a notice if it cannot be compiled.
    """
    if os.environ.get("UNLABELED_COMPILE") == "0":
        return None
    machine = " ".join(os.uname()) if hasattr(os, "uname") else "windows"
    machine += f"{_processor()}{os.environ.get('CXX')}"
    words = source.read_bytes() + f"{list(flags)}{machine}".encode()
    name = f"{source.stem}_{hashlib.sha256(words).hexdigest()[:16]}"
    folder = Path(os.environ.get("UNLABELED_CACHE") or user_cache_path("unlabeled")) / "kernels"
    try:
        return ctypes.CDLL(str(_built(source, flags, folder / name / f"{name}.so")))
    except (OSError, UserError) as error:  # the Python implementation is used
        notice(f"{reason(error)}; {slower} without it")
        return None


def _processor() -> str:
    """Instruction sets of the processor, since machines of one name may share a cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return " ".join(sorted({x for x in lines if x.lower().startswith(("flags", "features"))}))


def _built(source: Path, flags: tuple[str, ...], path: Path) -> Path:
    """The shared library, compiled aside and renamed if it does not exist yet."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            _compile(compiler(), source, flags, Path(folder, path.name)).replace(path)
    return path


def compiler() -> list[str]:
    """The command of a C++ compiler that works: `CXX`, or else the system's.

    Raises:
        UserError: there is none.
    """
    usual = ["clang++", "c++", "g++"] if sys.platform == "darwin" else ["g++", "c++", "clang++"]
    chosen = os.environ.get("CXX")
    for command in map(shlex.split, [chosen] if chosen else usual):
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UserError):
            source = Path(folder, "line.cpp")
            source.write_text("#include <vector>\nstd::vector<int> line;\n")
            _compile(command, source, (), Path(folder, "line.so"))
            return command
    tried = f"CXX is {chosen}, which compiles nothing" if chosen else ", ".join(usual)
    raise UserError(f"there is no C++ compiler that works here ({tried})")


def _compile(command: list[str], source: Path, flags: tuple[str, ...], path: Path) -> Path:
    words = [*command, *flags, "-std=c++17", "-shared", "-fPIC", str(source), "-o", str(path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise UserError(f"{command[0]} does not start ({reason(error)})") from error
    if done.returncode or not path.is_file():
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        why = (lines or [f"status {done.returncode}"])[0].strip()[:200]
        raise UserError(f"{command[0]} cannot compile {source.name} ({why})")
    return path
