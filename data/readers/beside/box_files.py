"""Boxes of many images as hints: COCO's instance files, and YOLO's text file per image."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data.dataset import ClassTable, DatasetError, NamedBox, Problem, Sample
from data.files import files_below, is_source
from data.formats.coco import read_coco
from data.formats.hints import SHARES, are_shares, is_far_outside, shown
from data.formats.images import image_size
from data.formats.yolo_names import FILE as YOLO_FILE
from data.formats.yolo_names import read_yolo_names
from data.names import clean_name, shortened
from data.readers.image_names import ImageNames, image_id
from data.readers.json_labels import holds_coco
from data.readers.text import read_text, text_lines

NAMES = "classes.txt"
"""Beside YOLO's files, as labelImg writes it: one name per line."""
MOST_BYTES = 1 << 24
REMEDY = "mend the line, or delete it"


class ImageBoxes(NamedTuple):
    """The boxes of one image, in its pixels, and where they are from."""

    source: Path
    boxes: tuple[NamedBox, ...]


def coco_boxes(
    file: Path, samples: Mapping[str, Sample], classes: ClassTable
) -> tuple[dict[str, ImageBoxes], list[Problem], list[str]]:
    """Return sample id -> the boxes of an instance file, what is wrong with them, and notes.

    Masks are not looked at. A crowd is no box of one object: where an image has a crowd of a class, the class's boxes
    in it say nothing, since it lies elsewhere too.

    Args:
        file: The instance file.
        samples: By their ids.
        classes: Of the set.

    Raises:
        DatasetError: It is no instance file.
    """
    content = read_coco(file)
    named: dict[str, list[Any]] = defaultdict(list)
    for number, record in content.images.items():
        named[str(record["file_name"])].append(number)
    numbers = {name: found[0] for name, found in named.items()}
    # One file often has the images of all lists.
    ends = {_end(id) for id in samples}
    match = ImageNames(samples).match(name for name in numbers if _end(image_id(name)) in ends)
    found, problems, crowds = {}, [], 0
    names: dict[str, list[str]] = defaultdict(list)
    for name, id in match.ids.items():
        names[id] += [name] * len(named[name])
    for id, several in names.items():
        if len(several) > 1:
            message = f"expected the image {id!r} once, found images called {' and '.join(map(repr, several))}"
            problems.append(Problem(file, message, id))
    for name, id in match.ids.items():
        if len(names[id]) > 1:
            continue
        image = content.images[numbers[name]]
        records = content.annotations[numbers[name]]
        size = _size(samples[id], problems) if records else None
        if size is None:
            continue
        declared = image.get("height"), image.get("width")
        if None not in declared and declared != size:
            said = f"expected boxes on {name!r} of {size[1]} x {size[0]} pixels, found a size of"
            problems.append(Problem(file, f"{said} {declared[1]} x {declared[0]}: export the boxes again", id))
            continue
        crowded = {record["category_id"] for record in records if record["iscrowd"]}
        crowds += len(crowded)
        boxes = []
        for record in records:
            if record["category_id"] in crowded:
                continue
            try:
                class_name = _known(clean_name(str(content.categories.get(record["category_id"], ""))), classes)
                bbox = _of_coco(record.get("bbox"))
                if are_shares(bbox, size):
                    raise ValueError(f"{SHARES}, found {shown(bbox)}")
                boxes.append(_sides(class_name, bbox, size))
            except ValueError as error:
                where = f"annotation {record.get('id')!r} of image {name!r}"
                problems.append(Problem(file, f"{where}: {error}; mend it, or delete it", id))
        if boxes:
            found[id] = ImageBoxes(file, tuple(boxes))
    notes = list(match.notes)
    if others := len(numbers) - len(match.ids):
        notes.append(f"{others} images of {file.name} are none of the set")
    if crowds:
        notes.append(f"{file.name} has {crowds} crowds, and says nothing of their class in these images")
    return found, problems, notes


def is_coco(file: Path) -> bool:
    """Tell whether a file is COCO's, by its content."""
    return file.suffix.lower() == ".json" and holds_coco(file)


def yolo_boxes(
    folder: Path, files: Mapping[str, Sequence[Path]], samples: Mapping[str, Sample], classes: ClassTable
) -> tuple[dict[str, ImageBoxes], list[Problem]]:
    """Return sample id -> the boxes of YOLO's files, and what is wrong with them.

    A line is the number of a class, and middle, width and height of a box as shares of the image's sides. Without a
    file of names, text files that begin with no such numbers are taken for something else, such as captions.

    Args:
        folder: Has `data.yaml` or `classes.txt`; that of `data.yaml` may be the one above.
        files: Sample id -> its text files, of which one at most may have boxes.
        samples: By their ids.
        classes: Of the set.

    Raises:
        DatasetError: There are boxes, and no names of their classes.
    """
    if not files:
        return {}, []
    texts = {id: [(file, text) for file in each if (text := _text(file)).strip()] for id, each in files.items()}
    names = _yolo_names(folder)
    if names is None:
        first = (next(iter(text.split("\n", 1)[0].split()), "") for each in texts.values() for _, text in each)
        if not any(word.isdecimal() for word in first):
            return {}, []
        raise DatasetError(
            [Problem(folder, f"expected {YOLO_FILE} or {NAMES} with the names of the classes of its boxes, found none")]
        )
    found, problems = {}, []
    for id, each in texts.items():
        if len(each) > 1:
            problems.append(several_files(folder, id, [file for file, _ in each]))
            continue
        file, text = each[0] if each else (folder, "")
        lines = [(number, line.split()) for number, line in enumerate(text_lines(text), start=1) if line.strip()]
        size = _size(samples[id], problems) if lines else None
        if size is None:
            continue
        boxes = []
        for number, words in lines:
            try:
                boxes.append(_of_yolo(words, names, classes, size))
            except ValueError as error:
                problems.append(Problem(file, f"line {number}: {error}; {REMEDY}", id))
        if boxes:
            found[id] = ImageBoxes(file, tuple(boxes))
    return found, problems


def several_files(folder: Path, id: str, files: Sequence[Path]) -> Problem:
    """Return the problem of an image that has several files of hints."""
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        names = [file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file) for file in files]
    return Problem(files[0], f"expected hints of {id} once, found {' and '.join(names)}", id)


def _yolo_names(folder: Path) -> list[str] | None:
    for place in (folder, folder.parent):
        if is_source(place / YOLO_FILE):
            return read_yolo_names(place)
        if place == folder and is_source(place / NAMES):
            return [name.strip() for name in text_lines(read_text(place / NAMES).rstrip())]
    return None


def _text(file: Path) -> str:
    if file.is_file() and file.stat().st_size > MOST_BYTES:
        raise DatasetError([Problem(file, f"expected less than {MOST_BYTES} bytes of boxes, found more")])
    return read_text(file)


def _of_yolo(words: list[str], names: list[str], classes: ClassTable, size: tuple[int, int]) -> NamedBox:
    if len(words) != 5:
        more = ", which may be an outline: export boxes" if len(words) > 6 else ""
        raise ValueError(f"expected a class and four numbers, found {len(words)} words{more}")
    if not (words[0].isascii() and words[0].isdecimal() and len(words[0]) < 10 and int(words[0]) < len(names)):
        raise ValueError(f"expected the number of a class below {len(names)}, found {words[0]!r:.80}")
    across, down, width, height = numbers = [_share(word) for word in words[1:]]
    if not (all(0 <= number <= 1 for number in numbers) and width > 0 and height > 0):
        shown = " ".join(words[1:])
        raise ValueError(f"expected shares of the image from 0 to 1, with a width and a height, found {shown:.80}")
    name = _known(clean_name(names[int(words[0])]), classes)
    scaled = [across * size[1], down * size[0], width * size[1], height * size[0]]
    return _sides(name, (scaled[0] - scaled[2] / 2, scaled[1] - scaled[3] / 2, scaled[2], scaled[3]), size)


def _of_coco(bbox: Any) -> tuple[float, float, float, float]:
    """Return left, top, width and height."""
    numbers = bbox if isinstance(bbox, list) else []
    usable = all(isinstance(each, int | float) and not isinstance(each, bool) for each in numbers)
    if len(numbers) != 4 or not usable or not all(abs(each) < 1e9 for each in numbers):
        raise ValueError(f"expected left, top, width and height as bbox, found {bbox!r:.80}")
    left, top, width, height = map(float, numbers)
    return left, top, width, height


def _end(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].casefold()


def _sides(name: str, box: tuple[float, float, float, float], size: tuple[int, int]) -> NamedBox:
    """Return a box within the image, of its class, left, top, width and height."""
    left, top, right, bottom = box[0], box[1], box[0] + box[2], box[1] + box[3]
    sides = " ".join(f"{side:g}" for side in box)
    inside = max(left, 0.0), max(top, 0.0), min(right, float(size[1])), min(bottom, float(size[0]))
    if not (box[2] > 0 and box[3] > 0 and inside[0] < inside[2] and inside[1] < inside[3]):
        raise ValueError(f"expected boxes with pixels of the image, found {sides} (left, top, width, height)")
    if is_far_outside((left, top, right, bottom), size):
        message = f"expected a box in the image, which is {size[1]} x {size[0]}"
        raise ValueError(f"{message}, found {sides} (left, top, width, height)")
    left, top, right, bottom = (round(side, 3) for side in inside)
    return name, left, top, right, bottom


def _known(name: str, classes: ClassTable) -> str:
    if name not in classes.names:
        raise ValueError(f"expected classes of the set ({shortened(classes.real_names)}), found {name!r:.80}")
    return name


def _share(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan


def _size(sample: Sample, problems: list[Problem]) -> tuple[int, int] | None:
    """Return an image's size; where it cannot be read, that is a problem more."""
    try:
        return image_size(sample.image)
    except DatasetError as error:
        problems += error.problems
        return None


def box_files(folder: Path) -> Iterator[Path]:
    """Yield the text files of a folder that may have boxes, without lists of names; none of a file."""
    yield from (file for file in files_below(folder, {".txt"}) if file.name != NAMES)
