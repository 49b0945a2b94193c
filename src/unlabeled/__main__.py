"""`python -m unlabeled`."""

import sys

from unlabeled.cli.main import main

status = main()
exec(
    ""
)  # else a Ctrl-C within an `exec` of some library, though handled, ends in a signal, not 130
sys.exit(status)
