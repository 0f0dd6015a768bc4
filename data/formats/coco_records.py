"""The check of COCO's records, and their masks: what a file holds is proved here before anything else uses it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle_tools

from data.dataset import DatasetError, Problem
from data.files import refuse_special
from data.formats.images import max_pixels

LISTED = 20
MAX_SIDE = 2**24
# Of polygons, in pixels: pycocotools keeps some hundred bytes a pixel of the way round.
MAX_PERIMETER = 2**24
# Coordinates may lie outside the image, but not so far that they are no coordinates of it.
MARGIN = 10
_REQUIRED = object()

Parse = Callable[[Any], Any]
Fields = Mapping[str, tuple[Parse, Any]]
"""Field -> how its value is read (ValueError says what was expected), and what stands for one that is missing."""


def read_json(path: Path, expected: str, *, once: bool = False) -> Any:
    """Read JSON in UTF-8, -16 or -32, with or without a byte order mark.

    Args:
        path: The file.
        expected: What it should be, for the message.
        once: Refuse objects in which a field comes twice, of which the last would count; slow for large files.

    Raises:
        DatasetError: The file is missing, no regular file, not JSON, or nested too deeply.
    """
    try:
        refuse_special(path)
        return json.loads(path.read_bytes(), object_pairs_hook=_each_once if once else None)
    except FileNotFoundError as error:
        raise DatasetError([Problem(path, f"expected {expected}, found no file")]) from error
    except RecursionError as error:
        raise DatasetError([Problem(path, f"expected {expected}, but it is nested too deeply")]) from error
    except (ValueError, OSError) as error:
        raise DatasetError([Problem(path, f"expected {expected}, but {error}")]) from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in names if names.count(name) > 1)!r:.80} comes twice")
    return fields


def check_records(path: Path, kind: str, records: Any, fields: Fields) -> list[dict[str, Any]]:
    """Return the records with the values of `fields` as they were parsed; other fields stay as they are.

    Raises:
        DatasetError: Names each record that is wrong (the first of many), by its id or else its place.
    """
    if not isinstance(records, list):
        message = f"expected COCO instance JSON with a list of {kind}s, found {_shown(records)}"
        raise DatasetError([Problem(path, message)])
    problems = []
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            problems.append(Problem(path, f"{kind} number {number}: expected an object, found {_shown(record)}"))
            continue
        for name, (parse, default) in fields.items():
            value = record.get(name, default)
            try:
                if value is _REQUIRED:
                    raise ValueError("a value")
                record[name] = parse(value)
            except ValueError as error:
                found = f"there is no {name!r}" if value is _REQUIRED else f"found {_shown(value)}"
                where = f"{kind} {_shown(record['id'])}" if record.get("id") is not None else f"{kind} number {number}"
                of = f" of image {_shown(record['image_id'])}" if "image_id" in record and name != "image_id" else ""
                problems.append(Problem(path, f"{where}{of}: expected {error} as {name}, {found}"))
    if problems:
        more = [Problem(path, f"and {len(problems) - LISTED} more")] if len(problems) > LISTED else []
        raise DatasetError([*problems[:LISTED], *more])
    return records


def record_order(id: Any) -> tuple[bool, Any]:
    """Return a key that sorts ids: numbers first, then texts."""
    return isinstance(id, str), id


def _id(value: Any) -> int | str:
    """Return an id; a number that is written as text, or with a point, is the number."""
    if isinstance(value, str) and value:
        return int(value) if value.isascii() and value.isdigit() and value == value.lstrip("0") else _text(value)
    # No other program has numbers beyond; infinity and NaN lie beyond, too.
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63 and value == int(value):
        return int(value)
    raise ValueError("a whole number or a text")


def _optional_id(value: Any) -> int | str | None:
    return None if value is None else _id(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("a text of Unicode's characters") from error
    if "\0" in value:
        raise ValueError("a text without the character 0")
    return value


def _side(value: Any) -> int | None:
    """Return a height or a width; None where the file has none."""
    if value is None:
        return None
    number = _number(value)
    if number is None or not (number == int(number) and 1 <= number <= MAX_SIDE):
        raise ValueError(f"a number of pixels from 1 to {MAX_SIDE}")
    return int(number)


def _flag(value: Any) -> bool:
    number = 0.0 if value is None else _number(value)
    if number not in (0, 1):
        raise ValueError("0 or 1")
    return bool(number)


def _score(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("a number from 0 to 1")
    return float(value)


def _segmentation(value: Any) -> Any:
    """Return the mask as it stands, None where there is none; `read_mask` looks into it, for few at a time."""
    if value is None or isinstance(value, list | dict):
        return value or None
    raise ValueError("polygons or run lengths")


def _number(value: Any) -> float | None:
    """Return a finite number, also one written as text; None for all else."""
    if isinstance(value, int | float | str):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if math.isfinite(number) else None
    return None


IMAGE_FIELDS: Fields = {
    "id": (_id, _REQUIRED),
    "file_name": (_text, _REQUIRED),
    "height": (_side, None),
    "width": (_side, None),
}
ANNOTATION_FIELDS: Fields = {
    "id": (_optional_id, None),
    "image_id": (_id, _REQUIRED),
    "category_id": (_id, _REQUIRED),
    "segmentation": (_segmentation, None),
    "iscrowd": (_flag, 0),
    "ignore": (_flag, 0),
    "score": (_score, 1),
}
RESULT_FIELDS: Fields = {**ANNOTATION_FIELDS, "score": (_score, _REQUIRED)}
CATEGORY_FIELDS: Fields = {"id": (_id, _REQUIRED), "name": (_text, _REQUIRED)}


def read_mask(record: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask [H, W] of an annotation, all False where it has none.

    Polygons are flat lists or pairs of coordinates, four numbers a box (x, y, width, height). Run lengths are
    compressed or plain, also alone in a list.

    Raises:
        ValueError: It is written otherwise, has numbers that cannot be, or is of another size.
    """
    if height * width > max_pixels():
        raise ValueError(f"an image of {width} x {height} pixels is too large for this machine")
    segmentation = record.get("segmentation")
    if not segmentation:
        return np.zeros((height, width), bool)
    if isinstance(segmentation, list) and len(segmentation) == 1 and isinstance(segmentation[0], dict):
        segmentation = segmentation[0]
    if isinstance(segmentation, dict):
        return _decode_runs(segmentation, height, width)
    if not isinstance(segmentation, list):
        raise ValueError(f"expected polygons or run lengths, found {_shown(segmentation)}")
    # Numbers alone are one polygon, and so are pairs of them.
    pairs = len(segmentation) >= 3 and all(isinstance(item, list) and len(item) == 2 for item in segmentation)
    pairs = pairs and not any(isinstance(number, list) for item in segmentation for number in item)
    polygons = [segmentation] if pairs or not isinstance(segmentation[0], list) else segmentation
    corners = [_corners(polygon, height, width) for polygon in polygons]
    # Fewer than three corners enclose nothing; beside polygons they are left over from drawing.
    shapes = [points for points in corners if len(points) >= 3]
    if not shapes and len(corners) == 1 and len(corners[0]) == 2:
        shapes = [_box(corners[0], record.get("bbox"))]
    if not shapes:
        raise ValueError(f"expected polygons of three corners or more, found {_shown(segmentation)}")
    if sum(np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum() for points in shapes) > MAX_PERIMETER:
        raise ValueError(f"expected polygons of less than {MAX_PERIMETER} pixels around")
    rles = rle_tools.frPyObjects([points.ravel().tolist() for points in shapes], height, width)  # pyright: ignore
    return rle_tools.decode(rle_tools.merge(rles)).astype(bool)


def _corners(polygon: Any, height: int, width: int) -> NDArray[np.float64]:
    """Return the corners (x, y) of one polygon, [N, 2]."""
    if not isinstance(polygon, list):
        raise ValueError(f"expected the coordinates of a polygon, found {_shown(polygon)}")
    flat: list[Any] = []
    for item in polygon:
        if isinstance(item, list):
            if len(item) != 2:
                raise ValueError(f"expected corners of two numbers, found {_shown(item)}")
            flat += item
        else:
            flat.append(item)
    if len(flat) % 2:
        raise ValueError(f"expected two numbers a corner, found {len(flat)} numbers")
    for value in flat:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"expected numbers as coordinates, found {_shown(value)}")
        far = MARGIN * max(height, width)
        if not -far <= value <= far:
            raise ValueError(f"expected coordinates in an image of {width} x {height}, found {_shown(value)}")
    return np.array(flat, np.float64).reshape(-1, 2)


def _box(corners: NDArray[np.float64], bbox: Any) -> NDArray[np.float64]:
    """Return the corners of a box given by four numbers, which must be those of the record's own where it has one."""
    (left, top), (width, height) = corners
    numbers = [_number(side) for side in bbox] if isinstance(bbox, list) else None
    if width <= 0 or height <= 0 or numbers not in (None, [left, top, width, height]):
        found = [float(number) for number in corners.ravel()]
        raise ValueError(f"expected polygons of three corners, or a box (x, y, width, height), found {found}")
    right, bottom = left + width, top + height
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _decode_runs(rle: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    size, counts = rle.get("size"), rle.get("counts")
    if not isinstance(size, list) or [_number(side) for side in size] != [height, width]:
        raise ValueError(f"a mask is {_shown(size)}, the image {[height, width]}")
    if isinstance(counts, str):
        runs = _uncompressed(counts)
    elif isinstance(counts, list) and all(isinstance(run, int) and not isinstance(run, bool) for run in counts):
        if any(not 0 <= run <= height * width for run in counts):
            raise ValueError(f"expected run lengths from 0 to {height * width}, found {min(counts)} to {max(counts)}")
        runs = np.array(counts, np.int64)
    else:
        raise ValueError(f"expected run lengths as a text or a list of whole numbers, found {_shown(counts)}")
    if (runs < 0).any() or int(runs.sum()) != height * width:
        raise ValueError(f"expected run lengths of {height * width} pixels in all, found {int(runs.sum())}")
    # Runs go down the columns, and the first one is outside the mask.
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(values.reshape(width, height).T)


def _uncompressed(text: str) -> NDArray[np.int64]:
    """Return the run lengths of COCO's compressed text: groups of 5 bits, the third and later ones as differences."""
    try:
        codes = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError as error:
        raise ValueError(f"expected compressed run lengths, found {_shown(text)}") from error
    ends = np.flatnonzero(codes & 32 == 0)
    if not len(codes):
        return np.zeros(0, np.int64)
    starts = np.r_[0, ends[:-1] + 1]
    if (codes < 0).any() or (codes > 63).any() or not len(ends) or ends[-1] != len(codes) - 1:
        raise ValueError(f"expected compressed run lengths, found {_shown(text)}")
    lengths = ends - starts + 1
    if lengths.max() > 7:
        raise ValueError(f"expected compressed run lengths of 7 signs at most, found {_shown(text)}")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    runs = np.add.reduceat((codes & 31) << (5 * place), starts)
    runs -= np.where(codes[ends] & 16, np.int64(1) << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _shown(value: Any) -> str:
    """Return a value as a message shows it: JSON, so that texts have quotes, and not too long."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


def has_masks(records: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether every annotation has a mask, be it only its outline."""
    return all(record["segmentation"] for record in records)
