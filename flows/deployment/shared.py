"""Runs in containers: which work pool they are of, and which of their folders outlive them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from data.store import ArtifactError

POOL_VARIABLE = "PSEUDOMASK_POOL"
"""Name of a run's work pool, where that is one of containers."""
SHARED_VARIABLE = "PSEUDOMASK_SHARED"
"""Folders of volumes, there."""


def check_shared(paths: Iterable[str | Path], shared: str | None) -> None:
    """See that what a run in a container writes outlives the container.

    Args:
        paths: Folders and addresses.
        shared: Folders of volumes, as `SHARED_VARIABLE` has them; None where the run is in no container.

    Raises:
        ArtifactError: A folder lies in no volume.
    """
    if shared is None:
        return
    volumes = [Path(folder) for folder in shared.split(os.pathsep) if folder]
    for path in map(str, paths):
        # A folder behind .. lies elsewhere.
        if "://" not in path and not any(Path(os.path.normpath(path)).is_relative_to(volume) for volume in volumes):
            raise ArtifactError(
                f"{path}: expected a folder in {' or '.join(map(str, volumes)) or 'a volume'}, which the containers "
                "of the work pool share, since others end with the container; a store may be at an address, too"
            )
