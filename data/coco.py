"""COCO's instance JSON, both ways, and the product's own detection records. No images are read here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import numpy as np
from pycocotools import mask as rle_tools

from data.dataset import RESERVED, VOID, ClassTable, CocoSource, DatasetError, Problem, value_type


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


def coco_json(
    images: Iterable[ImageInfo], detections: Iterable[Detection], classes: ClassTable
) -> dict[str, list[dict[str, Any]]]:
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
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": classes.category_ids[detection["class"]],
                "segmentation": rle,
                "area": int(rle_tools.area(rle)),  # pyright: ignore[reportArgumentType]
                "bbox": [float(side) for side in rle_tools.toBbox(rle)],  # pyright: ignore[reportArgumentType]
                "iscrowd": int(detection.get("crowd", False)),
                "score": detection["score"],
            }
        )
    return {
        "images": [
            {"id": numbers[info.id], "file_name": info.file_name, "height": info.height, "width": info.width}
            for info in infos
        ],
        "annotations": annotations,
        "categories": [
            {"id": number, "name": name}
            for number, name in zip(classes.category_ids, classes.names, strict=True)
            if name != RESERVED
        ],
    }


def read_coco(path: Path) -> CocoFile:
    """Read and index a COCO instance file; the last two files read are kept in memory.

    Raises:
        DatasetError: The file is missing, not JSON, or not an instance file.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise DatasetError([Problem(path, "expected COCO instance JSON, found no file")]) from error
    return _read_coco(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read_coco(path: Path, _mtime_ns: int, _size: int) -> CocoFile:
    content = _read_json(path, dict)
    try:
        images = {image["id"]: image for image in content["images"]}
        by_image: dict[int, list[Mapping[str, Any]]] = {number: [] for number in images}
        for annotation in sorted(content["annotations"], key=lambda annotation: annotation["id"]):
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        categories = {record["id"]: record["name"] for record in content["categories"]}
        for image in images.values():
            _ = image["file_name"], image["height"], image["width"]
        for annotation in content["annotations"]:
            _ = annotation["category_id"], annotation["segmentation"]
    except (KeyError, TypeError) as error:
        message = f"expected COCO instance JSON (images, annotations, categories), but {_why(error)}"
        raise DatasetError([Problem(path, message)]) from error
    if len(images) < len(content["images"]):
        raise DatasetError([Problem(path, "expected a different id for each image, found some twice")])
    return CocoFile(path, images, by_image, dict(sorted(categories.items())))


def read_maps(source: CocoSource) -> tuple[np.ndarray, np.ndarray]:
    """Return the semantic and instance map of one image, as `rasterize`, of the size its COCO entry states.

    Raises:
        DatasetError: The entry is missing, or a mask cannot be read.
    """
    values = {category: value for value, category in enumerate(source.category_ids, start=1)}
    with _records(source) as (records, height, width):
        return rasterize(records, height, width, values)


def read_annotations(source: CocoSource) -> list[Annotation]:
    """Read all objects of one image, ascending by annotation id; their masks have the size its COCO entry states.

    Raises:
        DatasetError: The entry is missing, or a mask cannot be read or has another size.
    """
    indices = {category: index for index, category in enumerate(source.category_ids)}
    with _records(source) as (records, height, width):
        return [
            Annotation(
                mask=_mask(record["segmentation"], height, width),
                index=indices.get(record["category_id"]),
                score=float(record.get("score", 1)),
                crowd=bool(record.get("iscrowd", 0)),
            )
            for record in records
        ]


@contextmanager
def _records(source: CocoSource) -> Iterator[tuple[Sequence[Mapping[str, Any]], int, int]]:
    """Give the annotation records of an image and its H and W; what is wrong with a record becomes a DatasetError."""
    file = read_coco(source.file)
    image = file.images.get(source.image_id)
    if image is None:
        raise DatasetError([Problem(source.file, f"expected an image with id {source.image_id}, found none")])
    try:
        yield file.annotations[source.image_id], image["height"], image["width"]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        message = (
            f"expected polygons or run lengths for image {source.image_id} ({image['file_name']}), but {_why(error)}"
        )
        raise DatasetError([Problem(source.file, message)]) from error


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
        ValueError: A run-length mask is not of the image's size.
    """
    semantic = np.zeros((height, width), value_type(max(values.values(), default=0)))
    instances = np.zeros((height, width), np.int32)
    masks = [
        (bool(record.get("iscrowd", 0)), _mask(record["segmentation"], height, width), record)
        for record in annotations
        if record["category_id"] in values
    ]
    masks.sort(key=lambda item: (not item[0], -int(item[1].sum()), item[2]["id"]))
    number = 0
    for crowd, mask, record in masks:
        if crowd:
            semantic[mask] = instances[mask] = VOID
            continue
        number += 2 if number == VOID - 1 else 1
        semantic[mask] = values[record["category_id"]]
        instances[mask] = number
    return semantic, instances


def _mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    if isinstance(segmentation, list):
        # Fewer than three corners enclose nothing, and pycocotools would take four numbers for a box.
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return np.zeros((height, width), bool)
        rle = rle_tools.merge(rle_tools.frPyObjects(polygons, height, width))
    else:
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(f"a mask is {segmentation['size']}, the image {[height, width]}")
        plain = isinstance(segmentation["counts"], list)
        rle = rle_tools.frPyObjects(segmentation, height, width) if plain else segmentation
    return rle_tools.decode(rle).astype(bool)


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise DatasetError([Problem(path, "expected JSON, found no file")]) from error
    except (ValueError, OSError) as error:
        raise DatasetError([Problem(path, f"expected JSON, but {error}")]) from error
    if not isinstance(content, kind):
        expected = "an object" if kind is dict else "a list"
        raise DatasetError([Problem(path, f"expected {expected} of JSON, found {content!r:.80}")])
    return content


def _why(error: Exception) -> str:
    return f"there is no {error}" if isinstance(error, KeyError) else str(error)
