"""Python processes of the product: none runs a file of the current folder, and their threads share the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPIN_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
SPINS = 1000
"""How often a thread of GNU OpenMP looks whether the others are done before it sleeps. Its own number is some billions:
beside other work a thread then waits a whole time slice for one that is not running, at every barrier."""


def python_command(*words: str) -> list[str]:
    """Return the command line of a child in Python; `-P` keeps the current folder off its path."""
    return [sys.executable, "-P", *words]


def python_environment() -> dict[str, str]:
    """Return what a child's environment needs: it imports what this process can, but nothing of the current folder.

    Its own children are kept safe by `PYTHONSAFEPATH`. What the user says of OpenMP's waiting stays.
    """
    environment = {"PYTHONPATH": os.pathsep.join(safe_path()), "PYTHONSAFEPATH": "1"}
    if not any(name in os.environ for name in SPIN_VARIABLES):
        environment["GOMP_SPINCOUNT"] = str(SPINS)
    return environment


def safe_path() -> list[str]:
    """Return where Python looks for modules, without the current folder, unless that is the product's own."""
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:
        here = None
    # A path that is not absolute starts at the current folder, wherever a child's is.
    absolute = [name for name in sys.path if Path(name).is_absolute()]
    kept = [name for name in absolute if Path(name).resolve() == ROOT or Path(name).resolve() != here]
    return kept if str(ROOT) in kept else [str(ROOT), *kept]
