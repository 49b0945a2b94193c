"""Quantizers of latent vectors: codes that methods predict."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.errors import UserError


class GumbelQuantizer(nn.Module):
    """Product quantizer by Gumbel softmax: an entry of each of G codebooks, then a linear layer.

    Forward the entry of the largest score is taken, the gradient is that of the softmax
    (straight-through). Scores have weights of deviation 1 at first, entries are uniform in [0, 1),
    as in the authors' code.

    Args:
        dim: width of the latent vectors.
        groups: G, number of codebooks.
        codes: V, number of entries of each.
        width: of all G entries together, and of the output.

    Raises:
        UserError: the groups do not divide the width.

    Source: Baevski et al. 2020, eq. 1; Jang, Gu, Poole 2017.
    """

    def __init__(self, dim: int, groups: int, codes: int, width: int) -> None:
        super().__init__()
        if width % groups:
            raise UserError(f"dim is {width}, which {groups} groups do not divide; change either")
        self.shape = groups, codes
        self.scores = nn.Linear(dim, groups * codes)
        nn.init.normal_(self.scores.weight)
        nn.init.zeros_(self.scores.bias)
        self.entries = nn.Parameter(torch.rand(groups, codes, width // groups))
        self.output = nn.Linear(width, width)

    def forward(
        self, z: Tensor, noise: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, T, dim) and Gumbel noise (B, T, G·V) -> vectors, codes, probabilities.

        Returns:
            vectors (B, T, width); codes (B, T, G); the softmax of the scores without noise and
            temperature, (B, T, G, V).
        """
        scores = self.scores(z).float()
        soft = ((scores + noise) / temperature).unflatten(2, self.shape).softmax(3)
        codes = soft.argmax(3)
        hard = F.one_hot(codes, self.shape[1]).to(soft)
        entries = torch.einsum("btgv,gvd->btgd", hard + soft - soft.detach(), self.entries)
        return self.output(entries.flatten(2)), codes, scores.unflatten(2, self.shape).softmax(3)


class RandomProjectionQuantizer(nn.Module):
    """Fixed quantizer: the nearest of random unit vectors to a random projection, normalized.

    Nothing of it is learned. Vectors are to be standardized before, or few codes are used.

    Args:
        dim: width of the vectors.
        codes: number of codebook vectors.
        width: of these.

    Source: Chiu, Qin, Zhang, Yu, Wu 2022, eq. 1.
    """

    def __init__(self, dim: int, codes: int, width: int) -> None:
        super().__init__()
        self.projection: Tensor
        self.codebook: Tensor
        self.register_buffer("projection", nn.init.xavier_uniform_(torch.empty(width, dim)))
        self.register_buffer("codebook", F.normalize(torch.randn(codes, width), dim=1))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Codes (…,) of vectors (…, dim)."""
        with torch.autocast(x.device.type, enabled=False):
            projected = F.normalize(x.float() @ self.projection.T, dim=-1)
            return (projected @ self.codebook.T).argmax(-1)  # of unit vectors the nearest
