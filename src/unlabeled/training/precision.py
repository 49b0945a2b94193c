"""Precision of a training: bf16, fp16 with a gradient scaler, or fp32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.errors import notice

SMALLEST_SCALE = 2.0**-10
"""Minimum loss scale in fp16, which each overflow of a gradient halves; below, training stops."""


def choose_precision(precision: str, accelerator: str) -> str:
    """'auto' -> bf16 if the hardware multiplies it faster than fp32, fp16 on older GPUs."""
    if precision != "auto":
        return precision
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    gains = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if gains() else "fp32"


def precision_of(precision: str, accelerator: str) -> dict[str, Any]:
    """Arguments of the Trainer for fp32, bf16 or fp16."""
    if precision != "fp16":
        return {"precision": "bf16-mixed" if precision == "bf16" else "32-true"}
    from lightning.pytorch.plugins import MixedPrecision

    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"  # Lightning itself refuses fp16 on CPUs
    return {"plugins": [MixedPrecision("16-mixed", device, torch.amp.GradScaler(device))]}


def say_skipped(skipped: int, steps: int) -> None:
    """A notice of how many optimizer steps fp16 skipped."""
    few = "the first ones find the scale of the loss"
    many = "that many are a loss: try a lower --lr, or --precision fp32"
    notice(
        f"{skipped:,} of {steps:,} optimizer steps were skipped, since gradients overflowed in "
        f"fp16; {many if skipped > 0.1 * steps + 20 else few}"
    )


@contextmanager
def exact_single_pixels(module: nn.Module) -> Iterator[None]:
    """Context in which convolutions across a single pixel run in float32.

    On CPUs, where a map has one pixel in a dimension in which the kernel is wider, some weights see
    only padding. In bf16, oneDNN then leaves part of the output (Conv3d) or of the gradient
    (strides above 1) uninitialized.
    """

    def again(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        x, kernel = inputs[0], layer.kernel_size
        single = any(n == 1 < k for n, k in zip(x.shape[-len(kernel) :], kernel, strict=True))
        if not single or x.device.type != "cpu" or output.dtype != torch.bfloat16:
            return output
        with torch.autocast("cpu", enabled=False):
            return layer._conv_forward(x.float(), layer.weight, layer.bias).bfloat16()

    hooks = [
        layer.register_forward_hook(again)
        for layer in module.modules()
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
