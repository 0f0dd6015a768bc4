"""The CPU version: pairs are counted where their strongest boundary lies, and no table of pairs is kept.

The cost of a pair's affinity, and its gradient, depend on one pixel only: the one with the strongest boundary on
the path. So numba counts, for each pixel and kind of pair, the pairs that it decides, and plain torch does the rest.

Maps are flat here: pixel (y, x) is number y * width + x, its neighbour at (dy, dx) lies dy * width + dx further on,
and one loop runs over many rows. What it reads across the left and right borders belongs to no pair.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from numba import njit
from torch import Tensor

from kernels.affinity import offsets
from kernels.affinity.plan import plan
from kernels.pair_losses.terms import IGNORE, PairTerms, from_counts

# The kinds of pair, in the order of counts: background, foreground, negative, and no pair at all.
NO_PAIR = 3
# Numbers in a tile's table of shapes: about half of a second-level cache.
TABLE = 1 << 18
# Pixels whose displacements are compared at a time: what that takes stays in the nearest cache.
STRETCH = 1024


@njit(nogil=True, cache=True)
def _write_kinds(kinds, one, other, ignore):
    """Write the kind of each pair of labels (one[i], other[i])."""
    for i in range(len(one)):
        alike = np.uint8(0) if one[i] == 0 else np.uint8(1)
        kind = alike if one[i] == other[i] else np.uint8(2)
        kinds[i] = np.uint8(NO_PAIR) if one[i] == ignore or other[i] == ignore else kind


@njit(nogil=True, cache=True)
def _find_kinds(sources, labels, ignore, present):
    """Write to present [3] which kinds of pair there may be between some pixels and those around them."""
    present[:] = False
    for label in sources:
        if label != ignore:
            present[min(label, 1)] = True
    first = np.int64(ignore)
    for label in labels:
        if label != ignore:
            if first == ignore:
                first = np.int64(label)
            elif label != first:
                present[2] = True
                break


@njit(nogil=True, cache=True)
def _count_deciders(ranks, sources, labels, width, steps, ends, shifts, reach, tile, ignore, decided):
    """Add to decided [3, H * W] the pairs of each kind whose highest rank a pixel has.

    The maximum over a shape is that over one of its two parts: pairs are counted at the shape of their path, and
    handed down from shape to part until they arrive at a pixel.
    """
    num_shapes, height = len(steps) + 1, len(ranks) // width
    maxima = np.empty((num_shapes, (tile + reach) * width), ranks.dtype)
    counts = np.empty(maxima.shape, np.int16)
    kinds = np.empty((len(ends), tile * width), np.uint8)
    present = np.empty(3, np.bool_)
    for top in range(0, height - reach, tile):
        begin = top * width
        rows = min(tile, height - reach - top)
        size = (rows + reach) * width
        # Of the first and last pixels, which have no pairs, some neighbours would lie outside of the map.
        inner = rows * width - 2 * reach
        _find_kinds(sources[begin : begin + rows * width], labels[begin : begin + size], ignore, present)
        if not present.any():
            continue
        for i in range(size):
            maxima[0, i] = ranks[begin + i]
        for s in range(len(steps)):
            shift_a, shift_b = steps[s, 1] * width + steps[s, 2], steps[s, 4] * width + steps[s, 5]
            length = size - max(shift_a, shift_b)
            one = maxima[steps[s, 0], shift_a : shift_a + length]
            other = maxima[steps[s, 3], shift_b : shift_b + length]
            both = maxima[s + 1]
            for i in range(length):
                both[i] = one[i] if one[i] > other[i] else other[i]
        for k in range(len(ends)):
            start = begin + reach
            partners = labels[start + shifts[k] : start + shifts[k] + inner]
            _write_kinds(kinds[k], sources[start : start + inner], partners, ignore)
        for kind in range(3):
            if not present[kind]:
                continue
            for s in range(num_shapes):
                for i in range(size):
                    counts[s, i] = 0
            for k in range(len(ends)):
                found, target = kinds[k], counts[ends[k, 0], reach - ends[k, 1] :]
                for i in range(inner):
                    target[i] += np.int16(found[i] == kind)
            for s in range(len(steps) - 1, -1, -1):
                shift_a, shift_b = steps[s, 1] * width + steps[s, 2], steps[s, 4] * width + steps[s, 5]
                length = size - max(shift_a, shift_b)
                one = maxima[steps[s, 0], shift_a : shift_a + length]
                other = maxima[steps[s, 3], shift_b : shift_b + length]
                both, target = counts[s + 1], counts[steps[s, 0], shift_a:]
                for i in range(length):
                    target[i] += both[i] if one[i] > other[i] else np.int16(0)
                # Equal ranks are one pixel, which both parts hold.
                target = counts[steps[s, 3], shift_b:]
                for i in range(length):
                    target[i] += np.int16(0) if one[i] > other[i] else both[i]
            for i in range(size):
                decided[kind, begin + i] += counts[0, i]


@njit(nogil=True, cache=True)
def _sum_displacement(displacement, sources, labels, end, offsets, shifts, reach, stretch, ignore, slopes):
    """Return the background and foreground sums; add the pixels' subgradients to slopes [2, 2, H * W].

    Costs are summed over the pairs of a pixel in the field's precision, over pixels in double precision.

    Args:
        offsets: As the pairs', in the field's precision.
    """
    kinds = np.empty(stretch, np.uint8)
    present = np.empty(3, np.bool_)
    errors = np.empty(stretch, displacement.dtype)
    signs = np.empty(stretch, np.int16)
    costs = np.empty((2, stretch), displacement.dtype)
    zero = displacement.dtype.type(0)
    sums = np.zeros(2)
    for begin in range(reach, end - reach, stretch):
        length = min(stretch, end - reach - begin)
        _find_kinds(sources[begin : begin + length], sources[:0], ignore, present)
        if not present[:2].any():
            continue
        for kind in range(2):
            for i in range(length):
                costs[kind, i] = 0
        for k in range(len(shifts)):
            there = begin + shifts[k]
            _write_kinds(kinds, sources[begin : begin + length], labels[there : there + length], ignore)
            for axis in range(2):
                own, partner = displacement[axis, begin : begin + length], displacement[axis, there : there + length]
                target = offsets[k, axis]
                for i in range(length):
                    errors[i] = own[i] - partner[i] - (target if kinds[i] == 1 else zero)
                for i in range(length):
                    signs[i] = np.int16(errors[i] > 0) - np.int16(errors[i] < 0)
                for kind in range(2):
                    if not present[kind]:
                        continue
                    cost = costs[kind]
                    for i in range(length):
                        cost[i] += abs(errors[i]) if kinds[i] == kind else zero
                    slope = slopes[kind, axis, begin:]
                    for i in range(length):
                        slope[i] += signs[i] if kinds[i] == kind else np.int16(0)
                    slope = slopes[kind, axis, there:]
                    for i in range(length):
                        slope[i] -= signs[i] if kinds[i] == kind else np.int16(0)
        for kind in range(2):
            for i in range(length):
                sums[kind] += costs[kind, i]
    return sums


def _over_images(work: Callable[[int], Any], batch: int) -> list[Any]:
    """Return work(0), work(1), ... in order; each image is one thread's, so threads change no result."""
    with ThreadPoolExecutor(max(min(batch, torch.get_num_threads()), 1)) as pool:
        return list(pool.map(work, range(batch)))


def _flatten(labels: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels [B, H * W], with IGNORE where a pixel is not the first of any pair, and as they are."""
    batch, height, width = labels.shape
    sources = np.full_like(labels, IGNORE)
    rows, columns = height - reach, width - reach
    if rows > 0 and columns > reach:
        sources[:, :rows, reach:columns] = labels[:, :rows, reach:columns]
    return sources.reshape(batch, height * width), labels.reshape(batch, height * width)


def _rank(boundary: np.ndarray) -> np.ndarray:
    """Return each pixel's place in ascending order; of equal boundaries the first pixel comes last.

    So the highest rank on a path is that of its first pixel with the strongest boundary.
    """
    size = boundary.size
    if boundary.dtype == np.float32:
        # The bits of floats from 0 up are ordered as they are, and sorting whole numbers is faster. 0 + -0.0 is 0.
        keys = (boundary.ravel() + np.float32(0)).view(np.uint32).astype(np.uint64) << np.uint64(32)
        keys |= np.arange(size - 1, -1, -1, dtype=np.uint64)
        keys.sort()
        order = size - 1 - (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
    else:
        order = size - 1 - np.argsort(boundary.ravel()[::-1], kind="stable")
    ranks = np.empty(size, np.uint16 if size <= 1 << 16 else np.int32)
    ranks[order] = np.arange(size, dtype=ranks.dtype)
    return ranks


def _decided_pairs(boundary: np.ndarray, labels: np.ndarray, radius: int) -> np.ndarray:
    """Return int64 [3, B, H, W]: for each pixel the pairs of each kind whose strongest boundary it is."""
    batch, height, width = labels.shape
    reach = radius - 1
    decided = np.zeros((batch, 3, height, width), np.int64)
    if height <= reach or width <= 2 * reach:
        return decided.swapaxes(0, 1)
    shapes = plan(radius)
    shifts = offsets(radius).numpy() @ (width, 1)
    tile = min(height - reach, max(reach, TABLE // (len(shapes.sizes) * width) - reach))
    sources, flat = _flatten(labels, reach)

    def count(b: int) -> None:
        _count_deciders(
            _rank(boundary[b]),
            sources[b],
            flat[b],
            width,
            shapes.steps,
            shapes.ends,
            shifts,
            reach,
            tile,
            IGNORE,
            decided[b].reshape(3, height * width),
        )

    _over_images(count, batch)
    return decided.swapaxes(0, 1)


def _displacement_sums(displacement: np.ndarray, labels: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the background and foreground sums of errors [2], and their slopes [B, 2, 2, H, W]."""
    batch, height, width = labels.shape
    reach = radius - 1
    field = displacement.reshape(batch, 2, height * width)
    steps_to = offsets(radius).numpy()
    shifts, targets = steps_to @ (width, 1), steps_to.astype(field.dtype)
    sources, flat = _flatten(labels, reach)
    slopes = np.zeros((batch, 2, 2, height * width), np.int16)

    def add(b: int) -> np.ndarray:
        end = (height - reach) * width
        return _sum_displacement(field[b], sources[b], flat[b], end, targets, shifts, reach, STRETCH, IGNORE, slopes[b])

    sums = _over_images(add, batch if width > 2 * reach else 0)
    return np.sum(sums, axis=0) if sums else np.zeros(2), slopes.reshape(batch, 2, 2, height, width)


def pair_terms(
    boundary: Float[Tensor, "b h w"],
    displacement: Float[Tensor, "b 2 h w"],
    labels: Integer[Tensor, "b h w"],
    radius: int,
) -> PairTerms:
    """See `kernels.pair_losses.pair_terms`."""
    classes = labels.contiguous().numpy()
    decided = _decided_pairs(boundary.detach().contiguous().numpy(), classes, radius)
    sums, slopes = _displacement_sums(displacement.detach().contiguous().numpy(), classes, radius)
    return from_counts(boundary, displacement, *map(torch.from_numpy, (decided, sums, slopes)))
