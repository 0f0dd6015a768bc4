"""Masks of a segmenter on disk: regions of a photograph that have no class.

Three forms, told apart by their content:

- SAM's JSON: the list of masks that its automatic generator makes of an image, each with run lengths (COCO's, plain or
  compressed) as `segmentation`; or an object with such a list as `annotations`, as SA-1B has it.
- A folder of PNGs, one for each region: 0 outside, one other value inside.
- A PNG of ids, of 8 or 16 bits: one value for each region, 0 for none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import DatasetError, Problem, SampleWithMore
from data.files import content_files, refuse_special
from data.formats.coco_records import Fields, check_records, read_json, read_mask
from data.formats.images import decodable, image_orientation, image_size, opened, orient

MAX_REGIONS = 4096
"""Of one image. SAM finds some hundred at its densest setting."""
MAX_BYTES = 2**26
"""Of one JSON file."""
MASK_SUFFIX = ".png"
_PNG_BEGIN = b"\x89PNG\r\n\x1a\n"
_JSON_BEGINS = (b"[", b"{")


@dataclass(frozen=True)
class Regions:
    """The regions of one image, in the order of their file. They may overlap.

    A mask is made when it is asked for: hundreds of a large photograph do not fit the memory.

    Attributes:
        size: (H, W) of the image, in the coordinates of `read_image`.
        count: How many there are.
        mask: Number of a region, from 0 -> bool [H, W]. Raises a DatasetError where it cannot be read.
    """

    size: tuple[int, int]
    count: int
    mask: Callable[[int], NDArray[np.bool_]]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return map(self.mask, range(self.count))


def read_regions(sample: SampleWithMore) -> Regions:
    """Read the regions of an image; the masks themselves are read when they are asked for.

    Masks of the photograph as it is stored, where that lies on its side, are turned upright.

    Raises:
        DatasetError: The file is missing, damaged, of another form, too large, or of another size than the image.
    """
    source = sample.regions
    assert source is not None
    place = _Place(sample.image, image_size(sample.image))
    if source.is_dir():
        return _of_folder(source, place)
    begin = _begin(source)
    if begin.startswith(_PNG_BEGIN):
        return _of_id_map(source, place)
    # UTF-16 and UTF-32 have zeros between their signs.
    if begin.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(_JSON_BEGINS):
        return _of_json(source, place)
    raise DatasetError([Problem(source, "expected regions as SAM's JSON or a PNG of ids, found another kind of file")])


def check_regions(sample: SampleWithMore) -> None:
    """Read every mask of an image.

    Raises:
        DatasetError: One cannot be read.
    """
    for _ in read_regions(sample):
        pass


@dataclass(frozen=True)
class _Place:
    """The photograph that masks lie on: its file, and its size (H, W) as it is seen."""

    image: Path
    size: tuple[int, int]

    def check_size(self, height: int, width: int) -> None:
        """Refuse masks that lie on the photograph neither as it is seen nor as it is stored.

        Raises:
            ValueError: Says what was expected.
        """
        turned = (width, height) == self.size and image_orientation(self.image) >= 5
        if (height, width) != self.size and not turned:
            expected = f"{self.size[1]} x {self.size[0]}"
            raise ValueError(f"the size of {self.image.name}, {expected}, found {width} x {height}")

    def upright(self, values: NDArray) -> NDArray:
        """Turn values [H, W] to lie on the photograph as it is seen."""
        if values.shape == self.size:
            return values
        return np.ascontiguousarray(orient(values, image_orientation(self.image)))


def _begin(file: Path) -> bytes:
    try:
        refuse_special(file)
        with file.open("rb") as stream:
            return stream.read(256)
    except FileNotFoundError as error:
        raise DatasetError([Problem(file, "expected regions, found no file")]) from error
    except OSError as error:
        raise DatasetError([Problem(file, f"expected regions, but {error.strerror or error}")]) from error


def _refuse_many(file: Path, count: int) -> None:
    if count > MAX_REGIONS:
        raise DatasetError([Problem(file, f"expected at most {MAX_REGIONS} regions of an image, found {count}")])


def _runs(value: Any) -> dict[str, Any]:
    size = value.get("size") if isinstance(value, dict) else None
    sides = size if isinstance(size, list) else []
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise ValueError("run lengths, an object with 'size' [height, width] and 'counts',")
    if not isinstance(value.get("counts"), str | list):
        raise ValueError("run lengths with 'counts', a text or a list,")
    return value


def _measure(value: Any) -> float | None:
    if value is None:
        return None
    # Infinity and NaN lie beyond, too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
        raise ValueError("a number")
    return float(value)


MASK_FIELDS: Fields = {
    "segmentation": (_runs, None),
    "area": (_measure, None),
    "predicted_iou": (_measure, None),
    "stability_score": (_measure, None),
}
"""What a record of SAM's JSON holds; whatever else is in it is not looked at."""


def _of_json(file: Path, place: _Place) -> Regions:
    expected = "regions as SAM's JSON"
    if (found := file.stat().st_size) > MAX_BYTES:
        raise DatasetError([Problem(file, f"expected {expected} of at most {MAX_BYTES} bytes, found {found}")])
    content = read_json(file, expected)
    records = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(records, list):
        message = f"expected {expected}: a list of masks, or an object with such a list as 'annotations'"
        raise DatasetError([Problem(file, message)])
    _refuse_many(file, len(records))
    check_records(file, "mask", records, MASK_FIELDS)

    def mask(number: int) -> NDArray[np.bool_]:
        height, width = records[number]["segmentation"]["size"]
        try:
            place.check_size(height, width)
        except ValueError as error:
            raise DatasetError([Problem(file, f"mask number {number}: expected {error}")]) from error
        try:
            return place.upright(read_mask(records[number], height, width))
        except ValueError as error:
            raise DatasetError([Problem(file, f"mask number {number}: {error}")]) from error

    return Regions(place.size, len(records), mask)


def _of_folder(folder: Path, place: _Place) -> Regions:
    try:
        files = [file for file in content_files(folder) if file.suffix.lower() == MASK_SUFFIX]
    except OSError as error:
        raise DatasetError([Problem(folder, f"expected masks of regions, but {error.strerror}")]) from error
    _refuse_many(folder, len(files))

    def mask(number: int) -> NDArray[np.bool_]:
        values = _read_values(files[number], "a mask of a region", place)
        others = np.flatnonzero(np.bincount(values.ravel()))
        if (others > 0).sum() > 1:
            found = ", ".join(map(str, others[:5].tolist()))
            message = f"expected a mask of one region, 0 and one other value, found {found}"
            raise DatasetError([Problem(files[number], message)])
        return values > 0

    return Regions(place.size, len(files), mask)


def _of_id_map(file: Path, place: _Place) -> Regions:
    values = _read_values(file, "a map of ids of regions", place)
    ids = np.flatnonzero(np.bincount(values.ravel()))
    ids = ids[ids > 0]
    _refuse_many(file, len(ids))
    return Regions(place.size, len(ids), lambda number: values == ids[number])


def _read_values(file: Path, what: str, place: _Place) -> NDArray[np.uint8 | np.uint16]:
    """Return the values [H, W] of an indexed or grey PNG, upright."""
    with opened(file, what, ("PNG",)) as image:
        try:
            place.check_size(image.height, image.width)
        except ValueError as error:
            raise DatasetError([Problem(file, f"expected {what} of {error}")]) from error
        with decodable(image, file):
            mode, values = image.mode, np.asarray(image)
    if (mode in ("RGB", "RGBA") and (values[..., :1] == values[..., :3]).all()) or mode == "LA":
        mode, values = "L", values[..., 0]
    if mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
        raise DatasetError([Problem(file, f"expected {what}, grey or indexed, of 8 or 16 bits, found {mode} pixels")])
    if mode == "I" and (values.min() < 0 or values.max() >= 2**16):
        raise DatasetError([Problem(file, f"expected {what} of 8 or 16 bits, found the value {values.max()}")])
    return place.upright(np.ascontiguousarray(values, np.uint8 if mode in ("1", "L", "P") else np.uint16))
