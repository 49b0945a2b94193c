"""Random changes of images, batched on the device, one draw for each image."""

from unlabeled.augmentations.base import Augmentation, Compose
from unlabeled.augmentations.image import (
    ColorJitter,
    GaussianBlur,
    GaussianNoise,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation90,
    RandomSobel,
    RandomStyleTransfer,
    SimCLRAugment,
)

__all__ = [
    "Augmentation",
    "ColorJitter",
    "Compose",
    "GaussianBlur",
    "GaussianNoise",
    "RandomAffine",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation90",
    "RandomSobel",
    "RandomStyleTransfer",
    "SimCLRAugment",
]
