"""`python -m unlabeled`."""

import sys

from unlabeled.cli import main

sys.exit(main())
