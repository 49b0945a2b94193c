"""Data sets: opened from files and arrays, rendered, or downloaded."""

from unlabeled.data.dataset import Samples, Splits
from unlabeled.data.open import open_data
from unlabeled.data.readers.audio import Recordings

__all__ = ["Recordings", "Samples", "Splits", "open_data"]
