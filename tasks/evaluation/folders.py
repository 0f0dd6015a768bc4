"""Label maps, detections and saliency from anywhere, scored against ground truth by the metrics of the pipeline."""

from __future__ import annotations

import contextlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, ClassTable, CocoSource, DatasetError, Problem, Sample
from data.files import files_below
from data.formats.coco import (
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
from data.formats.label_codings import LABEL_CODINGS, read_coded
from data.formats.label_folder import CLASSES, INSTANCES, KINDS, SALIENCY, SEMANTIC, VALUES
from data.formats.label_maps import (
    BINARY_MASKS,
    palette_problems,
    read_ground_truth,
    read_label_map,
    separate_objects,
)
from data.formats.voc import VOC_CLASSES
from data.names import clean_name, shortened
from data.readers.ids import find_split, read_class_names, read_split, split_problems
from data.readers.image_names import ImageNames, image_id
from data.readers.scenes import find_scene_maps
from tasks.evaluation.boundary_metric import add_sums, boundary_summary, boundary_sums
from tasks.evaluation.coco_ap import coco_average_precision, void_crowds
from tasks.evaluation.instance_metrics import (
    CHAINERCV,
    InstanceRecords,
    Void,
    add_records,
    average_precision,
    match_image,
    mean_precision,
)
from tasks.evaluation.saliency_metric import add_saliency, saliency_summary, saliency_sums
from tasks.evaluation.semantic_metrics import confusion, semantic_summary

LABELS, PREDICTED = "labels", "predictions"
"""Where a run has its label maps, and where a training has those that its network gives the validation images."""
MASKS = "saliency"
"""The coding of masks of salient objects: what is brighter than half."""
ONES = "expected a map from 0 to 255, found only 0 and 1 in all maps of the folder: write 255 where it is 1"
_NO_CATEGORY = -1
MAX_MASK_BYTES = 2**33


def evaluate_semantic(
    pred: Path, gt: Path, classes: Path | None = None, split: str | Path | None = None
) -> dict[str, Any]:
    """Score semantic label maps.

    Args:
        pred: A folder of label PNGs, one that has them in `SegmentationClass`, a run, or a training. Images that `gt`
            lacks are ignored.
        gt: The same, or a set of scenes or a folder of label maps in one (`data.readers.scenes`), whose own coding is
            read.
        classes: A file with the name of a foreground class per line, or, called `values.txt`, of a value from 0 on. By
            default the class table of the set of scenes, else `classes.txt` or `values.txt` (see
            `data.formats.label_folder`) where the label maps of one of them lie or up to two levels above, else VOC's
            names.
        split: The images of `gt` to score: a file that lists them, or the name of one of the set's lists. By default
            all.

    Returns:
        `miou`, `iou` of each class, `accuracy`, `boundary_f` and `boundary_f_per_class`, fractions in [0, 1] (None
        where there is nothing to score); `classes`, where their names are from; the numbers of `images`, and of
        predictions `ignored`.

    Raises:
        DatasetError: Lists every image that has no prediction, one of another size, or values outside the table; or no
            pixel of the ground truth has a class.
    """
    predicted, truth = _label_maps(pred), _label_maps(gt, split)
    table = _class_table(classes, {pred: predicted.coding, gt: truth.coding})
    pairs, problems = _pair(predicted.files, truth.files, gt)
    names = table.values
    total = np.zeros((len(names), len(names) + 1), np.int64)
    contours, known = [], Counter[int]()
    for pred_id, gt_id in pairs:
        try:
            maps = truth.read(gt_id), predicted.read(pred_id)
            total += confusion(*maps, len(names))
            known.update(np.unique(maps[0]).tolist())
            contours.append(boundary_sums(*maps, len(names)))
        except ValueError as error:
            problems.append(Problem(predicted.files[pred_id], f"{error}{table.hint}", gt_id))
        except DatasetError as error:
            problems += error.problems
    if problems:
        raise DatasetError(problems)
    if table.has_background and known[VOID] and not known.keys() - {0, VOID}:
        raise DatasetError([Problem(gt, BINARY_MASKS)])
    if not total.any():
        raise DatasetError([Problem(gt, "expected pixels of a class to score, found void alone")])
    boundaries = boundary_summary(add_sums(contours), names)
    return {
        **semantic_summary(total, names),
        "boundary_f": boundaries["boundary_f"],
        "boundary_f_per_class": boundaries["per_class"],
        "classes": table.origin,
        "images": len(pairs),
        "ignored": len(predicted.files) - len(pairs),
    }


def evaluate_instances(
    pred: Path, gt: Path, classes: Path | None = None, split: str | Path | None = None
) -> dict[str, Any]:
    """Score instance masks by average precision, VOC's and COCO's.

    Args:
        pred: COCO JSON with scores, or COCO's list of results (whose ids are those of `gt`, COCO JSON too), or a
            folder with `SegmentationObject` and `SegmentationClass` (or a run), where every object is a detection
            with score 1. Images that `gt` lacks are ignored.
        gt: Such a folder, or COCO JSON; crowds are void, and categories outside the class table are left out.
            COCO's score takes the masks of COCO JSON as they are, VOC's the smaller over the larger.
        classes: As for `evaluate_semantic`; without any file the categories of COCO JSON are the table, in the
            order of their ids. COCO's categories are matched with the table by name.
        split: As for `evaluate_semantic`.

    Returns:
        `ap50`, `ap70` and the same `per_class`, fractions in [0, 1] (None for a class without ground truth), with void
        taken out of predictions; `chainercv`, `ap50` and `ap70` with void left in them, as the authors of IRNet score;
        `coco` with `ap`, `ap50` and `ap75`; `classes`, where their names are from; the numbers of `images`, and of
        predicted images `ignored`.

    Raises:
        DatasetError: Lists every image that has no prediction, one of another size, or classes outside the table.
    """
    truth = _CocoImages(gt, read_coco(gt)) if gt.is_file() else _MapFolders(gt)
    predicted = _CocoImages(pred, _predictions(pred, truth)) if pred.is_file() else _MapFolders(pred)
    table = _class_table(classes, {pred: None, gt: None}, categories=truth.categories or predicted.categories)
    pairs, problems = _pair(predicted.images, _listed(truth.images, gt, split), gt)
    records, of_authors, infos, objects, detections = [], [], [], [], []
    for pred_id, gt_id in pairs:
        try:
            found = predicted.detections(pred_id, table.names)
            of_image = {"num_classes": len(table.names), "image": gt_id}
            match = partial(_match, found, truth.maps(gt_id, table.names), **of_image)
            records.append(match(void="ignored"))
            of_authors.append(match(void="predicted"))
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
        CHAINERCV: mean_precision(of_authors, table.names),
        "coco": coco_average_precision(*(coco_json(infos, parts, categories) for parts in (objects, detections))),
        "classes": table.origin,
        "images": len(pairs),
        "ignored": len(predicted.images) - len(pairs) + predicted.strangers,
    }


def evaluate_saliency(pred: Path, gt: Path, split: str | Path | None = None) -> dict[str, Any]:
    """Score maps of saliency by their mean absolute error and their largest F (`tasks.evaluation.saliency_metric`).

    Args:
        pred: A folder of grey PNGs of 8 bits, 255 times the probability, one that has them in `Saliency`, or a
            training. Images that `gt` lacks are ignored.
        gt: A set with masks of salient objects (`data.readers.scenes`), or a folder of such masks.
        split: As for `evaluate_semantic`.

    Returns:
        `mae` and `max_f`, fractions in [0, 1] (None where there is nothing to score); the numbers of `images`, and of
        predictions `ignored`.

    Raises:
        DatasetError: Lists every image that has no map, or one of another size or number of bits; or no map of the
            folder, scored or not, exceeds 1, so that 1 stands for 255.
    """
    base = _base(pred)
    folder = base / SALIENCY if (base / SALIENCY).is_dir() else pred
    predicted, truth = _LabelMaps(_png_files(folder)), _label_maps(gt, split)
    if truth.coding not in (None, MASKS):
        raise DatasetError([Problem(gt, "expected masks of salient objects, found label maps of a set of scenes")])
    truth = _LabelMaps(truth.files, MASKS)
    pairs, problems = _pair(predicted.files, truth.files, gt)
    sums, highest = [], {}
    for pred_id, gt_id in pairs:
        try:
            found = predicted.read(pred_id)
            if found.dtype != np.uint8:
                raise ValueError(f"expected a map of 8 bits, found {found.dtype}")
            highest[pred_id] = int(found.max())
            sums.append(saliency_sums(truth.read(gt_id), found))
        except ValueError as error:
            problems.append(Problem(predicted.files[pred_id], str(error), gt_id))
        except DatasetError as error:
            problems += error.problems
    if max(highest.values(), default=0) == 1 and not _any_exceeds_one(predicted, predicted.files.keys() - highest):
        first = next(image for image in highest if highest[image] == 1)
        problems.append(Problem(predicted.files[first], ONES))
    if problems:
        raise DatasetError(problems)
    return {**saliency_summary(add_saliency(sums)), "ignored": len(predicted.files) - len(pairs)}


def _any_exceeds_one(predicted: _LabelMaps, images: Iterable[str]) -> bool:
    """Return whether a map that is not scored has values above 1.

    How a program codes its maps is the same for all: some nearly black ones are a network that finds nothing there.
    """
    for image in images:
        # What is wrong with a map that is not scored is no problem of the scores.
        with contextlib.suppress(DatasetError, ValueError):
            if predicted.read(image).max() > 1:
                return True
    return False


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
class _LabelMaps:
    """Label maps by the ids of their images, and the coding of the set of scenes that they are part of, if any."""

    files: dict[str, Path]
    coding: str | None = None

    def read(self, image: str) -> NDArray:
        file = self.files[image]
        return read_label_map(file) if self.coding is None else read_coded(file, self.coding)


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
        base = _base(path)
        if not (base / INSTANCES).is_dir():
            message = f"expected COCO JSON, or a folder with {INSTANCES} and {SEMANTIC}, found neither"
            raise DatasetError([Problem(path, message)])
        self._semantic = base / SEMANTIC
        self.images = _png_files(base / INSTANCES)
        if problems := palette_problems({id: self._semantic / f"{id}.png" for id in self.images}):
            raise DatasetError(problems)

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
        names = {number: clean_name(name) for number, name in content.categories.items()}
        used = {record["category_id"] for records in content.annotations.values() for record in records}
        for name, count in Counter(names[number] for number in names.keys() & used).items():
            if count > 1:
                message = f"expected one category of each name, found annotations of {count} called {name!r}"
                raise DatasetError([Problem(path, message)])
        # Of two categories of one name the used one comes last, and counts.
        self._names = dict(sorted(names.items(), key=lambda item: item[0] in used))
        self.categories = tuple(dict.fromkeys(names.values()))
        self.strangers = len(content.annotations.keys() - content.images.keys())

    def file(self, image: str) -> Path:
        return self._coco.path

    def maps(self, image: str, names: tuple[str, ...]) -> tuple[NDArray, NDArray]:
        numbers = {name: number for number, name in self._names.items()}
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
            name = self._names.get(category)
            if name not in names:
                raise ValueError(f"{image}: expected classes of the table, got category {category} ({name})")
            classes.append(names.index(name))
            mask[:] = self._mask(image, annotation)
        return _Detections(masks, classes, [annotation["score"] for annotation in annotations])

    def objects(self, image: str, names: tuple[str, ...]) -> list[Detection]:
        """Return the objects and crowds of one image whose class is in the table."""
        values = {number: names.index(name) for number, name in self._names.items() if name in names}
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


def _match(
    found: _Detections, truth: tuple[NDArray, NDArray], *, num_classes: int, void: Void, image: str
) -> InstanceRecords:
    classes, scores = np.array(found.classes, np.int64), np.array(found.scores, np.float64)
    return match_image(found.masks, classes, scores, *truth, num_classes=num_classes, void=void, image=image)


def _base(path: Path) -> Path:
    """Return the folder that has the folders of maps: a run's labels, a training's predictions, or the path."""
    places = (path, path / LABELS, path / PREDICTED)
    return next((place for place in places if any((place / kind).is_dir() for kind in (*KINDS, SALIENCY))), path)


def _label_maps(path: Path, split: str | Path | None = None) -> _LabelMaps:
    """Return the label PNGs of a folder, of its `SegmentationClass`, of a run or training, or of a set of scenes."""
    base = _base(path)
    folder = base / SEMANTIC if (base / SEMANTIC).is_dir() else path
    if not folder.is_dir():
        raise DatasetError([Problem(path, f"expected a folder of label maps (or one with {SEMANTIC}), found none")])
    if folder == path and (scenes := find_scene_maps(path, split)):
        coding, files = scenes
        return _LabelMaps(files, coding)
    files = _listed(_png_files(folder), folder, split)
    if problems := palette_problems(files):
        raise DatasetError(problems)
    return _LabelMaps(files)


def _listed(images: dict[str, Any], where: Path, split: str | Path | None) -> dict[str, Any]:
    """Return the images of a list, which lies where they do, up to two levels above, or anywhere as a file."""
    if split is None:
        return images
    places = (where, *where.resolve().parents[:2])
    listed = read_split(next((place for place in places if find_split(place, split)), where), split, ImageNames(images))
    if problems := [*listed.problems, *split_problems(listed, where)]:
        raise DatasetError(problems)
    return {id: images[id] for id in listed.ids}


def _png_files(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    others = []
    for file in files_below(folder):
        name = file.relative_to(folder)
        if file.suffix.lower() != ".png":
            others.append(file.name)
        elif (first := files.setdefault(name.with_suffix("").as_posix(), file)) != file:
            raise DatasetError([Problem(file, f"expected one label map of this name, found {first.name} too")])
    if not files:
        found = f"other files: {shortened(others, 3)}" if others else "none"
        raise DatasetError([Problem(folder, f"expected label maps (PNG), found {found}")])
    return files


def _class_table(classes: Path | None, sources: Mapping[Path, str | None], categories: tuple[str, ...] = ()) -> _Table:
    """Return the class table: that of the file `classes`, of the sources, of COCO's categories, or VOC's.

    Args:
        sources: Folder or file -> the coding of its label maps, where it is that of a set of scenes.
    """
    codings = {path: LABEL_CODINGS[coding] for path, coding in sources.items() if coding is not None}
    if classes is not None:
        has_background = classes.name != VALUES and all(coding.has_background for coding in codings.values())
        names = read_class_names(classes.parent, classes) or ()
        return _Table(ClassTable(names).names, f"the names in {classes}", has_background=has_background)
    found = {}
    for source in sources:
        if source in codings:
            coding = codings[source]
            found[source] = _Table(coding.classes, f"the set's own ({source})", "", coding.has_background)
            continue
        place = _base(source.resolve())
        files = (folder / name for folder in (place, *place.parents[:2]) for name in (VALUES, CLASSES))
        file = next((file for file in files if file.is_file()), None)
        if file is not None:
            names, has_background = read_class_names(file.parent, file) or (), file.name == CLASSES
            known = "a set of scenes is known by its layout, and by `pseudomask predict --evaluate`"
            hint = "" if has_background else f" (as {file} has them; {known})"
            names = ClassTable(names, has_background=has_background).names
            found[file] = _Table(
                names, f"the {'names' if has_background else 'values'} in {file}", hint, has_background
            )
    if len({(table.has_background, table.names) for table in found.values()}) > 1:
        problems = [Problem(file, f"holds the classes {', '.join(table.names)}") for file, table in found.items()]
        last = Problem(problems[-1].file, "expected one class table; say with --classes which one is right")
        raise DatasetError([*problems, last])
    if found:
        return next(iter(found.values()))
    if categories:
        return _Table(ClassTable(categories).names, "the categories of COCO's JSON")
    hint = f" (no {CLASSES} was found, so VOC's 20 classes were assumed; others are set by --classes)"
    return _Table(VOC_CLASSES, f"VOC's 20 classes, since no {CLASSES} was found", hint)


def _pair(predicted: Iterable[str], truth: Iterable[str], where: Path) -> tuple[list[tuple[str, str]], list[Problem]]:
    """Find the prediction of every image of the ground truth.

    Ids are paths below folders that may start at different depths (COCO's file names do), so the longer one
    may have folders before the other. Names in another Unicode form are the same.

    Returns:
        Pairs of ids (predicted, true), and a problem for each image that has none or several.
    """
    by_name = defaultdict(list)
    for image in predicted:
        by_name[_composed(PurePosixPath(image).name)].append(image)
    pairs, problems = [], []
    for image in truth:
        named = by_name[_composed(PurePosixPath(image).name)]
        matches = [image] if image in named else [other for other in named if _ends_alike(image, other)]
        if len(matches) == 1:
            pairs.append((matches[0], image))
        else:
            message = f"expected one prediction for the image {image!r}, found {', '.join(matches) or 'none'}"
            problems.append(Problem(where, message, image))
    if not pairs and not problems:
        problems.append(Problem(where, "expected images to compare, found none"))
    return pairs, problems


def _composed(name: str) -> str:
    """Return a name in NFC: macOS gives files names in NFD."""
    return unicodedata.normalize("NFC", name)


def _ends_alike(first: str, second: str) -> bool:
    first, second = _composed(first), _composed(second)
    return first == second or first.endswith(f"/{second}") or second.endswith(f"/{first}")
