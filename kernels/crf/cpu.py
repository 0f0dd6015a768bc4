"""The CPU version: one pass over the pixels an iteration, single precision, one thread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float32
from numba import float32, int32, njit
from torch import Tensor

from kernels.crf.cpu_lattice import WIDTH, Lattice, blur, build

__all__ = ["build", "marginals"]

# Pixels whose distributions are computed together: enough for vector registers, few enough for the nearest cache.
BLOCK = 128
# 2^x on [-1/2, 1/2]: the polynomial of degree 6 through the Chebyshev nodes, to a relative 2e-8 before rounding.
_NODES = np.cos((np.arange(7) + 0.5) * np.pi / 7) / 2
_POWERS = tuple(np.float32(c) for c in np.polynomial.polynomial.polyfit(_NODES, 2**_NODES, 6))
_LOG2_E = np.float32(math.log2(math.e))


@njit(nogil=True, cache=True, fastmath={"contract"})
def _exp(x):
    """Return e^x of a number not above 0, 2^-64 at least; the library's function would be called once a number.

    Weighted, smaller values would become subnormal numbers, which processors take many times longer for.
    """
    x = max(x * _LOG2_E, float32(-64))
    whole = np.rint(x)
    rest = x - whole
    power = _POWERS[6]
    power = power * rest + _POWERS[5]
    power = power * rest + _POWERS[4]
    power = power * rest + _POWERS[3]
    power = power * rest + _POWERS[2]
    power = power * rest + _POWERS[1]
    power = power * rest + _POWERS[0]
    return power * np.int32((int32(whole) + int32(127)) << int32(23)).view(np.float32)


@njit(nogil=True, cache=True, fastmath={"contract"})
def _softmax(energies, size):
    """Replace columns by their softmax, for the first `size` columns."""
    peak, total = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for i in range(size):
        peak[i] = energies[0, i]
        total[i] = 0
    for label in range(1, len(energies)):
        row = energies[label]
        for i in range(size):
            peak[i] = max(peak[i], row[i])
    for label in range(len(energies)):
        row = energies[label]
        for i in range(size):
            row[i] = _exp(row[i] - peak[i])
            total[i] += row[i]
    for i in range(size):
        total[i] = float32(1) / total[i]
    for label in range(len(energies)):
        row = energies[label]
        for i in range(size):
            row[i] *= total[i]


@njit(nogil=True, cache=True, fastmath={"contract"})
def _slice(values, corners, weights, start, size, rows, energies):
    """Write the messages of a block of pixels, by label and pixel; `values` are [groups, M, WIDTH]."""
    for group in range(len(values)):
        field = values[group]
        first, second, third, fourth = (
            energies[rows[4 * group]],
            energies[rows[4 * group + 1]],
            energies[rows[4 * group + 2]],
            energies[rows[4 * group + 3]],
        )
        for i in range(size):
            a = b = c = d = float32(0)
            for k in range(corners.shape[1]):
                vertex, weight = corners[start + i, k], weights[start + i, k]
                a += weight * field[vertex, 0]
                b += weight * field[vertex, 1]
                c += weight * field[vertex, 2]
                d += weight * field[vertex, 3]
            first[i], second[i], third[i], fourth[i] = a, b, c, d


@njit(nogil=True, cache=True, fastmath={"contract"})
def _splat(values, corners, weights, start, size, rows, energies):
    """Add a block of pixels' distributions to the vertices around them."""
    for group in range(len(values)):
        field = values[group]
        first, second, third, fourth = (
            energies[rows[4 * group]],
            energies[rows[4 * group + 1]],
            energies[rows[4 * group + 2]],
            energies[rows[4 * group + 3]],
        )
        for i in range(size):
            a, b, c, d = first[i], second[i], third[i], fourth[i]
            for k in range(corners.shape[1]):
                vertex, weight = corners[start + i, k], weights[start + i, k]
                field[vertex, 0] += weight * a
                field[vertex, 1] += weight * b
                field[vertex, 2] += weight * c
                field[vertex, 3] += weight * d


@njit(nogil=True, cache=True, fastmath={"contract"})
def _iterate(corners, weights, totals, old, new, unaries, bounds, rows, has_messages, is_last, out):
    """Turn the blurred `old` into distributions: splat them into `new` or, the last time, write them to `out`."""
    # One row more than labels: where the channels that only fill a group come from and go to.
    energies = np.zeros((bounds[-1] + 1, BLOCK), np.float32)
    for start in range(0, len(corners), BLOCK):
        size = min(BLOCK, len(corners) - start)
        if has_messages:
            _slice(old, corners, weights, start, size, rows, energies)
        else:
            energies[:] = 0
        for m in range(len(bounds) - 1):
            first, last = bounds[m], bounds[m + 1] - 1
            if has_messages:
                rest = energies[last]
                # A loop, here and below: numba takes seconds to compile the assignment of a slice.
                for i in range(size):
                    rest[i] = totals[start + i]
                for label in range(first, last):
                    row = energies[label]
                    for i in range(size):
                        rest[i] -= row[i]
            for label in range(first, last + 1):
                row = energies[label]
                for i in range(size):
                    row[i] += unaries[label, start + i]
            _softmax(energies[first : last + 1], size)
        if is_last:
            for label in range(len(out)):
                for i in range(size):
                    out[label, start + i] = energies[label, i]
        else:
            _splat(new, corners, weights, start, size, rows, energies)


def marginals(
    lattice: Lattice, unaries: Sequence[Float32[Tensor, "l h w"]], iterations: int
) -> list[Float32[Tensor, "l h w"]]:
    """See `kernels.crf.reference.marginals`."""
    num_labels = [len(each) for each in unaries]
    bounds = np.cumsum([0, *num_labels])
    # A map's distributions sum to 1, so its last label's message is what the others leave of the totals.
    explicit = [row for first, end in pairwise(bounds) for row in range(first, end - 1)]
    groups = -(-len(explicit) // WIDTH)
    rows = np.full(groups * WIDTH, bounds[-1])
    rows[: len(explicit)] = explicit
    flat = torch.cat([each.flatten(1) for each in unaries]).numpy()
    out = np.empty_like(flat)
    old = np.zeros((groups, lattice.num_vertices, WIDTH), np.float32)
    new = np.zeros_like(old)
    for done in range(iterations + 1):
        is_last = done == iterations
        _iterate(lattice.corners, lattice.weights, lattice.totals, old, new, flat, bounds, rows, done > 0, is_last, out)
        if not is_last:
            for field in new:
                for chain in lattice.chains:
                    blur(field, chain)
            old, new = new, old
            new[:] = 0
    return list(torch.from_numpy(out).unflatten(1, unaries[0].shape[1:]).split(num_labels))
