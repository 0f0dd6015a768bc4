"""Time and memory of a row."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from benchmarks.row import Row, Speed
from tasks.measurement.memory import forget_peak, status_bytes

logger = logging.getLogger(__name__)

SAMPLE_S = 0.02
# A side that takes longer than this is run only as often as a median needs.
LONG_S = 1.0
FEWEST_ROUNDS = 3
ROUNDS = 9


@dataclass(frozen=True)
class Result:
    """A measured row.

    Attributes:
        kernel: As in the row.
        baseline: As in the row.
        ratio: Median over the rounds of the baseline's time divided by the kernel's.
        ratio_min: The least of the rounds.
        ratio_max: The greatest.
        fast_s: Median seconds of one call of the kernel.
        slow_s: Median seconds of the baseline.
        error: Largest error, in `unit`.
        tolerance: Up to which the row counts.
        unit: Of the error.
        fast_bytes: Growth of the process's memory while the kernel runs once; None where not measured.
        slow_bytes: The same of the baseline.
    """

    kernel: str
    baseline: str
    ratio: float
    ratio_min: float
    ratio_max: float
    fast_s: float
    slow_s: float
    error: float
    tolerance: float
    unit: str
    fast_bytes: int | None = None
    slow_bytes: int | None = None


@dataclass(frozen=True)
class SpeedResult:
    """A measured speed.

    Attributes:
        name: As given.
        images_per_s: Median over the rounds.
        peak_bytes: The most memory that is held while the work runs once: of the GPU where it is one, else the growth
            of the process's; None where that cannot be read.
    """

    name: str
    images_per_s: float
    peak_bytes: int | None


class CheckFailed(Exception):
    """A kernel is not as close to its reference as it must be, so it is not timed."""


def measure(row: Row, quick: bool = False) -> Result:
    """Check a row, then time its sides in turn.

    Args:
        row: What to measure.
        quick: As few rounds as a median needs, and no memory.

    Raises:
        CheckFailed: The error is above the row's tolerance, or not a number.
    """
    logger.info("%s: first call %.2f s, with what is compiled or read from the cache", row.kernel, _seconds(row.fast))
    error = row.measure_error()
    if not error <= row.tolerance:
        raise CheckFailed(f"{row.kernel}: error {error:.2g} {row.unit}, allowed is {row.tolerance:.2g}: not timed")
    fast_s, slow_s = _time_in_turn(row, FEWEST_ROUNDS if quick else ROUNDS)
    ratios = [slow / fast for slow, fast in zip(slow_s, fast_s, strict=True)]
    sides = (row.fast, lambda: [part.work() for part in row.slow])
    fast_bytes, slow_bytes = map(peak_memory, sides) if row.memory and not quick else (None, None)
    return Result(
        kernel=row.kernel,
        baseline=row.baseline,
        ratio=median(ratios),
        ratio_min=min(ratios),
        ratio_max=max(ratios),
        fast_s=median(fast_s),
        slow_s=median(slow_s),
        error=error,
        tolerance=row.tolerance,
        unit=row.unit,
        fast_bytes=fast_bytes,
        slow_bytes=slow_bytes,
    )


def measure_speed(speed: Speed) -> SpeedResult:
    """Time the work after a first run, and take the memory of another."""
    if torch.cuda.is_available():
        speed.work()
        torch.cuda.reset_peak_memory_stats()
        seconds = median(_seconds(speed.work) for _ in range(FEWEST_ROUNDS))
        return SpeedResult(speed.name, speed.num_images / seconds, torch.cuda.max_memory_allocated())
    # Forked before this process has run anything in several threads, which a fork would not take along.
    peak = peak_memory(speed.work)
    speed.work()
    seconds = median(_seconds(speed.work) for _ in range(FEWEST_ROUNDS))
    return SpeedResult(speed.name, speed.num_images / seconds, peak)


def _time_in_turn(row: Row, rounds: int) -> tuple[list[float], list[float]]:
    """Return seconds a call of both sides, one of each a round."""
    works = [row.fast, *(part.work for part in row.slow)]
    # The first calls fill caches and make tables; the second say how many calls make a sample.
    seconds = [_seconds(work) for work in works]
    seconds = [once if once > LONG_S else _seconds(work) for work, once in zip(works, seconds, strict=True)]
    if max(seconds) > LONG_S:
        rounds = FEWEST_ROUNDS
    calls = [max(1, round(SAMPLE_S / once)) for once in seconds]
    fast, slow = [], []
    for _ in range(rounds):
        fast.append(_seconds(row.fast, calls[0]))
        parts = zip(row.slow, calls[1:], strict=True)
        slow.append(sum(part.times * _seconds(part.work, count) for part, count in parts))
    return fast, slow


def _seconds(work: Callable[[], object], calls: int = 1) -> float:
    begin = perf_counter()
    for _ in range(calls):
        work()
    return (perf_counter() - begin) / calls


def peak_memory(work: Callable[[], object]) -> int | None:
    """Return how many bytes the process grows by while the work runs once, at most; None where Linux is not.

    The resident set of a forked process is read, since no allocator sees the memory of torch, numpy and numba alike. A
    first run before brings what stays: tables, compiled code. For work on the CPU: a forked process has no GPU.
    """
    if not Path("/proc/self/clear_refs").exists():
        return None
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_report_growth, args=(work, sender))
    child.start()
    sender.close()
    growth = receiver.recv()
    child.join()
    return growth


def _report_growth(work: Callable[[], object], sender: Connection) -> None:
    work()
    forget_peak()
    before = status_bytes("VmRSS")
    work()
    sender.send(max(status_bytes("VmHWM") - before, 0))
