"""Stages that score predicted label maps against ground truth: counts of a shard, and their sum."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from data.label_maps import read_label_map
from tasks.evaluation.semantic_metrics import confusion, semantic_summary
from tasks.job import Job
from tasks.stages.segmenter import FOLDER, read_labels


def score_shard(job: Job) -> dict[str, Any]:
    """Write what adds up over shards."""
    (folders,) = job.inputs.values()
    num_classes = len(job.classes) + 1
    counts = np.zeros((num_classes, num_classes + 1), np.int64)
    for done, sample in enumerate(job.samples, start=1):
        predicted = read_label_map(folders[0] / FOLDER / f"{sample.id}.png")
        counts += confusion(read_labels(sample, num_classes), predicted, num_classes)
        job.progress(done, len(job.samples))
    np.savez_compressed(job.out / "scores.npz", allow_pickle=False, confusion=counts)
    return {"images": len(job.samples)}


def summarize(job: Job) -> dict[str, Any]:
    """Write `metrics.json`."""
    (folders,) = job.inputs.values()
    counts = 0
    for folder in folders:
        with np.load(folder / "scores.npz", allow_pickle=False) as arrays:
            counts = counts + arrays["confusion"]
    summary = semantic_summary(np.asarray(counts), ("background", *job.classes.names))
    (job.out / "metrics.json").write_text(json.dumps({**summary, "images": len(job.samples)}, indent=1))
    return {}
