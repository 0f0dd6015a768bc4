"""Work on many files at once, in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
# `Executor.map` makes a future of every item at once, a kilobyte each.
WINDOW = 4096


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], num_threads: int | None = None
) -> Iterator[Result]:
    """Yield what `function` returns of each item, in order, with memory for some thousand items only."""
    remaining = iter(items)
    with ThreadPoolExecutor(num_threads) as threads:
        while window := list(islice(remaining, WINDOW)):
            yield from threads.map(function, window)
