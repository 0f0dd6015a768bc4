"""Photographs from disk: every common pixel format and EXIF orientation, as 8-bit RGB."""

from __future__ import annotations

import contextlib
import os
import struct
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from data.dataset import DatasetError, Problem
from data.files import refuse_special, waiting_lock
from data.formats.image_depth import deep_colours, has_deep_colours, upper_byte, used_bits

# Formats that are opened, whatever a file's suffix says. PIL knows others that start programs or read other files.
PHOTO_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM", "TGA", "HEIF")
HEIF_SUFFIXES = frozenset({".heic", ".heif"})
HEIF_REMEDY = "convert it to JPEG, or install pillow-heif, which reads it"
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Those that keep every value as it was written.
LABEL_FORMATS = ("PNG", "TIFF", "BMP")
MAX_PIXELS_VARIABLE = "PSEUDOMASK_MAX_PIXELS"
# What decoding takes at its peak, and the part of the memory that one image may take.
BYTES_PER_PIXEL, MEMORY_SHARE = 12, 1 / 8
# Images above it are decoded one after the other, however many threads and processes of the user there are.
LARGE_PIXELS = 2**25
_large = threading.Lock()
_LARGE_LOCK = f"pseudomask-large-images-{os.getuid()}.lock"

# `_check_pixels` knows the machine's memory; PIL's own limit (89 million) lies within reach of a scanned map.
Image.MAX_IMAGE_PIXELS = None

# What PIL's decoders raise on damaged bytes, as found by cutting and flipping files of each format.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    RuntimeError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def max_pixels() -> int:
    """Return how many pixels an image may have on this machine; the environment variable sets another number.

    Raises:
        ValueError: The variable is no whole number above 0.
    """
    if set_by_user := os.environ.get(MAX_PIXELS_VARIABLE):
        if not (set_by_user.isascii() and set_by_user.isdigit() and int(set_by_user) > 0):
            raise ValueError(f"expected a number of pixels in {MAX_PIXELS_VARIABLE}, found {set_by_user!r}")
        return int(set_by_user)
    return _memory_pixels()


@cache
def _memory_pixels() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 2**33
    with contextlib.suppress(OSError, ValueError):
        # Of the container, where it is in one.
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(2**30, int(memory * MEMORY_SHARE / BYTES_PER_PIXEL))


@contextmanager
def decodable(image: Image.Image, path: Path) -> Iterator[None]:
    """Refuse an image that is too large for the machine's memory, and decode large ones one after the other.

    Raises:
        DatasetError: It has more than `max_pixels()`.
    """
    pixels = image.width * image.height
    if pixels > (most := max_pixels()):
        message = (
            f"expected an image of at most {most} pixels, as this machine's memory allows, found "
            f"{image.width} x {image.height}; cut it into tiles, or set {MAX_PIXELS_VARIABLE}"
        )
        raise DatasetError([Problem(path, message)])
    if pixels <= LARGE_PIXELS:
        yield
        return
    # The system's lock is of a process, not of a thread.
    with _large, waiting_lock(Path(tempfile.gettempdir(), _LARGE_LOCK)):
        yield


@contextmanager
def opened(path: Path, expected: str, formats: tuple[str, ...] = PHOTO_FORMATS) -> Iterator[Image.Image]:
    """Open an image file; whatever PIL raises within the block becomes a DatasetError.

    Args:
        path: The file.
        expected: What the file should be, for the message: "an image", "a label map".
        formats: Those that the file may have, as Pillow names them.

    Raises:
        DatasetError: The file is missing, empty, cut off, no regular file or of another format.
    """
    try:
        size = refuse_special(path)
    except FileNotFoundError as error:
        raise DatasetError([Problem(path, f"expected {expected}, found no file")]) from error
    except (OSError, ValueError) as error:
        message = f"expected {expected}, but {getattr(error, 'strerror', None) or error}"
        raise DatasetError([Problem(path, message)]) from error
    if size == 0:
        raise DatasetError([Problem(path, f"expected {expected}, found an empty file")])
    try:
        Image.init()
        _register_heif()
        with Image.open(path, formats=[name for name in formats if name in Image.OPEN]) as image:
            yield image
    except FileNotFoundError as error:
        raise DatasetError([Problem(path, f"expected {expected}, found no file")]) from error
    except Image.UnidentifiedImageError as error:
        found = f"HEIC: {HEIF_REMEDY}" if _is_heif(path) else "another kind of file"
        raise DatasetError([Problem(path, f"expected {expected}, found {found}")]) from error
    except MemoryError as error:
        raise DatasetError([Problem(path, f"expected {expected}, found one too large for the memory")]) from error
    except _DAMAGE as error:
        raise DatasetError([Problem(path, f"expected {expected}, found a damaged one: {error}")]) from error


def reads_heif() -> bool:
    """Tell whether the package is installed with which HEIC, the format of many telephones, is read."""
    return find_spec("pillow_heif") is not None


@cache
def _register_heif() -> None:
    if reads_heif():
        from pillow_heif import register_heif_opener  # pyright: ignore[reportMissingImports]

        register_heif_opener()


def _is_heif(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as stream:
        begin = stream.read(12)
        return begin[4:8] == b"ftyp" and begin[8:] in _HEIF_BRANDS
    return False


def read_image(path: Path) -> np.ndarray:
    """Read a photograph as it is meant to be seen.

    EXIF orientation is applied, and an alpha channel is dropped (the stored colours count, not a backdrop). Of values
    of 16 bits the upper eight of those that are in use count (`data.formats.image_depth`); floating point from 0 to 1
    is scaled.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        DatasetError: The file is missing, empty, cut off, not an image, too large for this machine, or holds
            pixels without a known range.
    """
    return read_photo(path).pixels


class Photo(NamedTuple):
    """A photograph, and what is to be known of its file.

    Attributes:
        pixels: As `read_image` returns them.
        bits: How many bits of the file's values were taken to be in use: 8 to 16.
        frames: How many pictures it holds, of which the first is taken; previews of a camera not counted.
    """

    pixels: np.ndarray
    bits: int
    frames: int


def read_photo(path: Path) -> Photo:
    """Read a photograph with what is to be known of its file, which is opened once.

    Raises:
        DatasetError: As of `read_image`.
    """
    with opened(path, "an image") as image:
        orientation, frames = _orientation(image), _num_frames(image)
        with decodable(image, path):
            pixels, bits = _to_rgb(image, path)
            return Photo(np.ascontiguousarray(orient(pixels, orientation)), bits, frames)


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


def _num_frames(image: Image.Image) -> int:
    return 1 if image.format in ("MPO", "JPEG") else getattr(image, "n_frames", 1)


def _orientation(image: Image.Image) -> int:
    # PIL turns a TIFF upright by itself while it decodes, and reports the turned size from the start.
    if image.format == "TIFF":
        return 1
    # PngImageFile.getexif would decode the pixels to look for a late EXIF chunk.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return value if value in range(1, 9) else 1


def _to_rgb(image: Image.Image, path: Path) -> tuple[np.ndarray, int]:
    if has_deep_colours(image):
        values = deep_colours(image)
        bits = used_bits(image, int(values.max()))
        return upper_byte(values, bits), bits
    if not image.mode.startswith(("I", "F")):
        # Of the other kinds of deep pixels PIL has the upper byte alone.
        deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
        image.load()
        # Of a palette. PIL would warn of it, and convert without it.
        image.info.pop("transparency", None)
        pixels = np.asarray(image.convert("RGB"))
        if deep and 0 < pixels.max() < 16:
            message = "expected colours of 8 or 16 bits, found values under 4096, as of 12 bits, which would be black"
            raise DatasetError([Problem(path, f"{message}; multiply them by 16")])
        return pixels, 8
    grey = np.asarray(image)
    lowest, highest = grey.min(), grey.max()
    if grey.dtype.kind == "f" and lowest >= 0 and highest <= 1:
        return _as_rgb((grey * 255).round().astype(np.uint8)), 8
    if grey.dtype.kind == "f" or lowest < 0 or highest > 0xFFFF:
        found = f"{grey.dtype} values from {lowest} to {highest}"
        message = f"expected an image of 8 or 16 bits a channel, or of values from 0 to 1, found {found}"
        raise DatasetError([Problem(path, message)])
    bits = used_bits(image, int(highest))
    return _as_rgb(upper_byte(grey, bits)), bits


def _as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)
