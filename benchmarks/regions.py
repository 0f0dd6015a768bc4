"""What regions give the labels: python -m benchmarks.regions RUN [--json-file FILE].

The labels of a finished run on a set with masks of instances follow regions that are made of these masks: as they are,
with the ground cut into regions too, coarse, cut into parts, and merged, as segmenters do to objects. Nothing is
trained or walked again. Regions know of the ground truth the outlines alone, never a class.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.machine import describe_machine, results_file, write_results
from data.dataset import VOID, Dataset, Sample
from data.formats.coco import annotation_mask, read_coco
from data.formats.label_folder import DETECTIONS, SEMANTIC
from data.formats.label_maps import GroundTruth, read_ground_truth, read_label_map
from data.region_masks import Regions
from tasks.engine.run_record import read_run
from tasks.evaluation.instance_metrics import InstanceRecords, add_records, average_precision, match_image
from tasks.evaluation.semantic_metrics import confusion, iou
from tasks.pipeline.regions.instances import Found, follow_regions
from tasks.pipeline.regions.rule import refine_by_regions
from tasks.pipeline.settings import RegionsConfig

Masks = list[NDArray[np.bool_]]
COARSE_CELLS, PARTS, GROUND_PARTS, NEAR_PX = 24, 4, 12, 8


def exact(masks: Masks, rng: np.random.Generator) -> Masks:
    """Return the objects' masks as they are."""
    return masks


def with_ground(masks: Masks, rng: np.random.Generator) -> Masks:
    """Return the objects, and the rest of the image in parts."""
    return [*masks, *_cut(~np.any(masks, axis=0), GROUND_PARTS, rng)]


def coarse(masks: Masks, rng: np.random.Generator) -> Masks:
    """Return the objects in square cells, of which the long side of the image has `COARSE_CELLS`."""
    side = max(1, max(masks[0].shape) // COARSE_CELLS)

    def blocks(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        height, width = mask.shape
        small = cv2.resize(
            mask.astype(np.float32), (-(-width // side), -(-height // side)), interpolation=cv2.INTER_AREA
        )
        return np.kron(small > 0.5, np.ones((side, side), bool))[:height, :width]

    return [blocks(mask) for mask in masks]


def parts(masks: Masks, rng: np.random.Generator) -> Masks:
    """Return each object in parts."""
    return [part for mask in masks for part in _cut(mask, PARTS, rng)]


def merged(masks: Masks, rng: np.random.Generator) -> Masks:
    """Return objects that are near to one another as one region, and each of the others with a rim of the ground."""
    near = np.ones((2 * NEAR_PX + 1,) * 2, np.uint8)
    found: Masks = []
    for mask in masks:
        reach = cv2.dilate(mask.astype(np.uint8), near).astype(bool)
        joined = [other for other in found if (other & reach).any()]
        whole = np.any([mask, *joined], axis=0) if joined else reach
        found = [other for other in found if not any(other is one for one in joined)] + [whole]
    return found


def _cut(mask: NDArray[np.bool_], count: int, rng: np.random.Generator) -> Masks:
    """Return the parts of a mask that are nearest to some of its pixels, drawn at random."""
    places = np.argwhere(mask)
    if not len(places):
        return []
    seeds = np.full(mask.shape, -1)
    chosen = places[rng.choice(len(places), min(count, len(places)), replace=False)]
    seeds[tuple(chosen.T)] = np.arange(len(chosen))
    nearest = ndimage.distance_transform_edt(seeds < 0, return_distances=False, return_indices=True)
    assert nearest is not None
    numbers = seeds[tuple(nearest)]
    return [mask & (numbers == number) for number in range(len(chosen))]


SEGMENTERS: dict[str, Callable[[Masks, np.random.Generator], Masks]] = {
    "exact": exact,
    "exact, and the ground": with_ground,
    "coarse": coarse,
    "parts": parts,
    "merged": merged,
}


def measure(run: Path) -> dict[str, dict[str, Any]]:
    """Return "none" and each of `SEGMENTERS` -> "miou", "ap50" and "ap70" in percent, and "seconds" of the rule."""
    dataset = read_run(run).dataset
    truths = {sample.id: read_ground_truth(sample) for sample in dataset.samples}
    samples = [sample for sample in dataset.samples if truths[sample.id].instances is not None]
    labels = _Labels(run / "labels", dataset)
    rows: dict[str, dict[str, Any]] = {}
    for name in ("none", *SEGMENTERS):
        total, records, seconds = 0, [], 0.0
        for number, sample in enumerate(samples):
            truth = truths[sample.id]
            found, instances = labels.read(sample)
            if masks := _object_masks(truth) if name != "none" else []:
                made = SEGMENTERS[name](masks, np.random.default_rng(number))
                begin = perf_counter()
                refined = refine_by_regions(found, Regions(found.shape, len(made), made.__getitem__), RegionsConfig())
                found, instances = refined.labels, follow_regions(instances, refined, 0.01 * found.size)
                seconds += perf_counter() - begin
            assert truth.semantic is not None
            total = total + confusion(truth.semantic, found, len(dataset.classes) + 1)
            records.append(_match(instances, truth, len(dataset.classes), sample.id))
        precision = average_precision(add_records(records), dataset.classes.names)
        miou = 100 * float(np.nanmean(iou(np.asarray(total))))
        aps = {key: round(100 * (precision[key] or 0), 1) for key in ("ap50", "ap70")}
        rows[name] = {"miou": round(miou, 1), **aps, "seconds": round(seconds, 1)}
    return rows


class _Labels:
    """The labels that a run wrote."""

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self._folder, self._file = folder, read_coco(folder / DETECTIONS)
        self._values = {category: value for value, category in enumerate(dataset.classes.category_ids, start=1)}
        self._numbers = {sample.id: number for number, sample in enumerate(dataset.samples, start=1)}

    def read(self, sample: Sample) -> tuple[NDArray[np.unsignedinteger], Found]:
        labels = read_label_map(self._folder / SEMANTIC / f"{sample.id}.png")
        records = self._file.annotations[self._numbers[sample.id]]
        masks = np.array([annotation_mask(record, *labels.shape) for record in records], bool)
        values = [self._values[record["category_id"]] for record in records]
        scores = [record["score"] for record in records]
        return labels, Found(masks.reshape(-1, *labels.shape), values, scores)


def _object_masks(truth: GroundTruth) -> Masks:
    assert truth.instances is not None
    return [truth.instances == id for id in np.setdiff1d(truth.instances, (0, VOID))]


def _match(found: Found, truth: GroundTruth, num_classes: int, image: str) -> InstanceRecords:
    assert truth.semantic is not None
    assert truth.instances is not None
    classes, scores = np.array(found.values, np.int64) - 1, np.array(found.scores, np.float64)
    maps = truth.semantic, truth.instances
    return match_image(found.masks, classes, scores, *maps, num_classes=num_classes, image=image)


def main(run: tyro.conf.Positional[Path], json_file: Path | None = None) -> None:
    """Relabel a run with each kind of regions, and print the table.

    Args:
        run: Folder of a finished run on a set with masks of instances, such as the demo's.
        json_file: Results; benchmarks/results/regions-<machine>.json if not said.
    """
    machine, rows = describe_machine(), measure(run)
    write_results({"machine": machine, "rows": rows}, json_file or results_file(machine, "regions"))
    print("| regions | mIoU | AP50 | AP70 | seconds |\n|---|---|---|---|---|")
    for name, row in rows.items():
        print("| " + " | ".join([name, *map(str, row.values())]) + " |")


if __name__ == "__main__":
    tyro.cli(main)
