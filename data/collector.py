"""Python's garbage collector, kept from looking at what is only being read in."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """Make many objects that stay, without the collector's going through all of them again and again.

    Reference counting goes on. What there is at the end is never looked at again: cycles among it stay.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()
