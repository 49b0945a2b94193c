"""LeJEPA: joint embedding without teacher, queue or stopped gradient (Balestriero, LeCun 2025).

Balestriero, LeCun 2025, "LeJEPA: Provable and Scalable Self-Supervised Learning Without the
Heuristics", equation (LeJEPA), algorithms 1 and 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.augmentations import Augmentation, BYOLAugment, SimCLRAugment
from unlabeled.augmentations.image import halved
from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import mlp
from unlabeled.objectives import sigreg
from unlabeled.parallel import gather


class LeJEPA(Method):
    """The embeddings of all views predict the mean of the global views; their law is Gaussian.

    SIGReg tests each view's embeddings of the batch against N(0, I) along random directions, which
    are the same in all processes, and prevents collapse. The squared distance is the mean over
    dimensions, as in algorithm 2 and the authors' code; equation (LeJEPA) has the sum.

    Args:
        trade_off: λ, weight of SIGReg, 1 − λ of the prediction; 0.05 in the paper.
        directions: number of random directions of SIGReg; 256 in algorithm 1, 1024 in the paper.
        dim: width of the embeddings.
        hidden_dim: width of the two hidden layers of the projector; 2048 in the authors' code.
        local_crops: number of local crops of each image; 6 in the authors' code.
        local_augment: augmentation of a local crop, which is halved in size unless it is smaller.
        augment: augmentation of a global view (default: the data set's).
    """

    may_be_zero = ("local_crops",)
    recipe = Recipe(epochs=100, batch_size=256, lr=2e-3, weight_decay=1e-4)
    recipes = {"dsprites": MINUTES | {"epochs": 38, "lr": 2e-3}}
    presets = {
        "paper": {  # of the authors' README, which names no batch size, for ViT-L; ours is ViT-B
            "encoder": "vit_base", "encoder_args": {"patch": 14, "drop_path": 0.1}, "size": 224,
            "directions": 1024, "hidden_dim": 2048, "local_crops": 6,
            "augment": BYOLAugment((0.3, 1.0), blur=0.5, solarize=0.2),
            "local_augment": BYOLAugment((0.05, 0.3), blur=0.5, solarize=0.2, size=98),
            "epochs": 100, "batch_size": 512, "optimizer": "adamw", "lr": 5e-4, "final_lr": 5e-7,
            "warmup_epochs": 10, "weight_decay": 0.05,
        }
    }  # fmt: skip

    def __init__(
        self,
        encoder: nn.Module,
        *,
        trade_off: float = 0.05,
        directions: int = 256,
        dim: int = 64,
        hidden_dim: int = 512,
        local_crops: int = 0,
        local_augment: Augmentation | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(encoder)
        self.projector = mlp(self.encoder.dim, hidden_dim, hidden_dim, dim)
        self.trade_off, self.directions, self.dim = trade_off, directions, dim
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.local_crops = local_crops
        self.local_augment = local_augment or SimCLRAugment(scale=(0.05, 0.3))
        self.augment = augment or SimCLRAugment()

    def views(self, batch: Batch) -> tuple[Tensor, ...]:
        """Two global views (B, C, H, W), then local crops (B, C, H/2, W/2) or of their own size."""
        crops = (halved(self.local_augment(batch.x), batch.x) for _ in range(self.local_crops))
        return self.augment(batch.x), self.augment(batch.x), *crops

    def project(self, x: Tensor) -> Tensor:
        return self.projector(self.encoder(x))  # (B, dim)

    def loss(self, views: tuple[Tensor, ...]) -> Tensor:
        """(1 − λ) · distance from the mean of the global views + λ · SIGReg, mean over views."""
        z = [*self.project(torch.cat(views[:2])).float().chunk(2)]  # (B, dim) each
        if views[2:]:
            z += self.project(torch.cat(views[2:])).float().chunk(len(views) - 2)
        center = (z[0] + z[1]) / 2  # has a gradient, too
        distance = torch.stack([F.mse_loss(v, center) for v in z]).mean()
        directions = self.draw_directions(center.device)
        gaussian = torch.stack([sigreg(gather(v), directions) for v in z]).mean()
        return (1 - self.trade_off) * distance + self.trade_off * gaussian

    def draw_directions(self, device: torch.device) -> Tensor:
        """Random unit vectors (dim, directions), which depend only on the number of the step."""
        generator = torch.Generator().manual_seed(int(self.steps))
        drawn = torch.randn(self.dim, self.directions, generator=generator)
        return F.normalize(drawn, dim=0).to(device)

    def update(self) -> None:
        """The next step has other directions."""
        self.steps += 1
