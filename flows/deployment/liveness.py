"""A deployed run on its machine: it ends with its worker, and leaves word of itself should it be killed.

The word is a file, named like the run, that the run's process holds locked as long as it lives. One that is not locked
is of a run whose process has ended; `recovery` asks the server whether it was done.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.settings import get_current_settings

from data.store import is_alive
from tasks.engine.workers import LOG_VARIABLE, ROOMS

WORKER_VARIABLE = "PSEUDOMASK_WORKER"
LOOK_SECONDS = 1.0
_words: list[IO[str]] = []


def machine_folder() -> Path:
    """Return the folder of what this machine's runs share: below Prefect's own, which is one machine's."""
    return get_current_settings().home / "pseudomask"


def deployed() -> bool:
    """Return whether a worker started this process, for a run of a deployment."""
    return "PREFECT__FLOW_RUN_ID" in os.environ


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """Mark the flow's process as at work; around a deployed flow. Elsewhere it does nothing.

    The product's log lines reach the UI from here on.
    """
    if not deployed() or flow_run.parent_flow_run_id:
        yield
        return
    os.environ[LOG_VARIABLE] = "INFO"
    for room in ("flows", *ROOMS):
        logging.getLogger(room).setLevel(logging.INFO)
    end_with_worker()
    _leave_word(str(flow_run.id))
    try:
        yield
    except Exception as error:
        if not _is_alive(_worker()):
            os._exit(1)  # What failed is most likely a pipe to the worker; the run is taken up again.
        _say_why(error)
        raise


def end_with_worker() -> None:
    """End this process when the worker that started it is gone, however that ended: else two would do its work."""

    def watch() -> None:
        while _is_alive(_worker()):
            time.sleep(LOOK_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="worker-watch", daemon=True).start()


def abandoned() -> Iterator[tuple[str, Path]]:
    """Yield (id, file) of this machine's runs whose process has ended, in whatever way."""
    for file in sorted((machine_folder() / "at-work").glob("*")):
        with contextlib.suppress(FileNotFoundError), file.open() as stream, contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield file.name, file


def _say_why(error: Exception) -> None:
    """Tell those who watch the run why it fails, while they still do: they stop at the news that it failed."""
    run = {"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.name": str(error)}
    emit_event("pseudomask.failed", resource=run)
    time.sleep(LOOK_SECONDS)


def _leave_word(run: str) -> None:
    folder = machine_folder() / "at-work"
    folder.mkdir(parents=True, exist_ok=True)
    word = (folder / run).open("w")
    fcntl.flock(word, fcntl.LOCK_EX)
    # Locked until the process ends, after the server has heard how the run did; `recovery` removes the file then.
    _words.append(word)


def _worker() -> int:
    """Return the process id of our own worker, or this one's where another kind of worker started it."""
    return int(os.environ.get(WORKER_VARIABLE, os.getpid()))


def _is_alive(pid: int) -> bool:
    try:
        # A killed process stays in the table as long as its parent does not ask for it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        # It is gone, or this system has no such files.
        return is_alive(pid)
