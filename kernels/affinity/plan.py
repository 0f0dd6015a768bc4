"""Maxima over all paths at little cost: a thick path is the union of two shifted shorter ones."""

from __future__ import annotations

from functools import cache
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from kernels.affinity.paths import paths


class Plan(NamedTuple):
    """Steps that make the maximum over each path from maxima over shapes made before.

    A shape is a set of pixels with its bounding box at (0, 0); shape 0 is the single pixel.

    Attributes:
        steps: int64 [S, 6]; shape s + 1 is shape a shifted by (ay, ax), united with shape b shifted by (by, bx):
            rows (a, ay, ax, b, by, bx).
        sizes: int64 [S + 1, 2]; height and width of each shape.
        ends: int64 [K, 2]; for each offset of `paths`, its path's shape, and the column of the shape's box in
            which the pair's first pixel lies (its row is 0).
    """

    steps: np.ndarray
    sizes: np.ndarray
    ends: np.ndarray


@cache
def plan(radius: int) -> Plan:
    """Find the steps for all paths of a radius, by a greedy search over pairs of shapes.

    Radius 5 takes 27 unions, radius 10 takes 155; pixel by pixel it would be 208 and 1,982.
    """
    # A shape is a bit mask, rows of `stride` bits; no row of a path is longer, so shifts cannot wrap around.
    stride = 2 * radius
    shapes = {1: 0}
    sizes = [(1, 1)]
    steps, ends = [], []
    for (dy, dx), path in paths(radius).items():
        left = max(-dx, 0)
        target = sum(1 << (y * stride + x + left) for y, x in path)
        while target not in shapes:
            (y1, x1, first), (y2, x2, second) = _largest_union(target, (dy + 1, abs(dx) + 1), shapes, sizes, stride)
            # A shape touches the top and the left of its box, so the corner of a union is that of its parts.
            top, side = min(y1, y2), min(x1, x2)
            (height1, width1), (height2, width2) = sizes[shapes[first]], sizes[shapes[second]]
            steps.append((shapes[first], y1 - top, x1 - side, shapes[second], y2 - top, x2 - side))
            sizes.append((max(y1 + height1, y2 + height2) - top, max(x1 + width1, x2 + width2) - side))
            union = (first << (y1 * stride + x1)) | (second << (y2 * stride + x2))
            shapes[union >> (top * stride + side)] = len(steps)
        ends.append((shapes[target], left))
    return Plan(np.array(steps), np.array(sizes), np.array(ends))


class Unions(NamedTuple):
    """A plan to be read once: the shapes that others are made of, and every path as a union of two of them.

    Attributes:
        steps: int64 [S, 6], as those of the plan.
        widths: int64 [S + 1]; of each shape's box.
        below: int64 [S + 1]; how many rows beneath the last row of pairs a shape is looked up at.
        ends: int64 [K, 6]; the path of each pair as such a union, shifted from the pair's first pixel.
    """

    steps: np.ndarray
    widths: np.ndarray
    below: np.ndarray
    ends: np.ndarray


@cache
def unions(radius: int) -> Unions:
    """Return the plan of a radius without the shapes that are nothing but paths: 54 of 155 at radius 10."""
    steps, sizes, ends = plan(radius)
    parts = [0, *sorted({*steps[:, 0], *steps[:, 3]} - {0})]
    position = np.zeros(len(sizes), np.int64)
    position[parts] = np.arange(len(parts))
    united = np.array([(position[a], ay, ax, position[b], by, bx) for a, ay, ax, b, by, bx in steps])
    last = [
        (position[shape], 0, -left) * 2 if shape in parts else united[shape - 1] - (0, 0, left, 0, 0, left)
        for shape, left in ends
    ]
    kept = united[np.array(parts[1:], int) - 1]
    below = np.zeros(len(parts), np.int64)
    for a, ay, _, b, by, _ in last:
        below[a], below[b] = max(below[a], ay), max(below[b], by)
    for shape in range(len(kept), 0, -1):
        a, ay, _, b, by, _ = kept[shape - 1]
        below[a] = max(below[a], ay + below[shape])
        below[b] = max(below[b], by + below[shape])
    return Unions(kept, sizes[parts, 1], below, np.array(last))


Placement = tuple[int, int, int]


def _largest_union(
    target: int, size: tuple[int, int], shapes: dict[int, int], sizes: list[tuple[int, int]], stride: int
) -> tuple[Placement, Placement]:
    """Return the two shapes, (y, x, mask), that lie inside the target and cover most of it together."""
    fitting: list[tuple[int, Placement]] = []
    for mask, index in shapes.items():
        height, width = sizes[index]
        for y, x in product(range(size[0] - height + 1), range(size[1] - width + 1)):
            placed = mask << (y * stride + x)
            if placed & ~target == 0:
                fitting.append((placed, (y, x, mask)))
    fitting.sort(key=lambda fit: -fit[0].bit_count())
    maximal: list[tuple[int, Placement]] = []
    for placed, placement in fitting:
        if all(placed & ~larger for larger, _ in maximal):
            maximal.append((placed, placement))
    one, other = max(combinations(maximal, 2), key=lambda pair: (pair[0][0] | pair[1][0]).bit_count())
    return one[1], other[1]
