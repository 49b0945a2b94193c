"""Resampling, blur and colors in C++, built once if there is a compiler."""

import ctypes
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from unlabeled.utils.native import library

SOURCE = Path(__file__).with_name("resample.cpp")
FILTERS = Path(__file__).with_name("filters.cpp")
FLAGS = ("-O3", "-march=native", "-ffp-contract=off")
Resample = Callable[[Tensor, Tensor, bool, tuple[int, int]], Tensor]
Blur = Callable[[Tensor, Tensor], Tensor]
"""From images (B, C, H, W) and kernels (B, 2r + 1)."""
Recolor = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From images (B, 3, H, W), matrices (B, 3, 3) and what is added, (B,)."""


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

    def resample(x: Tensor, matrix: Tensor, bilinear: bool, size: tuple[int, int]) -> Tensor:
        """Resample (B, C, H, W) float32 or bytes by maps (B, 2, 3) to a size, on all threads."""

        def part(*tensors: Tensor) -> None:
            calls[x.dtype](
                *(t.data_ptr() for t in tensors), *tensors[0].shape, *size, int(bilinear)
            )

        return _on_all_threads(part, torch.empty(*x.shape[:2], *size), x, matrix.float())

    return resample


@functools.cache
def compiled_filters() -> tuple[Blur, Recolor] | None:
    """Blur and colors in C++, or None if they cannot be built or `UNLABELED_COMPILE=0` is set."""
    built = library(FILTERS, FLAGS, "blur and color augmentations are slower")
    if built is None:
        return None
    built.blur.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_int64] * 5
    built.recolor.argtypes = [ctypes.c_void_p] * 4 + [ctypes.c_int64] * 2
    built.blur.restype = built.recolor.restype = None

    def blur(x: Tensor, kernels: Tensor, out: Tensor) -> None:
        radius = kernels.shape[1] // 2
        built.blur(x.data_ptr(), kernels.data_ptr(), out.data_ptr(), *x.shape, radius)

    def recolor(x: Tensor, matrix: Tensor, shift: Tensor, out: Tensor) -> None:
        addresses = (tensor.data_ptr() for tensor in (x, matrix, shift, out))
        built.recolor(*addresses, len(x), x[0, 0].numel())

    return (
        lambda x, kernels: _on_all_threads(blur, torch.empty(x.shape), x, kernels),
        lambda x, matrix, shift: _on_all_threads(recolor, torch.empty(x.shape), x, matrix, shift),
    )


_pool = functools.cache(ThreadPoolExecutor)


def _on_all_threads(part: Callable[..., None], out: Tensor, *tensors: Tensor) -> Tensor:
    """Fill `out`: each thread its share of the images, from the same share of the tensors."""
    threads = max(1, torch.get_num_threads())
    share = -(-len(out) // threads) or 1
    run = _pool(threads).map if len(out) > share else map
    list(run(part, *(tensor.contiguous().split(share) for tensor in tensors), out.split(share)))
    return out


def filters_for(x: Tensor) -> tuple[Blur, Recolor] | None:
    """Those functions, where x is float32 on the CPU without gradient."""
    is_plain = x.device.type == "cpu" and x.dtype == torch.float32 and not x.requires_grad
    return compiled_filters() if is_plain and len(x) else None
