"""Label maps and detections from anywhere, scored against ground truth by the metrics that the pipeline uses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.coco import (
    CocoFile,
    Detection,
    ImageInfo,
    annotation_mask,
    as_detections,
    coco_json,
    encode_mask,
    holds_results,
    is_crowd,
    read_coco,
    read_maps,
    read_results,
)
from data.dataset import VOID, ClassTable, CocoSource, DatasetError, Problem, Sample
from data.label_folder import CLASSES, INSTANCES, KINDS, SEMANTIC, VALUES
from data.label_maps import BINARY_MASKS, read_ground_truth, read_label_map, separate_objects
from data.names import shortened
from data.readers.ids import read_class_names
from data.readers.image_names import image_id
from data.voc import VOC_CLASSES
from tasks.evaluation.boundary_metric import add_sums, boundary_summary, boundary_sums
from tasks.evaluation.coco_ap import coco_average_precision, void_crowds
from tasks.evaluation.instance_metrics import InstanceRecords, add_records, average_precision, match_image
from tasks.evaluation.semantic_metrics import confusion, semantic_summary

LABELS = "labels"
"""Where a run has its label maps."""
_NO_CATEGORY = -1
MAX_MASK_BYTES = 2**33


def evaluate_semantic(pred: Path, gt: Path, classes: Path | None = None) -> dict[str, Any]:
    """Score semantic label maps.

    Args:
        pred: A folder of label PNGs, one that has them in `SegmentationClass`, or a run. Images that `gt` lacks
            are ignored.
        gt: The same.
        classes: A file with the name of a foreground class a line. By default `classes.txt`, or `values.txt` (see
            `data.label_folder`), where the label maps of one of them lie or up to two levels above, else VOC's names.

    Returns:
        `miou`, `iou` of each class, `accuracy`, `boundary_f` and `boundary_f_per_class`, fractions in [0, 1] (None
        where there is nothing to score); `classes`, where their names are from; the numbers of `images`, and of
        predictions `ignored`.

    Raises:
        DatasetError: Lists every image that has no prediction, one of another size, or values outside the table.
    """
    pred_files, gt_files = (_label_maps(path) for path in (pred, gt))
    table = _class_table(classes, (pred, gt))
    pairs, problems = _pair(pred_files, gt_files, gt)
    names = table.values
    total = np.zeros((len(names), len(names) + 1), np.int64)
    contours, known = [], Counter[int]()
    for pred_id, gt_id in pairs:
        try:
            maps = read_label_map(gt_files[gt_id]), read_label_map(pred_files[pred_id])
            total += confusion(*maps, len(names))
            known.update(np.unique(maps[0]).tolist())
            contours.append(boundary_sums(*maps, len(names)))
        except ValueError as error:
            problems.append(Problem(pred_files[pred_id], f"{error}{table.hint}", gt_id))
        except DatasetError as error:
            problems += error.problems
    if problems:
        raise DatasetError(problems)
    if table.has_background and known[VOID] and not known.keys() - {0, VOID}:
        raise DatasetError([Problem(gt, BINARY_MASKS)])
    boundaries = boundary_summary(add_sums(contours), names)
    return {
        **semantic_summary(total, names),
        "boundary_f": boundaries["boundary_f"],
        "boundary_f_per_class": boundaries["per_class"],
        "classes": table.origin,
        "images": len(pairs),
        "ignored": len(pred_files) - len(pairs),
    }


def evaluate_instances(pred: Path, gt: Path, classes: Path | None = None) -> dict[str, Any]:
    """Score instance masks by average precision, VOC's and COCO's.

    Args:
        pred: COCO JSON with scores, or COCO's list of results (whose ids are those of `gt`, COCO JSON too), or a
            folder with `SegmentationObject` and `SegmentationClass` (or a run), where every object is a detection
            with score 1. Images that `gt` lacks are ignored.
        gt: Such a folder, or COCO JSON; crowds are void, and categories outside the class table are left out.
            COCO's score takes the masks of COCO JSON as they are, VOC's the smaller over the larger.
        classes: As for `evaluate_semantic`; without any file the categories of COCO JSON are the table, in the
            order of their ids. COCO's categories are matched with the table by name.

    Returns:
        `ap50`, `ap70` and the same `per_class`, fractions in [0, 1] (None for a class without ground truth); `coco`
        with `ap`, `ap50` and `ap75`; `classes`, where their names are from; the numbers of `images`, and of predicted
        images `ignored`.

    Raises:
        DatasetError: Lists every image that has no prediction, one of another size, or classes outside the table.
    """
    truth = _CocoImages(gt, read_coco(gt)) if gt.is_file() else _MapFolders(gt)
    predicted = _CocoImages(pred, _predictions(pred, truth)) if pred.is_file() else _MapFolders(pred)
    table = _class_table(classes, (pred, gt), categories=truth.categories or predicted.categories)
    pairs, problems = _pair(predicted.images, truth.images, gt)
    records, infos, objects, detections = [], [], [], []
    for pred_id, gt_id in pairs:
        try:
            found = predicted.detections(pred_id, table.names)
            records.append(_match(found, truth.maps(gt_id, table.names), len(table.names)))
            infos.append(ImageInfo(gt_id, gt_id, *found.masks.shape[1:]))
            objects += truth.objects(gt_id, table.names)
            detections += as_detections(gt_id, found.masks, found.classes, found.scores)
        except ValueError as error:
            problems.append(Problem(predicted.file(pred_id), f"{error}{table.hint}", gt_id))
        except DatasetError as error:
            problems += error.problems
    if problems:
        raise DatasetError(problems)
    categories = ClassTable(table.names)
    return {
        **average_precision(add_records(records), table.names),
        "coco": coco_average_precision(*(coco_json(infos, parts, categories) for parts in (objects, detections))),
        "classes": table.origin,
        "images": len(pairs),
        "ignored": len(predicted.images) - len(pairs) + predicted.strangers,
    }


@dataclass(frozen=True)
class _Table:
    """Names of the foreground classes, where they are from, and the end of a message about a value that has none."""

    names: tuple[str, ...]
    origin: str
    hint: str = ""
    has_background: bool = True

    @property
    def values(self) -> tuple[str, ...]:
        return ClassTable(self.names, has_background=self.has_background).values


@dataclass(frozen=True)
class _Detections:
    """Of one image: bool [N, H, W], classes counted from 0 [N], scores [N]."""

    masks: NDArray[np.bool_]
    classes: list[int]
    scores: list[float]


class _MapFolders:
    """A folder with `SegmentationClass` and `SegmentationObject`; answers what `_CocoImages` does."""

    categories: tuple[str, ...] = ()
    strangers = 0

    def __init__(self, path: Path) -> None:
        base = next((base for base in (path, path / LABELS) if (base / INSTANCES).is_dir()), None)
        if base is None:
            message = f"expected COCO JSON, or a folder with {INSTANCES} and {SEMANTIC}, found neither"
            raise DatasetError([Problem(path, message)])
        self._semantic = base / SEMANTIC
        self.images = _png_files(base / INSTANCES)

    def file(self, image: str) -> Path:
        return self.images[image]

    def maps(self, image: str, names: tuple[str, ...]) -> tuple[NDArray, NDArray]:
        file = self.file(image)
        truth = read_ground_truth(Sample(image, file, (), self._semantic / f"{image}.png", file))
        assert truth.semantic is not None
        assert truth.instances is not None
        return truth.semantic, truth.instances

    def detections(self, image: str, names: tuple[str, ...]) -> _Detections:
        masks, numbers = separate_objects(*self.maps(image, names))
        return _Detections(masks, numbers.tolist(), [1.0] * len(masks))

    def objects(self, image: str, names: tuple[str, ...]) -> list[Detection]:
        void = void_crowds(image, self.maps(image, names)[1], len(names))
        found = self.detections(image, names)
        return as_detections(image, found.masks, found.classes, found.scores) + void


class _CocoImages:
    """A COCO instance file; an image is known by its file name without the suffix."""

    def __init__(self, path: Path, content: CocoFile) -> None:
        self.content = self._coco = content
        self.images: dict[str, Any] = {}
        for number, record in content.images.items():
            first = self.images.setdefault(image_id(record["file_name"]), number)
            if first != number:
                message = f"expected a different name for each image, found {record['file_name']!r} of {first} and"
                raise DatasetError([Problem(path, f"{message} {number}")])
        self.categories = tuple(content.categories.values())
        self.strangers = len(content.annotations.keys() - content.images.keys())

    def file(self, image: str) -> Path:
        return self._coco.path

    def maps(self, image: str, names: tuple[str, ...]) -> tuple[NDArray, NDArray]:
        numbers = {name: number for number, name in self._coco.categories.items()}
        ids = tuple(numbers.get(name, _NO_CATEGORY) for name in names)
        return read_maps(CocoSource(self._coco.path, self.images[image], ids))

    def detections(self, image: str, names: tuple[str, ...]) -> _Detections:
        annotations = self._coco.annotations[self.images[image]]
        height, width = self._size(image)
        if len(annotations) * height * width > MAX_MASK_BYTES:
            raise ValueError(f"{image}: {len(annotations)} masks of {width} x {height} do not fit into the memory")
        masks, classes = np.zeros((len(annotations), height, width), bool), []
        for mask, annotation in zip(masks, annotations, strict=True):
            category = annotation["category_id"]
            name = self._coco.categories.get(category)
            if name not in names:
                raise ValueError(f"{image}: expected classes of the table, got category {category} ({name})")
            classes.append(names.index(name))
            mask[:] = self._mask(image, annotation)
        return _Detections(masks, classes, [annotation["score"] for annotation in annotations])

    def objects(self, image: str, names: tuple[str, ...]) -> list[Detection]:
        """Return the objects and crowds of one image whose class is in the table."""
        values = {number: names.index(name) for number, name in self._coco.categories.items() if name in names}
        return [
            Detection(
                {
                    "image": image,
                    "class": values[annotation["category_id"]],
                    "score": 1.0,
                    "segmentation": encode_mask(self._mask(image, annotation)),
                    "crowd": is_crowd(annotation),
                }
            )
            for annotation in self._coco.annotations[self.images[image]]
            if annotation["category_id"] in values
        ]

    def _size(self, image: str) -> tuple[int, int]:
        record = self._coco.images[self.images[image]]
        if record["height"] is None or record["width"] is None:
            message = f"image {self.images[image]} ({record['file_name']}): expected a height and a width, found none"
            raise DatasetError([Problem(self._coco.path, message, image)])
        return record["height"], record["width"]

    def _mask(self, image: str, annotation: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Return one mask [H, W]: annotations may overlap, so each is painted alone."""
        if annotation["segmentation"] is None and not is_crowd(annotation):
            message = f"annotation {annotation['id']}: expected polygons or run lengths, found no mask"
            raise DatasetError([Problem(self._coco.path, message, image)])
        try:
            return annotation_mask(annotation, *self._size(image))
        except ValueError as error:
            raise DatasetError([Problem(self._coco.path, str(error), image)]) from error


def _predictions(path: Path, truth: _CocoImages | _MapFolders) -> CocoFile:
    """Read COCO JSON, or its list of results by the ids of the ground truth."""
    if not holds_results(path):
        return read_coco(path)
    if not isinstance(truth, _CocoImages):
        message = "expected COCO instance JSON: the ids of a list of results are those of ground truth in COCO JSON"
        raise DatasetError([Problem(path, f"{message}, which --gt is not")])
    return read_results(path, truth.content)


def _match(found: _Detections, truth: tuple[NDArray, NDArray], num_classes: int) -> InstanceRecords:
    classes, scores = np.array(found.classes, np.int64), np.array(found.scores, np.float64)
    return match_image(found.masks, classes, scores, *truth, num_classes=num_classes)


def _label_maps(path: Path) -> dict[str, Path]:
    """Return image id -> label PNG of a folder, its `SegmentationClass`, or that of a run's labels."""
    folders = (path / SEMANTIC, path / LABELS / SEMANTIC, path)
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise DatasetError([Problem(path, f"expected a folder of label maps (or one with {SEMANTIC}), found none")])
    return _png_files(folder)


def _png_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    others = []
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        # What systems write: "._a.png" of macOS.
        if any(part.startswith(".") for part in name.parts) or not file.is_file():
            continue
        if file.suffix.lower() != ".png":
            others.append(file.name)
        elif (first := files.setdefault(name.with_suffix("").as_posix(), file)) != file:
            raise DatasetError([Problem(file, f"expected one label map of this name, found {first.name} too")])
    if not files:
        found = f"other files: {shortened(others, 3)}" if others else "none"
        raise DatasetError([Problem(folder, f"expected label maps (PNG), found {found}")])
    return files


def _class_table(classes: Path | None, sources: tuple[Path, Path], categories: tuple[str, ...] = ()) -> _Table:
    if classes is not None:
        return _Table(ClassTable(read_class_names(classes.parent, classes) or ()).names, f"the names in {classes}")
    found = {}
    for source in sources:
        place = source.resolve()
        if not any((place / kind).is_dir() for kind in KINDS) and any((place / LABELS / k).is_dir() for k in KINDS):
            place /= LABELS
        folders = [place, *place.parents[:2]]
        files = (folder / name for folder in folders for name in (VALUES, CLASSES))
        file = next((file for file in files if file.is_file()), None)
        if file is not None:
            found[file] = read_class_names(file.parent, file) or ()
    if len({(file.name, names) for file, names in found.items()}) > 1:
        problems = [Problem(file, f"holds the classes {', '.join(names)}") for file, names in found.items()]
        last = Problem(problems[-1].file, "expected one class table; say with --classes which one is right")
        raise DatasetError([*problems, last])
    for file, names in found.items():
        if file.name == CLASSES:
            return _Table(ClassTable(names).names, f"the names in {file}")
        hint = f" (as {file} has them; `pseudomask predict --evaluate` knows how sets of scenes code void)"
        return _Table(names, f"the values in {file}", hint, has_background=False)
    if categories:
        return _Table(ClassTable(categories).names, "the categories of COCO's JSON")
    hint = f" (no {CLASSES} was found, so VOC's 20 classes were assumed; others are set by --classes)"
    return _Table(VOC_CLASSES, f"VOC's 20 classes, since no {CLASSES} was found", hint)


def _pair(predicted: Iterable[str], truth: Iterable[str], where: Path) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Find the prediction of every image of the ground truth.

    Ids are paths below folders that may start at different depths (COCO's file names do), so the longer one
    may have folders before the other.

    Returns:
        Pairs of ids (predicted, true), and a problem for each image that has none or several.
    """
    by_name = defaultdict(list)
    for image in predicted:
        by_name[PurePosixPath(image).name].append(image)
    pairs, problems = [], []
    for image in truth:
        named = by_name[PurePosixPath(image).name]
        matches = [image] if image in named else [other for other in named if _ends_alike(image, other)]
        if len(matches) == 1:
            pairs.append((matches[0], image))
        else:
            message = f"expected one prediction for the image {image!r}, found {', '.join(matches) or 'none'}"
            problems.append(Problem(where, message, image))
    return pairs, problems


def _ends_alike(first: str, second: str) -> bool:
    return first.endswith(f"/{second}") or second.endswith(f"/{first}")
