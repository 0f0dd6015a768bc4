"""`python -m flows` is `pseudomask`."""

import sys

from tasks.processes import safe_path

# `-m` puts the current folder first: what lies there beside a data set is not code of ours.
sys.path[:] = safe_path()

from flows.cli import main  # noqa: E402

sys.exit(main())
