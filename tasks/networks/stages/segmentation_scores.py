"""Stages that score label maps and maps of saliency against ground truth: sums of a shard, and of the set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from data.formats.label_folder import SALIENCY, SEMANTIC
from data.formats.label_maps import read_label_map
from tasks.engine.job import Job
from tasks.evaluation.boundary_metric import BoundarySums, add_sums, boundary_summary, boundary_sums
from tasks.evaluation.saliency_metric import SaliencySums, add_saliency, saliency_summary, saliency_sums
from tasks.evaluation.semantic_metrics import confusion, semantic_summary
from tasks.evaluation.truth import read_labels
from tasks.networks.stages.saliency_targets import SALIENCY_FILE, has_own_mask, read_mask

SCORES, OF_SALIENCY = "scores.npz", "saliency.npz"


def score_shard(job: Job) -> dict[str, Any]:
    """Write what adds up over shards.

    Masks of salient objects are what the saliency of a network that learned it is scored against; of other networks
    they are label maps like others, of one class.
    """
    ((folder,),) = job.inputs.values()
    num_classes = len(job.classes.values)
    counts = np.zeros((num_classes, num_classes + 1), np.int64)
    contours = [BoundarySums.of_nothing(num_classes)]
    saliency = []
    derived = _derived_from(folder)
    if derived and all(map(has_own_mask, job.samples)):
        derived = []
    salient = [job.classes.values.index(name) for name in derived or ()]
    for done, sample in enumerate(job.samples, start=1):
        if derived is None or not has_own_mask(sample):
            maps = read_labels(sample, num_classes), read_label_map(folder / SEMANTIC / f"{sample.id}.png")
            counts += confusion(*maps, num_classes)
            contours.append(boundary_sums(*maps, num_classes))
        if salient or (derived is not None and has_own_mask(sample)):
            mask = read_mask(sample, num_classes, salient)
            saliency.append(saliency_sums(mask, read_label_map(folder / SALIENCY / f"{sample.id}.png")))
        job.progress(done, len(job.samples))
    _save(job.out / SCORES, {"confusion": counts, **add_sums(contours)._asdict()})
    if derived is not None:
        _save(job.out / OF_SALIENCY, add_saliency(saliency)._asdict())
        (job.out / SALIENCY_FILE).write_text(json.dumps({"derived_from": derived}))
    return {"images": len(job.samples)}


def summarize(job: Job) -> dict[str, Any]:
    """Write `metrics.json`."""
    (folders,) = job.inputs.values()
    names = job.classes.values
    counts = np.zeros((len(names), len(names) + 1), np.int64)
    contours, saliency = [], []
    for folder in folders:
        arrays = _load(folder / SCORES)
        counts += arrays.pop("confusion")
        contours.append(BoundarySums(**arrays))
        if (folder / OF_SALIENCY).is_file():
            saliency.append(SaliencySums(**_load(folder / OF_SALIENCY)))
    boundaries = boundary_summary(add_sums(contours), names)
    metrics = {
        **semantic_summary(counts, names),
        "boundary_f": boundaries["boundary_f"],
        "boundary_f_per_class": boundaries["per_class"],
        "images": len(job.samples),
    }
    scores = saliency_summary(add_saliency(saliency))
    # Scenes have no masks where the network learned those of another set.
    if scores["images"]:
        metrics["saliency"] = {**scores, "derived_from": _derived_from(folders[0])}
    (job.out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return {}


def _derived_from(folder: Path) -> list[str] | None:
    """Return the classes that masks are derived from, none where the network learned masks; None without saliency."""
    file = folder / SALIENCY_FILE
    return json.loads(file.read_text())["derived_from"] if file.is_file() else None


def _save(file: Path, arrays: dict[str, Any]) -> None:
    np.savez_compressed(file, allow_pickle=False, **arrays)


def _load(file: Path) -> dict[str, Any]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)
