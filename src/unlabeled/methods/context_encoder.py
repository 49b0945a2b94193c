"""Context encoder: feature learning by inpainting (Pathak et al. 2016).

Pathak et al. 2016, "Context Encoders: Feature Learning by Inpainting", eq. 1–3.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.heads import Discriminator, deconv
from unlabeled.modality import Images
from unlabeled.parallel import sum_over


class ContextEncoder(Method):
    """L = λ_rec · L_rec + λ_adv · L_adv: a generator inpaints, a discriminator sees its results.

    L_rec is the squared error within the masked region. Beside the paper:

    - the region is filled with the mean of the image's visible pixels, where the paper takes the
      data set's mean, so that the encoder sees nothing of its content;
    - the discriminator sees complete images, where the paper's sees the region alone; it has the
      hinge loss and spectral normalization, which need no balancing;
    - λ_adv is 0.02 instead of 0.001, which leaves results as blurred as without a discriminator;
    - all of the region counts alike; in the paper a border of 7 pixels overlaps with the context
      and counts ten times.

    Args:
        mask: "center" or random "blocks", each a quarter of the area; or "top", the upper half.
        reconstruction_weight: λ_rec; the paper's 0.999.
        adversarial_weight: λ_adv; 0 omits the discriminator from the generator's loss.
        width: channels of the generator's last layer and the discriminator's first.
        shape: channels, height and width of the images (default: the data set's).
    """

    modality = (Images,)
    optimized_modules = ("generator", "discriminator")
    recipe = Recipe(epochs=50, batch_size=128, optimizer="adam", lr=1e-3, weight_decay=0.0)
    recipes = {name: MINUTES | {"epochs": 12, "lr": 1e-3} for name in ("fashion_mnist", "cifar10")}

    def __init__(
        self,
        encoder: nn.Module,
        *,
        mask: Literal["center", "blocks", "top"] = "blocks",
        reconstruction_weight: float = 0.999,
        adversarial_weight: float = 0.02,
        width: int = 16,
        shape: tuple[int, int, int] = (3, 32, 32),
    ) -> None:
        super().__init__(encoder)
        self.generator: Any = nn.Sequential(self.encoder, deconv(self.encoder.dim, shape, width))
        self.discriminator = Discriminator(shape, width)
        self.mask, self.reconstruction_weight = mask, reconstruction_weight
        self.adversarial_weight = adversarial_weight

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W), and where they are masked (B, 1, H, W)."""
        return batch.x, region_mask(batch.x, self.mask)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """The generator's: reconstruction error within the mask and adversarial loss."""
        x, mask = views
        inpainted = self.inpaint(x, mask)
        error = sum_over(((inpainted - x).pow(2) * mask).sum())
        error = error / (sum_over(mask.sum()) * x.shape[1])  # masks differ between processes
        if not self.adversarial_weight:
            return self.reconstruction_weight * error
        adversarial = -self.discriminator(torch.where(mask, inpainted, x)).float().mean()
        return self.reconstruction_weight * error + self.adversarial_weight * adversarial

    def optimizer_steps(self, views: tuple[Tensor, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The generator, then the discriminator on results of the updated generator."""
        yield "generator", self.loss(views)
        x, mask = views
        with torch.no_grad():
            fake = torch.where(mask, self.inpaint(x, mask), x)
        real_score, fake_score = self.discriminator(torch.cat([x, fake])).float().chunk(2)
        yield "discriminator", (1 - real_score).relu().mean() + (1 + fake_score).relu().mean()

    def update(self) -> None:
        self.discriminator.update()

    def inpaint(self, x: Tensor, mask: Tensor) -> Tensor:
        """Complete images from their visible pixels (B, C, H, W), in [0, 1]."""
        return self.generator(masked(x, mask)).float().sigmoid()

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        mask = region_mask(x, self.mask)
        inpainted = torch.where(mask, self.inpaint(x, mask), x)
        masked = x.masked_fill(mask, 0.5)
        return {"image, masked, inpainted": torch.stack([x, masked, inpainted], 1)}


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """Images (B, C, H, W) with each channel's visible mean where `mask` (B, 1, H, W) is true."""
    visible = (~mask).sum((2, 3), keepdim=True).clamp(min=1)
    mean = x.masked_fill(mask, 0).sum((2, 3), keepdim=True) / visible
    return torch.where(mask, mean, x)


def region_mask(x: Tensor, kind: str) -> Tensor:
    """Where images (B, C, H, W) are masked: (B, 1, H, W), bool."""
    n, _, h, w = x.shape
    mask = torch.zeros(n, 1, h, w, dtype=torch.bool, device=x.device)
    if kind == "center":
        mask[:, :, h // 4 : h - h // 4, w // 4 : w - w // 4] = True
    elif kind == "top":
        mask[:, :, : h // 2] = True
    else:
        across = (torch.arange(w, device=x.device) + 0.5) / w
        down = (torch.arange(h, device=x.device) + 0.5) / h
        for _ in range(4):  # squares of a quarter of the side, which may overlap
            center = torch.rand(n, 2, device=x.device) * 0.75 + 0.125
            in_x = (across - center[:, :1]).abs() < 0.125
            in_y = (down - center[:, 1:]).abs() < 0.125
            mask |= (in_y[:, :, None] & in_x[:, None, :])[:, None]
    return mask
