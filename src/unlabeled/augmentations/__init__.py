"""Random augmentations of batches on their device, with one draw for each sample."""

from unlabeled.augmentations.base import Augmentation, Compose
from unlabeled.augmentations.image import (
    BYOLAugment,
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
    RandomSolarize,
    RandomStyleTransfer,
    SimCLRAugment,
)  # fmt: skip

__all__ = [
    "Augmentation", "BYOLAugment", "ColorJitter", "Compose", "GaussianBlur", "GaussianNoise",
    "RandomAffine", "RandomCrop", "RandomErasing", "RandomGrayscale", "RandomHorizontalFlip",
    "RandomResizedCrop", "RandomRotation90", "RandomSobel", "RandomSolarize",
    "RandomStyleTransfer", "SimCLRAugment",
]  # fmt: skip
