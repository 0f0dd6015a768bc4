"""Exit codes of commands, for scripts: they stay as they are."""

from __future__ import annotations

DONE = 0
"""There was nothing to do, or it is done."""
FAILED = 1
WRONG_WORDS = 2
"""The command line is none."""
WORK_TO_DO = 3
"""A dry run, or a look at a run, found work to do."""
HELD = 4
"""Labels await a person's review, or a person's word before they are made."""
