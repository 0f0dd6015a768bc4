"""Photographs of 16 bits a channel: how many bits their values use, since cameras of 10, 12 and 14 bits write them."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

DEPTHS = (8, 10, 12, 14, 16)
"""Bits of cameras, one of which is taken where a file declares none."""
_BITS_PER_SAMPLE, _MAX_SAMPLE_VALUE = 258, 281
_PNG_HEADER = 8


def used_bits(image: Image.Image, highest: int) -> int:
    """Return the number of bits that the file declares, if its highest value fits; else the least that holds it."""
    declared = _declared_bits(image)
    if declared is not None and highest < 2**declared:
        return declared
    return next(bits for bits in DEPTHS if highest < 2**bits)


def upper_byte(values: np.ndarray, bits: int) -> np.ndarray:
    """Return the upper eight of so many bits, as uint8 of the same shape."""
    return (values >> max(0, bits - 8)).astype(np.uint8)


def has_deep_colours(image: Image.Image) -> bool:
    """Tell whether an image has colours of 16 bits a channel, of which PIL keeps the upper byte."""
    tiles = getattr(image, "tile", ())
    return bool(tiles) and all(_other_order(_raw_mode(tile)) for tile in tiles)


def deep_colours(image: Image.Image) -> np.ndarray:
    """Return the colours [H, W, 3] of an image for which `has_deep_colours`, as uint16; without an alpha channel.

    PIL unpacks one byte of each value, and the order of bytes in the name of the raw mode says which. So the file is
    decoded once more with the other order, unless the upper bytes are those of more than 14 bits.
    """
    upper = np.asarray(image)[..., :3].astype(np.uint16) << 8
    if upper.max() >= 2**14:
        return upper
    again: Any = Image.open(image.filename, formats=[str(image.format)])  # pyright: ignore[reportAttributeAccessIssue]
    with again:
        again.tile = [tile._replace(args=_in_other_order(tile.args)) for tile in again.tile]
        return upper | np.asarray(again)[..., :3]


def _raw_mode(tile: Any) -> str:
    arguments = tile[3]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _other_order(raw_mode: str) -> str | None:
    """Return the raw mode that unpacks the lower bytes where this one unpacks the upper ones; None of other modes."""
    channels, _, order = raw_mode.rpartition(";16")
    if channels not in ("RGB", "RGBA", "RGBX") or order not in ("B", "L", "N"):
        return None
    is_big = order == "B" or (order == "N" and sys.byteorder == "big")
    return f"{channels};16{'L' if is_big else 'B'}"


def _in_other_order(arguments: Any) -> Any:
    if isinstance(arguments, tuple):
        return (_other_order(str(arguments[0])), *arguments[1:])
    return _other_order(str(arguments))


def _declared_bits(image: Image.Image) -> int | None:
    if image.format == "PNG":
        return _png_bits(Path(image.filename))  # pyright: ignore[reportAttributeAccessIssue]
    tags = getattr(image, "tag_v2", {})
    per_sample, highest = _largest(tags.get(_BITS_PER_SAMPLE)), _largest(tags.get(_MAX_SAMPLE_VALUE))
    if highest:
        return highest.bit_length()
    return per_sample if per_sample and per_sample < 16 else None


def _largest(value: Any) -> int | None:
    numbers = [number for number in (value if isinstance(value, tuple) else (value,)) if isinstance(number, int)]
    return max(numbers, default=None)


def _png_bits(file: Path) -> int | None:
    """Return the largest number of significant bits in a PNG's chunk sBIT, which PIL skips; None without one."""
    with file.open("rb") as stream:
        stream.seek(_PNG_HEADER)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"sBIT" and 0 < length <= 4:
                return max(stream.read(length), default=None) or None
            if kind == b"IDAT":
                return None
            stream.seek(length + 4, 1)
    return None
