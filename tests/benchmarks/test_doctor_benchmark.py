"""`doctor` is measured over a set of linked files, every one of which is examined."""

from benchmarks.doctor import measure_size


def test_every_image_of_a_linked_set_is_examined() -> None:
    steps = measure_size(300)
    assert [step.name for step in steps] == ["the set, written", "its lists and labels, read", "doctor, all of it"]
    assert all(step.images == 300 and step.seconds > 0 and step.peak_bytes > 0 for step in steps)
