"""A small U-Net for diffusion; the maps on the way down give the features.

Ronneberger, Fischer, Brox 2015; with residual blocks and a time embedding as in Ho, Jain, Abbeel
2020, "Denoising Diffusion Probabilistic Models", appendix B.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders.base import Encoder, GlobalPool
from unlabeled.errors import UserError


def unet(
    channels: int = 1, size: tuple[int, int] = (28, 28), width: int = 16, time: float = 0.1
) -> Encoder:
    """U-Net of three scales: `7·width` features (112), the means of a map of each.

    Args:
        width: channels of the first scale, a multiple of 8; each next scale has twice as many.
        time: diffusion time at which features are computed, from 0 (clean image) to 1 (noise).
    """
    if not 0 <= time <= 1:
        raise UserError(f"time is {time}, but must be from 0 to 1")
    if width % 8:
        raise UserError(f"width is {width}, but must be a multiple of 8")
    return UNet(channels, width, time)


def alpha_bar(time: Tensor) -> Tensor:
    """Cosine schedule ᾱ(t), the share of the variance that is image, t from 0 to 1.

    Source: Nichol, Dhariwal 2021, "Improved Denoising Diffusion Probabilistic Models", eq. 17.
    """
    signal = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
    return (signal / math.cos(0.008 / 1.008 * math.pi / 2) ** 2).clamp(1e-4, 1)


class UNet(Encoder):
    """Down to a quarter of the side and up again, with skip connections between equal scales.

    Features are the means of the maps on the way down: a single one knows less of the class.
    """

    def __init__(self, channels: int, width: int, time: float) -> None:
        middle, wide = 2 * width, 4 * width
        super().__init__([], GlobalPool(), width + middle + wide)
        self.time, self.condition_dim, self.width = time, wide, width
        self.time_mlp = nn.Sequential(nn.Linear(width, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.input_conv = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(
            [_Block(width, width, wide), _Block(width, middle, wide), _Block(middle, wide, wide)]
        )
        self.downsample = nn.ModuleList(nn.Conv2d(c, c, 3, 2, 1) for c in (width, middle))
        self.attention, self.middle = _Attention(wide), _Block(wide, wide, wide)
        self.up = nn.ModuleList(_Block(2 * c, c, wide) for c in (wide, middle, width))
        self.upsample = nn.ModuleList(nn.Conv2d(2 * c, c, 3, padding=1) for c in (middle, width))
        self.output_conv = _norm_conv(width, channels)
        nn.init.zeros_(self.output_conv[2].weight)  # type: ignore[arg-type]
        self.no_condition: Tensor  # what a conditional model adds for none; features are of that
        self.register_buffer("no_condition", torch.zeros(wide))

    def velocity(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        """√ᾱ · noise − √(1 − ᾱ) · image, the v of Salimans, Ho 2022, predicted from noisy images
        (B, C, H, W) at times (B,), given a condition (B, condition_dim).
        """
        embedding = self.embed_time(time, condition)
        skips, x = self.encode(x, embedding)
        x = self.middle(self.attention(x), embedding)
        for i, block in enumerate(self.up):
            x = block(torch.cat([x, skips.pop()], 1), embedding)
            if i < 2:
                x = F.interpolate(x, skips[-1].shape[2:], mode="nearest")
                x = self.upsample[i](x)
        return self.output_conv(x)

    def embed_time(self, time: Tensor, condition: Tensor | None = None) -> Tensor:
        """Sinusoidal embedding of the time (B,), plus the condition: (B, condition_dim)."""
        half = self.width // 2
        rates = (torch.arange(half, device=time.device) / half * -9.2).exp()
        waves = 1000 * time[:, None] * rates
        embedding = self.time_mlp(torch.cat([waves.sin(), waves.cos()], 1))
        return embedding if condition is None else embedding + condition

    def encode(self, x: Tensor, embedding: Tensor) -> tuple[list[Tensor], Tensor]:
        """Maps of the skip connections, largest first, and the lowest map."""
        x = self.input_conv(x)
        skips: list[Tensor] = []
        for i, block in enumerate(self.down):
            x = block(x, embedding)
            skips.append(x)
            if i < 2:
                x = self.downsample[i](x)
        return skips, x

    def maps(self, x: Tensor) -> list[Tensor]:
        """A map of each scale, of images in [0, 1], which are scaled as at the features' time, but
        have no noise.
        """
        time = torch.full((len(x),), self.time, device=x.device)
        embedding = self.embed_time(time, self.no_condition)
        scaled = (2 * x - 1) * alpha_bar(time).sqrt()[:, None, None, None]
        skips, lowest = self.encode(scaled, embedding)
        return [*skips[:2], self.middle(self.attention(lowest), embedding)]

    def map(self, x: Tensor) -> Tensor:
        """All of them at the resolution of the lowest, (B, 7·width, H/4, W/4)."""
        return _joined(self.maps(x))

    def maps_and_features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The maps, and the features (B, 7·width)."""
        maps = self.maps(x)
        return maps, self.summary(_joined(maps))


def _joined(maps: list[Tensor]) -> Tensor:
    rows, columns = maps[-1].shape[2:]
    return torch.cat([F.adaptive_avg_pool2d(each, (rows, columns)) for each in maps], 1)


def _norm_conv(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.GroupNorm(8, c_in), nn.SiLU(), nn.Conv2d(c_in, c_out, 3, padding=1))


class _Block(nn.Module):
    """Residual block of two convolutions; the time embedding is added between them."""

    def __init__(self, c_in: int, c_out: int, condition_dim: int) -> None:
        super().__init__()
        self.first = _norm_conv(c_in, c_out)
        self.project = nn.Linear(condition_dim, c_out)
        self.second = _norm_conv(c_out, c_out)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.first(x) + self.project(embedding)[:, :, None, None]
        return self.shortcut(x) + self.second(h)


class _Attention(nn.Module):
    """Residual self-attention over all positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)[:, None].chunk(3, 3)
        attended = F.scaled_dot_product_attention(q, k, v)[:, 0]  # (B, positions, width)
        return x + self.out(attended.transpose(1, 2).unflatten(2, x.shape[2:]))


class CaptionEmbedding(nn.Module):
    """Embeds captions of classes by a GRU over their words.

    Args:
        names: the captions of classes 0, 1, …; the class after the last has no words.
        dim: width of the embedding.
    """

    def __init__(self, names: tuple[str, ...], dim: int) -> None:
        super().__init__()
        captions = [name.lower().replace(",", " ").split() for name in names]
        words = sorted({word for caption in captions for word in caption})
        longest = max((len(caption) for caption in captions), default=1)
        rows = [[words.index(w) + 1 for w in c] + [0] * (longest - len(c)) for c in captions]
        self.tokens: Tensor
        self.register_buffer("tokens", torch.tensor([*rows, [0] * longest]), persistent=False)
        self.embedding = nn.Embedding(len(words) + 1, dim // 2, padding_idx=0)
        self.gru = nn.GRU(dim // 2, dim, batch_first=True)

    def forward(self, labels: Tensor) -> Tensor:
        """Classes (B,) -> (B, dim)."""
        return self.gru(self.embedding(self.tokens[labels]))[1][0]
