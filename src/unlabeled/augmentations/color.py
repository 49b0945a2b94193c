"""Color spaces, grayscale and quantized colors.

L*a*b* is CIE 1976 of sRGB with the white point D65: L* is lightness from 0 to 100, a* runs from
green to red, b* from blue to yellow, both about −110 to 110.
"""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from unlabeled.augmentations.kernel import filters_for
from unlabeled.errors import notice

GRAY = (0.299, 0.587, 0.114)
"""Weights of red, green, blue in luminance (ITU-R BT.601)."""
LINEAR = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750),
          (0.0193339, 0.1191920, 0.9503041))  # fmt: skip
"""Linear sRGB to CIE XYZ (IEC 61966-2-1)."""
WHITE = (0.95047, 1.0, 1.08883)
BIN = 10.0
"""Side of a color bin in units of a* and b* (Zhang et al. 2016)."""


def rgb_to_lab(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Convert RGB in [0, 1] to L*a*b*."""
    matrix = x.new_tensor(LINEAR) / x.new_tensor(WHITE)[:, None]
    t = torch.einsum("ij,bjhw->bihw", matrix, _to_linear(x))
    f = torch.where(t > (6 / 29) ** 3, t.clamp(min=1e-8) ** (1 / 3), t * (29 / 6) ** 2 / 3 + 4 / 29)
    fx, fy, fz = f.unbind(1)
    return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], 1)


def lab_to_rgb(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Convert L*a*b* to RGB, clipped to [0, 1]."""
    fy = (x[:, 0] + 16) / 116
    f = torch.stack([fy + x[:, 1] / 500, fy, fy - x[:, 2] / 200], 1)
    t = torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    matrix = torch.linalg.inv(x.new_tensor(LINEAR) / x.new_tensor(WHITE)[:, None])
    return _to_srgb(torch.einsum("ij,bjhw->bihw", matrix, t))


def to_gray(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Gray of the same lightness L*, as RGB."""
    bright = torch.einsum("j,bjhw->bhw", x.new_tensor(LINEAR[1]), _to_linear(x))
    return _to_srgb(bright)[:, None].expand_as(x)


def rgb_to_grayscale(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """Luminance of each pixel."""
    return (x * x.new_tensor(GRAY)[:, None, None]).sum(1, keepdim=True)


@functools.cache
def say_without_color(channels: int) -> None:
    """A notice, given once, of what color augmentations do to images that are not RGB."""
    if channels not in (1, 3):
        notice(
            f"images of {channels} channels have no hue and no saturation: of color augmentations "
            "only brightness and contrast change, alike in all channels, and none become gray"
        )


def adjust_color(
    x: Float[Tensor, "b c h w"],
    brightness: Float[Tensor, " b"],
    contrast: Float[Tensor, " b"],
    saturation: Float[Tensor, " b"],
    hue: Float[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """Adjust brightness, contrast, saturation and hue in this order, then clip to [0, 1].

    Brightness multiplies; contrast scales the difference from the image's mean gray, saturation
    that from each pixel's gray; hue rotates the color circle of YIQ. torchvision's random order,
    clipping between the steps and color circle of HSV are not reproduced.

    Args:
        x: images; saturation and hue apply to three channels only.
        brightness: factors.
        contrast: factors.
        saturation: factors.
        hue: shifts, as fractions of the color circle.
    """
    matrix, shift = color_map(x.mean((2, 3)), brightness, contrast, saturation, hue)
    return map_colors(x, matrix.to(x), shift.to(x))


def color_map(
    mean: Float[Tensor, "b c"],
    brightness: Float[Tensor, " b"],
    contrast: Float[Tensor, " b"],
    saturation: Float[Tensor, " b"],
    hue: Float[Tensor, " b"],
) -> tuple[Float[Tensor, "b c c"], Float[Tensor, " b"]]:
    """`adjust_color` as an affine map of the colors.

    Args:
        mean: color of each image.
        brightness: factors.
        contrast: factors.
        saturation: factors.
        hue: shifts.
    """
    channels = mean.shape[1]
    gray = mean.new_tensor(GRAY if channels == 3 else [1.0] * channels)
    level = brightness * (mean @ (gray / gray.sum()))  # (B,), of the gray image
    matrix = torch.eye(channels, device=mean.device)
    if channels == 3:
        # RGB -> YIQ (FCC NTSC, 1953): Y is gray, I and Q are the plane of hue and saturation.
        yiq = hue.new_tensor([GRAY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
        angle, zero = 2 * math.pi * hue, torch.zeros_like(hue)
        cos, sin = saturation * angle.cos(), saturation * angle.sin()
        entries = [zero + 1, zero, zero, zero, cos, -sin, zero, sin, cos]
        matrix = torch.linalg.inv(yiq) @ torch.stack(entries, 1).view(-1, 3, 3) @ yiq
    return (brightness * contrast)[:, None, None] * matrix, (1 - contrast) * level


def map_colors(
    x: Float[Tensor, "b c h w"], matrix: Float[Tensor, "b c c"], shift: Float[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """Map the color of each pixel, then clip to [0, 1]."""
    if x.shape[1] == 3 and (compiled := filters_for(x)):
        return compiled[1](x, matrix, shift)
    return torch.baddbmm(shift[:, None, None], matrix, x.flatten(2)).view(x.shape).clamp_(0, 1)


def swap_statistics(
    x: Float[Tensor, "b c h w"], other: Float[Tensor, "b c h w"], share: Float[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """Move the mean and deviation of each channel towards those of `other` by that share."""
    along, share = (2, 3), share[:, None, None, None]
    mean, std = x.mean(along, keepdim=True), x.std(along, keepdim=True)
    to_mean = mean.lerp(other.mean(along, keepdim=True), share)
    to_std = std.lerp(other.std(along, keepdim=True), share)
    return ((x - mean) / std.clamp(min=1e-6) * to_std + to_mean).clamp(0, 1)


def swap_amplitude(
    x: Float[Tensor, "b c h w"], other: Float[Tensor, "b c h w"], share: Float[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """Move the amplitude of each frequency towards that of `other`, keeping the phases."""
    waves, others = torch.fft.rfft2(x), torch.fft.rfft2(other)
    amplitude = waves.abs().lerp(others.abs(), share[:, None, None, None])
    return torch.fft.irfft2(torch.polar(amplitude, waves.angle()), s=x.shape[2:]).clamp(0, 1)


def _to_linear(x: Tensor) -> Tensor:
    """Convert sRGB to linear RGB."""
    return torch.where(x > 0.04045, ((x.clamp(min=0) + 0.055) / 1.055) ** 2.4, x / 12.92)


def _to_srgb(light: Tensor) -> Tensor:
    """Convert linear RGB to sRGB, clipped to [0, 1]."""
    light = light.clamp(0, 1)
    dark = light <= 0.0031308
    return torch.where(dark, 12.92 * light, 1.055 * light.clamp(min=1e-8) ** (1 / 2.4) - 0.055)


@functools.cache
def color_bins() -> Float[Tensor, "q 2"]:
    """Centers (a*, b*) of the bins that contain an sRGB color."""
    steps = torch.linspace(0, 1, 33)
    cube = torch.cartesian_prod(steps, steps, steps).T.reshape(1, 3, -1, 1)
    bins = (rgb_to_lab(cube)[0, 1:, :, 0].T / BIN).round().long()
    return bins.unique(dim=0).to(torch.float32) * BIN


def soft_bins(
    ab: Float[Tensor, "n 2"], centers: Float[Tensor, "q 2"], neighbors: int = 5, sigma: float = 5.0
) -> Float[Tensor, "n q"]:
    """Soft-encode colors as weights of their nearest bins (Zhang et al. 2016, section 2.2).

    Args:
        ab: colors.
        centers: of the bins.
        neighbors: number of bins with a weight.
        sigma: of the Gaussian kernel, in units of a* and b*.
    """
    distance, index = torch.cdist(ab, centers).topk(neighbors, largest=False)
    weights = torch.softmax(-(distance**2) / (2 * sigma**2), 1)
    return ab.new_zeros(len(ab), len(centers)).scatter(1, index, weights)
