"""Contexts that restore modes of modules, random generators, and PyTorch's settings."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Context with modules in eval mode; afterwards each submodule is in its previous mode.

    `module.train(module.training)` is not enough: it gives all submodules the mode of the outermost
    one, so that a layer frozen in eval mode would update its statistics from then on.
    """
    modes = [(layer, layer.training) for module in modules for layer in module.modules()]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


@contextmanager
def untracked(module: nn.Module) -> Iterator[None]:
    """Context in which BatchNorm's running statistics are not updated.

    They still take part, so that autograd stores the same tensors as outside.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, _, count in before:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if count is None else count.clone()
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count


def seed_generators(seed: int) -> None:
    """As `torch.manual_seed`, without the time it takes for devices that are not there."""
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def preserve_rng(seed: int | None = None) -> Iterator[None]:
    """Context that restores the global random state of PyTorch, NumPy and Python, on all devices.

    Also after an error; also a decorator of functions.

    Args:
        seed: seed of PyTorch's generators inside the context (default: their current state).
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            if seed is not None:
                torch.manual_seed(seed)
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        if mps is not None:
            torch.mps.set_rng_state(mps)


@contextmanager
def preserve_settings() -> Iterator[None]:
    """Context that restores the global settings that Lightning's Trainer changes.

    Deterministic algorithms, cuDNN's settings, precision of matrix products, number of threads, and
    the environment variables of these.
    """

    def environment() -> dict[str, str]:
        prefixes = "CUBLAS_WORKSPACE_CONFIG", "PL_"
        return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}

    cudnn = torch.backends.cudnn
    variables, precision = environment(), torch.get_float32_matmul_precision()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    choices, threads = (cudnn.benchmark, cudnn.deterministic), torch.get_num_threads()
    try:
        yield
    finally:
        for name in environment().keys() - variables:
            del os.environ[name]
        os.environ.update(variables)
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        cudnn.benchmark, cudnn.deterministic = choices
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
