"""The pairs of pixels within a radius, and the pixels between the two ends of a pair."""

from __future__ import annotations

from functools import cache

Pixel = tuple[int, int]


@cache
def paths(radius: int) -> dict[Pixel, tuple[Pixel, ...]]:
    """Return the path of every pair of the half plane: offset (dy, dx) -> pixels (y, x), in raster order.

    A pair's first end is at (0, 0), its second at its offset. The half plane holds the offsets shorter than
    `radius` that lie below, or to the right in the same row, so every unordered pair occurs once (IRNet, Eq. 2).
    A path is the pixels of the ends' bounding box that are less than 1 pixel away from the line through them,
    the ends included. Offsets are sorted by the length of their paths, then by (dy, dx).

    Raises:
        ValueError: The radius is below 2: no pixel has a partner.
    """
    if radius < 2:
        raise ValueError(f"radius must be at least 2, got {radius}")
    reach = range(-radius + 1, radius)
    half_plane = [(dy, dx) for dy in reach for dx in reach if (dy, dx) > (0, 0) and dy * dy + dx * dx < radius * radius]
    found = {offset: _path(*offset) for offset in half_plane}
    return dict(sorted(found.items(), key=lambda item: (len(item[1]), item[0])))


def _path(dy: int, dx: int) -> tuple[Pixel, ...]:
    # The distance of (y, x) to the line is |y * dx - x * dy| / |(dy, dx)|; squared, it stays in whole numbers.
    return tuple(
        (y, x)
        for y in range(dy + 1)
        for x in range(min(dx, 0), max(dx, 0) + 1)
        if (y * dx - x * dy) ** 2 < dy * dy + dx * dx
    )
