"""Class attention maps that another method wrote: one file per image, read without running what is pickled in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.cam_classes import numbers_of
from data.cam_families import PLAIN, CamFamily, Content, family_of
from data.dataset import CamSource, ClassTable, DatasetError, Problem, Sample
from data.files import refuse_special
from data.formats.images import image_orientation, image_size, orient
from data.pickles import CutOffError, PickleError, read_npy, read_zip

MAP_SUFFIXES = frozenset({".npy", ".npz", ".pt", ".pth"})
# What a file may hold: for each class and the background some numbers per pixel, and a little besides.
NUMBERS_PER_PIXEL, BYTES_PER_NUMBER, BYTES_BESIDES = 3, 8, 2**20
LEAST_CLASSES = 20
_EXPECTED = "class attention maps"
_REMEDY = "write plain arrays, as docs/how-to/refine_your_cams.md says: np.savez(file, scores=..., classes=...)"
# Maps whose maximum is between these are scaled already.
SCALED = (0.99, 1.001)

ABOVE_1, NEGATIVE, NOT_FINITE, NOT_TAGGED = "above 1", "negative", "not finite", "of other classes"


@dataclass(frozen=True)
class CamMaps:
    """The maps of an image's classes.

    Attributes:
        values: float32 [K, h, w] in [0, 1], in the order of the image's labels.
        lacking: Labels of which the file has no map; theirs is zero.
        remarks: What the file held that maps are not to hold, of `ABOVE_1`, `NEGATIVE`, `NOT_FINITE` and `NOT_TAGGED`.
    """

    values: NDArray[np.float32]
    lacking: tuple[int, ...] = ()
    remarks: frozenset[str] = frozenset()


class Rows(NamedTuple):
    """The maps of a file.

    Attributes:
        maps: [h, w] each.
        numbers: Their classes, from 0, in the file's own table.
        background: The row of background that weighs the others; None without.
    """

    maps: Sequence[NDArray[Any]]
    numbers: Sequence[int]
    background: NDArray[Any] | None = None


def read_cams(
    sample: Sample,
    source: CamSource,
    classes: ClassTable,
    grid: tuple[int, int] | None = None,
    *,
    strict: bool = True,
) -> CamMaps:
    """Read the maps of a sample's labels, as they lie on the image that `read_image` returns, of a size of their own.

    Args:
        sample: Its `cams` is the file; without one, where the source allows it, all maps are zero.
        source: What the folder of the maps is.
        classes: The table of the sample's labels.
        grid: (h, w) that is wanted, where the file has maps of several sizes.
        strict: Refuse classes that are not the image's tags; else they are left out, and those that lack are zero.

    Raises:
        DatasetError: The file is missing, damaged, asks for code, or holds other classes than the image's tags; or its
            maps are of another form than the folder's, empty of numbers, or lie otherwise than the image.
    """
    size = image_size(sample.image)
    if sample.cams is None:
        return CamMaps(np.zeros((len(sample.labels), 1, 1), np.float32), sample.labels)
    content = read_content(sample.cams, byte_limit(size, len(source.names)))
    return cams_of(content, sample, source, classes, grid, strict=strict)


def cams_of(
    content: Content,
    sample: Sample,
    source: CamSource,
    classes: ClassTable,
    grid: tuple[int, int] | None = None,
    *,
    strict: bool = True,
) -> CamMaps:
    """Return what `read_cams` returns, of the content of the sample's file; arguments and errors are its own."""
    family, file = family_of(source.family), sample.cams or sample.image
    if not family.recognises(content):
        message = f"expected {_EXPECTED} of the form {family.name}, found {describe(content)}"
        raise DatasetError([Problem(file, message, sample.id)])
    try:
        rows = rows_of(content, family, len(source.names), grid)
        size = image_size(sample.image)
        if rows.maps and sample.labels:
            # Before the tags: maps that lie otherwise would be blamed on their table of classes.
            _check_proportions(rows.maps[0].shape, sample.image, size)
        wanted = _of_labels(rows, sample, source, classes)
        if strict and not family.may_miss_tags:
            _check_tags(rows, wanted, sample, source, classes)
        values, remarks = scores_of(rows, [wanted.get(c) for c in sample.labels], family)
        values = _upright(values, sample.image, size)
    except PickleError as error:
        raise DatasetError([Problem(file, f"expected {_EXPECTED}, but {error}", sample.id)]) from error
    if len(rows.numbers) > len(wanted):
        remarks |= {NOT_TAGGED}
    return CamMaps(values, tuple(c for c in sample.labels if c not in wanted), frozenset(remarks))


def byte_limit(size: tuple[int, int], num_classes: int) -> int:
    """Return how many bytes the maps of an image (H, W) may take, in the file or once they are unpacked."""
    numbers = NUMBERS_PER_PIXEL * (max(num_classes, LEAST_CLASSES) + 1) * size[0] * size[1]
    return BYTES_PER_NUMBER * numbers + BYTES_BESIDES


def read_content(file: Path, limit: int) -> Content:
    """Read what a file of maps holds; nothing pickled in it is run, and no more is read than it may hold.

    Raises:
        DatasetError: It is missing, damaged, too large, asks for code, or holds no arrays by name.
    """
    try:
        size = refuse_special(file)
        if size > limit:
            raise PickleError(f"it has {size} bytes, more than the {limit} that maps of its image take")
        content = file.read_bytes()
        if not content:
            raise CutOffError("it has no bytes")
        if content.startswith(b"PK\x03\x04"):
            value = read_zip(content, limit)
        elif content.startswith(b"\x93NUMPY"):
            value = read_npy(content)
        else:
            raise PickleError("it is of neither NumPy's nor torch's form")
        if isinstance(value, np.ndarray):
            value = {PLAIN: value}
        if not isinstance(value, dict):
            raise PickleError(f"it holds {type(value).__name__}")
    except FileNotFoundError as error:
        raise DatasetError([Problem(file, f"expected {_EXPECTED}, found no file")]) from error
    except Exception as error:  # Damaged bytes raise whatever they ask for.
        raise DatasetError([Problem(file, f"expected {_EXPECTED}, but {_reason(error)}")]) from error
    return {name: _listed_numbers(each) for name, each in value.items()}


def _reason(error: Exception) -> str:
    """Return why a file cannot be read, and what to do about it."""
    reason = getattr(error, "strerror", None) or error or type(error).__name__
    # An archive with a password, or packed in a way that is not read here, is whole: a RuntimeError says which.
    understood = isinstance(error, PickleError | OSError | RuntimeError)
    if understood and not isinstance(error, CutOffError):
        return f"{reason}; {_REMEDY}"
    return f"it is cut off or damaged ({reason}): copy it again, or make it again"


def _listed_numbers(value: Any) -> Any:
    """Return a list of whole numbers as an array int64 [n], and anything else as it is."""
    if isinstance(value, list | tuple) and all(type(each) is int and abs(each) < 2**63 for each in value):
        return np.array(value, np.int64)
    return value


def describe(content: Content) -> str:
    """Return what a content holds, for a message: names, text in quotes, with the shapes of arrays or the kinds."""
    parts = [f"{name!r}{_kind_of(value)}" for name, value in content.items()]
    return ", ".join(parts[:6]) + (f" and {len(parts) - 6} more" if len(parts) > 6 else "") or "nothing"


def _kind_of(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f" {list(value.shape)}"
    kind = type(value).__name__
    return f": {kind} of {len(value)}" if isinstance(value, list | tuple | dict) else f": {kind}"


def rows_of(content: Content, family: CamFamily, num_classes: int, grid: tuple[int, int] | None = None) -> Rows:
    """Return the maps of a file and their classes.

    Rows and keys tell what they are: one row more than keys has the background first; one key more than rows, a 0,
    stands for a background without a row, and so does a 0 where a family's background weighs. Keys then count from 1.

    Raises:
        PickleError: Rows and keys do not fit.
    """
    if family.keys is None and not family.maps:
        keys, maps = list(content), list(content.values())
    else:
        maps = _maps_of(content, family, grid)
        keys = _keys_of(content, family, len(maps), num_classes)
    _check_maps(maps)
    if len(set(keys)) != len(keys):
        raise PickleError(f"it has a class twice: {keys}")
    if len(maps) == len(keys) + 1:
        # Its own thresholds are constants, so the row of background is not needed.
        return Rows(maps[1:], keys)
    if len(maps) == len(keys) and family.background == "weighs":
        if 0 not in keys:
            raise PickleError(f"it has no background: expected a key 0, found {keys}")
        others = [place for place, key in enumerate(keys) if key != 0]
        return Rows([maps[i] for i in others], [keys[i] - 1 for i in others], maps[keys.index(0)])
    if len(maps) == len(keys):
        return Rows(maps, keys)
    if len(maps) == len(keys) - 1 and 0 in keys:
        return Rows(maps, [key - 1 for key in keys if key != 0])
    raise PickleError(f"it has {len(maps)} maps and {len(keys)} classes")


def scores_of(rows: Rows, wanted: Sequence[int | None], family: CamFamily) -> tuple[NDArray[np.float32], set[str]]:
    """Return maps [K, h, w] in [0, 1] of some rows, and remarks on what was not in it; None is a map of zeros.

    Negative scores are 0, and so are those that are not finite. A map is divided by its highest value + 1e-5 (the
    reference's) where that is above 1, and for families whose maps are scaled so wherever it is not 1 already.

    Raises:
        PickleError: A map has no finite score.
    """
    shape = rows.maps[0].shape if rows.maps else (1, 1)
    remarks: set[str] = set()
    values = np.zeros((len(wanted), *shape), np.float32)
    background = None if rows.background is None else _rectified(rows.background, remarks) ** family.power
    for place, row in enumerate(wanted):
        if row is None:
            continue
        scores = _rectified(rows.maps[row], remarks)
        if background is not None:
            scores = scores**family.power
            total = scores + background
            scores = np.divide(scores, total, out=np.zeros_like(scores), where=total > 0)
        highest = float(scores.max())
        if highest > SCALED[1]:
            remarks.add(ABOVE_1)
        if highest > SCALED[1] or (family.scale == "maximum" and highest < SCALED[0]):
            scores = scores / (highest + 1e-5)
        values[place] = np.minimum(scores, 1)
    return values, remarks


def _rectified(scores: NDArray[Any], remarks: set[str]) -> NDArray[np.float32]:
    values = np.asarray(scores, np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        if not finite.any():
            raise PickleError("a map has no finite score; make the maps of this image again")
        remarks.add(NOT_FINITE)
        values = np.where(finite, values, np.float32(0))
    if values.min() < 0:
        remarks.add(NEGATIVE)
    return np.maximum(values, 0)


def _maps_of(content: Content, family: CamFamily, grid: tuple[int, int] | None) -> list[NDArray[Any]]:
    """Return the rows of a file's maps: of those of the wanted grid, else of the first."""
    found = [content[name] for name in family.maps if isinstance(content.get(name), np.ndarray)]
    values = next((each for each in found if each.shape[1:] == grid), found[0])
    if values.ndim != 3:
        raise PickleError(f"its maps have the shape {list(values.shape)}, expected [rows, h, w]")
    return list(values)


def _keys_of(content: Content, family: CamFamily, num_rows: int, num_classes: int) -> list[int]:
    if family.keys is None:
        if num_rows not in (num_classes, num_classes + 1):
            raise PickleError(f"it has {num_rows} rows, expected one for each of {num_classes} classes (--cam-classes)")
        return list(range(num_classes))
    keys = content[family.keys]
    if keys.dtype.kind not in "iu" and not (keys.size == 0 and keys.dtype.kind == "f"):
        raise PickleError(f"its {family.keys} are {keys.dtype}, expected whole numbers")
    return [int(key) for key in keys.reshape(-1)]


def _check_maps(maps: Sequence[NDArray[Any]]) -> None:
    shapes = {each.shape for each in maps}
    if len(shapes) > 1 or any(len(shape) != 2 or 0 in shape for shape in shapes):
        raise PickleError(f"its maps have the shapes {sorted(map(list, shapes))}, expected one [h, w] for all")
    if kinds := {str(each.dtype) for each in maps if each.dtype.kind not in "fiu"}:
        raise PickleError(f"its maps are {', '.join(sorted(kinds))}, expected numbers")


def _of_labels(rows: Rows, sample: Sample, source: CamSource, classes: ClassTable) -> dict[int, int]:
    """Return label -> its row."""
    known = numbers_of(source.names, classes.names)
    return {known[number]: row for row, number in enumerate(rows.numbers) if known.get(number) in sample.labels}


def _check_tags(rows: Rows, wanted: Mapping[int, int], sample: Sample, source: CamSource, classes: ClassTable) -> None:
    """Raises:
    DatasetError: The file has a map of a class that is not among the tags, or a tag has none and must have one.
    """
    file, tags = sample.cams or sample.image, ", ".join(classes.names[c] for c in sample.labels)
    remedy = (
        "name the table of the maps' classes by --cam-classes, and their form by --cam-family "
        f"({len(source.names)} classes and {source.family} were taken)"
    )
    for row, number in enumerate(rows.numbers):
        if row not in wanted.values() and rows.maps[row].any():
            told = f"a map of class {number}{_name(source, number)}, and the tags of {sample.id} are {tags}"
            raise DatasetError([Problem(file, f"it has {told}; {remedy}", sample.id)])
    lacking = [classes.names[c] for c in sample.labels if c not in wanted]
    if lacking and source.missing != "background":
        held = ", ".join(f"class {number}{_name(source, number)}" for number in rows.numbers) or "no class"
        told = f"maps of {held}, and none of {', '.join(lacking)}, a tag of {sample.id}"
        advice = f"{remedy}; or take such maps for empty by --missing-cams background"
        raise DatasetError([Problem(file, f"it has {told}; {advice}", sample.id)])


def _name(source: CamSource, number: int) -> str:
    name = source.names[number] if 0 <= number < len(source.names) else ""
    return f" ({name})" if name else ""


def _upright(values: NDArray[np.float32], image: Path, size: tuple[int, int]) -> NDArray[np.float32]:
    """Turn maps [K, h, w] of an image (H, W) upright that lie on the photograph as it is stored."""
    if not len(values) or has_proportions(values.shape[1:], size):
        return values
    turned = orient(values.transpose(1, 2, 0), image_orientation(image))
    return np.ascontiguousarray(turned.transpose(2, 0, 1))


def _check_proportions(shape: tuple[int, ...], image: Path, size: tuple[int, int]) -> None:
    """Refuse maps that are not of their image.

    Raises:
        PickleError: The proportions of maps (h, w) are not those of the image (H, W), however it lies, up to a cell.
    """
    height, width = shape
    if has_proportions(shape, size) or (image_orientation(image) >= 5 and has_proportions((width, height), size)):
        return
    told = f"its maps are {width} x {height}, which are not the proportions of its image, {size[1]} x {size[0]}"
    raise PickleError(f"{told}: make them for this image")


def has_proportions(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Return whether maps of a shape (h, w) have the proportions of an image of a size (H, W), to a cell."""
    (h, w), (height, width) = shape, size
    return abs(h - w * height / width) <= 1 or abs(w - h * width / height) <= 1
