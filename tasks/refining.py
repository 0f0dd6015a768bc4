"""Labels of a set from class attention maps of any method: walk, CRF, labels, image by image and without a store.

What an image needs lies in memory while it is worked on, and no longer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from data.cam_maps import CamMaps, read_cams
from data.dataset import CamSource, Dataset, LabelMap, Sample, value_type
from data.formats.coco import Detection, annotation_of, as_detections, write_coco
from data.formats.images import image_size
from data.formats.label_folder import CONFIDENCE, DETECTIONS, INSTANCES, SEMANTIC, image_info, index_files
from data.formats.label_maps import instance_map, write_label_map
from data.formats.quality import QUALITY, ImageQuality, quality_text
from data.formats.unit_maps import read_unit_map
from models.inference import prepare_inference
from tasks.evaluation.health import check_stage
from tasks.in_memory import Walked, label_walked, walk_cams, with_threshold
from tasks.pipeline.confidence.odds import as_bytes
from tasks.pipeline.confidence.quality import image_quality, no_maps
from tasks.pipeline.fields import infer_batch
from tasks.pipeline.labels import Instances, resize_confidence
from tasks.pipeline.score_maps import grid_size
from tasks.pipeline.seeds.external_cams import CamCounts, maps_to_grid
from tasks.pipeline.settings import FieldsConfig, LabelsConfig, QualityConfig, WalkConfig
from tasks.pipeline.thresholds import spread_out
from tasks.training.inference import batches
from tasks.training.saving import load_irnet
from tasks.training.working_size import read_working_image, to_size, working_size

BOUNDARY = "map of boundaries"
AHEAD = 2
"""Images that wait, per thread."""


class Walls(NamedTuple):
    """What a walk meets in an image: boundary probabilities [h, w], and the displacement field where there is one."""

    boundary: Any
    displacement: Float[Tensor, "2 h w"] | None


WallsOf = Callable[[Sequence[Sample]], Iterator[tuple[Sample, Walls]]]


@dataclass(frozen=True)
class Refining:
    """How labels are made.

    Attributes:
        cams: What the attention maps of the samples are.
        walk: Settings of the walk.
        labels: Settings of the labels; a background threshold that is "auto" is chosen by `choose_threshold`.
        instances: Whether there are displacement fields, and so instances.
        long_side: Range of the long side in pixels at which images are worked on.
        device: "cpu" or "cuda".
        workers: Threads.
    """

    cams: CamSource
    walk: WalkConfig
    labels: LabelsConfig
    instances: bool
    long_side: tuple[int, int] | None
    device: str
    workers: int


def walls_from_files(files: Mapping[str, Path]) -> WallsOf:
    """Return what reads the boundaries of images from files of `data.formats.unit_maps`.

    Args:
        files: Sample id -> file.
    """

    def walls(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Walls]]:
        for sample in samples:
            yield sample, Walls(read_unit_map(files[sample.id], sample.image, f"a {BOUNDARY}"), None)

    return walls


def walls_from_network(folder: Path, config: FieldsConfig, long_side: tuple[int, int] | None, device: str) -> WallsOf:
    """Return what finds boundaries and displacements by the IRNet of a run's artifact.

    Args:
        folder: Of the artifact.
        config: Of its inference.
        long_side: Range of the long side in pixels at which it sees images.
        device: "cpu" or "cuda".

    Raises:
        DatasetError: It is not as it was saved, or another version wrote it.
    """
    net = prepare_inference(load_irnet(folder, device))

    def walls(samples: Sequence[Sample]) -> Iterator[tuple[Sample, Walls]]:
        as_tensor = lambda image: torch.tensor(image).permute(2, 0, 1)  # noqa: E731
        with torch.no_grad():
            for batch, images in batches(samples, as_tensor, device, long_side):
                for sample, found in zip(batch, infer_batch(net, images, config, device), strict=True):
                    yield sample, Walls(*found)

    return walls


def choose_threshold(dataset: Dataset, walls: WallsOf, how: Refining) -> LabelsConfig:
    """Return the settings of the labels with a background threshold that is chosen on images of the set.

    Args:
        dataset: Whose samples with labels have attention maps.
        walls: Boundaries of its images.
        how: Settings.

    Raises:
        DatasetError: An image, an attention map or a boundary cannot be used.
    """
    labelled = [sample for sample in dataset.samples if sample.labels]
    some = walls(spread_out(labelled, how.labels.threshold_images))
    walked, loads = [], []
    for sample, found in some:
        loads.append(partial(read_working_image, sample.image, how.long_side))
        walked.append(_walk(sample, found, dataset, how)[2])
    return with_threshold(how.labels, loads, walked)


def refine_set(
    dataset: Dataset, walls: WallsOf, folder: Path, how: Refining, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Write label maps of every image of a set, their confidence and quality, and with displacement fields instances.

    Args:
        dataset: Whose samples with labels have attention maps.
        walls: Boundaries of its images.
        folder: Gets what `data.formats.label_folder` lists, and `quality.csv`.
        how: Settings, with thresholds that are numbers.
        progress: Called as `progress(done, total)`.

    Returns:
        "images"; "tags", "tags_without_a_pixel", and "tags_with_a_map_and_no_pixel", those of them whose map is not
        empty; "instances" (None without displacement fields); "foreground_share"; "cams": "tags_without_a_map" and
        "empty_maps" (class -> images; maps that are lacking are empty, too) and "remarks" (what files held -> files);
        and "warnings" on the maps, as sentences.

    Raises:
        DatasetError: An image, an attention map or a boundary cannot be used.
    """
    numbers = {sample.id: number for number, sample in enumerate(dataset.samples, start=1)}
    counts, lost, count, rows = CamCounts(), 0, 0, []
    with tempfile.TemporaryFile("w+", encoding="utf-8") as lines:
        for made in _in_threads(dataset, walls, folder, how):
            for detection in made.detections:
                count += 1
                record = {"id": count, "image_id": numbers[made.sample.id], **annotation_of(detection, dataset.classes)}
                lines.write(f"{json.dumps(record)}\n")
            counts.update(made.counts)
            lost += made.lost
            rows.append(made.quality)
            progress(made.number, len(dataset.samples))
        for name, text in index_files((), None, dataset.classes).items():
            (folder / name).write_text(text, encoding="utf-8")
        (folder / QUALITY).write_text(quality_text(sorted(rows)), encoding="utf-8")
        if how.instances:
            lines.seek(0)
            infos = (image_info(sample, dataset) for sample in dataset.samples)
            write_coco(folder / DETECTIONS, infos, map(str.strip, lines), dataset.classes)
    told = check_stage("cams", [counts.summary()], dataset.samples, dataset.classes)
    return {
        "images": len(dataset.samples),
        "tags": counts.tags.total(),
        "tags_without_a_pixel": sum(row.tags_without_a_pixel for row in rows),
        "tags_with_a_map_and_no_pixel": lost,
        "instances": count if how.instances else None,
        "foreground_share": round(sum(row.foreground for row in rows) / max(len(rows), 1), 4),
        "cams": {"tags_without_a_map": {}, "empty_maps": {}, "remarks": {}} | told.facts.get("cams", {}),
        "warnings": [*told.failures, *told.warnings],
    }


class _Made(NamedTuple):
    """What was written of an image.

    Attributes:
        lost: Number of its tags that no pixel has, and whose map is not empty.
        quality: What is known of its labels.
        counts: What its file of maps held and lacked.
    """

    number: int
    sample: Sample
    detections: list[Detection]
    lost: int
    quality: ImageQuality
    counts: CamCounts


def _in_threads(dataset: Dataset, walls: WallsOf, folder: Path, how: Refining) -> Iterator[_Made]:
    """Make the labels of all images, a few at a time; images without labels are background throughout."""
    labelled = [sample for sample in dataset.samples if sample.labels]
    num_values, number = len(dataset.classes.values), 0
    for sample in dataset.samples:
        if not sample.labels:
            number += 1
            nothing = np.zeros(image_size(sample.image), value_type(num_values))
            sure = np.full(nothing.shape, 255, np.uint8)
            _write_maps(sample, folder, nothing, sure, nothing if how.instances else None)
            quality = image_quality(sample, nothing, sure, no_maps(), 0, QualityConfig(), dataset.classes)
            yield _Made(number, sample, [], 0, quality, CamCounts())
    # A thread of ours per image leaves none for torch's own.
    with ThreadPoolExecutor(how.workers, initializer=torch.set_num_threads, initargs=(1,)) as threads:
        found = walls(labelled)
        while some := list(islice(found, AHEAD * how.workers)):
            for made in threads.map(lambda pair: _refine(pair[0], pair[1], dataset, folder, how), some):
                number += 1
                yield made._replace(number=number)


def _walk(sample: Sample, walls: Walls, dataset: Dataset, how: Refining) -> tuple[NDArray[np.uint8], CamMaps, Walked]:
    """Return an image at the size that is worked at, its attention maps as their file has them, and its scores."""
    size = working_size(image_size(sample.image), how.long_side)
    image = read_working_image(sample.image, how.long_side)
    maps = read_cams(sample, how.cams, dataset.classes, grid_size(size), strict=False)
    displacements = None if walls.displacement is None else [walls.displacement]
    given = [maps_to_grid(maps.values, size)]
    (walked,) = walk_cams([image], given, [walls.boundary], displacements, how.walk, how.device)
    return image, maps, walked


def _refine(sample: Sample, walls: Walls, dataset: Dataset, folder: Path, how: Refining) -> _Made:
    own_size = image_size(sample.image)
    image, maps, walked = _walk(sample, walls, dataset, how)
    found = label_walked(image, walked, how.labels, instances=walls.displacement is not None)
    values = np.array([0, *(c + 1 for c in sample.labels)], value_type(len(dataset.classes.values)))
    labels = to_size(values[found.semantic], own_size)
    sure = as_bytes(resize_confidence(found.confidence / 255, own_size))
    objects = Instances(found.masks, found.rows, found.scores).at_size(own_size)
    _write_maps(sample, folder, labels, sure, instance_map(objects.masks) if how.instances else None)
    classes = [sample.labels[row] for row in objects.rows]
    detections = as_detections(sample.id, objects.masks, classes, objects.scores)
    counts = CamCounts()
    counts.add(sample, maps)
    lost = sum(not counts.empty[c] and not (labels == c + 1).any() for c in sample.labels)
    quality = image_quality(sample, labels, sure, walked.cams.cpu(), len(detections), QualityConfig(), dataset.classes)
    return _Made(0, sample, detections, lost, quality, counts)


def _write_maps(
    sample: Sample, folder: Path, labels: LabelMap, sure: NDArray[np.uint8], objects: LabelMap | None
) -> None:
    write_label_map(folder / SEMANTIC / f"{sample.id}.png", labels)
    write_label_map(folder / CONFIDENCE / f"{sample.id}.png", sure, grey=True)
    if objects is not None:
        write_label_map(folder / INSTANCES / f"{sample.id}.png", objects)
