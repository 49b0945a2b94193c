"""Nearer to the machine: small loops in C++ where there is a compiler, and memory that is kept."""

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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from platformdirs import user_cache_path
from torch import nn
from torch.nn.modules.conv import _ConvNd

from unlabeled.core import EMA, Method
from unlabeled.errors import UserError, notice, reason

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
def fused(method: nn.Module, wanted: bool, **options: Any) -> Iterator[None]:
    """Within it, the networks of a method go through `torch.compile`, if that is wanted.

    They stay what they are: neither their names nor their weights change.

    Args:
        method: whose `networks` are meant; or any network.
        wanted: whether to do it at all.
        options: of `torch.compile`.

    Raises:
        UserError: PyTorch cannot compile one of them.
    """
    chosen = networks(method) if wanted else []
    for network in chosen:
        network._compiled_call_impl = torch.compile(_calling(network), **options)
    try:
        yield
    except RuntimeError as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            why = reason(error).partition(" Set TORCHDYNAMO")[0][:200]
            raise UserError(f"these networks cannot be compiled ({why}); omit compile") from error
        raise
    finally:
        for network in chosen:
            network._compiled_call_impl = None


def _calling(network: nn.Module) -> Callable[..., Any]:
    """A call of it, hooks and all, as a function of ours: PyTorch compiles none of its own, and so
    no `nn.Sequential` by itself.
    """

    def call(*inputs: Any, **further: Any) -> Any:
        return network._call_impl(*inputs, **further)

    call.__code__ = call.__code__.replace()  # a code of its own: for each, eight are kept at most
    return call


def networks(method: nn.Module) -> list[nn.Module]:
    """What does the work of a step: the encoder, whatever holds one like it, such as a student or a
    moving average, and all that convolves; and the stages of each, since some methods call these.
    """
    encoder = getattr(method, "encoder", method)
    found = [encoder]
    children = [child for child in method.children() if child is not encoder]
    while children:
        child = children.pop()
        if isinstance(child, EMA):
            children.append(child.module)
        elif isinstance(child, nn.ModuleList | nn.ModuleDict):
            children += child.children()
        elif isinstance(child, Method):
            found += networks(child)
        elif any(isinstance(m, (type(encoder), _ConvNd)) for m in child.modules()):
            found.append(child)
    parts = [m for network in found for m in network.modules()]
    stages = [s for m in parts for name in ("stages", "bodies") for s in getattr(m, name, ())]
    return list(dict.fromkeys([*found, *stages]))


@functools.cache
def library(source: Path, flags: tuple[str, ...], slower: str) -> ctypes.CDLL | None:
    """What a source compiles to; None where it cannot be, or `UNLABELED_COMPILE=0` forbids it.

    It is kept in the user's cache, under a name that holds the source, the machine, its processor
    and the compiler asked for.

    Args:
        source: C++ that needs no other library.
        flags: of the compiler.
        slower: what is slower without it, said once where it cannot be compiled.
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
    except (OSError, UserError) as error:  # the plain way works
        notice(f"{reason(error)}; {slower} without it")
        return None


def _processor() -> str:
    """What its instructions are told by; a cache may be shared by machines of one name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return " ".join(sorted({x for x in lines if x.lower().startswith(("flags", "features"))}))


def _built(source: Path, flags: tuple[str, ...], made: Path) -> Path:
    """The shared library, compiled aside if it is not there yet."""
    if not made.is_file():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            _compile(compiler(), source, flags, Path(folder, made.name)).replace(made)
    return made


def compiler() -> list[str]:
    """The command of a C++ compiler that works: `CXX`, or else the system's.

    Raises:
        UserError: there is none.
    """
    usual = ["clang++", "c++", "g++"] if sys.platform == "darwin" else ["g++", "c++", "clang++"]
    given = os.environ.get("CXX")
    names = [given] if given else usual
    for command in map(shlex.split, names):
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(UserError):
            source = Path(folder, "line.cpp")
            source.write_text("#include <vector>\nstd::vector<int> line;\n")
            _compile(command, source, (), Path(folder, "line.so"))
            return command
    tried = f"CXX is {given}, which compiles nothing" if given else ", ".join(usual)
    raise UserError(f"there is no C++ compiler that works here ({tried})")


def _compile(command: list[str], source: Path, flags: tuple[str, ...], made: Path) -> Path:
    words = [*command, *flags, "-std=c++17", "-shared", "-fPIC", str(source), "-o", str(made)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise UserError(f"{command[0]} does not start ({reason(error)})") from error
    if done.returncode or not made.is_file():
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        why = (lines or [f"status {done.returncode}"])[0].strip()[:200]
        raise UserError(f"{command[0]} cannot compile {source.name} ({why})")
    return made


def check_compiles() -> None:
    """Refuse `compile` where PyTorch would find no C++ compiler, which it needs on a processor.

    Raises:
        UserError: there is none that works.
    """
    if not torch.cuda.is_available():
        try:
            compiler()
        except UserError as error:
            raise UserError(
                f"{error}, which compile needs; omit compile, steps are only slower, or install g++"
            ) from error
