"""Turns on a machine: so many runs at once use its GPU, or where it has none its cores, and the others wait.

A turn is two things: a slot of Prefect's global concurrency limit `gpu-HOST`, which the UI shows and `prefect gcl
update` changes; and one of as many locked files, which a kill frees at once and a server that restarts does not lose.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Iterator

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from data.files import try_lock
from flows.deployment.liveness import deployed, machine_folder
from flows.deployment.shared import POOL_VARIABLE

log = logging.getLogger(__name__)
LEASE_SECONDS = 60.0  # What a killed run's slot is lost for.
LOOK_SECONDS = 0.5


def limit_name() -> str:
    """Return the name of this machine's limit."""
    return f"gpu-{socket.gethostname()}"


def ensure_limit(client: SyncPrefectClient) -> int:
    """Return how many runs may be at work on this machine; where no limit is set, it is set to one."""
    try:
        return client.read_global_concurrency_limit_by_name(limit_name()).limit
    except ObjectNotFound:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=limit_name(), limit=1))
        return 1


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Wait for this machine's turn, and hold it; around the work of a deployed run. Elsewhere it does nothing.

    Containers do not know their machine: how many of them run at once is the limit of their pool.
    """
    if not deployed() or POOL_VARIABLE in os.environ:
        yield
        return
    with get_client(sync_client=True) as client:
        limit = ensure_limit(client)
    with _locked_file(limit), contextlib.ExitStack() as stack:
        slot = concurrency(limit_name(), timeout_seconds=3 * LEASE_SECONDS, lease_duration=LEASE_SECONDS)
        try:
            stack.enter_context(slot)
        except TimeoutError:
            # Nobody on this machine has a turn, else its file were locked: the slot was lost with a server.
            log.warning("%s gives no slot, though nobody on this machine has one; going on", limit_name())
        yield


@contextlib.contextmanager
def _locked_file(count: int) -> Iterator[None]:
    folder = machine_folder() / "turns"
    folder.mkdir(parents=True, exist_ok=True)
    said = False
    while True:
        for number in range(count):
            descriptor = try_lock(folder / str(number))
            if descriptor is None:
                continue
            try:
                yield
            finally:
                os.close(descriptor)
            return
        if not said:
            said = True
            log.info("waiting for a turn on this machine (%s)", limit_name())
        time.sleep(LOOK_SECONDS)
