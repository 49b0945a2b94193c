"""Prepare the import of the libraries that are compared."""

from __future__ import annotations

import functools

import torch


@functools.cache
def define_missing_operators() -> torch.library.Library:
    """Define two operators that torchvision without its compiled part looks up on import."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library  # which lasts as long as it is kept


define_missing_operators()  # before Lightning is imported, whose parts import torchvision
