"""Photographs from disk: every common pixel format and EXIF orientation, as 8-bit RGB."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from data.dataset import DatasetError, Problem

# PIL warns from this many pixels on and refuses twice as many. Its own limit (89 million) lies within reach of a
# scanned map or a panorama; this one still stops a file that would unpack to tens of gigabytes.
Image.MAX_IMAGE_PIXELS = 2**29

# What PIL's decoders raise on damaged bytes, as found by cutting and flipping files of each format.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@contextmanager
def opened(path: Path, expected: str) -> Iterator[Image.Image]:
    """Open an image file; whatever PIL raises within the block becomes a DatasetError.

    Args:
        path: The file.
        expected: What the file should be, for the message: "an image", "a label map".

    Raises:
        DatasetError: The file is missing, empty, cut off or not an image.
    """
    try:
        if path.stat().st_size == 0:
            raise DatasetError([Problem(path, f"expected {expected}, found an empty file")])
        with Image.open(path) as image:
            yield image
    except FileNotFoundError as error:
        raise DatasetError([Problem(path, f"expected {expected}, found no file")]) from error
    except Image.UnidentifiedImageError as error:
        raise DatasetError([Problem(path, f"expected {expected}, found another kind of file")]) from error
    except _DAMAGE as error:
        raise DatasetError([Problem(path, f"expected {expected}, found a damaged one: {error}")]) from error


def read_image(path: Path) -> np.ndarray:
    """Read a photograph as it is meant to be seen.

    EXIF orientation is applied, 16-bit values keep their upper byte, and an alpha channel is dropped (the
    stored colours count, not a backdrop).

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        DatasetError: The file is missing, empty, cut off, not an image, or holds floating-point pixels.
    """
    with opened(path, "an image") as image:
        orientation = _orientation(image)
        pixels = _to_rgb(image, path)
    return np.ascontiguousarray(orient(pixels, orientation))


def image_size(path: Path) -> tuple[int, int]:
    """Return (H, W) as `read_image` would, from the file's header alone.

    Raises:
        DatasetError: The file is missing, empty or not an image.
    """
    with opened(path, "an image") as image:
        width, height = image.size
        swapped = _orientation(image) >= 5
    return (width, height) if swapped else (height, width)


def image_orientation(path: Path) -> int:
    """Return the EXIF orientation, 1 to 8, that `read_image` undoes.

    Raises:
        DatasetError: The file is missing, empty or not an image.
    """
    with opened(path, "an image") as image:
        return _orientation(image)


def orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels [H, W, ...] upright, as EXIF orientation 1 to 8 asks for; a view."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    # 5 to 8 are the transposed image, as it is, turned right, turned over, turned left.
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return array[rows, columns]


def _orientation(image: Image.Image) -> int:
    # PIL turns a TIFF upright by itself while it decodes, and reports the turned size from the start.
    if image.format == "TIFF":
        return 1
    # PngImageFile.getexif would decode the pixels to look for a late EXIF chunk.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def _to_rgb(image: Image.Image, path: Path) -> np.ndarray:
    if not image.mode.startswith(("I", "F")):
        return np.asarray(image.convert("RGB"))
    grey = np.asarray(image)
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 0xFFFF:
        found = f"{grey.dtype} values from {grey.min()} to {grey.max()}"
        raise DatasetError([Problem(path, f"expected an image of 8 or 16 bits a channel, found {found}")])
    return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
