"""COCO's instance JSON, both ways, and the product's own detection records. No images are read here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import numpy as np
from pycocotools import mask as rle_tools

from data.dataset import RESERVED, VOID, ClassTable, CocoSource, DatasetError, Problem, value_type
from data.files import refuse_special, replacing
from data.formats.coco_records import (
    ANNOTATION_FIELDS,
    CATEGORY_FIELDS,
    IMAGE_FIELDS,
    RESULT_FIELDS,
    Fields,
    check_records,
    read_json,
    read_mask,
    record_order,
)


class Rle(TypedDict):
    """A compressed run-length mask: `size` is [H, W], `counts` COCO's ASCII string."""

    size: list[int]
    counts: str


# "class" is a keyword, so this one cannot be written as a class.
Detection = TypedDict(
    "Detection", {"image": str, "class": int, "score": float, "segmentation": Rle, "crowd": NotRequired[bool]}
)
Detection.__doc__ = """One instance: sample id, class counted from 0, score in [0, 1], mask of the image's size.

A `crowd` is no instance but a region of its class to be ignored.
"""


class ImageInfo(NamedTuple):
    """What COCO JSON says of an image; `id` is the sample's, `file_name` a path relative to the images' folder."""

    id: str
    file_name: str
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class Annotation:
    """One object of an image.

    Attributes:
        mask: bool [H, W].
        index: Its class, counted from 0, or None where the class table lacks the category.
        score: In [0, 1]; 1 where the file states none.
        crowd: Whether it is a group of objects that were not told apart.
    """

    mask: np.ndarray
    index: int | None
    score: float
    crowd: bool


@dataclass(frozen=True)
class CocoFile:
    """A COCO instance file, indexed.

    Attributes:
        path: Where it was read.
        images: Image id -> its record, in the file's order.
        annotations: Image id -> its annotation records, ascending by id.
        categories: Category id -> name, ascending by id.
    """

    path: Path
    images: Mapping[int, Mapping[str, Any]]
    annotations: Mapping[int, Sequence[Mapping[str, Any]]]
    categories: Mapping[int, str]


def encode_mask(mask: np.ndarray) -> Rle:
    """Compress bool [H, W]."""
    encoded = rle_tools.encode(np.asfortranarray(mask, dtype=np.uint8))
    # The stubs say str; the extension returns bytes.
    counts = cast(bytes, encoded["counts"]).decode("ascii")
    return {"size": [int(side) for side in encoded["size"]], "counts": counts}


def decode_mask(rle: Rle) -> np.ndarray:
    """Return the bool [H, W] that `encode_mask` got."""
    return rle_tools.decode(rle).astype(bool)  # pyright: ignore[reportArgumentType]


def as_detections(
    image: str, masks: Iterable[np.ndarray], classes: Iterable[int], scores: Iterable[float]
) -> list[Detection]:
    """Return the record of each instance of one image: masks bool [H, W], classes counted from 0, scores in [0, 1]."""
    return [
        {"image": image, "class": int(index), "score": round(float(score), 6), "segmentation": encode_mask(mask)}
        for mask, index, score in zip(masks, classes, scores, strict=True)
    ]


def write_detections(path: Path, detections: Iterable[Detection]) -> None:
    """Write detection records as one JSON list, a record a line."""
    lines = ",\n".join(json.dumps(detection, sort_keys=True) for detection in detections)
    path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read_detections(path: Path) -> list[Detection]:
    """Read what `write_detections` wrote.

    Raises:
        DatasetError: The file is missing, not JSON, or a record lacks a field.
    """
    records = _read_json(path, list)
    fields = Detection.__required_keys__
    for number, record in enumerate(records):
        if not (isinstance(record, dict) and fields <= record.keys()):
            message = f"expected the fields {', '.join(sorted(fields))} in record {number}, found {record!r:.80}"
            raise DatasetError([Problem(path, message)])
    return records


def coco_json(images: Iterable[ImageInfo], detections: Iterable[Detection], classes: ClassTable) -> dict[str, Any]:
    """Return COCO's instance JSON: annotation ids count through the whole file, category ids are the class table's.

    Raises:
        ValueError: A detection is of an image that is not among `images`, or its mask has another size.
    """
    infos = list(images)
    numbers = {info.id: number for number, info in enumerate(infos, start=1)}
    annotations = []
    for detection in detections:
        number = numbers.get(detection["image"])
        if number is None:
            raise ValueError(f"a detection is of the image {detection['image']!r}, which is not exported")
        info, rle = infos[number - 1], detection["segmentation"]
        if list(rle["size"]) != [info.height, info.width]:
            raise ValueError(f"{info.id}: the mask is {rle['size']}, the image {[info.height, info.width]}")
        annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation_of(detection, classes)})
    return {
        # Some importers ask for these two. There is no date: the same labels are the same bytes.
        "info": {"description": "Labels by pseudomask", "version": _version()},
        "licenses": [],
        "images": [
            {"id": numbers[info.id], "file_name": info.file_name, "height": info.height, "width": info.width}
            for info in infos
        ],
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in zip(classes.category_ids, classes.names, strict=True)
            if name != RESERVED
        ],
    }


def annotation_of(detection: Detection, classes: ClassTable) -> dict[str, Any]:
    """Return what COCO's instance JSON says of a detection, but for its number and that of its image."""
    rle = detection["segmentation"]
    return {
        "category_id": classes.category_ids[detection["class"]],
        "segmentation": rle,
        "area": int(rle_tools.area(rle)),  # pyright: ignore[reportArgumentType]
        "bbox": [float(side) for side in rle_tools.toBbox(rle)],  # pyright: ignore[reportArgumentType]
        "iscrowd": int(detection.get("crowd", False)),
        "score": detection["score"],
    }


def write_coco(file: Path, images: Iterable[ImageInfo], annotations: Iterable[str], classes: ClassTable) -> None:
    """Write COCO's instance JSON; the annotations, which may be many, come one by one as JSON.

    The file appears whole or not at all.
    """
    document = coco_json(images, (), classes)
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for number, (name, value) in enumerate(document.items()):
            stream.write(f"{', ' if number else '{'}{json.dumps(name)}: ")
            if name != "annotations":
                stream.write(json.dumps(value))
                continue
            stream.write("[")
            for place, annotation in enumerate(annotations):
                stream.write(f"{', ' if place else ''}{annotation}")
            stream.write("]")
        stream.write("}")


def read_coco(path: Path) -> CocoFile:
    """Read and index a COCO instance file; the last two files read are kept in memory.

    Raises:
        DatasetError: The file is missing, not JSON, or not an instance file.
    """
    try:
        refuse_special(path)
        state = path.stat()
    except FileNotFoundError as error:
        raise DatasetError([Problem(path, "expected COCO instance JSON, found no file")]) from error
    except OSError as error:
        raise DatasetError([Problem(path, f"expected COCO instance JSON, but {error.strerror}")]) from error
    return _read_coco(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read_coco(path: Path, _mtime_ns: int, _size: int) -> CocoFile:
    content = _read_json(path, dict)
    for name in ("images", "annotations", "categories"):
        if name not in content:
            message = f"expected COCO instance JSON (images, annotations, categories), but there is no '{name}'"
            raise DatasetError([Problem(path, message)])
    images = _by_id(path, "image", content["images"], IMAGE_FIELDS)
    categories = _by_id(path, "category", content["categories"], CATEGORY_FIELDS)
    names = {number: categories[number]["name"] for number in sorted(categories, key=record_order)}
    annotations = check_records(path, "annotation", content["annotations"], ANNOTATION_FIELDS)
    return CocoFile(path, images, _by_image(annotations, images), names)


def read_results(path: Path, truth: CocoFile) -> CocoFile:
    """Read detections in COCO's form of results, a list of records that name images and categories by the truth's ids.

    Returns:
        The detections as a file of the truth's images and categories.

    Raises:
        DatasetError: The file is not of that form, or none of its images is one of the truth's.
    """
    records = check_records(path, "result", _read_json(path, list), RESULT_FIELDS)
    by_image = _by_image(records, truth.images)
    for number, record in enumerate(records):
        if record["segmentation"] is None:
            message = f"result number {number} of image {record['image_id']}: expected a segmentation, found none"
            raise DatasetError([Problem(path, f"{message}; boxes alone cannot be scored as masks")])
    if records and not any(by_image[number] for number in truth.images):
        message = f"expected results of the images of {truth.path}, found none, but of {records[0]['image_id']!r}"
        raise DatasetError([Problem(path, message)])
    return CocoFile(path, truth.images, by_image, truth.categories)


def holds_results(path: Path) -> bool:
    """Tell whether a file is a list of JSON, as COCO's results are, from its first sign."""
    try:
        refuse_special(path)
        with path.open("rb") as stream:
            return stream.read(256).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"[")
    except OSError as error:
        raise DatasetError([Problem(path, f"cannot be read ({error.strerror})")]) from error


def _by_id(path: Path, kind: str, records: Any, fields: Fields) -> dict[Any, dict[str, Any]]:
    found: dict[Any, dict[str, Any]] = {}
    for record in check_records(path, kind, records, fields):
        if found.setdefault(record["id"], record) is not record:
            raise DatasetError(
                [Problem(path, f"expected a different id for each {kind}, found {record['id']!r} twice")]
            )
    return found


def _by_image(annotations: Sequence[dict[str, Any]], images: Mapping[Any, Any]) -> dict[Any, list[Mapping[str, Any]]]:
    """Return image id -> records, ascending by id; a record without an id gets its place in the file."""
    for number, annotation in enumerate(annotations, start=1):
        if annotation["id"] is None:
            annotation["id"] = number
    found: dict[Any, list[Mapping[str, Any]]] = {number: [] for number in images}
    for annotation in sorted(annotations, key=lambda annotation: record_order(annotation["id"])):
        found.setdefault(annotation["image_id"], []).append(annotation)
    return found


def read_maps(source: CocoSource) -> tuple[np.ndarray, np.ndarray]:
    """Return the semantic and instance map of one image, as `rasterize`, of the size its COCO entry states.

    Raises:
        DatasetError: The entry is missing, or a mask cannot be read.
    """
    values = {category: value for value, category in enumerate(source.category_ids, start=1)}
    with _records(source) as (records, height, width):
        return rasterize(records, height, width, values)


def read_annotations(source: CocoSource) -> list[Annotation]:
    """Read all objects of one image, as `each_annotation` does."""
    return list(each_annotation(source))


def each_annotation(source: CocoSource) -> Iterator[Annotation]:
    """Yield the objects of one image, ascending by annotation id; their masks have the size its COCO entry states.

    Raises:
        DatasetError: The entry is missing, or a mask cannot be read or has another size.
    """
    indices = {category: index for index, category in enumerate(source.category_ids)}
    with _records(source) as (records, height, width):
        for record in records:
            yield Annotation(
                mask=annotation_mask(record, height, width),
                index=indices.get(record["category_id"]),
                score=record["score"],
                crowd=is_crowd(record),
            )


@contextmanager
def _records(source: CocoSource) -> Iterator[tuple[Sequence[Mapping[str, Any]], int, int]]:
    """Give the annotation records of an image and its H and W; what is wrong with a record becomes a DatasetError."""
    file = read_coco(source.file)
    image = file.images.get(source.image_id)
    if image is None:
        raise DatasetError([Problem(source.file, f"expected an image with id {source.image_id!r}, found none")])
    what = f"image {source.image_id} ({image['file_name']})"
    if image["height"] is None or image["width"] is None:
        raise DatasetError([Problem(source.file, f"expected a height and a width of {what}, found none")])
    try:
        yield file.annotations[source.image_id], image["height"], image["width"]
    except ValueError as error:
        message = f"expected polygons or run lengths for {what}, but {error}"
        raise DatasetError([Problem(source.file, message)]) from error


def entry_size(source: CocoSource) -> tuple[int, int]:
    """Return (H, W) that a COCO entry states of its image.

    Raises:
        DatasetError: There is no such entry, or it states none.
    """
    with _records(source) as (_, height, width):
        return height, width


def is_crowd(record: Mapping[str, Any]) -> bool:
    """Tell whether an annotation is a region to be ignored: `iscrowd`, or `ignore` as some tools write it."""
    return bool(record.get("iscrowd", 0)) or bool(record.get("ignore", 0))


def rasterize(
    annotations: Iterable[Mapping[str, Any]], height: int, width: int, values: Mapping[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Paint COCO annotations: crowds first, as void, then the instances, the smaller over the larger.

    Args:
        annotations: COCO annotation records of one image: polygons, compressed or plain run lengths.
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        values: Category id -> value in the semantic map; annotations of other categories are left out.

    Returns:
        Semantic [H, W] (0 background, 255 void; uint8, or uint16 for values above), and instances int32 [H, W]
        (1, 2, ... in the order painted, without 255, which is void). Every instance's pixels have one semantic value.

    Raises:
        ValueError: A mask cannot be read, or is not of the image's size; names the annotation.
    """
    semantic = np.zeros((height, width), value_type(max(values.values(), default=0)))
    instances = np.zeros((height, width), np.int32)
    masks = [
        (is_crowd(record), annotation_mask(record, height, width), record)
        for record in annotations
        if record["category_id"] in values
    ]
    masks.sort(key=lambda item: (not item[0], -int(item[1].sum()), record_order(item[2]["id"])))
    number = 0
    for crowd, mask, record in masks:
        if crowd:
            semantic[mask] = instances[mask] = VOID
            continue
        number += 2 if number == VOID - 1 else 1
        semantic[mask] = values[record["category_id"]]
        instances[mask] = number
    return semantic, instances


def annotation_mask(record: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """Return the mask bool [H, W] of an annotation record, with nothing in it where the record has none.

    Raises:
        ValueError: Names the annotation whose mask cannot be read, or has another size.
    """
    try:
        return read_mask(record, height, width)
    except ValueError as error:
        raise ValueError(f"annotation {record.get('id')}: {error}") from error


def _read_json(path: Path, kind: type) -> Any:
    content = read_json(path, "JSON")
    if not isinstance(content, kind):
        expected = "an object" if kind is dict else "a list"
        raise DatasetError([Problem(path, f"expected {expected} of JSON, found {content!r:.80}")])
    return content


def _version() -> str:
    try:
        return version("pseudomask")
    except PackageNotFoundError:
        return "unknown"
