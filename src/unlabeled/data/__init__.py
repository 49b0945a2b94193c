"""Images and sound to learn from: rendered, opened, or the user's own."""

from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.open import open_data
from unlabeled.data.readers.audio import Sound

__all__ = ["Samples", "Sound", "Splits", "open_data"]
