"""Pure functions from projections to a scalar loss.

Two shapes of signature only: `f(a, b, …)`, where row i of both belong together, and `f(z, y, …)`,
where equal labels do.
"""

from unlabeled.objectives.paired import nt_xent

__all__ = ["nt_xent"]
