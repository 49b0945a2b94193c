"""Experiments of several runs, each one command."""
