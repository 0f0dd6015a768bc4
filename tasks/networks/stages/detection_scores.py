"""Stages that score predicted instances against ground truth: records of a shard, and their sum."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np

from data.formats.coco import (
    Detection,
    ImageInfo,
    as_detections,
    coco_json,
    decode_mask,
    read_detections,
    write_detections,
)
from data.formats.label_folder import DETECTIONS
from data.formats.label_maps import separate_objects
from tasks.engine.job import Job
from tasks.evaluation.coco_ap import coco_average_precision, void_crowds
from tasks.evaluation.instance_metrics import (
    CHAINERCV,
    InstanceRecords,
    add_records,
    average_precision,
    match_image,
    mean_precision,
)
from tasks.networks.stages.detection import read_objects

TRUTH, IMAGES, FOUND = "truth.json", "images.json", "found.json"


def score_shard(job: Job) -> dict[str, Any]:
    """Write what VOC's score adds up, and the objects and detections that COCO's needs of the whole set."""
    ((folder,),) = job.inputs.values()
    by_image: dict[str, list[Detection]] = defaultdict(list)
    for detection in read_detections(folder / DETECTIONS):
        by_image[detection["image"]].append(detection)
    records, of_authors, truth, infos = [], [], [], []
    for done, sample in enumerate(job.samples, start=1):
        semantic, instances = read_objects(sample)
        own = by_image[sample.id]
        masks = np.array([decode_mask(found["segmentation"]) for found in own], bool).reshape(-1, *semantic.shape)
        classes, scores = np.array([found["class"] for found in own], np.int64), [found["score"] for found in own]
        options = {"num_classes": len(job.classes), "image": sample.id}
        match = partial(match_image, masks, classes, np.array(scores, float), semantic, instances, **options)
        records.append(match())
        of_authors.append(match(void="predicted"))
        objects, kinds = separate_objects(semantic, instances)
        truth += as_detections(sample.id, objects, kinds, [1.0] * len(kinds))
        truth += void_crowds(sample.id, instances, len(job.classes))
        infos.append(ImageInfo(sample.id, sample.id, *semantic.shape))
        job.progress(done, len(job.samples))
    for name, parts in (("scores", records), (CHAINERCV, of_authors)):
        np.savez_compressed(job.out / f"{name}.npz", allow_pickle=False, **add_records(parts)._asdict())
    write_detections(job.out / TRUTH, truth)
    write_detections(job.out / FOUND, [found for sample in job.samples for found in by_image[sample.id]])
    (job.out / IMAGES).write_text(json.dumps(infos))
    return {"images": len(job.samples)}


def summarize(job: Job) -> dict[str, Any]:
    """Write `metrics.json`."""
    (folders,) = job.inputs.values()
    records, of_authors, truth, found, infos = [], [], [], [], []
    for folder in folders:
        for name, parts in (("scores", records), (CHAINERCV, of_authors)):
            with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
                parts.append(InstanceRecords(**{field: arrays[field] for field in InstanceRecords._fields}))
        truth += read_detections(folder / TRUTH)
        found += read_detections(folder / FOUND)
        infos += [ImageInfo(*info) for info in json.loads((folder / IMAGES).read_text())]
    metrics = {
        **average_precision(add_records(records), job.classes.names),
        CHAINERCV: mean_precision(of_authors, job.classes.names),
        "coco": coco_average_precision(*(coco_json(infos, parts, job.classes) for parts in (truth, found))),
        "images": len(job.samples),
    }
    (job.out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return {}
