"""`python -m flows` is `pseudomask`."""

import sys

from flows.cli import main

sys.exit(main())
