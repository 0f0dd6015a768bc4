"""Work on many files in threads, and garbage collection paused while many lasting objects are created."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# `Executor.map` makes a future of every item at once, a kilobyte each.
WINDOW = 4096


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], num_threads: int | None = None
) -> Iterator[Result]:
    """Yield what `function` returns for each item, in order; at most `WINDOW` items are in memory at a time."""
    remaining = iter(items)
    with ThreadPoolExecutor(num_threads) as threads:
        while window := list(islice(remaining, WINDOW)):
            yield from threads.map(function, window)


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause Python's garbage collector, which would visit many new objects again and again.

    Reference counting goes on. Objects that exist at the end are never visited again: cycles among them stay.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()
