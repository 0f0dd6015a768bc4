"""Stage `scores`: the labels, and the paper's baselines beside them, against ground truth (Sec. 6.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import VOID, LabelMap, value_type
from data.formats.coco import Detection, decode_mask, read_detections
from data.formats.images import image_size
from data.formats.label_folder import CONFIDENCE, DETECTIONS, SEMANTIC
from data.formats.label_maps import GroundTruth, read_ground_truth, read_label_map
from kernels.crf import refine_many
from tasks.engine.job import Job
from tasks.evaluation.calibration import LEVELS, confidence_counts
from tasks.evaluation.instance_metrics import CHAINERCV, InstanceRecords, add_records, match_image, touching
from tasks.evaluation.semantic_metrics import confusion
from tasks.pipeline.labels import Instances, instance_masks, semantic_rows, thresholds_of
from tasks.pipeline.score_maps import MapReader, saliency_factors, strongest, upsample
from tasks.pipeline.settings import LabelsConfig, ScoresConfig
from tasks.training.working_size import read_working_image, to_size

Records = dict[str, list[InstanceRecords]]


def score_shard(job: Job) -> dict[str, Any]:
    """Write what adds up over shards: confusion matrices by method and threshold, instance records by method, and the
    right and wrong pixels of each confidence.
    """
    config = job.config
    assert isinstance(config, ScoresConfig)
    labels_folder, walk_folder = job.input("labels"), job.input("walk")
    settings = LabelsConfig.model_validate_json((labels_folder / "settings.json").read_text())
    detections = _by_image(read_detections(labels_folder / DETECTIONS))
    num_classes = len(job.classes)
    # What the walk alone would have given.
    by_pixels = bool(job.inputs.get("pixel-scores"))
    confusions: dict[str, NDArray[np.int64]] = {}
    confidences = np.zeros((2, LEVELS), np.int64)
    records: Records = defaultdict(list)
    factors = saliency_factors(job)
    with (
        MapReader(job.input("cams") / "cams.safetensors", factors) as cams,
        MapReader(walk_folder / "semantic.safetensors", factors) as walked,
    ):
        for done, sample in enumerate(job.samples, start=1):
            truth = read_ground_truth(sample)
            image = read_working_image(sample.image, job.long_side)
            own_size = image_size(sample.image)
            class_values = np.array([0, *(c + 1 for c in sample.labels)], value_type(num_classes + 1))
            sample_cams, sample_walk = (
                maps[sample.id] if sample.id in maps else torch.zeros(0, 1, 1) for maps in (cams, walked)
            )
            final = read_label_map(labels_folder / SEMANTIC / f"{sample.id}.png")
            if truth.semantic is not None:
                predictions = [*_semantic_predictions(image, sample_cams, class_values, config)]
                if by_pixels:
                    rows = semantic_rows(sample_walk, (image.shape[0], image.shape[1]), thresholds_of(settings)[0])
                    if settings.crf_iterations:
                        rows = refine_many(image, [rows], [len(class_values)], iterations=settings.crf_iterations)[0]
                    predictions.append(("walk", class_values[rows]))
                for name, prediction in (*predictions, ("labels", final)):
                    counted = confusion(truth.semantic, to_size(prediction, own_size), num_classes + 1)
                    confusions[name] = confusions.get(name, 0) + counted
                sure = read_label_map(labels_folder / CONFIDENCE / f"{sample.id}.png").astype(np.uint8)
                confidences += confidence_counts(sure, final == truth.semantic, truth.semantic != VOID)
            if truth.instances is not None:
                size = (image.shape[0], image.shape[1])
                refined = None
                if settings.crf_iterations:
                    refined = np.searchsorted(class_values, to_size(final, size))
                refine = partial(refine_many, image, iterations=settings.crf_iterations)
                found = _instance_predictions(sample_cams, sample_walk, refined, refine, size, settings, config)
                found = ((name, instances.at_size(own_size)) for name, instances in found)
                own = detections.get(sample.id, [])
                _match(found, own, truth, sample.labels, num_classes, records, sample.id)
            job.progress(done, len(job.samples))
    # One image has one record of each method.
    counts = {"images": len(records["labels"]), "touching": len(records["touching/labels"])}
    _save(job.out / "scores.npz", confusions, confidences, records)
    return counts


def _semantic_predictions(
    image: NDArray[np.uint8],
    cams: Float[Tensor, "k h w"],
    class_values: LabelMap,
    config: ScoresConfig,
) -> Iterator[tuple[str, LabelMap]]:
    """Yield the baselines' label maps: "cam@0.3" for CAMs against a background of 0.3, and so on."""
    height, width = image.shape[:2]
    full = upsample(cams, (height, width))
    for threshold in config.cam_thresholds:
        yield f"cam@{threshold}", class_values[strongest(full, threshold)[0].numpy()]
    maps = [strongest(full, threshold)[0].numpy() for threshold in config.crf_thresholds]
    refined = refine_many(image, maps, [len(class_values)] * len(maps))
    for threshold, rows in zip(config.crf_thresholds, refined, strict=True):
        yield f"cam_crf@{threshold}", class_values[rows]


def _instance_predictions(
    cams: Float[Tensor, "k h w"],
    walked: Float[Tensor, "k h w"],
    refined: NDArray[np.int64] | None,
    refine: Callable[[Sequence[NDArray[np.int64]], Sequence[int]], Sequence[NDArray[np.int64]]],
    size: tuple[int, int],
    settings: LabelsConfig,
    config: ScoresConfig,
) -> Iterator[tuple[str, Instances]]:
    """Yield the baselines of Table 1: connected components of CAMs, and of CAMs walked along the boundaries.

    Where the labels' borders are moved by a CRF, so are those of both.

    Args:
        refined: The labels' own rows [H, W] of the classes after the CRF; None where there is none.
        refine: The CRF on several maps of rows, with their numbers of values.
    """
    rows, thresholds = list(range(len(cams))), config.component_thresholds
    semantic: Sequence[NDArray[np.int64] | None] = [None] * len(thresholds)
    if refined is not None and rows:
        full = upsample(cams, size)
        full /= full.max().clamp(min=1e-12)
        maps = [strongest(full, threshold)[0].numpy() for threshold in thresholds]
        semantic = refine(maps, [len(rows) + 1] * len(maps))
    for threshold, own in zip(thresholds, semantic, strict=True):
        at_threshold = settings.model_copy(update={"background_threshold": threshold})
        yield f"cam_components@{threshold}", instance_masks(cams, rows, size, at_threshold, own)
    yield "boundary_components", instance_masks(walked, rows, size, settings, refined)


def _match(
    found: Iterator[tuple[str, Instances]],
    own: list[Detection],
    truth: GroundTruth,
    labels: tuple[int, ...],
    num_classes: int,
    records: Records,
    image: str = "",
) -> None:
    """Append one image's records of every method: under "touching/..." again where objects of a class touch, and under
    "chainercv/..." by the rule of the paper's authors.
    """
    assert truth.semantic is not None
    assert truth.instances is not None
    size = truth.instances.shape
    masks = np.stack([decode_mask(d["segmentation"]) for d in own]) if own else np.zeros((0, *size), bool)
    methods = [(name, i.masks, [labels[row] for row in i.rows], i.scores) for name, i in found]
    methods.append(("labels", masks, [d["class"] for d in own], [d["score"] for d in own]))
    groups = ["", "touching/"] if touching(truth.semantic, truth.instances) else [""]
    for name, method_masks, classes, scores in methods:
        found_here = method_masks.astype(bool), np.array(classes, np.int64), np.array(scores, np.float64)
        options = {"num_classes": num_classes, "image": image}
        match = partial(match_image, *found_here, truth.semantic, truth.instances, **options)
        record = match()
        for group in groups:
            records[f"{group}{name}"].append(record)
        records[f"{CHAINERCV}/{name}"].append(match(void="predicted"))


def _by_image(detections: list[Detection]) -> dict[str, list[Detection]]:
    grouped = defaultdict(list)
    for detection in detections:
        grouped[detection["image"]].append(detection)
    return grouped


def _save(
    path: Path, confusions: dict[str, NDArray[np.int64]], confidences: NDArray[np.int64], records: Records
) -> None:
    arrays = {f"confusion:{name}": matrix for name, matrix in confusions.items()}
    arrays["confidence:labels"] = confidences
    for name, parts in records.items():
        if not parts:
            continue
        arrays |= {f"records:{name}:{part}": array for part, array in add_records(parts)._asdict().items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)
