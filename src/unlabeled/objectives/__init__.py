"""Pure functions from projections to a scalar loss.

Two shapes of signature only: `f(a, b, …)`, where row i of both belong together, and `f(z, y, …)`,
where equal labels do.
"""

from unlabeled.objectives.grouped import siamese, sup_con
from unlabeled.objectives.labelled import known_cross_entropy
from unlabeled.objectives.paired import (
    barlow_twins,
    cosine_distance,
    info_nce,
    nt_xent,
    vicreg,
)

__all__ = [
    "barlow_twins",
    "cosine_distance",
    "info_nce",
    "known_cross_entropy",
    "nt_xent",
    "siamese",
    "sup_con",
    "vicreg",
]
