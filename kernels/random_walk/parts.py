"""Division of a batch into parts whose buffers fit into a budget of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Sides are padded to multiples of it, so that a set of photographs needs few graphs.
PADDING = 16
SINGLE, HALF = 4, 2
# Maps of a part's size per map of scores (scores, totals, and the last two of the series), and per image (boundaries,
# sums, what can be passed and its power in both precisions).
MAPS_PER_SCORE, MAPS_PER_IMAGE = 4, 5


@dataclass(frozen=True)
class Part:
    """Images, or some maps of one image, that walk together.

    Attributes:
        images: Positions of the images in the batch.
        first_map: First of the maps that walk; 0 where all do.
        num_maps: Number of maps at most.
        shape: (B, C, H, W) of the buffers.
        half: Weights are in half precision.
        num_bytes: Size of the buffers.
    """

    images: tuple[int, ...]
    first_map: int
    num_maps: int
    shape: tuple[int, int, int, int]
    half: bool
    num_bytes: int


def parts_of(shapes: Sequence[tuple[int, ...]], num_offsets: int, budget: int) -> Iterator[Part]:
    """Yield the parts of a batch, each within a budget if that can be.

    Neighbours in the batch walk together as long as they fit. An image that does not fit alone walks in groups of its
    maps, which do not depend on each other. Where not even one map fits, the weights are in half precision; the part
    then has the least memory that there is, whatever the budget.

    Args:
        shapes: (C, H, W) of each image's scores; images without maps are in no part.
        num_offsets: Pairs per pixel.
        budget: Bytes.
    """
    images: list[int] = []
    for k, shape in enumerate(shapes):
        if not all(shape):
            continue
        if images and _part(shapes, (*images, k), num_offsets).num_bytes > budget:
            yield _part(shapes, tuple(images), num_offsets)
            images = []
        images.append(k)
        if _part(shapes, (k,), num_offsets).num_bytes > budget:
            yield from _groups_of_maps(shapes, k, num_offsets, budget)
            images = []
    if images:
        yield _part(shapes, tuple(images), num_offsets)


def _groups_of_maps(shapes: Sequence[tuple[int, ...]], k: int, num_offsets: int, budget: int) -> Iterator[Part]:
    maps, half, together = shapes[k][0], False, _power_of_2(shapes[k][0])
    while _part(shapes, (k,), num_offsets, maps=together, half=half).num_bytes > budget:
        if together > 1:
            together //= 2
        elif not half:
            half, together = True, _power_of_2(maps)
        else:
            break
    for first in range(0, maps, together):
        yield _part(shapes, (k,), num_offsets, first=first, maps=together, half=half)


def _part(
    shapes: Sequence[tuple[int, ...]],
    images: tuple[int, ...],
    num_offsets: int,
    *,
    first: int = 0,
    maps: int | None = None,
    half: bool = False,
) -> Part:
    most = maps or max(shapes[k][0] for k in images)
    height, width = (-(-max(shapes[k][axis] for k in images) // PADDING) * PADDING for axis in (1, 2))
    shape = (len(images), _power_of_2(most), height, width)
    per_pixel = SINGLE * (MAPS_PER_SCORE * shape[1] + MAPS_PER_IMAGE) + (HALF if half else SINGLE) * num_offsets
    return Part(images, first, most, shape, half, len(images) * height * width * per_pixel)


def _power_of_2(count: int) -> int:
    """Return the least power of 2 that is not below a count."""
    return 1 << (count - 1).bit_length()
