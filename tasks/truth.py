"""The label maps that networks are trained and tested on. Nothing here loads torch: plans read masks of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from data.dataset import VOID, DatasetError, LabelMap, Problem, Sample, value_type
from data.label_maps import read_ground_truth, unknown_values


def label_reader(num_classes: int) -> Callable[[Sample], LabelMap]:
    """Return `read_labels` for a number of classes."""
    return partial(read_labels, num_classes=num_classes)


def read_labels(sample: Sample, num_classes: int) -> LabelMap:
    """Read the label map [H, W] that a sample is trained or tested on, of the type that `num_classes` values need.

    Raises:
        DatasetError: There is none, it cannot be read, or it has values of no class.
    """
    labels = read_ground_truth(sample).semantic
    if labels is None:
        raise DatasetError([Problem(sample.image, "expected a label map, found none", sample.id)])
    if unknown := unknown_values(labels, num_classes):
        message = f"expected values up to {num_classes - 1} and {VOID}, found {', '.join(map(str, unknown))}"
        raise DatasetError([Problem(sample.semantic or sample.image, message, sample.id)])
    return labels.astype(value_type(num_classes), copy=False)
