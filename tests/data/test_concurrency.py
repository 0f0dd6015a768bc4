"""Work in threads returns its results in order, and the garbage collector can be paused."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from data.concurrency import WINDOW, gc_paused, map_in_threads


def test_results_are_in_order_and_items_are_taken_as_they_are_needed() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(3 * WINDOW):
            taken.append(item)
            yield item

    found = map_in_threads(lambda item: 2 * item, items(), 2)
    assert next(found) == 0
    assert len(taken) == WINDOW
    assert list(found) == [2 * item for item in range(1, 3 * WINDOW)]


@gc_paused()
def _fail() -> None:
    assert not gc.isenabled()
    with gc_paused():
        pass
    assert not gc.isenabled()
    raise OSError("a file is gone")


def test_the_collector_rests_meanwhile_and_works_again_after_an_error() -> None:
    with pytest.raises(OSError, match="gone"):
        _fail()
    assert gc.isenabled()
