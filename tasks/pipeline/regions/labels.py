"""Stage `labels` of a run with regions of a segmenter: the labels before, refined by them."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, LabelMap, Sample, SampleWithMore, value_type
from data.formats.coco import Detection, as_detections, decode_mask, read_detections, write_detections
from data.formats.label_folder import CONFIDENCE, DETECTIONS, INSTANCES, SEMANTIC, SURE
from data.formats.label_maps import instance_map, read_label_map, write_label_map
from data.region_masks import read_regions
from tasks.engine.job import Job
from tasks.pipeline import UNREFINED
from tasks.pipeline.confidence.odds import as_bytes
from tasks.pipeline.regions import TAKEN
from tasks.pipeline.regions.instances import Found, follow_regions
from tasks.pipeline.regions.rule import Refined, refine_by_regions
from tasks.pipeline.score_maps import MapReader
from tasks.pipeline.seeds.hints import hints_of, keep_known
from tasks.pipeline.settings import LabelsConfig, RegionsConfig

SETTINGS = "settings.json"


def refine_labels(job: Job) -> dict[str, Any]:
    """Write what `tasks.pipeline.labels:synthesize_labels` writes, refined by the regions of the images that have any.

    `Regions/<id>.png` has the ids of the regions that took a class, from 1 without 255, where they decided it.

    Summary: as there; and "regions", those that were read, "taken", those of them that took a class, and "moved_share",
    of the pixels of images with regions those whose label is another.

    Raises:
        DatasetError: Regions cannot be read.
    """
    config, before = job.config, job.input(UNREFINED)
    assert isinstance(config, RegionsConfig)
    with MapReader(job.input("walk") / "semantic.safetensors") as walked:
        scored = set(walked.names)
    least = LabelsConfig.model_validate_json((before / SETTINGS).read_text()).min_area
    of_image: dict[str, list[Detection]] = defaultdict(list)
    for detection in read_detections(before / DETECTIONS):
        of_image[detection["image"]].append(detection)
    found: list[Detection] = []
    tally = _Tally()
    for done, sample in enumerate(job.samples, start=1):
        name, own = f"{sample.id}.png", of_image[sample.id]
        labels = read_label_map(before / SEMANTIC / name)
        has_sure = (before / SURE / name).is_file()
        sure = read_label_map(before / SURE / name) if has_sure else labels
        if isinstance(sample, SampleWithMore) and sample.regions:
            regions = read_regions(sample)
            refined = refine_by_regions(labels, regions, config)
            tally.count_regions(len(regions), refined, labels)
            confidence = refine_confidence(read_label_map(before / CONFIDENCE / name), labels, refined)
            sure = refine_sure(sure, labels, refined)
            own = _refine_detections(sample.id, own, refined, least)
            hints = hints_of(sample, job.classes)
            labels, sure = keep_known(refined.labels, sample, hints, outside=0), keep_known(sure, sample, hints)
            write_label_map(job.out / CONFIDENCE / name, confidence, grey=True)
            write_label_map(job.out / TAKEN / name, _region_ids(refined), grey=True)
        else:
            (job.out / CONFIDENCE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(before / CONFIDENCE / name, job.out / CONFIDENCE / name)
        found += own
        masks = [decode_mask(detection["segmentation"]) for detection in own]
        values = value_type(len(job.classes.values))
        write_label_map(job.out / SEMANTIC / name, labels.astype(values))
        write_label_map(job.out / INSTANCES / name, instance_map(np.array(masks).reshape(-1, *labels.shape)))
        if has_sure:
            write_label_map(job.out / SURE / name, sure.astype(values))
        if sample.id in scored:
            tally.count_labels(sample, labels, sure if has_sure else None)
        tally.foreground += float((labels > 0).mean())
        job.progress(done, len(job.samples))
    write_detections(job.out / DETECTIONS, found)
    shutil.copyfile(before / SETTINGS, job.out / SETTINGS)
    return {"detections": len(found), **tally.summary(len(job.samples))}


def refine_confidence(confidence: NDArray[np.uint8], labels: LabelMap, refined: Refined) -> NDArray[np.uint8]:
    """Return how sure refined labels are, as a map stores it.

    A pixel that got another class is as sure as its region was covered by it; one that became background as the share
    of its object that lies in regions. The others stay.

    Args:
        confidence: [H, W], of the labels before.
        labels: These labels.
        refined: Those after.
    """
    covers = np.array([0.0, *(claim.cover for claim in refined.claims)])
    shares = np.where(refined.owners > 0, covers[refined.owners], refined.held[refined.objects.ids])
    return np.where(labels != refined.labels, as_bytes(shares), confidence).astype(np.uint8)


def refine_sure(sure: LabelMap, labels: LabelMap, refined: Refined) -> LabelMap:
    """Return the map of sure pixels: what changed is void, but in regions that their class covered it is the class.

    Background is void where a class has no sure pixel, as in `tasks.pipeline.labels.sure_labels`.

    Args:
        sure: [H, W], class values, void where the labels before are not sure.
        labels: These labels.
        refined: Those after.
    """
    found = np.where(labels != refined.labels, VOID, sure)
    covered = np.array([False, *(not claim.held for claim in refined.claims)])[refined.owners]
    found = np.where(covered, refined.labels, found)
    if np.setdiff1d(refined.labels, found).any():
        found[found == 0] = VOID
    return found.astype(sure.dtype)


def _refine_detections(image: str, own: list[Detection], refined: Refined, least: float) -> list[Detection]:
    masks = np.array([decode_mask(detection["segmentation"]) for detection in own], bool)
    before = Found(
        masks.reshape(-1, *refined.labels.shape),
        [_value(detection["class"]) for detection in own],
        [detection["score"] for detection in own],
    )
    after = follow_regions(before, refined, least * refined.labels.size)
    return as_detections(image, after.masks, [value - 1 for value in after.values], after.scores)


def _value(index: int) -> int:
    """Return the value that a class, counted from 0, has in label maps."""
    return index + 1


def _region_ids(refined: Refined) -> LabelMap:
    ids = np.array([0, *(1 + claim.region for claim in refined.claims)])
    ids += ids >= VOID
    return ids[refined.owners].astype(value_type(int(ids.max()) + 1))


class _Tally:
    """What the summary counts."""

    def __init__(self) -> None:
        self.regions = self.taken = self.images = 0
        self.moved = self.foreground = 0.0
        self.tags, self.unsure = Counter[int](), Counter[int]()
        self.empty: dict[str, list[int]] = {}

    def count_regions(self, count: int, refined: Refined, labels: LabelMap) -> None:
        self.regions += count
        self.taken += len(refined.claims)
        self.images += 1
        self.moved += float((refined.labels != labels).mean())

    def count_labels(self, sample: Sample, labels: LabelMap, sure: LabelMap | None) -> None:
        self.tags.update(sample.labels)
        if sure is not None:
            self.unsure.update(c for c in sample.labels if not (sure == _value(c)).any())
        present = np.flatnonzero(np.bincount(labels.ravel()))
        if without := [c for c in sample.labels if _value(c) not in present]:
            self.empty[sample.id] = without

    def summary(self, count: int) -> dict[str, Any]:
        return {
            "foreground_share": round(self.foreground / count, 4),
            "tags": dict(self.tags),
            "unsure": dict(self.unsure),
            "empty": self.empty,
            "regions": self.regions,
            "taken": self.taken,
            "moved_share": round(self.moved / max(self.images, 1), 4),
        }
