"""The command `unlabeled`, one file per subcommand."""

from unlabeled.cli.main import main

__all__ = ["main"]
