"""Pictures to learn from: rendered, opened, or the user's own."""

from unlabeled.datasets.base import Samples, Splits, open_data

__all__ = ["Samples", "Splits", "open_data"]
