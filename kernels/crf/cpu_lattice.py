"""The lattice of an image on the CPU: vertices by hashing, their neighbours as chains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int32, UInt8
from numba import float32, int32, njit, uint64
from torch import Tensor

from kernels.crf.geometry import check_extents, elevation, packing
from kernels.crf.settings import BILATERAL, GAUSSIAN, Kernel

# Channels that travel together: as many as a vector register of every x86-64 and ARM processor holds.
WIDTH = 4


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

    corners: Int32[np.ndarray, "n k"]
    weights: Float32[np.ndarray, "n k"]
    chains: tuple[Int32[np.ndarray, " v"], ...]
    num_vertices: int
    totals: Float32[np.ndarray, " n"]


@njit(nogil=True, cache=True)
def _find(slots, keys, key):  # pragma: no cover
    """Return the slot that holds the key's vertex, or the empty one (-1) where it belongs."""
    mask = len(slots) - 1
    slot = np.int64((uint64(key) * uint64(0x9E3779B97F4A7C15)) >> uint64(32)) & mask
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@njit(nogil=True, cache=True)
def _grow(slots, keys, following):  # pragma: no cover
    """Return the tables with room for twice as many vertices."""
    count = len(keys)
    more_slots = np.full(2 * len(slots), -1, np.int32)
    more_keys = np.empty(2 * count, np.int64)
    more_following = np.full((2 * count, following.shape[1]), -1, np.int32)
    more_keys[:count] = keys
    more_following[:count] = following
    for vertex in range(count):
        more_slots[_find(more_slots, more_keys, keys[vertex])] = vertex
    return more_slots, more_keys, more_following


@njit(nogil=True, cache=True)
def _build(image, sxy, srgb, scale, powers, steps, corners, weights):  # pragma: no cover
    """Write each pixel's corners and barycentric weights; return M and each vertex's follower on each axis, or -1."""
    height, width, num_colours = image.shape
    d = 2 + num_colours
    one, per_side = float32(1), float32(1) / float32(d + 1)
    capacity = 1 << 12
    slots = np.full(4 * capacity, -1, np.int32)
    keys = np.empty(capacity, np.int64)
    following = np.full((capacity, d + 1), -1, np.int32)
    count = 0
    feature = np.empty(d, np.float32)
    rest = np.empty(d + 1, np.float32)
    rank = np.empty(d + 1, np.int64)
    axes = np.empty(d + 1, np.int64)
    for pixel in range(height * width):
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
        vertex = int32(-1)
        for k in range(d + 1):
            before = vertex
            step = axes[d + 1 - k] if k > 0 else axes[0]
            if k > 0:
                key += steps[step]
                vertex = following[before, step]
            elif pixel > 0 and keys[corners[pixel - 1, 0]] == key:
                vertex = corners[pixel - 1, 0]
            if vertex < 0:
                slot = _find(slots, keys, key)
                vertex = slots[slot]
                if vertex < 0:
                    if count == len(keys):
                        slots, keys, following = _grow(slots, keys, following)
                        slot = _find(slots, keys, key)
                    vertex = int32(count)
                    slots[slot] = vertex
                    keys[vertex] = key
                    count += 1
                if k > 0:
                    following[before, step] = vertex
            corners[pixel, k] = vertex
            weights[pixel, k] = rest[axes[d - k]] - rest[step] + (one if k == 0 else float32(0))
        following[vertex, axes[0]] = corners[pixel, 0]
    for vertex in range(count):
        for axis in range(d + 1):
            if following[vertex, axis] < 0:
                following[vertex, axis] = slots[_find(slots, keys, keys[vertex] + steps[axis])]
    return count, following[:count]


@njit(nogil=True, cache=True)
def _chain(following, axis):  # pragma: no cover
    """Return the vertices that have a neighbour on the axis, row by row."""
    count = len(following)
    inner = np.zeros(count, np.bool_)
    for vertex in range(count):
        if following[vertex, axis] >= 0:
            inner[following[vertex, axis]] = True
    chain = np.empty(count, np.int32)
    size = 0
    for start in range(count):
        if inner[start] or following[start, axis] < 0:
            continue
        vertex = int32(start)
        while following[vertex, axis] >= 0:
            chain[size] = vertex
            size += 1
            vertex = following[vertex, axis]
        chain[size] = ~vertex
        size += 1
    return chain[:size].copy()


@njit(nogil=True, cache=True, fastmath={"contract"})
def blur(values, chain):  # pragma: no cover
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
def _splat_ones(corners, weights, values):  # pragma: no cover
    for pixel in range(len(corners)):
        for k in range(corners.shape[1]):
            values[corners[pixel, k], 0] += weights[pixel, k]


@njit(nogil=True, cache=True)
def _slice_first(corners, weights, values, out):  # pragma: no cover
    for pixel in range(len(corners)):
        out[pixel] = 0
        for k in range(corners.shape[1]):
            out[pixel] += weights[pixel, k] * values[corners[pixel, k], 0]


def _filter_ones(corners: np.ndarray, weights: np.ndarray, chains: tuple[np.ndarray, ...], num_vertices: int):
    values = np.zeros((num_vertices, WIDTH), np.float32)
    _splat_ones(corners, weights, values)
    for chain in chains:
        blur(values, chain)
    out = np.empty(len(corners), np.float32)
    _slice_first(corners, weights, values, out)
    return out


def _build_one(image: UInt8[np.ndarray, "h w c"], kernel: Kernel) -> Lattice:
    """Build the lattice of one kernel; the image has no channel where the colour does not matter."""
    height, width, num_colours = image.shape
    d = 2 + num_colours
    srgb = kernel.srgb or 1
    check_extents([width / kernel.sxy, height / kernel.sxy, *[255 / srgb] * num_colours])
    powers, steps, _ = packing(d)
    corners = np.empty((height * width, d + 1), np.int32)
    weights = np.empty((height * width, d + 1), np.float32)
    stds = np.float32(kernel.sxy), np.float32(srgb)
    num_vertices, following = _build(image, *stds, elevation(d), powers, steps, corners, weights)
    chains = tuple(_chain(following, axis) for axis in range(d + 1))
    # Symmetric normalisation divides by the square root of the filtered ones at both pixels.
    gain = 1 / (1 + 2.0**-d)
    norms = gain * _filter_ones(corners, weights, chains, num_vertices) + np.float32(1e-20)
    weights *= np.sqrt(kernel.weight * gain / norms)[:, None]
    return Lattice(corners, weights, chains, num_vertices, _filter_ones(corners, weights, chains, num_vertices))


@lru_cache(maxsize=8)
def _positions(height: int, width: int) -> Lattice:
    return _build_one(np.empty((height, width, 0), np.uint8), GAUSSIAN)


def build(image: UInt8[Tensor, "h w 3"]) -> Lattice:
    """Return the sum of both kernels as one lattice, in which the two share no vertex.

    Raises:
        ValueError: The image is too large for the vertices' keys: tens of thousands of pixels wide or high.
    """
    height, width = image.shape[:2]
    near, alike = _positions(height, width), _build_one(image.contiguous().numpy(), BILATERAL)
    shift = np.int32(near.num_vertices)
    return Lattice(
        np.concatenate([near.corners, alike.corners + shift], 1),
        np.concatenate([near.weights, alike.weights], 1),
        # Complements shift the other way.
        near.chains + tuple(np.where(chain < 0, chain - shift, chain + shift) for chain in alike.chains),
        near.num_vertices + alike.num_vertices,
        near.totals + alike.totals,
    )
