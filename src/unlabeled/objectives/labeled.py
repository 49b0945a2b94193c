"""Objectives of batches in which only some rows are labeled."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.objectives.checks import objective
from unlabeled.parallel import mean_of


@objective()
def labeled_cross_entropy(logits: Float[Tensor, "n k"], y: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy of the labeled rows, averaged over those of all processes.

    Args:
        logits: (n, k) of each class.
        y: (n,) classes, −1 if unlabeled.

    Returns:
        a scalar ≥ 0; 0 if no row is labeled.
    """
    return mean_of(F.cross_entropy(logits, y, ignore_index=-1, reduction="none"), y >= 0)
