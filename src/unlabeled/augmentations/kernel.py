"""Resampling in C++, built once if there is a compiler."""

import ctypes
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from unlabeled.utils.native import library

SOURCE = Path(__file__).with_name("resample.cpp")
FLAGS = ("-O3", "-march=native", "-ffp-contract=off")
Resample = Callable[[Tensor, Tensor, bool, tuple[int, int]], Tensor]


def implementation() -> str:
    """The resampling that runs on this machine's CPU: "compiled" or "plain"."""
    return "compiled" if compiled() else "plain"


def implementation_used() -> str:
    """The resampling that has run in this process so far: "compiled", "plain" or "none"."""
    return implementation() if compiled.cache_info().currsize else "none"


@functools.cache
def compiled() -> Resample | None:
    """The C++ function, or None if it cannot be built or `UNLABELED_COMPILE=0` is set."""
    built = library(SOURCE, FLAGS, "affine augmentations and crops are slower")
    if built is None:
        return None
    calls = {torch.float32: built.resample_floats, torch.uint8: built.resample_bytes}
    for call in calls.values():
        call.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 6 + [ctypes.c_int]
        call.restype = None
    pool = ThreadPoolExecutor(max(1, torch.get_num_threads()))

    def resample(x: Tensor, matrix: Tensor, bilinear: bool, size: tuple[int, int]) -> Tensor:
        """Resample (B, C, H, W) float32 or bytes by maps (B, 2, 3) to a size, on all threads."""

        def part(*tensors: Tensor) -> None:
            calls[x.dtype](
                *(t.data_ptr() for t in tensors), *tensors[0].shape, *size, int(bilinear)
            )

        x, matrix = x.contiguous(), matrix.contiguous().float()
        out = torch.empty(*x.shape[:2], *size)
        share = -(-len(x) // max(1, torch.get_num_threads())) or 1
        run = pool.map if len(x) > share else map
        list(run(part, *(tensor.split(share) for tensor in (x, matrix, out))))
        return out

    return resample
