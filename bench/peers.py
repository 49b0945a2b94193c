"""What the peers need before they can be imported."""

from __future__ import annotations

import functools

import torch


@functools.cache
def define_missing_operators() -> torch.library.Library:
    """Torchvision without its compiled part lacks two operators that it asks for on import."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library  # which lasts as long as it is kept
