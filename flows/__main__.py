"""`python -m flows` is `pseudomask`."""

from __future__ import annotations

import sys

# `-m` puts the current folder first: what lies there beside a data set is not code of ours.
if __name__ == "__main__" and not sys.flags.safe_path:
    _ROOT = __file__.rpartition("flows")[0].rstrip("/\\")
    sys.path[:1] = [] if _ROOT in sys.path[1:] else [_ROOT]

from importlib.metadata import version
from pathlib import Path


def main() -> int:
    """Run one command, and return the exit code; `--version` is answered before anything else is loaded."""
    if sys.argv[1:] == ["--version"]:
        print(f"pseudomask {version('pseudomask')}")
        return 0
    # `-m` puts the current folder first: what lies there beside a data set is not code of ours.
    before = list(sys.path)
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tasks.engine.processes import safe_path

    sys.path[:] = before
    sys.path[:] = safe_path()
    from flows.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
