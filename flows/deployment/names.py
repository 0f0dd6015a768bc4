"""Names of things on Prefect's server that belong to a folder of results."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

POOL = "pseudomask"  # The work pool.


def slug(folder: Path) -> str:
    """Return what a folder's things are called: its name, and a hash of its whole path."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-") or "labels"
    return f"{name}-{hashlib.sha1(str(folder.absolute()).encode()).hexdigest()[:6]}"


def artifact_key(what: str, out: Path | str | None) -> str:
    """Return the key of an artifact of a folder's runs, so that each folder has a history of its own."""
    return what if out is None else f"{what}-{slug(Path(out))}"
