"""Pure functions from embeddings to a scalar loss.

There are three signatures: `f(a, b, …)`, where row i of a and of b is a positive pair;
`f(z, y, …)`, where rows of equal labels are; and `f(z, …)` of several views of samples, (n, k, d).
"""

from unlabeled.objectives.grouped import (
    contrastive,
    lifted_structure,
    lmnn,
    mahalanobis,
    siamese,
    soft_nearest_neighbor,
    sup_con,
    triplet,
)  # fmt: skip
from unlabeled.objectives.labeled import labeled_cross_entropy
from unlabeled.objectives.paired import (
    barlow_twins,
    clip,
    cosine_distance,
    dclw,
    dino,
    hinge,
    info_nce,
    n_pair,
    nce,
    nt_xent,
    vicreg,
)  # fmt: skip
from unlabeled.objectives.similarity import backend, use_backend
from unlabeled.objectives.views import emp_ssl, frossl, mmcr, ssl_ey, wmse

__all__ = [
    "backend", "barlow_twins", "clip", "contrastive", "cosine_distance", "dclw", "dino", "emp_ssl",
    "frossl", "hinge", "info_nce", "labeled_cross_entropy", "lifted_structure", "lmnn",
    "mahalanobis", "mmcr", "n_pair", "nce", "nt_xent", "siamese", "soft_nearest_neighbor",
    "ssl_ey", "sup_con", "triplet", "use_backend", "vicreg", "wmse",
]  # fmt: skip
