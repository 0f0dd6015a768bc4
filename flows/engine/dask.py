"""Making artifacts on a Dask cluster, of this machine or of many: a worker makes one at a time, on a GPU of its own.

A worker sees the images under the same paths as this machine, and the store at the same address. What a worker that
dies was at is done again by another.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributed import Nanny, Scheduler, SpecCluster
from prefect import Task
from prefect.settings import get_current_settings
from prefect.states import Failed
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from data.names import is_plain
from data.store import ArtifactError, Store, open_store
from flows.engine.request import PlannedRun, Request
from flows.engine.server import ServerError, no_scheduler, set_environment
from tasks.engine.artifact import Artifact
from tasks.engine.build import Machine, make
from tasks.engine.prefect_task import Reference, artifact_task
from tasks.engine.processes import python_environment
from tasks.engine.workers import StageError, WorkerLost, WorkerPool

log = logging.getLogger(__name__)
CONNECT_SECONDS = 10
# Of Dask, which tells of every connection.
LOG_LEVEL = logging.ERROR


def task_on_cluster(
    request: Request, prepared: PlannedRun, artifact: Artifact, num_processes: int
) -> Task[..., Reference]:
    """Return the Prefect task of an artifact; it takes along what it needs of the plan, and no more."""
    stage, store = artifact.stage.name, prepared.store
    # Only this machine need see the store of an earlier run.
    if artifact.origin and artifact.origin != store.address and store.verify(stage, artifact.key) is not None:
        store.adopt(open_store(artifact.origin), stage, artifact.key)
    # The worker counts its own cores, and looks for its own GPU.
    machine = Request(out=Path(), workers=request.workers, device=request.device)
    on_worker = OnWorker(artifact.alone(), store, machine, num_processes, _artifact_of(store, artifact.run.weights))
    return artifact_task(store, on_worker, keep_records=False)


def _artifact_of(store: Store, weights: Path | str | None) -> tuple[str, str, str] | None:
    """Return stage, key and file where weights are an artifact of the store, None where they are anything else."""
    if weights is None or len(Path(weights).parts) <= 3:
        return None
    stage, key, file = Path(weights).parts[-3:]
    is_artifact = is_plain(stage) and is_plain(key) and store.path(stage, key) / file == Path(weights)
    return (stage, key, file) if is_artifact else None


@dataclass(frozen=True)
class OnWorker:
    """Makes one artifact on a worker of the cluster.

    Attributes:
        machine: Asked on the worker, so that the answers are that machine's.
        weights: Stage, key and file of the artifact that the weights are, whose folder is another on every machine.
    """

    artifact: Artifact
    store: Store
    machine: Request
    num_processes: int
    weights: tuple[str, str, str] | None

    def __call__(self, stage: str, key: str) -> None:
        """Make and publish the artifact; errors are those of `tasks.engine.build.make`."""
        self._check()
        artifact = self.artifact
        if self.weights:
            *made, file = self.weights
            weights = self.store.fetch(*made) / file
            artifact = replace(artifact, run=artifact.run.model_copy(update={"weights": weights}))
        machine = Machine(_pool(), self.machine.torch_device, self.machine.num_workers, self.num_processes)
        make(artifact, self.store, machine)

    def _check(self) -> None:
        """See that the worker has the store and the source that the plan was made with."""
        host = socket.gethostname()
        if "://" not in self.store.address and not self.store.exists():
            raise ArtifactError(
                f"{self.store.address}: not seen from the worker on {host}; put the store into a folder that all "
                "machines share, or into a bucket: --store s3://bucket/prefix"
            )
        recipe = self.artifact.recipe
        if recipe and recipe["source"] != self.artifact.stage.source:
            raise StageError(
                f"{self.artifact.label}: the worker on {host} has another source than this machine; bring both to the "
                "same version, and start the worker again"
            )


@cache
def _pool() -> WorkerPool:
    """Return the one worker process of a Dask worker: Dask's own stays lean, and alive when a stage is killed."""
    return WorkerPool(1)


class ClusterRunner(DaskTaskRunner):
    """Prefect's runner, but for tasks whose workers died again and again: these fail, where there they stay running."""

    def submit(self, task: Any, parameters: dict[str, Any], *words: Any, **more: Any) -> PrefectDaskFuture[Any]:
        """Submit a task; its future is ours."""
        future = super().submit(task, parameters, *words, **more)
        return _Future(future.task_run_id, future.wrapped_future, parameters["label"])


class _Future(PrefectDaskFuture[Any]):
    def __init__(self, task_run_id: Any, wrapped_future: Any, label: str) -> None:
        super().__init__(task_run_id, wrapped_future)
        self._label = label

    def wait(self, timeout: float | None = None) -> None:
        super().wait(timeout)
        status = self.wrapped_future.status
        if self._final_state is None and status in ("error", "lost", "cancelled"):
            reason = self.wrapped_future.exception() if status == "error" else status
            self._final_state = Failed(data=WorkerLost(f"{self._label}: lost by the cluster ({reason})"))


@contextlib.contextmanager
def dask_runner(request: Request) -> Iterator[ClusterRunner]:
    """Yield the runner of the cluster that a request names; one on this machine is started, and ends with the block.

    Raises:
        ServerError: No scheduler answers, or the workers cannot reach Prefect's server.
    """
    logging.getLogger("distributed").setLevel(LOG_LEVEL)
    address = str(request.cluster)
    if address.startswith("local"):
        # Dask starts its workers with this process's environment.
        with set_environment(python_environment()):
            cluster = _local_cluster(request)
            with cluster, ClusterRunner(cluster=cluster) as runner:
                yield runner
    else:
        with ClusterRunner(address=address, client_kwargs={"timeout": CONNECT_SECONDS}) as runner:
            _connect(runner, address)
            yield runner


def _local_cluster(request: Request) -> SpecCluster:
    """Return a cluster of this machine, to be entered: a worker a GPU, or a core."""
    gpus = _gpus() if request.torch_device == "cuda" else []
    count = str(request.cluster).partition(":")[2]
    num_workers = int(count) if count else len(gpus) or request.num_workers
    quiet = {"host": "127.0.0.1", "dashboard": False, "silence_logs": LOG_LEVEL}
    # What a stage holds is in the processes of the pools, whose memory Dask does not measure.
    options: dict[str, Any] = {"nthreads": 1, "memory_limit": 0, **quiet}
    visible = [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {} for number in range(num_workers)]
    return SpecCluster(
        workers={
            number: {"cls": Nanny, "options": options | {"env": environment}}
            for number, environment in enumerate(visible)
        },
        scheduler={"cls": Scheduler, "options": {"host": "127.0.0.1", "port": 0, "dashboard": False}},
        silence_logs=LOG_LEVEL,  # pyright: ignore[reportArgumentType]
    )


def _gpus() -> list[str]:
    """Return what `CUDA_VISIBLE_DEVICES` may name, without loading torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return sorted(file.name.removeprefix("nvidia") for file in Path("/dev").glob("nvidia[0-9]*"))


def _connect(runner: ClusterRunner, address: str) -> None:
    try:
        workers = runner.client.scheduler_info(n_workers=-1)["workers"]
    except OSError as error:
        raise no_scheduler(address, error) from None
    if not workers:
        log.warning("%s has no workers yet; start some with: dask worker %s --nthreads 1", address, address)
    away = [host for host in {urlsplit(worker).hostname or "" for worker in workers} if not _is_here(host)]
    api = urlsplit(get_current_settings().api.url or "").hostname or ""
    if away and api in ("127.0.0.1", "localhost"):
        raise ServerError(
            f"{address}: its workers on {', '.join(sorted(away))} cannot reach Prefect's server on {api}; start one "
            "for all machines (prefect server start --host 0.0.0.0), and name it here by PREFECT_API_URL. Who reaches "
            "it can run commands on the workers: give it a password by PREFECT_SERVER_API_AUTH_STRING and "
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS, as docs/operations.md says"
        )


def _is_here(host: str) -> bool:
    """Return whether an address is this machine's: only such can be bound."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True
