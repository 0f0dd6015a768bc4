"""Stages that score predicted label maps against ground truth: sums of a shard, and of the set."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from data.label_folder import SEMANTIC
from data.label_maps import read_label_map
from tasks.evaluation.boundary_metric import BoundarySums, add_sums, boundary_summary, boundary_sums
from tasks.evaluation.semantic_metrics import confusion, semantic_summary
from tasks.job import Job
from tasks.stages.segmenter import read_labels


def score_shard(job: Job) -> dict[str, Any]:
    """Write what adds up over shards."""
    ((folder,),) = job.inputs.values()
    num_classes = len(job.classes.values)
    counts = np.zeros((num_classes, num_classes + 1), np.int64)
    contours = []
    for done, sample in enumerate(job.samples, start=1):
        maps = read_labels(sample, num_classes), read_label_map(folder / SEMANTIC / f"{sample.id}.png")
        counts += confusion(*maps, num_classes)
        contours.append(boundary_sums(*maps, num_classes))
        job.progress(done, len(job.samples))
    arrays = {"confusion": counts, **add_sums(contours)._asdict()}
    np.savez_compressed(job.out / "scores.npz", allow_pickle=False, **arrays)
    return {"images": len(job.samples)}


def summarize(job: Job) -> dict[str, Any]:
    """Write `metrics.json`."""
    (folders,) = job.inputs.values()
    names = job.classes.values
    counts = np.zeros((len(names), len(names) + 1), np.int64)
    contours = []
    for folder in folders:
        with np.load(folder / "scores.npz", allow_pickle=False) as arrays:
            counts += arrays["confusion"]
            contours.append(BoundarySums(**{name: arrays[name] for name in BoundarySums._fields}))
    boundaries = boundary_summary(add_sums(contours), names)
    metrics = {
        **semantic_summary(counts, names),
        "boundary_f": boundaries["boundary_f"],
        "boundary_f_per_class": boundaries["per_class"],
        "images": len(job.samples),
    }
    (job.out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return {}
