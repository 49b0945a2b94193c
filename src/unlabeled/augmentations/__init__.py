"""Random changes of pictures, batched on the device, one draw for each picture."""

from unlabeled.augmentations.base import Chain, View
from unlabeled.augmentations.image import (
    Affine,
    Blur,
    ColourDrop,
    ColourJitter,
    Crop,
    Cutout,
    Flip,
    Noise,
    Photo,
    QuarterTurns,
    RandomCrop,
    Sobel,
    Style,
)

__all__ = [
    "Affine",
    "Blur",
    "Chain",
    "ColourDrop",
    "ColourJitter",
    "Crop",
    "Cutout",
    "Flip",
    "Noise",
    "Photo",
    "QuarterTurns",
    "RandomCrop",
    "Sobel",
    "Style",
    "View",
]
