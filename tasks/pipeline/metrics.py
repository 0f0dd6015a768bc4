"""Stage `metrics`: the scores of a whole set from its shards' counts."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.engine.job import Job
from tasks.evaluation.calibration import LEVELS, calibration_summary
from tasks.evaluation.instance_metrics import InstanceRecords, InstanceScore, add_records, average_precision
from tasks.evaluation.semantic_metrics import semantic_summary
from tasks.pipeline.scores import Records


def summarize(job: Job) -> dict[str, Any]:
    """Write `metrics.json`: the labels, and for each baseline its best threshold."""
    confusions: dict[str, NDArray[np.int64]] = {}
    records: Records = defaultdict(list)
    confidences = np.zeros((2, LEVELS), np.int64)
    for folder in job.inputs["scores"]:
        confidences += _add(folder / "scores.npz", confusions, records)
    metrics = {
        "semantic": _semantic(confusions, job.classes.names),
        "instances": _instances(records, job.classes.names),
        "confidence": calibration_summary(confidences),
    }
    (job.out / "metrics.json").write_text(json.dumps(metrics, indent=1))
    return {}


def _add(path: Path, confusions: dict[str, NDArray[np.int64]], records: Records) -> NDArray[np.int64]:
    """Add a shard's counts to those of the set, and return its pixels by confidence."""
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            kind, name, *rest = key.split(":")
            if kind == "confusion":
                confusions[name] = confusions.get(name, 0) + arrays[key]
            elif rest == ["classes"]:
                parts = {part: arrays[f"records:{name}:{part}"] for part in InstanceRecords._fields}
                records[name].append(InstanceRecords(**parts))
        return arrays["confidence:labels"]


def _semantic(confusions: dict[str, NDArray[np.int64]], names: tuple[str, ...]) -> dict[str, Any]:
    summaries = {name: semantic_summary(matrix, ("background", *names)) for name, matrix in confusions.items()}
    best: dict[str, Any] = {}
    for name, summary in summaries.items():
        method, _, threshold = name.partition("@")
        entry = best.setdefault(method, {**summary, "sweep": {}} if threshold else dict(summary))
        if threshold:
            entry["sweep"][threshold] = summary["miou"]
            if "threshold" not in entry or (summary["miou"] or 0) > (entry["miou"] or 0):
                entry.update(summary, threshold=float(threshold))
    return best


def _instances(records: Records, names: tuple[str, ...]) -> dict[str, Any]:
    """Return method -> its score at its best threshold; in "touching" of images where objects of a class touch alone,
    and in "chainercv" by the rule of the paper's authors, whose figures these are to be set beside.
    """
    best: dict[str, Any] = {}
    for name, parts in records.items():
        score: InstanceScore = average_precision(add_records(parts), names)
        kind, _, rest = name.rpartition("/")
        method, _, threshold = rest.partition("@")
        entry: dict[str, Any] = dict(score)
        if threshold:
            entry["threshold"] = float(threshold)
        group = best.setdefault(kind, {}) if kind else best
        if method not in group or (entry["ap50"] or 0) > (group[method]["ap50"] or 0):
            group[method] = entry
    return best
