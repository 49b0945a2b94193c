"""Random augmentations of images: a whole batch at once, on its device, one draw for each image.

Names and arguments are torchvision's where the meaning is the same. The augmentations are those of
SimCLR's figure 4 (Chen et al. 2020) and the affine ones of the lectures.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from unlabeled.augmentations.base import Augmentation, random_rows, uniform
from unlabeled.augmentations.color import (
    GRAY,
    color_map,
    map_colors,
    say_without_color,
    swap_amplitude,
    swap_statistics,
)
from unlabeled.augmentations.full_size import FullSize, random_boxes
from unlabeled.augmentations.geometry import (
    affine_matrix,
    box_matrix,
    crop_matrix,
    flip_matrix,
    record,
    resample,
    translate,
)
from unlabeled.augmentations.kernel import filters_for
from unlabeled.errors import UserError


@dataclass(frozen=True)
class RandomAffine(Augmentation):
    """Random rotation, translation and scaling of each image; the fill value is 0.

    torchvision's `RandomAffine` without shear. There `translate` is a pair, here one number for
    both axes; the defaults are wider than the lecture's 90, 0.2 and (0.8, 1.2).

    Args:
        degrees: rotation is drawn from [−degrees, degrees]; 180 is the full circle.
        translate: largest translation along each axis, as a fraction of the side.
        scale: range of the scale factor.
        interpolation: nearest keeps binary images binary and is faster; bilinear suits photographs.
    """

    degrees: float = 180.0
    translate: float = 0.3
    scale: tuple[float, float] = (0.65, 1.35)
    interpolation: Literal["nearest", "bilinear"] = "nearest"

    def __call__(self, x: Tensor) -> Tensor:
        most = math.radians(self.degrees)
        angle = uniform(x, -most, most)
        shift = uniform(x, -self.translate, self.translate, 2)
        scale = uniform(x, *self.scale)
        matrix = affine_matrix(angle, shift, scale, x.shape[3] / x.shape[2])
        return resample(x, matrix, self.interpolation)


@dataclass(frozen=True)
class RandomResizedCrop(Augmentation):
    """Random crop of each image, resized to the image's size, and a random horizontal flip.

    torchvision's `RandomResizedCrop` and `RandomHorizontalFlip` in one resampling. From full-size
    images it is taken as there, antialiased. In a batch of one size, a box that would be longer
    than a side is clamped to it, where torchvision draws again.

    Args:
        scale: range of the crop's area, as a fraction of the image's.
        ratio: range of the crop's aspect ratio, width over height; in a batch of one size relative
            to that of the images.
        flip: probability of the horizontal flip.
        size: side of the square that is returned, in pixels (default: the image's size).
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    size: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        size = None if self.size is None else (self.size, self.size)
        if isinstance(x, FullSize):
            sides = torch.tensor([image.shape[1:] for image in x.images])
            boxes = random_boxes(sides, self.scale, self.ratio)
            flip = torch.rand(len(boxes)) < self.flip
            record(box_matrix(boxes, sides, flip, (x.shape[2], x.shape[3])))
            return x.crop(boxes, flip, size)
        area = uniform(x, *self.scale)
        ratio = uniform(x, math.log(self.ratio[0]), math.log(self.ratio[1])).exp()
        box = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], 1).clamp(max=1)
        center = uniform(x, -1, 1, 2) * (1 - box)
        sign = torch.where(uniform(x, 0, 1) < self.flip, -1.0, 1.0)
        return resample(x, crop_matrix(center, box, sign), size=size)


@dataclass(frozen=True)
class RandomCrop(Augmentation):
    """Pad every side, then crop each image to its own size at a random position.

    torchvision's `RandomCrop(size, padding)` where the size is the image's; at 32×32 with 4 pixels
    it is the usual one for CIFAR-10 (He et al. 2016, section 4.2).

    Args:
        padding: pixels on every side; an eighth of the shorter side, rounded, by default.
        padding_mode: "constant" pads with black, "edge" repeats the outermost pixels.
    """

    padding: int | None = None
    padding_mode: Literal["constant", "edge"] = "constant"

    def __call__(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        side = min(h, w)
        pad = round(side / 8) if self.padding is None else self.padding
        if not 0 <= pad < side:
            raise UserError(
                f"padding is {pad}, but must be from 0 to {side - 1} pixels for images of {h}×{w}"
            )
        if not pad:
            return x
        shift = torch.randint(-pad, pad + 1, (len(x), 2), device=x.device)
        edge = pad if self.padding_mode == "edge" else 0  # resampling fills with 0
        return translate(x, shift, edge)


@dataclass(frozen=True)
class RandomHorizontalFlip(Augmentation):
    """Random horizontal flip of each image.

    Args:
        p: probability.
    """

    p: float = 0.5

    def __call__(self, x: Tensor) -> Tensor:
        flip = uniform(x, 0, 1, 1, 1, 1) < self.p
        record(flip_matrix(flip.flatten()))
        return torch.where(flip, x.flip(3), x)


@dataclass(frozen=True)
class RandomRotation90(Augmentation):
    """Random rotation of each square image by 0, 90, 180 or 270 degrees."""

    def __call__(self, x: Tensor) -> Tensor:
        turns = torch.randint(4, (len(x),), device=x.device)
        zero = torch.zeros(len(x), 2, device=x.device)
        record(affine_matrix(turns * (-math.pi / 2), zero, zero[:, 0] + 1))
        return rotate90(x, turns)


@dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Random brightness, contrast, saturation and hue; images that are not RGB get the first two.

    torchvision's `ColorJitter` under `RandomApply`, in a fixed order (see `adjust_color`). Factors
    are drawn from [max(0, 1 − value), 1 + value], the hue's shift from [−hue, hue]. The defaults
    are SimCLR's (appendix A) at strength 1.

    Args:
        brightness: largest relative change.
        contrast: largest relative change.
        saturation: largest relative change.
        hue: largest shift, as a fraction of the color circle.
        p: probability.
    """

    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    p: float = 0.8

    def __call__(self, x: Tensor) -> Tensor:
        if self.saturation or self.hue:
            say_without_color(x.shape[1])
        rows = random_rows(x, self.p)
        largest = (self.brightness, self.contrast, self.saturation)
        drawn = [uniform(rows, max(0.0, 1 - change), 1 + change) for change in largest]
        drawn.append(uniform(rows, -self.hue, self.hue))
        matrix, shift = torch.eye(x.shape[1]).to(x).repeat(len(x), 1, 1), x.new_zeros(len(x))
        maps = color_map(x.mean((2, 3))[rows], *drawn)
        matrix[rows], shift[rows] = (part.to(x) for part in maps)
        return map_colors(x, matrix, shift)  # a single pass over all images


@dataclass(frozen=True)
class RandomGrayscale(Augmentation):
    """Randomly convert images of three channels to gray, keeping the channels.

    Args:
        p: probability.
    """

    p: float = 0.2

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[1] != 3:
            if self.p:
                say_without_color(x.shape[1])
            return x
        chosen = uniform(x, 0, 1, 1, 1, 1) < self.p
        gray, same = x.new_tensor(GRAY).expand(3, 3), torch.eye(3).to(x)
        return map_colors(x, torch.where(chosen[:, 0], gray, same), x.new_zeros(len(x)))


@dataclass(frozen=True)
class RandomErasing(Augmentation):
    """Erase a square at a random position of each image: Cutout (DeVries, Taylor 2017).

    torchvision's `RandomErasing` erases rectangles within the image, whose area is a random
    fraction `scale`; here the square has a fixed `size` and may extend beyond the image.

    Args:
        size: side of the square, as a fraction of the image's.
        p: probability.
    """

    size: float = 0.5
    p: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        side = torch.where(uniform(x, 0, 1) < self.p, self.size, 0.0)
        return erase_square(x, uniform(x, 0, 1, 2), side)


@dataclass(frozen=True)
class GaussianNoise(Augmentation):
    """Add Gaussian noise, clipped to [0, 1].

    Args:
        sigma: largest standard deviation; each image's is drawn from [0, sigma], whereas
            torchvision's is fixed.
        p: probability.
    """

    sigma: float = 0.1
    p: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        sigma = uniform(x, 0, self.sigma, 1, 1, 1)
        sigma = torch.where(torch.rand_like(sigma) < self.p, sigma, 0.0)
        return (x + sigma * torch.randn_like(x)).clamp(0, 1)


@dataclass(frozen=True)
class GaussianBlur(Augmentation):
    """Random Gaussian blur; the kernel spans a tenth of the image's side (SimCLR, appendix A).

    Args:
        sigma: range of the standard deviation, in pixels.
        p: probability.
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 0.5

    def __call__(self, x: Tensor) -> Tensor:
        rows = random_rows(x, self.p)
        radius = max(1, round(min(x.shape[-2:]) / 20))
        sigma = uniform(rows, *self.sigma)
        if filters_for(x) is None:
            return x.index_copy(0, rows, gaussian_blur(x[rows], sigma, radius))
        every = x.new_full((len(x),), 1e-3)  # leaves an image exactly as it is
        every[rows] = sigma
        return gaussian_blur(x, every, radius)


@dataclass(frozen=True)
class RandomSolarize(Augmentation):
    """Randomly invert all values above a threshold, as torchvision's `RandomSolarize`.

    Args:
        threshold: least value that is inverted.
        p: probability.
    """

    threshold: float = 0.5
    p: float = 0.2

    def __call__(self, x: Tensor) -> Tensor:
        inverted = torch.where(x >= self.threshold, 1 - x, x)
        return torch.where(uniform(x, 0, 1, 1, 1, 1) < self.p, inverted, x)


@dataclass(frozen=True)
class RandomSobel(Augmentation):
    """Randomly replace images by their Sobel edge magnitude.

    Args:
        p: probability.
    """

    p: float = 0.5

    def __call__(self, x: Tensor) -> Tensor:
        rows = random_rows(x, self.p)
        return x.index_copy(0, rows, sobel(x[rows]))


@dataclass(frozen=True)
class RandomStyleTransfer(Augmentation):
    """Random transfer of the style of another image of the batch, keeping the content.

    Args:
        kind: "statistics" transfers each channel's mean and deviation (Huang, Belongie 2017, on
            pixels); "amplitude" the amplitude of all frequencies (Xu et al. 2021).
        strength: largest share that is transferred; each image's is drawn from [0, strength].
        p: probability.
    """

    kind: Literal["statistics", "amplitude"] = "statistics"
    strength: float = 1.0
    p: float = 0.5

    def __call__(self, x: Tensor) -> Tensor:
        other = x[torch.randperm(len(x), device=x.device)]
        share = uniform(x, 0, self.strength)
        share = torch.where(torch.rand_like(share) < self.p, share, 0.0)
        return (swap_statistics if self.kind == "statistics" else swap_amplitude)(x, other, share)


@dataclass(frozen=True)
class SimCLRAugment(Augmentation):
    """SimCLR's augmentation of photographs: crop and flip, color jitter, grayscale, blur.

    Args:
        scale: range of the crop's area, as a fraction of the image's.
        strength: of the color jitter; SimCLR uses 0.5 for CIFAR-10, 1 for ImageNet.
        grayscale: probability of the conversion to gray.
        blur: probability of the blur; SimCLR uses 0 for CIFAR-10, 0.5 for ImageNet.
        size: side of the views in pixels (default: the image's size).
    """

    scale: tuple[float, float] = (0.2, 1.0)
    strength: float = 0.5
    grayscale: float = 0.2
    blur: float = 0.0
    size: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        s = self.strength
        x = RandomResizedCrop(self.scale, size=self.size)(x)
        x = ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)(x)
        x = RandomGrayscale(self.grayscale)(x)
        return GaussianBlur(p=self.blur)(x) if self.blur else x


@dataclass(frozen=True)
class BYOLAugment(Augmentation):
    """BYOL's augmentation of photographs (Grill et al. 2020, table 6); also Barlow Twins', DINO's.

    SimCLR's with weaker saturation, and solarization. The two views of an image have different
    probabilities: blur 1 and solarization 0, then blur 0.1 and solarization 0.2.

    Args:
        scale: range of the crop's area, as a fraction of the image's.
        blur: probability of the blur.
        solarize: probability of the solarization.
        grayscale: probability of the conversion to gray.
        size: side of the views in pixels (default: the image's size).
    """

    scale: tuple[float, float] = (0.08, 1.0)
    blur: float = 1.0
    solarize: float = 0.0
    grayscale: float = 0.2
    size: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        x = RandomResizedCrop(self.scale, size=self.size)(x)
        x = ColorJitter(0.4, 0.4, 0.2, 0.1)(x)
        x = RandomGrayscale(self.grayscale)(x)
        x = GaussianBlur(p=self.blur)(x) if self.blur else x
        return RandomSolarize(p=self.solarize)(x) if self.solarize else x


def halved(crops: Float[Tensor, "b c h w"], x: Tensor) -> Float[Tensor, "b c h2 w2"]:
    """Crops of half the size of x, unless they are smaller already; UserError for recordings."""
    h, w = x.shape[2:]
    if min(h, w) < 2 and crops.shape == x.shape:
        raise UserError(f"local crops of {h}×{w} cannot be halved; give --local-crops 0")
    return F.avg_pool2d(crops, 2) if crops.shape == x.shape else crops


def rotate90(x: Float[Tensor, "b c h w"], turns: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
    """Rotate image i by 90·turns[i] degrees, counterclockwise as `torch.rot90` does."""
    if x.shape[2] != x.shape[3]:
        raise UserError(f"images are {tuple(x.shape[2:])}, but rotations by 90° need square ones")
    turns = turns[:, None, None, None]
    x = torch.where(turns % 2 == 1, x.rot90(1, (2, 3)), x)
    return torch.where(turns >= 2, x.flip(2, 3), x)


def erase_square(
    x: Float[Tensor, "b c h w"], center: Float[Tensor, "b 2"], side: Float[Tensor, " b"]
) -> Float[Tensor, "b c h w"]:
    """Set a square around `center` (x, y) to 0; all in fractions of the image's sides."""
    h, w = x.shape[-2:]
    across = (torch.arange(w, device=x.device) + 0.5) / w
    down = (torch.arange(h, device=x.device) + 0.5) / h
    half = side[:, None] / 2
    inside_x = (across - center[:, :1]).abs() < half  # (B, W)
    inside_y = (down - center[:, 1:]).abs() < half  # (B, H)
    return x.masked_fill((inside_y[:, :, None] & inside_x[:, None, :])[:, None], 0)


def gaussian_blur(
    x: Float[Tensor, "b c h w"], sigma: Float[Tensor, " b"], radius: int
) -> Float[Tensor, "b c h w"]:
    """Gaussian blur of image i with standard deviation sigma[i] pixels; edges are reflected."""
    steps = torch.arange(-radius, radius + 1, device=x.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma[:, None] ** 2))
    kernel = kernel * (kernel > 1e-9)  # denormal numbers are several times slower on CPUs
    kernel = kernel / kernel.sum(1, keepdim=True)  # (B, 2r + 1)
    if radius < min(x.shape[2:]) and (compiled := filters_for(x)):
        return compiled[0](x, kernel)

    def along(side: int) -> Tensor:
        """The blur along a side of that many pixels as matrices (B, side, side)."""
        source = (torch.arange(side, device=x.device)[:, None] + steps).abs()
        source = torch.where(source < side, source, 2 * (side - 1) - source)  # reflected
        source = source.clamp(min=0)  # of a side of one pixel
        empty = kernel.new_zeros(len(x), side, side)
        weights = kernel[:, None].expand(-1, side, -1)
        return empty.scatter_add(2, source.expand(len(x), -1, -1), weights).to(x)

    # Products of matrices are faster than a convolution with a kernel for each image.
    b, c, h, w = x.shape
    across = torch.bmm(x.reshape(b, c * h, w), along(w).mT).view(b, c, h, w)
    down = torch.bmm(along(h), across.transpose(1, 2).reshape(b, h, c * w))
    return down.view(b, h, c, w).transpose(1, 2).contiguous()


def sobel(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Gradient magnitude by Sobel kernels divided by 4: a step from 0 to 1 gives 1."""
    c = x.shape[1]
    kernel = x.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 4
    both = torch.stack([kernel, kernel.T])[:, None].repeat(c, 1, 1, 1)  # (2C, 1, 3, 3)
    edges = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), both, groups=c)
    return edges.unflatten(1, (c, 2)).pow(2).sum(2).sqrt().clamp(0, 1)
