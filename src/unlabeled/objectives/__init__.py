"""Pure functions from embeddings to a scalar loss.

There are two signatures: `f(a, b, …)`, where row i of a and of b is a positive pair, and
`f(z, y, …)`, where rows of equal labels are. `koleo(z)` and `sigreg(z, directions)` know no pairs.
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

__all__ = [
    "backend", "barlow_twins", "clip", "contrastive", "cosine_distance", "dino", "hinge",
    "info_nce", "koleo", "labeled_cross_entropy", "lifted_structure", "lmnn", "mahalanobis",
    "n_pair", "nce", "nt_xent", "siamese", "siglip", "sigreg", "soft_nearest_neighbor", "sup_con",
    "triplet",
    "use_backend", "vicreg",
]  # fmt: skip
