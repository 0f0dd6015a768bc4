"""Maps of a number per pixel in [0, 1] on disk, such as saliency and the probability of a boundary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.dataset import DatasetError, Problem
from data.files import refuse_special
from data.formats.images import LABEL_FORMATS, decodable, image_orientation, image_size, max_pixels, opened, orient

MAP_SUFFIXES = frozenset({".png", ".npy"})


def read_unit_map(file: Path, image: Path, what: str) -> NDArray[np.float32]:
    """Read the map of an image, in the coordinates of `read_image` but of a size of its own.

    A map whose sides are swapped lies on the photograph as it is stored, if that is stored on its side, and is turned
    upright.

    Args:
        file: PNG in grey, or `.npy`.
        image: File of the photograph.
        what: What the map is, as messages have it: "a map of saliency".

    Returns:
        float32 [h, w] in [0, 1].

    Raises:
        DatasetError: It is missing, damaged, of another shape, not finite or outside its range, or lies the other way
            than the image.
    """
    values = _read_array(file, what) if file.suffix.lower() == ".npy" else _read_png(file, what)
    height, width = image_size(image)
    # Negative where one is upright and the other lies.
    if (height - width) * (values.shape[0] - values.shape[1]) < 0:
        orientation = image_orientation(image)
        if orientation < 5:
            found = f"{values.shape[1]} x {values.shape[0]}, the image is {width} x {height}"
            raise DatasetError([Problem(file, f"expected {what} that lies as its image does, found {found}")])
        values = orient(values, orientation)
    return np.ascontiguousarray(values)


def _read_png(file: Path, what: str) -> NDArray[np.float32]:
    with opened(file, what, LABEL_FORMATS) as image, decodable(image, file):
        mode = image.mode
        values = np.asarray(image)
        if (mode in ("RGB", "RGBA") and (values[..., :1] == values[..., :3]).all()) or mode == "LA":
            values, mode = values[..., 0], "L"
    if mode == "1":
        return values.astype(np.float32)
    if mode not in ("L", "I", "I;16", "I;16B"):
        raise DatasetError([Problem(file, f"expected {what} in grey of 8 or 16 bits, found {mode} pixels")])
    highest = 2**8 - 1 if mode == "L" else 2**16 - 1
    return _scaled(file, values, highest, what)


def _read_array(file: Path, what: str) -> NDArray[np.float32]:
    try:
        refuse_special(file)
        # Neither pickles nor archives are opened, and nothing is read before its size is known.
        if _holds_objects(file):
            raise DatasetError([Problem(file, f"expected {what}, one array [h, w], but it holds an object")])
        stored = np.lib.format.open_memmap(file, mode="r")
    except DatasetError:
        raise
    except FileNotFoundError as error:
        raise DatasetError([Problem(file, f"expected {what}, found no file")]) from error
    except Exception as error:  # Damaged headers raise whatever they ask for.
        raise DatasetError([Problem(file, f"expected {what} in NumPy's format, but {error}")]) from error
    shape = stored.shape[1:] if stored.ndim == 3 and stored.shape[0] == 1 else stored.shape
    if len(shape) != 2 or 0 in shape or shape[0] * shape[1] > max_pixels():
        found = f"{list(stored.shape)}"
        raise DatasetError([Problem(file, f"expected {what} of shape [H, W] or [1, H, W], found {found}")])
    values = np.asarray(stored).reshape(shape)
    if values.dtype == np.bool_:
        return values.astype(np.float32)
    if values.dtype == np.uint8:
        return _scaled(file, values, 2**8 - 1, what)
    if values.dtype.kind != "f":
        raise DatasetError([Problem(file, f"expected {what} of float, uint8 or bool, found {values.dtype}")])
    if not np.isfinite(values).all():
        raise DatasetError([Problem(file, f"expected {what} of finite values, found others")])
    low, high = values.min(), values.max()
    if low < 0 or high > 1:
        raise DatasetError([Problem(file, f"expected {what} from 0 to 1, found {low:g} to {high:g}")])
    return values.astype(np.float32)


def _holds_objects(file: Path) -> bool:
    """Tell whether a `.npy` file holds what was pickled, such as a dict, in the place of numbers; it is not read."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    with file.open("rb") as stream:
        read_header = readers.get(np.lib.format.read_magic(stream))
        return read_header is not None and read_header(stream)[2].hasobject


def _scaled(file: Path, values: NDArray, highest: int, what: str) -> NDArray[np.float32]:
    if values.max() == 1:
        message = f"expected {what} from 0 to {highest}, found only 0 and 1: write {highest} where it is 1"
        raise DatasetError([Problem(file, message)])
    if values.min() < 0 or values.max() > highest:
        found = f"{values.min()} to {values.max()}"
        raise DatasetError([Problem(file, f"expected {what} from 0 to {highest}, found {found}")])
    return values.astype(np.float32) / np.float32(highest)
