"""Pictures and sound to learn from: rendered, opened, or the user's own."""

from unlabeled.datasets.base import Samples, Splits, open_data
from unlabeled.datasets.sound import Sound

__all__ = ["Samples", "Sound", "Splits", "open_data"]
