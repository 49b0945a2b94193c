"""Readers of files and arrays, one per kind of data."""
