"""Named data sets, one per file."""
