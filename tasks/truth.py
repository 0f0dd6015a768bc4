"""The label maps that networks are trained and tested on. Nothing here loads torch: plans read masks of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.dataset import DatasetError, Problem, Sample
from data.label_maps import read_ground_truth

VOID = 255
Image = NDArray[np.uint8]


def label_reader(num_classes: int) -> Callable[[Sample], Image]:
    """Return `read_labels` for a number of classes."""
    return partial(read_labels, num_classes=num_classes)


def read_labels(sample: Sample, num_classes: int) -> Image:
    """Read the label map [H, W] that a sample is trained or tested on.

    Raises:
        DatasetError: There is none, it cannot be read, or it has values of no class.
    """
    labels = read_ground_truth(sample).semantic
    if labels is None:
        raise DatasetError([Problem(sample.image, "expected a label map, found none", sample.id)])
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256))
    if unknown := [int(value) for value in values if num_classes <= value < VOID]:
        message = f"expected values up to {num_classes - 1} and {VOID}, found {', '.join(map(str, unknown))}"
        raise DatasetError([Problem(sample.semantic or sample.image, message, sample.id)])
    return labels
