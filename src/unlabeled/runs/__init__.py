"""Finished runs: opened, embedded, exported."""
