"""Worker processes for stage functions: started lean, kept warm, and never left behind.

A pool of our own instead of `ProcessPoolExecutor`: there one killed worker breaks all shards in flight, here it
costs its own. The parent never imports torch; a worker does once, and serves one job after the other.

    parent thread --(function, job)--> worker          a duplex pipe each
                  <--("progress", ...) or ("log", (logger, level, message))--
                  <--("done", summary) or ("failed", (message, trace, no space))--
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from tasks.engine.job import Job
from tasks.engine.processes import python_command, python_environment

Progress = Callable[[int, int, str], None]
PROGRESS_SECONDS = 0.2
LOG_VARIABLE = "PSEUDOMASK_WORKER_LOG"  # The level from which on a worker's log lines are sent.
ROOMS = ("tasks", "models", "kernels", "data")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_PR_SET_PDEATHSIG = 1
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


class StageError(Exception):
    """A stage function failed, or its worker died.

    Attributes:
        trace: The worker's traceback; empty where the worker died.
        no_space: The device was full.
    """

    def __init__(self, message: str, trace: str = "", no_space: bool = False) -> None:
        super().__init__(message)
        self.trace = trace
        self.no_space = no_space


class WorkerLost(StageError):
    """The worker process was killed from outside, most likely for want of memory; another may do better."""


class WorkerStopped(StageError):
    """The worker process was told to end, as all processes of a run are that is cancelled."""


class WorkerPool:
    """Runs stage functions in processes that share `num_slots` cores.

    Threads call `run`, which blocks; a job takes one slot or all of them.
    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots = num_slots
        self._free = num_slots
        self._changed = threading.Condition()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False
        # A worker gets the death signal when the thread that started it ends, so one lasting thread starts all.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="worker-starter")

    def run(self, function: str, job: Job, label: str, *, exclusive: bool = False) -> dict[str, Any]:
        """Run "module:name" over a job in a worker with `job.num_threads` threads, and return its summary.

        To what the function returns "seconds" is added, the time that it took.

        Args:
            label: Names the job in errors.
            exclusive: Wait for all slots, and let nothing run beside.

        Raises:
            WorkerLost: The worker was killed.
            StageError: The function raised, the worker died, or the pool was closed.
        """
        with self._slots(self.num_slots if exclusive else 1):
            worker = self._take(job.num_threads)
            try:
                summary = worker.run(function, job, label)
            except BaseException:
                worker.stop()
                raise
            finally:
                with self._changed:
                    self._busy.discard(worker)
            with self._changed:
                self._idle.append(worker)
            return summary

    def close(self) -> None:
        """End all workers at once; jobs that still run fail."""
        with self._changed:
            self._closed = True
            workers = [*self._idle, *self._busy]
            self._changed.notify_all()
        for worker in workers:
            worker.stop()
        self._starter.shutdown()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _slots(self, count: int) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free >= count or self._closed)
            self._free -= count
        try:
            yield
        finally:
            with self._changed:
                self._free += count
                self._changed.notify_all()

    def _take(self, num_threads: int) -> _Worker:
        with self._changed:
            if self._closed:
                raise StageError("stopped before it began")
            worker = next((idle for idle in self._idle if idle.num_threads == num_threads), None)
            if worker:
                self._idle.remove(worker)
            else:
                # Workers with another number of threads would only hold memory while this one runs.
                surplus = self._idle if len(self._idle) + len(self._busy) >= self.num_slots else []
                for idle in surplus:
                    idle.stop()
                surplus.clear()
                worker = self._starter.submit(_Worker, num_threads).result()
            self._busy.add(worker)
            return worker


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, num_threads: int) -> None:
        self.num_threads = num_threads
        self._connection, theirs = Pipe()
        environment = os.environ | python_environment() | {name: str(num_threads) for name in THREAD_VARIABLES}
        with theirs:
            self._process = subprocess.Popen(
                python_command("-m", "tasks.engine.workers", str(theirs.fileno()), str(os.getpid())),
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=2,  # The answer of a command goes to stdout, and nothing else.
            )

    def run(self, function: str, job: Job, label: str) -> dict[str, Any]:
        progress = job.progress
        try:
            self._connection.send((function, dataclasses.replace(job, progress=Job.progress)))
            while True:
                kind, value = self._connection.recv()
                if kind == "progress":
                    progress(*value)
                elif kind == "log":
                    name, level, message = value
                    logging.getLogger(name).log(level, "%s", message)
                elif kind == "done":
                    return value
                else:
                    message, trace, no_space = value
                    raise StageError(f"{label}: {message}", trace, no_space)
        except (EOFError, OSError):
            raise self._epitaph(label) from None

    def stop(self) -> None:
        # Killed rather than asked: what counts has been published, and a stage may be deep in native code.
        self._process.kill()
        self._process.wait()

    def _epitaph(self, label: str) -> StageError:
        code = self._process.wait()
        kept = "What is finished is kept: the same command goes on from there"
        if code == -signal.SIGKILL:
            return WorkerLost(
                f"{label}: its worker process was killed (signal 9), most likely for want of memory; try fewer "
                f"--workers, or smaller batches or scales. {kept}"
            )
        if code == -signal.SIGTERM:
            return WorkerStopped(f"{label}: stopped with its run. {kept}")
        reason = f"signal {-code}, {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return StageError(f"{label}: its worker process died ({reason}). {kept}")


def die_with_parent(parent: int) -> None:
    """Make this process end when its parent does, however that ends.

    Args:
        parent: The parent's process id as it told us, since it may be gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def keep_freed_memory() -> None:
    """Let freed memory serve the next arrays, instead of going back to the system, to come as fresh pages, each time.

    Without, that takes a tenth of the time of a network's inference. Up to 512 MB are kept at the end of the heap.
    Does nothing where the C library is not glibc.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 512 << 20)
        mallopt(_M_TOP_PAD, 64 << 20)


def limit_threads(num_threads: int) -> None:
    """Hold the libraries that a stage has loaded to this many threads."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(num_threads)
    if cv2 := sys.modules.get("cv2"):
        cv2.setNumThreads(num_threads)


class _Forwarder(logging.Handler):
    """Sends a worker's log lines to the parent, whose own handlers decide where they are shown."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def emit(self, record: logging.LogRecord) -> None:
        _send(self._connection, "log", (record.name, record.levelno, record.getMessage()))


_sending = threading.Lock()


def _send(connection: Connection, kind: str, value: Any) -> None:
    with _sending:
        connection.send((kind, value))


def _serve(connection: Connection) -> None:
    logging.basicConfig(level=logging.WARNING, handlers=[_Forwarder(connection)])
    for room in ROOMS:
        logging.getLogger(room).setLevel(os.environ.get(LOG_VARIABLE, "WARNING"))
    while True:
        try:
            name, job = connection.recv()
        except EOFError:
            return
        try:
            module, _, attribute = name.partition(":")
            function = getattr(importlib.import_module(module), attribute)
            limit_threads(job.num_threads)
            started = time.monotonic()
            summary = function(dataclasses.replace(job, progress=_reporter(connection)))
            _send(connection, "done", {**summary, "seconds": round(time.monotonic() - started, 3)})
        except Exception as error:
            message = str(error) or type(error).__name__
            _send(connection, "failed", (message, traceback.format_exc(), _is_no_space(error)))


def _reporter(connection: Connection) -> Progress:
    """Return a progress callback that sends now and then, and always the last."""
    last = 0.0

    def report(done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= PROGRESS_SECONDS:
            last = now
            _send(connection, "progress", (done, total, note))

    return report


def _is_no_space(error: BaseException) -> bool:
    # torch and safetensors raise errors of their own; their text keeps the system's.
    return (
        getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        or "os error 28" in str(error).lower()
        or (os.strerror(errno.ENOSPC).lower() in str(error).lower())
    )


def main() -> None:
    """Serve the parent that started this process: `python -m tasks.engine.workers DESCRIPTOR PARENT`."""
    descriptor, parent = map(int, sys.argv[1:])
    die_with_parent(parent)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers.
    with Connection(descriptor) as connection:
        _serve(connection)


if __name__ == "__main__":
    main()
