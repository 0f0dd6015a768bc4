"""What a command does around a flow: a Prefect server of its own where there is none, and the flow's result."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data.dataset import DatasetError
from data.store import ArtifactError, no_space, open_store
from flows.engine.request import Request
from flows.engine.server import check_block_server, check_scheduler, no_password, no_server, prefect_server, refused_by
from tasks.engine.stage import Stage
from tasks.engine.workers import StageError

# Bytes; less, and the server's database may not find room to grow.
ROOM_FOR_SERVER = 2**20


@contextlib.contextmanager
def embedded_server(request: Request, stages: Iterable[Stage]) -> Iterator[None]:
    """Have a Prefect server in the block, whose first import of Prefect must be there: one of its own if need be."""
    check_scheduler(request.cluster)
    store = open_store(request.store_address)
    root = store.root
    if "://" in store.address:
        check_block_server()
    with (
        _explain_prefect(root),
        # A store that may only be read takes no database.
        tempfile.TemporaryDirectory() if store.read_only else contextlib.nullcontext(root / ".prefect") as home,
        prefect_server(Path(home)) as server,
    ):
        # Prefect reads its settings at import, and takes seconds for it, while the server starts.
        import flows.engine.execute  # noqa: F401

        # So does the plan, for the digests of the sources, which it finds kept here.
        for stage in stages:
            _ = stage.source
        if server:
            server.wait()
        yield


@contextlib.contextmanager
def _explain_prefect(store: Path) -> Iterator[None]:
    """Say why Prefect failed in its own way: its database lies in the store, on a full disk, or no server answers."""
    try:
        yield
    except (ArtifactError, DatasetError, StageError):
        raise
    except Exception as error:
        if store.is_dir() and shutil.disk_usage(store).free < ROOM_FOR_SERVER:
            raise no_space(store) from error
        # Prefect has no class of its own for it.
        if (address := os.environ.get("PREFECT_API_URL")) and str(error).startswith("Failed to reach API"):
            raise no_server(address) from error
        if address and refused_by(error):
            raise no_password(address) from error
        raise


def read_result(request: Request) -> dict[str, Any]:
    """Return what a finished run's `metrics.json` holds, and where the run is."""
    metrics = json.loads((request.out / "metrics.json").read_text())
    return {"run": str(request.out), "store": request.store_address, **metrics}
