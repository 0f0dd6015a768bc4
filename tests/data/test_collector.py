"""Pausing Python's garbage collector."""

from __future__ import annotations

import gc

import pytest

from data.collector import paused_collector


@paused_collector()
def _fail() -> None:
    assert not gc.isenabled()
    with paused_collector():
        pass
    assert not gc.isenabled()
    raise OSError("a file is gone")


def test_the_collector_rests_meanwhile_and_works_again_after_an_error() -> None:
    with pytest.raises(OSError, match="gone"):
        _fail()
    assert gc.isenabled()
