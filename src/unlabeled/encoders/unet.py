"""A small U-Net that tells noise from image; what it finds on the way down are features.

Ronneberger, Fischer, Brox 2015; with residual blocks and the time of diffusion as Ho, Jain, Abbeel
2020, "Denoising Diffusion Probabilistic Models", appendix B.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.errors import UserError


def unet(
    channels: int = 1,
    size: tuple[int, int] = (28, 28),
    width: int = 16,
    time: float = 0.1,
) -> Encoder:
    """U-Net of three scales: `4·width` features (64), the mean of its lowest map.

    Args:
        channels: of the images.
        size: of the images.
        width: of the first scale; each next one is twice as wide.
        time: of diffusion at which features are taken, from 0, a clean image, to 1, noise.
    """
    if not 0 <= time <= 1:
        raise UserError(f"time is {time}, but must be from 0 to 1")
    if width % 8:
        raise UserError(f"a width of {width} is not divided by 8; choose another one")
    return UNet(channels, width, time)


def signal(time: Tensor) -> Tensor:
    """ᾱ(t), the image's share of the variance at a time of 0 to 1 (Nichol, Dhariwal 2021)."""
    found = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (found / math.cos(0.008 / 1.008 * math.pi / 2) ** 2).clamp(1e-4, 1)


class UNet(Encoder):
    """Down to a quarter of the side and up again, with bridges between equal scales.

    Args:
        channels: of the images.
        width: of the first scale.
        time: at which `forward` takes features.
    """

    def __init__(self, channels: int, width: int, time: float) -> None:
        middle, wide = 2 * width, 4 * width
        told = wide
        super().__init__([], GlobalPool(), wide)
        self.time, self.told, self.width = time, told, width
        self.clock = nn.Sequential(nn.Linear(width, told), nn.SiLU(), nn.Linear(told, told))
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(
            [_Block(width, width, told), _Block(width, middle, told), _Block(middle, wide, told)]
        )
        self.shrink = nn.ModuleList(nn.Conv2d(c, c, 3, 2, 1) for c in (width, middle))
        self.look, self.middle = _Attention(wide), _Block(wide, wide, told)
        self.up = nn.ModuleList(_Block(2 * c, c, told) for c in (wide, middle, width))
        self.grow = nn.ModuleList(nn.Conv2d(2 * c, c, 3, padding=1) for c in (middle, width))
        self.leave = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1)
        )
        nn.init.zeros_(self.leave[2].weight)  # type: ignore[arg-type]

    def velocity(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        """√ᾱ · noise − √(1 − ᾱ) · image, the v of Salimans, Ho 2022, of noisy images
        (B, C, H, W) at times (B,), told a condition (B, told).
        """
        told = self.told_at(time, condition)
        bridges, x = self.descend(x, told)
        x = self.middle(self.look(x), told)
        for i, block in enumerate(self.up):
            bridge = bridges.pop()
            x = block(torch.cat([x, bridge], 1), told)
            if i < 2:
                x = F.interpolate(x, bridges[-1].shape[2:], mode="nearest")
                x = self.grow[i](x)
        return self.leave(x)

    def told_at(self, time: Tensor, condition: Tensor | None = None) -> Tensor:
        """What every block is told: the time (B,) as waves, and the condition: (B, told)."""
        rates = torch.exp(
            torch.arange(self.width // 2, device=time.device) / (self.width / 2) * -9.2
        )
        waves = 1000 * time[:, None] * rates
        told = self.clock(torch.cat([waves.sin(), waves.cos()], 1))
        return told if condition is None else told + condition

    def descend(self, x: Tensor, told: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps for the bridges from the largest on, and the lowest map."""
        x = self.enter(x)
        bridges: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x, told)
            bridges.append(x)
            if i < 2:
                x = self.shrink[i](x)
        return bridges, x

    def map(self, x: Tensor) -> Tensor:
        """The lowest map of images in [0, 1] at the features' time, dimmed but without noise."""
        time = torch.full((len(x),), self.time, device=x.device)
        told = self.told_at(time)
        dimmed = (2 * x - 1) * signal(time).sqrt()[:, None, None, None]
        return self.middle(self.look(self.descend(dimmed, told)[1]), told)


class _Block(nn.Module):
    """Two convolutions beside a shortcut; what is told is added between them."""

    def __init__(self, c_in: int, c_out: int, told: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(8, c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1)
        )
        self.tell = nn.Linear(told, c_out)
        self.second = nn.Sequential(
            nn.GroupNorm(8, c_out), nn.SiLU(), nn.Conv2d(c_out, c_out, 3, padding=1)
        )
        self.short = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        h = self.first(x) + self.tell(told)[:, :, None, None]
        return self.short(x) + self.second(h)


class _Attention(nn.Module):
    """Every place looks at all others, beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)[:, None].chunk(3, 3)
        seen = F.scaled_dot_product_attention(q, k, v)[:, 0]  # (B, places, width)
        return x + self.out(seen.transpose(1, 2).unflatten(2, x.shape[2:]))
