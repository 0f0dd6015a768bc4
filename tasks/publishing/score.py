"""The score of a version of published labels, where the set has ground truth."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from data.concurrency import map_in_threads
from data.dataset import Dataset, Sample
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import read_label_map
from tasks.evaluation.semantic_metrics import confusion, semantic_summary
from tasks.evaluation.truth import read_labels

MOST_SCORED = 500
"""Images that are scored at most, so that a large set costs seconds: the same in every version that has them."""


def score_labels(dataset: Dataset, folder: Path) -> dict[str, Any] | None:
    """Score the label maps of a version against the set's ground truth.

    Args:
        dataset: The set, in the class table of the label maps.
        folder: Of the version, or its draft.

    Returns:
        "miou" and "accuracy", fractions in [0, 1] or None, and the number of "images" that were scored; None where no
        image has ground truth.

    Raises:
        DatasetError: Ground truth or a label map cannot be read.
    """
    with_truth = [sample for sample in dataset.samples if sample.semantic or sample.coco]
    chosen = sorted(with_truth, key=_place)[:MOST_SCORED]
    if not chosen:
        return None
    names = dataset.classes.values

    def count(sample: Sample) -> np.ndarray | None:
        truth, labels = read_labels(sample, len(names)), read_label_map(folder / SEMANTIC / f"{sample.id}.png")
        return confusion(truth, labels, len(names)) if truth.shape == labels.shape else None

    counts = [each for each in map_in_threads(count, chosen) if each is not None]
    if not counts:
        return None
    summary = semantic_summary(np.sum(counts, axis=0), names)
    return {"miou": _rounded(summary["miou"]), "accuracy": _rounded(summary["accuracy"]), "images": len(counts)}


def _place(sample: Sample) -> str:
    """Return where an image stands in a random order that no other image changes."""
    return hashlib.sha256(sample.id.encode()).hexdigest()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
