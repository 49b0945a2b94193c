"""Metrics of representations, with and without labels."""
