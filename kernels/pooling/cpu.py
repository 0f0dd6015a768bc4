"""The CPU version: one way through the map with the channels innermost, so that a vector is of channels.

Half precision is compared as the integers that its bits are, in order; values are only ever moved.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

# The bits of infinity: all above are those of NaN.
INFINITY = {torch.bfloat16: 0x7F80, torch.float16: 0x7C00}


def pool(x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c p q"], UInt8[Tensor, "b c p k"]]:
    """See `kernels.pooling.max_pool`."""
    batch, channels, height, width = x.shape
    maxima = _empty(x, batch, channels, height // 2, width // 2)
    indices = _empty(x, batch, channels, height // 2, -(-(width // 2) // 4), dtype=torch.uint8)
    arrays = _rows(x), _rows(maxima), _rows(indices)
    if x.dtype in INFINITY:
        _in_threads(lambda first, last: _pool_half(*arrays, INFINITY[x.dtype], first, last), batch * (height // 2))
    else:
        _in_threads(lambda first, last: _pool(*arrays, first, last), batch * (height // 2))
    return maxima, indices


def unpool(
    x: Float[Tensor, "b c p q"], indices: UInt8[Tensor, "b c p k"], height: int, width: int
) -> Float[Tensor, "b c h w"]:
    """See `kernels.pooling.max_unpool`."""
    spread = _empty(x, *x.shape[:2], height, width)
    arrays = _rows(x), _rows(indices), _rows(spread)
    _in_threads(lambda first, last: _unpool(*arrays, first, last), x.shape[0] * x.shape[2])
    spread[:, :, 2 * (height // 2) :] = 0
    return spread


def pick(x: Float[Tensor, "b c h w"], indices: UInt8[Tensor, "b c p k"]) -> Float[Tensor, "b c p q"]:
    """See `kernels.pooling.reference.pick`."""
    picked = _empty(x, *indices.shape[:3], x.shape[3] // 2)
    arrays = _rows(x), _rows(indices), _rows(picked)
    _in_threads(lambda first, last: _pick(*arrays, first, last), picked.shape[0] * picked.shape[2])
    return picked


def _empty(like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    return torch.empty(shape, dtype=dtype or like.dtype, memory_format=torch.channels_last)


def _rows(x: Tensor) -> NDArray:
    """Return [B, H, W, C] over the tensor's own memory where its channels are last; half precision as its bits."""
    rows = x.detach().permute(0, 2, 3, 1).contiguous()
    return rows.view(torch.int16).numpy() if x.dtype in INFINITY else rows.numpy()


def _in_threads(work: Callable[[int, int], object], num_rows: int) -> None:
    """Do rows of windows in as many threads as torch has; each row is one thread's alone."""
    num_threads = min(torch.get_num_threads(), num_rows)
    if num_threads <= 1:
        work(0, num_rows)
        return
    cuts = np.linspace(0, num_rows, num_threads + 1).astype(int).tolist()
    with ThreadPoolExecutor(num_threads) as threads:
        list(threads.map(work, cuts[:-1], cuts[1:]))


@njit(nogil=True, cache=True)
def _pool(x, maxima, indices, first, last):
    _, height, width, channels = maxima.shape
    for row in range(first, last):
        b, y = row // height, row % height
        for q in range(width):
            corner, right = x[b, 2 * y, 2 * q], x[b, 2 * y, 2 * q + 1]
            below, across = x[b, 2 * y + 1, 2 * q], x[b, 2 * y + 1, 2 * q + 1]
            best, packed = maxima[b, y, q], indices[b, y, q // 4]
            shift = 2 * (q % 4)
            if shift == 0:
                packed[:] = 0
            for c in range(channels):
                value, number = corner[c], 0
                # What is not less or equal is greater or NaN.
                if not right[c] <= value and value == value:
                    value, number = right[c], 1
                if not below[c] <= value and value == value:
                    value, number = below[c], 2
                if not across[c] <= value and value == value:
                    value, number = across[c], 3
                best[c] = value
                packed[c] |= np.uint8(number << shift)


@njit(nogil=True, cache=True)
def _order(bits, infinity):
    """Return an integer whose order is that of the values: -0 is 0, and NaN is the greatest."""
    magnitude = bits & 0x7FFF
    if magnitude > infinity:
        return 0x7FFF
    return -magnitude if bits < 0 else magnitude


@njit(nogil=True, cache=True)
def _pool_half(x, maxima, indices, infinity, first, last):
    _, height, width, channels = maxima.shape
    for row in range(first, last):
        b, y = row // height, row % height
        for q in range(width):
            corner, right = x[b, 2 * y, 2 * q], x[b, 2 * y, 2 * q + 1]
            below, across = x[b, 2 * y + 1, 2 * q], x[b, 2 * y + 1, 2 * q + 1]
            best, packed = maxima[b, y, q], indices[b, y, q // 4]
            shift = 2 * (q % 4)
            if shift == 0:
                packed[:] = 0
            for c in range(channels):
                value, number = corner[c], 0
                greatest = _order(value, infinity)
                for n in range(1, 4):
                    other = right[c] if n == 1 else below[c] if n == 2 else across[c]
                    order = _order(other, infinity)
                    if order > greatest:
                        value, number, greatest = other, n, order
                best[c] = value
                packed[c] |= np.uint8(number << shift)


@njit(nogil=True, cache=True)
def _unpool(x, indices, spread, first, last):
    _, height, width, channels = x.shape
    for row in range(first, last):
        b, y = row // height, row % height
        for q in range(width):
            values, packed, shift = x[b, y, q], indices[b, y, q // 4], 2 * (q % 4)
            for n in range(4):
                target = spread[b, 2 * y + n // 2, 2 * q + n % 2]
                for c in range(channels):
                    target[c] = values[c] if (packed[c] >> shift) & 3 == n else 0
        for x_odd in range(2 * width, spread.shape[2]):
            spread[b, 2 * y, x_odd] = 0
            spread[b, 2 * y + 1, x_odd] = 0


@njit(nogil=True, cache=True)
def _pick(x, indices, picked, first, last):
    _, height, width, channels = picked.shape
    for row in range(first, last):
        b, y = row // height, row % height
        for q in range(width):
            corner, right = x[b, 2 * y, 2 * q], x[b, 2 * y, 2 * q + 1]
            below, across = x[b, 2 * y + 1, 2 * q], x[b, 2 * y + 1, 2 * q + 1]
            values, packed, shift = picked[b, y, q], indices[b, y, q // 4], 2 * (q % 4)
            for c in range(channels):
                number = (packed[c] >> shift) & 3
                upper = right[c] if number & 1 else corner[c]
                lower = across[c] if number & 1 else below[c]
                values[c] = lower if number & 2 else upper
