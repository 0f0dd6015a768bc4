"""Work in threads gives its results in order, and does not take all items at once."""

from collections.abc import Iterator

from data.threads import WINDOW, map_in_threads


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
