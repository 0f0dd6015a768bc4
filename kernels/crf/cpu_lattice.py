"""The lattice of an image on the CPU: vertices by hashing, their neighbours as chains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int32, UInt8, UInt32
from numba import float32, int32, njit, uint64
from torch import Tensor

from kernels.crf.geometry import check_extents, elevation, packing
from kernels.crf.settings import BILATERAL, GAUSSIAN, Kernel

# Channels that travel together: as many as a vector register of every x86-64 and ARM processor holds.
WIDTH = 4
# Pixels that are placed between two looks at the room that is left in the tables.
STRETCH = 4096


@dataclass(frozen=True)
class Lattice:
    """A symmetric filter over N pixels by way of M vertices: K = W B W^T.

    Attributes:
        corners: The vertices around a pixel.
        weights: W's entries at `corners`: barycentric, with the kernel's weight and normalisation.
        chains: For each axis, vertices in rows along it; the last of each row is stored as its complement ~v.
            A vertex without neighbours on the axis is left out.
        num_vertices: M.
        totals: K applied to ones.
    """

    corners: UInt32[np.ndarray, "n k"]
    weights: Float32[np.ndarray, "n k"]
    chains: tuple[Int32[np.ndarray, " v"], ...]
    num_vertices: int
    totals: Float32[np.ndarray, " n"]


@njit(nogil=True, cache=True)
def _find(slots, keys, key):
    """Return the slot that holds the key's vertex, or the empty one (-1) where it belongs."""
    mask = len(slots) - 1
    slot = np.int64((uint64(key) * uint64(0x9E3779B97F4A7C15)) >> uint64(32)) & mask
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@njit(nogil=True, cache=True)
def _enclose(
    image, sxy, srgb, scale, powers, steps, start, end, corners, weights, column, offset, slots, keys, following, count
):
    """Write the corners and barycentric weights of the pixels [start, end); return the number of vertices so far."""
    _, width, num_colours = image.shape
    d = 2 + num_colours
    one, per_side = float32(1), float32(1) / float32(d + 1)
    feature = np.empty(d, np.float32)
    rest = np.empty(d + 1, np.float32)
    rank = np.empty(d + 1, np.int64)
    axes = np.empty(d + 1, np.int64)
    first = int32(0)
    for pixel in range(start, end):
        y, x = pixel // width, pixel % width
        feature[0] = float32(x) / sxy
        feature[1] = float32(y) / sxy
        for i in range(num_colours):
            feature[2 + i] = float32(image[y, x, i]) / srgb
        # The nearest point whose coordinates are all multiples of d + 1, and the rest, in units of d + 1.
        key, excess, total = np.int64(0), 0, float32(0)
        for i in range(d, -1, -1):
            scaled = feature[i - 1] * scale[i - 1] if i > 0 else float32(0)
            elevated = (total - float32(i) * scaled) * per_side
            total += scaled
            nearest = np.rint(elevated)
            rest[i] = elevated - nearest
            excess += int(nearest)
            key += (d + 1) * int(nearest) * powers[i]
            rank[i] = 0
        for i in range(d + 1):
            for j in range(i + 1, d + 1):
                if rest[i] < rest[j]:
                    rank[i] += 1
                else:
                    rank[j] += 1
        # Coordinates must sum to 0: the excess is taken from the coordinates that were rounded furthest.
        for i in range(d + 1):
            place = rank[i] + excess
            if place < 0:
                place += d + 1
                rest[i] -= one
                key += (d + 1) * powers[i]
            elif place > d:
                place -= d + 1
                rest[i] += one
                key -= (d + 1) * powers[i]
            axes[place] = i
        # The simplex's corners are a walk of one step along each axis, which ends where it began.
        before = vertex = int32(-1)
        for k in range(d + 1):
            step = axes[d + 1 - k] if k > 0 else axes[0]
            if k > 0:
                key += steps[step]
                before = vertex
                vertex = following[before, step]
            elif pixel > start and keys[first] == key:
                vertex = first
            if vertex < 0:
                slot = _find(slots, keys, key)
                vertex = slots[slot]
                if vertex < 0:
                    vertex = int32(count)
                    slots[slot] = vertex
                    keys[vertex] = key
                    count += 1
                if k > 0:
                    following[before, step] = vertex
            if k == 0:
                first = vertex
            corners[pixel, column + k] = offset + vertex
            weights[pixel, column + k] = rest[axes[d - k]] - rest[step] + (one if k == 0 else float32(0))
        following[vertex, axes[0]] = first
    return count


@njit(nogil=True, cache=True)
def _build(image, sxy, srgb, scale, powers, steps, corners, weights, column, offset):
    """Write corners and barycentric weights from a column on; return the followers on each axis [d + 1, M], or -1."""
    num_pixels, num_axes = len(corners), len(steps)
    # A literal 0 would be a type of its own, for which all that is called would be compiled a second time.
    count = np.int64(0)
    capacity = num_axes * min(STRETCH, num_pixels)
    slots = np.full(_power_of_two(4 * capacity), -1, np.int32)
    keys = np.empty(capacity, np.int64)
    following = np.full((capacity, num_axes), -1, np.int32)
    for start in range(0, num_pixels, STRETCH):
        end = min(start + STRETCH, num_pixels)
        # Tables that could be replaced while pixels are placed would make each access to them several times slower.
        if count + num_axes * (end - start) > capacity:
            capacity = 2 * capacity + num_axes * STRETCH
            more_keys = np.empty(capacity, np.int64)
            more_following = np.full((capacity, num_axes), -1, np.int32)
            # Loops: numba takes seconds to compile the assignment of a slice, for the sake of its error message.
            for vertex in range(count):
                more_keys[vertex] = keys[vertex]
                for axis in range(num_axes):
                    more_following[vertex, axis] = following[vertex, axis]
            keys, following = more_keys, more_following
            slots = np.full(_power_of_two(2 * capacity), -1, np.int32)
            for vertex in range(count):
                slots[_find(slots, keys, keys[vertex])] = vertex
        count = _enclose(
            image,
            sxy,
            srgb,
            scale,
            powers,
            steps,
            start,
            end,
            corners,
            weights,
            column,
            offset,
            slots,
            keys,
            following,
            count,
        )
    return _link(slots, keys, following, steps, count)


@njit(nogil=True, cache=True)
def _power_of_two(least):
    size = 1
    while size < least:
        size *= 2
    return size


@njit(nogil=True, cache=True)
def _link(slots, keys, following, steps, count):
    """Return all followers: those that no pixel's simplex has led to are looked up."""
    links = np.empty((len(steps), count), np.int32)
    for vertex in range(count):
        for axis in range(len(steps)):
            after = following[vertex, axis]
            if after < 0:
                after = slots[_find(slots, keys, keys[vertex] + steps[axis])]
            links[axis, vertex] = after
    return links


@njit(nogil=True, cache=True)
def _chain(links, offset):
    """Return the vertices that have a neighbour on an axis, row by row, numbered from `offset`."""
    inner = np.zeros(len(links), np.bool_)
    for after in links:
        if after >= 0:
            inner[after] = True
    chain = np.empty(len(links), np.int32)
    size = 0
    for start in range(len(links)):
        if inner[start] or links[start] < 0:
            continue
        vertex = int32(start)
        while links[vertex] >= 0:
            chain[size] = offset + vertex
            size += 1
            vertex = links[vertex]
        chain[size] = ~(offset + vertex)
        size += 1
    return chain[:size].copy()


@njit(nogil=True, cache=True, fastmath={"contract"})
def blur(values, chain):
    """Add to each vertex half of its two neighbours on an axis, in place; `values` are [M, WIDTH]."""
    half, zero = float32(0.5), float32(0)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero
    at_start = True
    for i in range(len(chain)):
        vertex = chain[i]
        at_end = vertex < 0
        if at_end:
            vertex = ~vertex
        if at_start:
            a0 = a1 = a2 = a3 = zero
            b0, b1, b2, b3 = values[vertex, 0], values[vertex, 1], values[vertex, 2], values[vertex, 3]
        c0 = c1 = c2 = c3 = zero
        if not at_end:
            after = chain[i + 1]
            if after < 0:
                after = ~after
            c0, c1, c2, c3 = values[after, 0], values[after, 1], values[after, 2], values[after, 3]
        values[vertex, 0] = b0 + half * (a0 + c0)
        values[vertex, 1] = b1 + half * (a1 + c1)
        values[vertex, 2] = b2 + half * (a2 + c2)
        values[vertex, 3] = b3 + half * (a3 + c3)
        a0, a1, a2, a3 = b0, b1, b2, b3
        b0, b1, b2, b3 = c0, c1, c2, c3
        at_start = at_end


@njit(nogil=True, cache=True)
def _splat_ones(corners, weights, column, values):
    for pixel in range(len(corners)):
        for k in range(column, corners.shape[1]):
            values[corners[pixel, k], 0] += weights[pixel, k]


@njit(nogil=True, cache=True)
def _slice_ones(corners, weights, column, values, out):
    for pixel in range(len(corners)):
        total = float32(0)
        for k in range(column, corners.shape[1]):
            total += weights[pixel, k] * values[corners[pixel, k], 0]
        out[pixel] = total


def _filter_ones(lattice: Lattice, column: int) -> Float32[np.ndarray, " n"]:
    values = np.zeros((lattice.num_vertices, WIDTH), np.float32)
    _splat_ones(lattice.corners, lattice.weights, column, values)
    for chain in lattice.chains:
        blur(values, chain)
    out = np.empty(len(lattice.corners), np.float32)
    _slice_ones(lattice.corners, lattice.weights, column, values, out)
    return out


def _add(lattice: Lattice, image: UInt8[np.ndarray, "h w c"], kernel: Kernel) -> Lattice:
    """Return a lattice and the kernel's beside it; the image has no channel where the colour does not matter."""
    height, width, num_colours = image.shape
    d = 2 + num_colours
    srgb = kernel.srgb or 1
    check_extents([width / kernel.sxy, height / kernel.sxy, *[255 / srgb] * num_colours])
    column, first = lattice.corners.shape[1], lattice.num_vertices
    corners = np.empty((height * width, column + d + 1), np.uint32)
    weights = np.empty(corners.shape, np.float32)
    corners[:, :column], weights[:, :column] = lattice.corners, lattice.weights
    powers, steps, _ = packing(d)
    stds = np.float32(kernel.sxy), np.float32(srgb)
    links = _build(image, *stds, elevation(d), powers, steps, corners, weights, column, first)
    chains = tuple(_chain(link, first) for link in links)
    alone = Lattice(corners, weights, chains, first + links.shape[1], lattice.totals)
    # Symmetric normalisation divides by the square root of the filtered ones at both pixels.
    gain = 1 / (1 + 2.0**-d)
    norms = gain * _filter_ones(alone, column) + np.float32(1e-20)
    weights[:, column:] *= np.sqrt(kernel.weight * gain / norms)[:, None]
    totals = lattice.totals + _filter_ones(alone, column)
    return replace(alone, chains=lattice.chains + chains, totals=totals)


@lru_cache(maxsize=8)
def _positions(height: int, width: int) -> Lattice:
    size = height * width
    nothing = Lattice(
        np.empty((size, 0), np.uint32), np.empty((size, 0), np.float32), (), 0, np.zeros(size, np.float32)
    )
    return _add(nothing, np.empty((height, width, 0), np.uint8), GAUSSIAN)


def build(image: UInt8[Tensor, "h w 3"]) -> Lattice:
    """Return the sum of both kernels as one lattice, in which the two share no vertex.

    Raises:
        ValueError: The image is too large for the vertices' keys: tens of thousands of pixels wide or high.
    """
    height, width = image.shape[:2]
    return _add(_positions(height, width), image.contiguous().numpy(), BILATERAL)
