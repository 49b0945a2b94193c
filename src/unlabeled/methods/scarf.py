"""SCARF: contrastive learning of tables by random feature corruption (Bahri et al. 2022).

Bahri, Jiang, Tay, Metzler 2022, "SCARF: Self-Supervised Contrastive Learning using Random Feature
Corruption", algorithm 1.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from unlabeled.core import Batch, Method, Recipe
from unlabeled.errors import UserError
from unlabeled.modality import Table
from unlabeled.objectives import info_nce
from unlabeled.parallel import gather


class SCARF(Method):
    """A row and the same row with random columns replaced by those of other rows are a pair.

    A replaced value is drawn from its column's empirical distribution: that of the batch, which is
    itself drawn at random from the training rows, where the paper draws from all of them. The
    values that stand for a word change together. The paper divides the sum of the loss by the
    number of rows, which only adds a constant, and stops by the loss of held-out rows; here
    `epochs` decides.

    Args:
        corruption_rate: c, share of the columns that are replaced, in (0, 1].
        dim: width of the projection.
        temperature: τ of the loss.
        widths: values that each column of the data becomes (default: 1 each).
    """

    modality = (Table,)
    recipe = Recipe(
        epochs=200, batch_size=128, optimizer="adam", lr=1e-3, schedule="constant", weight_decay=0.0
    )

    def __init__(
        self,
        encoder: nn.Module,
        *,
        corruption_rate: float = 0.6,
        dim: int = 256,
        temperature: float = 1.0,
        widths: tuple[int, ...] = (),
    ) -> None:
        super().__init__(encoder)
        if not 0 < corruption_rate <= 1:
            raise UserError(
                f"corruption_rate is {corruption_rate}; give a share above 0, at most 1"
            )
        d = self.encoder.dim
        self.head = nn.Sequential(nn.Linear(d, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.corruption_rate, self.temperature = corruption_rate, temperature
        self.widths = widths

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The rows (B, 1, 1, D), and the same with floor(c·M) of the M columns replaced."""
        x = batch.x.flatten(1)  # (B, D)
        widths = torch.tensor(self.widths or [1] * x.shape[1], device=x.device)  # (M,)
        order = torch.rand(len(x), len(widths), device=x.device).argsort(1).argsort(1)
        replaced = order < max(1, int(self.corruption_rate * len(widths) + 1e-9))  # (B, M)
        rows = torch.randint(len(x), replaced.shape, device=x.device)
        column = torch.arange(len(widths), device=x.device).repeat_interleave(widths)  # (D,)
        drawn = x.gather(0, rows[:, column])
        return batch.x, torch.where(replaced[:, column], drawn, x).view_as(batch.x)

    def project(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """InfoNCE: a row recognizes its corrupted self among those of all processes' batch."""
        z, corrupted = (gather(z) for z in self.project(torch.cat(views)).float().chunk(2))
        return info_nce(normalize(z, dim=1), normalize(corrupted, dim=1), self.temperature)
