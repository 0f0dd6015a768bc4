"""Label Studio's brush masks: run lengths of an RGBA image, in bits (`rle-pack` of thi.ng/umbrella).

A stream has the number of values (32 bits), the bits of a value less one (5), and four sizes of counts less one (4
each). Then come groups: a bit that says whether one value is repeated, the place of the count's size (2), the count
less one, and either the value or as many of them. Bits run from the highest of each byte.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CHANNELS, WORD = 4, 8
SIZES = (3, 4, 8, 16)
"""Bits of a count, as Label Studio's own converter writes them."""
HEADER = 32 + 5 + 4 * len(SIZES)


def encode_brush(mask: NDArray[np.bool_]) -> list[int]:
    """Return the bytes of a mask [H, W]: the same that Label Studio's converter writes of 0 and 255."""
    values = np.where(mask.ravel(), 255, 0)
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    lengths = np.diff(np.r_[starts, values.size]) * CHANNELS
    # A long run is several groups, of which all but the last are as long as can be.
    most = 1 << SIZES[-1]
    parts = -(-lengths // most)
    counts = np.full(int(parts.sum()), most, np.int64)
    counts[np.cumsum(parts) - 1] = lengths - (parts - 1) * most
    place = np.searchsorted(1 << np.array(SIZES[:-1]), counts)
    # What is left of a long run has the size of its other parts.
    place[np.repeat(parts > 1, parts)] = len(SIZES) - 1
    bits = np.array(SIZES)[place]
    groups = ((4 | place) << bits | (counts - 1)) << WORD | np.repeat(values[starts], parts)
    header = (values.size * CHANNELS, 32), (WORD - 1, 5), *((size - 1, 4) for size in SIZES)
    head = "".join(f"{number:0{width}b}" for number, width in header)
    stream = np.concatenate([np.array(list(head), np.uint8), _bits(groups, 3 + bits + WORD)])
    # The converter ends with a byte of zeros where the bits fill the last one.
    padding = np.zeros(8 - len(stream) % 8, np.uint8)
    return np.packbits(np.concatenate([stream, padding])).tolist()


def decode_brush(data: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask [H, W] of a stream of bytes: where the fourth channel is not 0.

    Raises:
        ValueError: It ends too early, or is of another number of pixels.
    """
    try:
        stream = bytes(data)
    except (TypeError, ValueError):
        raise ValueError("expected run lengths as numbers from 0 to 255") from None
    wanted = shape[0] * shape[1] * CHANNELS
    if len(stream) * 8 < HEADER:
        raise ValueError("expected run lengths, found too few bytes")
    head = int.from_bytes(stream[: HEADER // 8 + 1]) >> (8 - HEADER % 8)
    total, word = head >> 21, (head >> 16 & 31) + 1
    sizes = [(head >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    if total != wanted:
        raise ValueError(f"expected run lengths of {wanted // CHANNELS} pixels, found {total / CHANNELS:g}")
    return _values(stream, total, word, sizes).reshape(-1, CHANNELS)[:, 3].reshape(shape) != 0


def _values(stream: bytes, total: int, word: int, sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return the values that the groups of a stream stand for."""
    values = np.zeros(total, np.int64)
    place, done, end = HEADER, 0, len(stream) * 8

    def take(width: int) -> int:
        nonlocal place
        stop = place + width
        if stop > end:
            raise ValueError(f"expected run lengths of {total // CHANNELS} pixels, found {done // CHANNELS}")
        number = int.from_bytes(stream[place >> 3 : (stop + 7) >> 3]) >> (-stop & 7) & ((1 << width) - 1)
        place = stop
        return number

    while done < total:
        kind = take(3)
        count = take(sizes[kind & 3]) + 1
        if done + count > total:
            raise ValueError(f"expected run lengths of {total // CHANNELS} pixels, found more")
        if kind & 4:
            values[done : done + count] = take(word)
        else:
            number = take(count * word)
            found = np.frombuffer(number.to_bytes((count * word + 7) // 8), np.uint8)
            bits = np.unpackbits(found)[-count * word :].reshape(count, word)
            values[done : done + count] = bits @ (1 << np.arange(word)[::-1])
        done += count
    return values


def _bits(numbers: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the bits of numbers one after another, the highest first, each as many as its width."""
    owner = np.repeat(np.arange(len(numbers)), widths)
    below = np.repeat(np.cumsum(widths), widths) - np.arange(len(owner)) - 1
    return (numbers[owner] >> below & 1).astype(np.uint8)
