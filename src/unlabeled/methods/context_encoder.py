"""Context encoder: paint what is missing so that a critic cannot tell.

Pathak, Krähenbühl, Donahue, Darrell, Efros 2016, "Context Encoders: Feature Learning by
Inpainting", eq. 1–3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import Critic, deconv
from unlabeled.parallel import sum_over


class ContextEncoder(Method):
    """L = λ_rec · L_rec + λ_adv · L_adv; two optimized modules, a painter and a critic, take turns.

    The hole is filled with the mean of each image's visible pixels, so that the painter sees
    nothing of its content; the paper fills it with the mean of the data set. L_rec is the squared
    error within the hole. The critic sees whole images, real ones and ones with the hole filled,
    where the paper's sees the hole's content alone; it has the hinge loss and spectral norms, which
    do not need the paper's care for balance; it weighs 0.02 for the paper's 0.001, at which
    fillings stay as blurred as without it. The whole hole counts alike; the paper lets a rim of 7
    pixels overlap with what is seen, and count ten times.

    Args:
        hole: "center" is a quarter of the area; "blocks" are random squares of as much in all;
            "top" is the upper half, to be told from the lower.
        reconstruction: λ_rec.
        adversary: λ_adv; 0 leaves the critic out of the painter's loss.
        width: of the painter's last layer and of the critic's first.
        shape: channels, height and width of the images; the data set's own unless given.
    """

    optimized_modules = ("painter", "critic")
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adam", lr=1e-3, weight_decay=0.0)
    recipes: ClassVar = {
        name: MINUTES | {"epochs": 12, "lr": 1e-3} for name in ("fashion_mnist", "cifar10")
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        hole: Literal["center", "blocks", "top"] = "blocks",
        reconstruction: float = 0.999,
        adversary: float = 0.02,
        width: int = 16,
        shape: tuple[int, int, int] = (3, 32, 32),
    ) -> None:
        super().__init__(encoder)
        self.painter: Any = nn.Sequential(self.encoder, deconv(self.encoder.dim, shape, width))
        self.critic = Critic(shape, width)
        self.hole, self.weights = hole, (reconstruction, adversary)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """LazyImages (B, C, H, W), and where they are missing (B, 1, H, W)."""
        return batch.x, holes(batch.x, self.hole)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The painter's: error within the hole, and what the critic makes of it."""
        x, missing = views
        drawn = self.drawn(x, missing)
        wrong = sum_over(((drawn - x).pow(2) * missing).sum())
        error = wrong / (sum_over(missing.sum()) * x.shape[1])  # holes differ between processes
        reconstruction, adversary = self.weights
        if not adversary:
            return reconstruction * error
        fooled = -self.critic(torch.where(missing, drawn, x)).float().mean()
        return reconstruction * error + adversary * fooled

    def optimizer_steps(self, views: tuple[Tensor, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The painter, then the critic on what the painter then paints."""
        yield "painter", self.loss(views)
        x, missing = views
        with torch.no_grad():
            filled = torch.where(missing, self.drawn(x, missing), x)
        real, false = self.critic(torch.cat([x, filled])).float().chunk(2)
        yield "critic", (1 - real).relu().mean() + (1 + false).relu().mean()

    def update(self) -> None:
        """The critic's spectral norms follow its weights."""
        self.critic.update()

    def drawn(self, x: Tensor, missing: Tensor) -> Tensor:
        """Whole images from what is visible of them (B, C, H, W), in [0, 1]."""
        return self.painter(covered(x, missing)).float().sigmoid()

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """LazyImages, with their hole, and filled."""
        missing = holes(x, self.hole)
        filled = torch.where(missing, self.drawn(x, missing), x)
        return {"image, hole, filling": torch.stack([x, x.masked_fill(missing, 0.5), filled], 1)}


def covered(x: Tensor, missing: Tensor) -> Tensor:
    """Images (B, C, H, W) with each channel's visible mean wherever `missing` (B, 1, H, W)."""
    visible = (~missing).sum((2, 3), keepdim=True).clamp(min=1)
    mean = x.masked_fill(missing, 0).sum((2, 3), keepdim=True) / visible
    return torch.where(missing, mean, x)


def holes(x: Tensor, kind: str) -> Tensor:
    """Where images (B, C, H, W) are missing: (B, 1, H, W), bool."""
    n, _, h, w = x.shape
    missing = torch.zeros(n, 1, h, w, dtype=torch.bool, device=x.device)
    if kind == "center":
        missing[:, :, h // 4 : h - h // 4, w // 4 : w - w // 4] = True
    elif kind == "top":
        missing[:, :, : h // 2] = True
    else:
        across = (torch.arange(w, device=x.device) + 0.5) / w
        down = (torch.arange(h, device=x.device) + 0.5) / h
        for _ in range(4):  # squares of a quarter of the side, which may overlap
            center = torch.rand(n, 2, device=x.device) * 0.75 + 0.125
            in_x = (across - center[:, :1]).abs() < 0.125
            in_y = (down - center[:, 1:]).abs() < 0.125
            missing |= (in_y[:, :, None] & in_x[:, None, :])[:, None]
    return missing
