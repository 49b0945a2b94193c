"""Objectives of batches in which only some rows have a label."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.objectives.checks import objective
from unlabeled.parallel import mean_of


@objective()
def labeled_cross_entropy(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy of the rows with a label, the mean over those of all processes; 0 of none.

    Args:
        logits: of each class.
        y: the classes, −1 where unknown.
    """
    return mean_of(F.cross_entropy(logits, y, ignore_index=-1, reduction="none"), y >= 0)
