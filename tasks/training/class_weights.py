"""Weights of the classes in a loss, from how often they occur."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from data.dataset import VOID, LabelMap, Sample
from tasks.config import ClassWeights


def count_pixels(samples: Iterable[Sample], read: Callable[[Sample], LabelMap], num_classes: int) -> NDArray[np.int64]:
    """Return [N, C]: how many pixels of each class each sample's label map has; others are not counted."""
    with ThreadPoolExecutor() as threads:
        counts = threads.map(lambda sample: _count(read(sample), num_classes), samples)
        return np.stack(list(counts))


def _count(labels: LabelMap, num_classes: int) -> NDArray[np.int64]:
    counts = np.bincount(labels.ravel(), minlength=max(num_classes, VOID + 1))
    counts[VOID] = 0
    return counts[:num_classes]


def class_weights(counts: NDArray[np.int64], weighting: ClassWeights) -> Tensor:
    """Return the weight [C] of each class from the pixels [N, C] that each image has of it; 0 where there are none.

    "median_frequency" (Eigen and Fergus 2015, as SegNet has it): the median of the classes' frequencies divided by a
    class's own, a frequency being its share of the pixels of the images that it occurs in. "inverse_log" (ENet):
    1 / ln(1.02 + its share of all pixels). "none": 1.
    """
    totals = counts.sum(axis=0)
    present = totals > 0
    weights = np.ones(len(totals))
    if weighting == "median_frequency" and present.any():
        pixels = ((counts > 0) * counts.sum(axis=1, keepdims=True)).sum(axis=0)
        frequencies = totals / np.maximum(pixels, 1)
        weights = np.median(frequencies[present]) / np.where(present, frequencies, 1)
    elif weighting == "inverse_log":
        weights = 1 / np.log(1.02 + totals / max(totals.sum(), 1))
    return torch.from_numpy(np.where(present, weights, 0)).float()
