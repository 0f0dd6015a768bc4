"""A row is timed only where its check holds, and each part of the baseline counts as often as it says."""

from __future__ import annotations

import time

import pytest

from benchmarks.measure import CheckFailed, measure
from benchmarks.row import Part, Row


def row(error: float, *slow: Part) -> Row:
    return Row("kernel", "baseline", lambda: time.sleep(0.02), slow, lambda: error, 1e-3, "of something")


@pytest.mark.parametrize("error", [2e-3, float("nan")])
def test_a_kernel_that_is_wrong_is_not_timed(error: float) -> None:
    with pytest.raises(CheckFailed, match="kernel"):
        measure(row(error, Part(lambda: None)))


def test_a_part_counts_as_often_as_the_baseline_does_it() -> None:
    result = measure(row(0, Part(lambda: time.sleep(0.02)), Part(lambda: time.sleep(0.01), times=8)), quick=True)
    # Sleeps last as long as they say, or longer where the machine is busy.
    assert result.slow_s >= 0.1
    assert result.fast_s >= 0.02
    assert result.ratio_min <= result.ratio <= result.ratio_max
