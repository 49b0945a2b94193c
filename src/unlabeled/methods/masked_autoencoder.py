"""Masked autoencoder: most patches are hidden; draw them from the few that are seen.

He, Chen, Xie, Li, Dollár, Girshick 2022, "Masked Autoencoders Are Scalable Vision Learners"; for
networks without tokens Xie et al. 2022, "SimMIM".
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.core import MINUTES, Batch, Method, Recipe
from unlabeled.encoders.attention import TransformerBlock
from unlabeled.encoders.heads import deconv
from unlabeled.encoders.vit import ViT
from unlabeled.errors import UserError


class MaskedAutoencoder(Method):
    """A transformer sees the visible patches only, and a smaller one draws the others.

    The transformer's class token, which is what it embeds afterwards, gathers the visible patches
    and goes into the decoder beside them (the paper's appendix A.1), so that it learns, too.

    A convolutional network sees the image with gray in place of what is hidden. The error is
    counted on hidden patches alone.

    Args:
        share: of the patches that are hidden.
        normalize: whether each patch is drawn less its own mean and over its own deviation; a patch
            of one value, a pixel of one channel, is drawn as it is.
        width: of the drawing transformer, or of the drawing network's last layer.
        depth: blocks of the drawing transformer; 8 in the paper.
        patch: side of a patch; the transformer's own, else an eighth of the image's unless given.
        shape: channels, height and width of the images; the data set's own unless given.
    """

    may_be_zero = ("depth",)
    # The paper's is AdamW at 1.5e-4 per 256 images, weight decay 0.05, 800 epochs.
    recipe = Recipe(epochs=100, batch_size=128, optimizer="adamw", lr=1e-3, weight_decay=0.05)
    recipes: ClassVar = {
        name: MINUTES | {"epochs": 12, "lr": 1e-3} for name in ("fashion_mnist", "cifar10")
    }

    def __init__(
        self,
        encoder: nn.Module,
        *,
        share: float = 0.75,
        normalize: bool = True,
        width: int = 48,
        depth: int = 2,
        patch: int | None = None,
        shape: tuple[int, int, int] = (3, 32, 32),
    ) -> None:
        super().__init__(encoder)
        if not 0 < share < 1:
            raise UserError(f"a share of {share} hides nothing or everything; give 0 to 1")
        channels, height, wide = shape
        own = encoder.patch if isinstance(encoder, ViT) else max(1, min(height, wide) // 8)
        if isinstance(encoder, ViT) and patch not in (None, own):
            raise UserError(f"this transformer's patches are {own} pixels wide, not {patch}")
        self.patch = patch or own
        self.grid = height // self.patch, wide // self.patch
        if math.prod(self.grid) < 2:
            raise UserError(
                f"patches of {self.patch} pixels leave nothing to be seen of images of "
                f"{height}×{wide}; give a smaller --patch, at most half of a side"
            )
        pixels = channels * self.patch**2
        self.share, self.normalize = share, normalize and pixels > 1
        if isinstance(encoder, ViT):
            self.decoder: nn.Module = _Drawing(encoder.dim, width, depth, self.grid, pixels)
        else:
            self.decoder = deconv(self.encoder.dim, shape, width)

    def views(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """LazyImages (B, C, H, W), and their patches in random order (B, N): the first are seen."""
        places = self.grid[0] * self.grid[1]
        return batch.x, torch.rand(len(batch.x), places, device=batch.x.device).argsort(1)

    def loss(self, views: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of the hidden patches."""
        x, order = views
        wanted = self.targets(x)
        hidden = order[:, self.seen :, None].expand(-1, -1, wanted.shape[2])
        return F.mse_loss(self.drawn(x, order).gather(1, hidden), wanted.gather(1, hidden))

    @property
    def seen(self) -> int:
        """How many patches are visible."""
        places = self.grid[0] * self.grid[1]
        return min(places - 1, max(1, round((1 - self.share) * places)))

    def patches(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, C·p·p)."""
        rows, columns = (side * self.patch for side in self.grid)
        return F.unfold(x[:, :, :rows, :columns], self.patch, stride=self.patch).transpose(1, 2)

    def targets(self, x: Tensor) -> Tensor:
        """What is to be drawn, (B, N, C·p·p)."""
        wanted = self.patches(x).float()
        if self.normalize:
            mean, std = wanted.mean(2, keepdim=True), wanted.std(2, keepdim=True)
            wanted = (wanted - mean) / (std + 1e-2)
        return wanted

    def drawn(self, x: Tensor, order: Tensor) -> Tensor:
        """All patches as they are drawn, (B, N, C·p·p)."""
        visible = order[:, : self.seen]
        if isinstance(self.encoder, ViT):
            tokens = self.encoder.stages[0](x).flatten(2)  # (B, dim, N)
            kept = tokens.gather(2, visible[:, None].expand(-1, tokens.shape[1], -1))[:, :, None]
            for block in self.encoder.stages[1:]:
                kept = block(kept)  # (B, dim, 1, seen)
            return self.decoder(self.encoder.summary(kept), kept.squeeze(2), visible).float()
        return self.patches(self.decoder(self.encoder(self.covered(x, visible))).float())

    def covered(self, x: Tensor, visible: Tensor) -> Tensor:
        """Images with gray in place of hidden patches."""
        keep = torch.zeros(len(x), self.grid[0] * self.grid[1], device=x.device)
        keep = keep.scatter_(1, visible, 1).view(-1, 1, *self.grid)
        keep = keep.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3).bool()
        down, right = x.shape[2] - keep.shape[2], x.shape[3] - keep.shape[3]
        return torch.where(F.pad(keep, (0, right, 0, down)), x, 0.5)

    def visualize(self, x: Tensor) -> dict[str, Tensor]:
        """LazyImages, what is seen of them, and what is drawn."""
        _, order = self.views(Batch(x, torch.arange(len(x), device=x.device)))
        drawn = self.drawn(x, order)
        if self.normalize:  # with the true mean and deviation, as the paper's images have it
            own = self.patches(x)
            drawn = drawn * (own.std(2, keepdim=True) + 1e-2) + own.mean(2, keepdim=True)
        sides: Any = [side * self.patch for side in self.grid]
        whole = F.fold(drawn.transpose(1, 2), sides, self.patch, stride=self.patch)
        down, right = x.shape[2] - sides[0], x.shape[3] - sides[1]
        whole = F.pad(whole.clamp(0, 1), (0, right, 0, down))
        seen = self.covered(x, order[:, : self.seen])
        return {"image, what is seen, drawn": torch.stack([x, seen, whole], 1)}


class _Drawing(nn.Module):
    """From the class token and visible tokens to all patches; each hidden one has a token, too."""

    def __init__(
        self, dim: int, width: int, depth: int, grid: tuple[int, int], pixels: int
    ) -> None:
        super().__init__()
        self.enter, self.last = nn.Linear(dim, width), nn.Linear(width, pixels)
        self.hidden = nn.Parameter(torch.randn(width) * 0.02)
        self.places = nn.Parameter(torch.randn(grid[0] * grid[1], width) * 0.02)
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, 3 if width % 3 == 0 else 1) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, summary: Tensor, tokens: Tensor, visible: Tensor) -> Tensor:
        """Class token (B, dim), tokens (B, dim, seen), their places (B, seen) -> (B, N, pixels)."""
        known = self.enter(tokens.transpose(1, 2))  # (B, seen, width)
        every = self.hidden.to(known.dtype).expand(len(known), len(self.places), -1)
        every = every.scatter(1, visible[:, :, None].expand_as(known), known) + self.places
        first = self.enter(summary)[:, None].to(every.dtype)  # it has no place
        every = self.blocks(torch.cat([first, every], 1))[:, 1:]
        return self.last(self.norm(every))
