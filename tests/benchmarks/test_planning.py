"""Planning a simulated set takes every step, and no more memory a size than the images need."""

from benchmarks.planning import measure_apart, tabulate


def test_every_step_is_measured_for_two_thousand_images() -> None:
    steps = measure_apart(2000)
    names = [step.name for step in steps]
    assert len(set(names)) == len(names)
    assert {"plan with all keys", "record, written", "status of the run, all stale"} <= set(names)
    assert all(step.images == 2000 and step.seconds >= 0 for step in steps)
    # A process that had loaded torch would have more.
    assert 0 < max(step.peak_bytes for step in steps) < 300e6
    assert tabulate(steps).row_count == len(steps)
