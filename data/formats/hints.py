"""What a person said of some pixels of an image: boxes, points, strokes, outlines, or a map of values.

Three forms, told apart by their content:

- labelme's JSON: `rectangle` is a box, `point`, `line` and `linestrip` are strokes, `polygon` and `circle` are areas.
  The label is a class, or "background".
- VOC's XML: its boxes.
- A label map as PNG, of the values of the classes: 0 is background; void, 255, and transparent pixels say nothing.

Boxes of COCO and YOLO are read with the set (`data.readers.beside.box_files`) and come with the image.

A box says where a class lies: not outside of its boxes, where it has any in an image. All else says what pixels are.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, ClassTable, DatasetError, LabelMap, NamedBox, Problem, SampleWithMore, value_type
from data.files import read_regular
from data.formats.coco_records import read_json
from data.formats.images import image_size
from data.formats.label_maps import read_drawn_map, unknown_values
from data.formats.voc_xml import objects_in, parse_xml, refuse, refuse_nameless_objects, tag_of, text_of
from data.names import clean_name

BACKGROUND = frozenset({"background", "_background_", "__background__"})
STROKE = 0.006
"""Width of points and lines as a share of the image's longer side: a click is meant for more than one pixel."""
LEAST_STROKE = 3
MOST_SHAPES, MOST_BYTES = 10_000, 1 << 26
MARGIN = 10
"""Coordinates may lie outside of the image, but by no more than so many of its sides."""
OUTSIDE = 0.5
"""Boxes may reach out of the image, but by no more than this share of its sides."""
SHARES = "expected pixels, not shares of the image from 0 to 1: export coordinates in pixels"
REMEDY = "mend it, or delete it"
SHAPE_CORNERS: Mapping[str, tuple[int, int | None]] = {
    "rectangle": (2, 2),
    "point": (1, 1),
    "line": (2, 2),
    "linestrip": (2, None),
    "polygon": (3, None),
    "circle": (2, 2),
}
"""Shape of labelme -> the least and the greatest number of its points."""
BINARY_HINTS = (
    "expected hints with the values of classes, found only 0 and 255, of which 0 is background and 255 says nothing: "
    "write 1 (or the class's value) where the class is, and 255 or transparent pixels where nothing is said"
)
MOSTLY, THIN = 0.9, 0.02
"""A map with more background than the one, and with nothing else as wide as the other (of its longer side), may be of
strokes on black, where black was meant to say nothing."""
_PNG, _XML = b"\x89PNG\r\n\x1a\n", b"<"


class Box(NamedTuple):
    """A box around one object, its sides in pixels of the image: left and top inclusive, right and bottom exclusive.

    Attributes:
        value: Of its class, in label maps.
    """

    value: int
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Hints:
    """What is known of an image's pixels.

    Attributes:
        known: [H, W] class values, 0 background, 255 where nothing was said.
        boxes: In the order of their file.
    """

    known: LabelMap
    boxes: tuple[Box, ...] = field(default=())

    @property
    def values(self) -> set[int]:
        """The values of the classes that they speak of, without background."""
        said = np.unique(self.known[(self.known != 0) & (self.known != VOID)])
        return {*said.tolist(), *(box.value for box in self.boxes)}

    def are_strokes_on_background(self) -> bool:
        """Tell whether nearly all is background and the rest thin, as where black was left undrawn."""
        if np.count_nonzero(self.known == 0) <= MOSTLY * self.known.size:
            return False
        side = max(3, round(THIN * max(self.known.shape)))
        said = ((self.known != 0) & (self.known != VOID)).astype(np.uint8)
        return bool(said.any()) and not cv2.erode(said, np.ones((side, side), np.uint8)).any()

    def at_size(self, size: tuple[int, int]) -> Hints:
        """Return them for the image at another size (H, W); no stroke is too thin to be seen there."""
        height, width = self.known.shape
        if size == (height, width):
            return self
        down, across = size[0] / height, size[1] / width
        boxes = tuple(
            box._replace(left=box.left * across, right=box.right * across, top=box.top * down, bottom=box.bottom * down)
            for box in self.boxes
        )
        if size[0] > height:
            known = cv2.resize(self.known, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
            return Hints(np.asarray(known, self.known.dtype), boxes)
        known = np.full(size, VOID, self.known.dtype)
        rows, columns = np.nonzero(self.known != VOID)
        known[rows * size[0] // height, columns * size[1] // width] = self.known[rows, columns]
        return Hints(known, boxes)

    def of(self, values: Collection[int]) -> Hints:
        """Return what they say of these classes, and of background."""
        known = np.where(np.isin(self.known, [0, *values]), self.known, VOID).astype(self.known.dtype)
        return Hints(known, tuple(box for box in self.boxes if box.value in values))

    def space(self, value: int) -> NDArray[np.bool_] | None:
        """Return where a class may lie: bool [H, W], the pixels that its boxes touch; None where it has no box."""
        boxes = [box for box in self.boxes if box.value == value]
        if not boxes:
            return None
        space = np.zeros(self.known.shape, bool)
        for box in boxes:
            space[pixels_of(box, self.known.shape)] = True
        return space

    def truth(self, values: list[int]) -> LabelMap:
        """Return [H, W]: what each pixel is as far as that is known, 255 elsewhere.

        Beside `known`, background is what lies outside of all boxes, where each of the image's classes has one.

        Args:
            values: Of the image's classes.
        """
        spaces = [self.space(value) for value in values]
        if not spaces or any(space is None for space in spaces):
            return self.known
        outside = ~np.logical_or.reduce([space for space in spaces if space is not None])
        return np.where(outside & (self.known == VOID), 0, self.known).astype(self.known.dtype)


def pixels_of(box: Box, size: tuple[int, ...]) -> tuple[slice, slice]:
    """Return the rows and columns of an image (H, W) that a box touches: at least one of each."""
    sides = []
    for low, high, length in ((box.top, box.bottom, size[0]), (box.left, box.right, size[1])):
        begin = min(max(math.floor(low), 0), length - 1)
        sides.append(slice(begin, min(max(math.ceil(high), begin + 1), length)))
    return sides[0], sides[1]


def nearest_box(boxes: Sequence[Box], size: tuple[int, ...], pixels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return for each pixel the position of the box that it belongs to; -1 outside of all, and where `pixels` is not.

    Of boxes that overlap it is the one whose middle is nearest, by the box's own sides.

    Args:
        boxes: Of an image.
        size: (H, W) of the image.
        pixels: bool [H, W].
    """
    owners, nearest = np.full(size, -1), np.full(size, np.inf)
    for number, box in enumerate(boxes):
        rows, columns = pixels_of(box, size)
        down = (np.arange(rows.start, rows.stop) + 0.5 - (box.top + box.bottom) / 2) / (box.bottom - box.top)
        across = (np.arange(columns.start, columns.stop) + 0.5 - (box.left + box.right) / 2) / (box.right - box.left)
        distance = np.maximum(np.abs(down)[:, None], np.abs(across)[None])
        nearer = pixels[rows, columns] & (distance < nearest[rows, columns])
        owners[rows, columns][nearer], nearest[rows, columns][nearer] = number, distance[nearer]
    return owners


def read_hints(sample: SampleWithMore, classes: ClassTable) -> Hints:
    """Read what was said of an image, in the coordinates of `data.formats.images.read_image`.

    Raises:
        DatasetError: The file is missing, damaged, of another form, or of another size than the image; or it speaks of
            a class that the set does not have.
    """
    source = sample.hints
    assert source is not None
    try:
        if sample.boxes:
            return _of_boxes(sample.boxes, image_size(sample.image), classes)
        begin = read_regular(source)[:256].lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")
        if begin.startswith(_PNG):
            found = _of_map(source, image_size(sample.image), classes)
        elif begin.startswith(_XML):
            found = _of_xml(source, image_size(sample.image), classes)
        elif begin.startswith(b"{"):
            found = _of_labelme(source, image_size(sample.image), classes)
        else:
            raise ValueError("expected hints as labelme's JSON, VOC's XML or a PNG, found another kind of file")
    except OSError as error:
        raise DatasetError([Problem(source, f"cannot be read ({error.strerror})", sample.id)]) from None
    except ValueError as error:
        raise DatasetError([Problem(source, str(error), sample.id)]) from None
    return found


def check_hints(sample: SampleWithMore, classes: ClassTable) -> Hints:
    """Return the hints of an image.

    Raises:
        DatasetError: As `read_hints`; or they speak of a class that the image's tags lack.
    """
    hints = read_hints(sample, classes)
    if beyond := hints.values.difference(label + 1 for label in sample.labels):
        names = ", ".join(classes.values[value] for value in sorted(beyond))
        tags = ", ".join(classes.names[label] for label in sample.labels) or "none"
        message = f"expected hints of the classes that the image has ({tags}), found {names}: tag it so"
        raise DatasetError([Problem(sample.hints or sample.image, message, sample.id)])
    return hints


def _of_boxes(boxes: Sequence[NamedBox], size: tuple[int, int], classes: ClassTable) -> Hints:
    found = (_checked(Box(_value(name, classes), *sides), size) for name, *sides in boxes)
    return Hints(_nothing(size, classes), tuple(found))


def _of_map(source: Path, size: tuple[int, int], classes: ClassTable) -> Hints:
    known, drawn = read_drawn_map(source)
    _check_size(known.shape, size)
    values = set(np.unique(known[drawn]).tolist())
    # A map of void with strokes of 0 says what background is; one of 0 with strokes of void says it of all the rest.
    if VOID in values and not values - {0, VOID} and (not drawn.all() or 2 * np.count_nonzero(known == 0) > known.size):
        raise ValueError(BINARY_HINTS)
    if unknown := unknown_values(known, len(classes.values)):
        raise ValueError(f"expected values below {len(classes.values)}, or 255 where nothing is said, found {unknown}")
    return Hints(known)


def _of_xml(source: Path, size: tuple[int, int], classes: ClassTable) -> Hints:
    root = parse_xml(source, read_regular(source))
    if tag_of(root) != "annotation":
        refuse(source, f"found <{tag_of(root)}> around the whole")
    said = [child for child in root if tag_of(child) == "size"]
    if said:
        fields = {tag_of(child): text_of(child) for child in said[0]}
        # Some tools write zeros, or nothing, for what they have not looked at.
        sides = (_number(fields.get(name) or "0", f"<{name}>") for name in ("height", "width"))
        _check_size(tuple(found or side for found, side in zip(sides, size, strict=True)), size)
    refuse_nameless_objects(source, root)
    boxes = []
    for number, item in enumerate(objects_in(root), start=1):
        fields = {tag_of(child): child for child in reversed(item)}
        if "deleted" in fields and text_of(fields["deleted"]).casefold() in ("1", "true"):
            continue
        if "name" not in fields or "bndbox" not in fields:
            raise ValueError("expected objects with a <name> and a <bndbox>, found one without")
        sides = {tag_of(child): text_of(child) for child in fields["bndbox"]}
        what = f"object {number}, {text_of(fields['name'])!r:.80}"
        found = [_number(sides.get(name), f"sides of a <bndbox> ({what})") for name in ("xmin", "ymin", "xmax", "ymax")]
        if are_shares(found, size):
            raise ValueError(f"{what}: {SHARES}, found {shown(found)}")
        # VOC counts pixels from 1, and the last one is inside.
        box = Box(_value(text_of(fields["name"]), classes), found[0] - 1, found[1] - 1, found[2], found[3])
        boxes.append(_checked(box, size, what))
    return Hints(_nothing(size, classes), tuple(boxes))


def _of_labelme(source: Path, size: tuple[int, int], classes: ClassTable) -> Hints:
    if source.stat().st_size > MOST_BYTES:
        raise ValueError(f"expected less than {MOST_BYTES} bytes of shapes, found {source.stat().st_size}")
    document = read_json(source, "labelme's JSON")
    shapes = document.get("shapes")
    if not isinstance(shapes, list) or len(shapes) > MOST_SHAPES:
        found = "none" if not isinstance(shapes, list) else f"{len(shapes)}"
        raise ValueError(f"expected labelme's JSON with a list of shapes, at most {MOST_SHAPES}, found {found}")
    said = document.get("imageHeight"), document.get("imageWidth")
    if said != (None, None):
        _check_size(said, size)
    hints = Hints(_nothing(size, classes))
    drawn: list[tuple[bool, int, str, NDArray[np.float64], str]] = []
    for number, shape in enumerate(shapes, start=1):
        value, kind, corners = _shape(shape, classes, size)
        what = f"shape {number}, a {kind} of {shape['label']!r:.80}"
        if are_shares(numbers := corners.ravel().tolist(), size):
            raise ValueError(f"{what}: {SHARES}, found {shown(numbers)}")
        if kind == "rectangle":
            box = _checked(_around(value, corners), size, what)
            hints = replace(hints, boxes=(*hints.boxes, box)) if value else hints
        if kind != "rectangle" or not value:
            drawn.append((kind in ("point", "line", "linestrip"), value, kind, corners, what))
    # Strokes lie over areas.
    for _, value, kind, corners, what in sorted(drawn, key=lambda each: each[0]):
        _draw(hints.known, value, kind, corners, what)
    return hints


def _shape(shape: Any, classes: ClassTable, size: tuple[int, int]) -> tuple[int, str, NDArray[np.float64]]:
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        raise ValueError(f"expected shapes with a label, found {shape!r:.80}")
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if not isinstance(kind, str) or kind not in SHAPE_CORNERS:
        raise ValueError(f"expected shapes that are {', '.join(SHAPE_CORNERS)}, found {kind!r:.80}")
    least, most = SHAPE_CORNERS[kind]
    if not isinstance(points, list) or not least <= len(points) <= (most or MOST_SHAPES):
        raise ValueError(f"expected {least}{'' if most else ' or more'} points of a {kind}, found {points!r:.80}")
    far = MARGIN * max(size)
    for point in points:
        numbers = point if isinstance(point, list) else []
        if len(numbers) != 2 or not all(_is_coordinate(number, far) for number in numbers):
            raise ValueError(f"expected points of two numbers in the image, found {point!r:.80}")
    return _value(shape["label"], classes, background=True), kind, np.array(points, np.float64)


def _around(value: int, corners: NDArray[np.float64]) -> Box:
    return Box(value, *corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def _draw(known: LabelMap, value: int, kind: str, corners: NDArray[np.float64], what: str) -> None:
    thick = max(LEAST_STROKE, round(STROKE * max(known.shape)))
    # A pixel's middle is half a pixel from its corner, and cv2 counts pixels by their middles.
    places = np.floor(corners).astype(np.int32)
    mask = np.zeros(known.shape, np.uint8)
    if kind == "point":
        cv2.circle(mask, places[0].tolist(), thick // 2, 1, -1)
    elif kind in ("line", "linestrip"):
        cv2.polylines(mask, [places], False, 1, thick)
    elif kind == "circle":
        # The second point lies on it.
        cv2.circle(mask, places[0].tolist(), round(float(np.hypot(*(corners[1] - corners[0])))), 1, -1)
    elif kind == "rectangle":
        mask[pixels_of(_around(value, corners), known.shape)] = 1
    else:
        cv2.fillPoly(mask, [places], 1)
    if not mask.any():
        size = f"{known.shape[1]} x {known.shape[0]}"
        raise ValueError(f"{what}: expected pixels of the image, which is {size}, found it outside; {REMEDY}")
    known[mask > 0] = value


def _value(name: str, classes: ClassTable, *, background: bool = False) -> int:
    name = clean_name(name)
    if background and name.casefold() in BACKGROUND:
        return 0
    if name not in classes.names:
        raise ValueError(f"expected classes of the set, found {name!r:.80}")
    return classes.names.index(name) + 1


def _checked(box: Box, size: tuple[int, int], what: str = "a box") -> Box:
    inside = box.left < size[1] and box.top < size[0] and box.right > 0 and box.bottom > 0
    found = f"found {shown(box[1:])} (left, top, right, bottom); {REMEDY}"
    if not (box.left < box.right and box.top < box.bottom and inside):
        raise ValueError(f"{what}: expected boxes with pixels of the image, {found}")
    if is_far_outside(box[1:], size):
        raise ValueError(f"{what}: expected a box in the image, which is {size[1]} x {size[0]}, {found}")
    return box


def is_far_outside(sides: Sequence[float], size: tuple[int, int]) -> bool:
    """Tell whether a box (left, top, right, bottom) is of another image: objects that the edge cuts reach less far."""
    lengths = size[1], size[0]
    return any(not -OUTSIDE <= side / length <= 1 + OUTSIDE for side, length in zip(sides, lengths * 2, strict=True))


def are_shares(numbers: Sequence[float], size: tuple[int, int]) -> bool:
    """Tell whether coordinates are shares of the image's sides: all from 0 to 1, of which one pixel at most is seen.

    A click on the first pixel has whole numbers, or is one alone.
    """
    if max(size) <= 2 or not all(0 <= number <= 1 for number in numbers):
        return False
    return len(numbers) > 2 or not all(float(number).is_integer() for number in numbers)


def shown(numbers: Sequence[float]) -> str:
    """Return the first numbers of a shape for a message."""
    return " ".join(f"{number:g}" for number in numbers[:8]) + " ..." * (len(numbers) > 8)


def _nothing(size: tuple[int, int], classes: ClassTable) -> LabelMap:
    return np.full(size, VOID, value_type(len(classes.values)))


def _check_size(said: tuple[Any, ...], size: tuple[int, int]) -> None:
    if tuple(said) != size:
        found = " x ".join(f"{side:g}" if isinstance(side, float) else str(side)[:20] for side in reversed(said))
        raise ValueError(f"expected hints of an image of {size[1]} x {size[0]}, found {found}")


def _is_coordinate(value: Any, far: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= far


def _number(text: str | None, what: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"expected numbers as {what}, found {text!r:.80}")
    return number
