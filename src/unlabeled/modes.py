"""Train mode and eval mode, put back as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """These modules in eval mode while this lasts; then each of their layers in its own mode again.

    `module.train(was_training)` would not do: a BatchNorm that was frozen within a module that
    learns would learn, too, from then on.
    """
    before = [(layer, layer.training) for module in modules for layer in module.modules()]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for layer, training in before:
            layer.training = training
