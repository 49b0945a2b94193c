"""What methods remember of earlier batches: queues of embeddings, and clusters of them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.parallel import gather


class Queue(nn.Module):
    """Queue of the latest embeddings of all processes; random unit vectors at first.

    He et al. 2020, section 3.1.

    Args:
        size: number of embeddings.
        dim: of the embeddings.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.rows: Tensor
        self.register_buffer("rows", F.normalize(torch.randn(size, dim), dim=1))
        self.pointer: Tensor
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self.filled: Tensor
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def after(self, z: Tensor) -> Tensor:
        """The rows with the oldest replaced by z (B, dim), as a new tensor; all of z, if longer."""
        if len(z) >= len(self.rows):
            return z
        return self.rows.index_copy(0, self._oldest(len(z)), z)

    def latest(self) -> Tensor:
        """The embeddings so far, without the random ones of the start: (N, dim)."""
        return self.rows[: int(self.filled)]

    @torch.no_grad()
    def enqueue(self, z: Tensor) -> None:
        """Replace the oldest rows by z (B, dim) of all processes."""
        z = gather(z)[: len(self.rows)]
        self.rows[self._oldest(len(z))] = z
        self.pointer.copy_((self.pointer + len(z)) % len(self.rows))
        self.filled.copy_((self.filled + len(z)).clamp(max=len(self.rows)))

    def _oldest(self, number: int) -> Tensor:
        rows = torch.arange(min(number, len(self.rows)), device=self.rows.device)
        return (self.pointer + rows) % len(self.rows)


@torch.no_grad()
def shuffled_keys(
    network: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, parts: int
) -> tuple[Tensor, ...]:
    """Outputs of a network for samples x (B, …) in random parts of 2 or more.

    Each part has BatchNorm statistics of its own, so that keys do not share those of their queries,
    which would identify them (He et al. 2020, section 3.3).
    """
    order = torch.randperm(len(x), device=x.device)
    pieces = x[order].tensor_split(min(parts, max(1, len(x) // 2)))
    outputs = zip(*(network(piece) for piece in pieces), strict=True)
    return tuple(torch.cat(rows)[order.argsort()] for rows in outputs)


@torch.no_grad()
def nearest(rows: Tensor, z: Tensor, number: int = 1) -> Tensor:
    """The rows (N, dim) most similar to each of z (B, dim), all unit vectors; without gradient.

    Returns:
        (B, number, dim), the most similar first; all rows, if there are fewer.
    """
    with torch.autocast(z.device.type, enabled=False):
        return rows[(z.float() @ rows.T).topk(min(number, len(rows))).indices]


def spherical_kmeans(x: Tensor, clusters: int, seed: int, iterations: int = 10) -> Tensor:
    """Centers (clusters, dim) of unit vectors x (N, dim), unit vectors as well.

    They are initialized as rows drawn by the seed, equal in all processes; empty ones do not move.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    centers = x[order[torch.arange(clusters) % len(x)].to(x.device)]
    for _ in range(iterations):
        cluster = assign(x, centers)
        sums = torch.zeros_like(centers).index_add_(0, cluster, x)
        has_rows = cluster.bincount(minlength=clusters) > 0
        centers = torch.where(has_rows[:, None], F.normalize(sums, dim=1), centers)
    return centers


def assign(x: Tensor, centers: Tensor) -> Tensor:
    """Index of the most similar center (K, dim) to each of x (N, dim), in parts of the rows."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.cat([(part @ centers.T).argmax(1) for part in x.split(2**14)])
