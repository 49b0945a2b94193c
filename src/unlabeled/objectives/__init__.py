"""Pure functions from embeddings to a scalar loss.

There are three signatures: `f(a, b, …)`, where row i of a and of b is a positive pair;
`f(z, y, …)`, where rows of equal labels are; and `f(z, …)` of several views of samples, (n, k, d).
`koleo(z)` and `sigreg(z, directions)` know no pairs.
"""

from unlabeled.objectives.distribution import sigreg
from unlabeled.objectives.grouped import (
    contrastive,
    koleo,
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
    siglip,
    vicreg,
)  # fmt: skip
from unlabeled.objectives.similarity import backend, use_backend
from unlabeled.objectives.views import emp_ssl, frossl, mmcr, ssl_ey, wmse

__all__ = [
    "backend", "barlow_twins", "clip", "contrastive", "cosine_distance", "dclw", "dino",
    "emp_ssl", "frossl", "hinge", "info_nce", "koleo", "labeled_cross_entropy",
    "lifted_structure", "lmnn", "mahalanobis", "mmcr", "n_pair", "nce", "nt_xent", "siamese",
    "siglip", "sigreg", "soft_nearest_neighbor", "ssl_ey", "sup_con", "triplet", "use_backend",
    "vicreg", "wmse",
]  # fmt: skip
