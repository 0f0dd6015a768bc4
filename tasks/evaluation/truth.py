"""The label maps that networks are trained and tested on. Nothing here loads torch: plans read masks of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from data.dataset import VOID, DatasetError, LabelMap, Problem, Sample, value_type
from data.formats.label_maps import read_ground_truth, unknown_values


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


def refuse_void(samples: Sequence[Sample], num_classes: int, purpose: str) -> None:
    """Refuse label maps that are void in every pixel of every image; no images at all are fine.

    Args:
        purpose: What the images are for, as the message has it.

    Raises:
        DatasetError: There is nothing to learn or to score in them, or one that was looked at cannot be read.
    """
    if samples and not any((read_labels(sample, num_classes) != VOID).any() for sample in samples):
        message = (
            f"expected {purpose} images with a pixel of a class, found void alone in all {len(samples)} label maps"
        )
        raise DatasetError([Problem((samples[0].semantic or samples[0].image).parent, message)])
