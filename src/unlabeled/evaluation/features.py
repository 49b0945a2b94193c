"""What an encoder sees, in eval mode."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from unlabeled.datasets.base import Pictures, blocks, to_float


def labeled(z: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows that have a label: features (N, …) and classes (N,) without those of class −1."""
    known = y >= 0
    return (z, y) if known.all() else (z[known], y[known])


@torch.no_grad()
def embed(
    encoder: nn.Module,
    x: np.ndarray | Pictures,
    span: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 500,
) -> np.ndarray:
    """Features of pictures: (N, C, H, W) -> (N, dim) float32.

    In eval mode, in float32 and on the encoder's device; the encoder's mode is put back afterwards.
    """
    was_training = encoder.training
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    encoder.eval()
    parts = []
    for part in blocks(x, batch_size):
        pictures = to_float(torch.from_numpy(part).to(device), span)
        parts.append(encoder(pictures).float().cpu().numpy())
    encoder.train(was_training)
    return np.concatenate(parts) if parts else np.zeros((0, encoder.dim), np.float32)  # type: ignore[arg-type]
