"""Masks of salient objects: those of a set that has them, or derived from the label maps of a set that has not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, ClassTable, DatasetError, Sample
from data.formats.label_maps import read_ground_truth
from tasks.evaluation.truth import read_labels

CODING = "saliency"
SALIENCY_FILE = "saliency.json"
"""Of a network and of its predictions: the classes that masks were derived from, the images that had masks."""
# What is looked for in scenes, whose classes have no background to stand out from.
THINGS = frozenset(
    (
        *("person", "pedestrian", "child", "rider", "bicyclist", "animal"),
        *("bicycle", "motorcycle", "car", "truck", "bus", "train", "caravan", "trailer"),
        *("sign", "sign-symbol", "traffic-sign", "traffic-light"),
    )
)


def has_own_mask(sample: Sample) -> bool:
    """Return whether a sample is of a set of salient objects: its label map is a mask of these, not one of classes."""
    return sample.coding == CODING


def as_saliency_samples(samples: Sequence[Sample], number: int = 1) -> list[Sample]:
    """Return the samples of a set of salient objects with ids that no other set has, and without classes.

    Args:
        number: Of the set, from 1, where there are several.
    """
    folder = CODING if number == 1 else f"{CODING}-{number}"
    return [replace(sample, id=f"{folder}/{sample.id}", labels=()) for sample in samples]


def salient_values(classes: ClassTable, chosen: Sequence[str] = ()) -> tuple[int, ...]:
    """Return the values of a label map that are salient.

    Args:
        chosen: Names of classes. If none are given, all but the background are, and of a table without one `THINGS`.

    Raises:
        DatasetError: A name is not in the table, or there is no such thing in it.
    """
    values = classes.values
    if unknown := [name for name in chosen if name not in values]:
        raise DatasetError(f"salient_classes: expected some of {', '.join(values)}, got {', '.join(unknown)}")
    names = chosen or (classes.names if classes.has_background else [n for n in values if _word(n) in THINGS])
    if not names:
        raise DatasetError(f"salient_classes: which of {', '.join(values)} are salient objects has to be said")
    return tuple(values.index(name) for name in names)


def read_mask(sample: Sample, num_classes: int, salient: Sequence[int] = ()) -> NDArray[np.uint8]:
    """Read the mask [H, W] of a sample's salient objects: 1, elsewhere 0, `VOID` where it is not known.

    Args:
        num_classes: The values of a label map.
        salient: From `salient_values`; what they are in the label map of a sample without a mask of its own.

    Raises:
        DatasetError: Its label map cannot be read.
    """
    if has_own_mask(sample):
        mask = read_ground_truth(sample).semantic
        assert mask is not None
        return mask
    return derive_mask(read_labels(sample, num_classes), salient)


def derive_mask(labels: NDArray[np.integer], salient: Sequence[int]) -> NDArray[np.uint8]:
    """Return the mask of what has one of some values in a label map; `VOID` stays."""
    lookup = np.zeros(max(VOID, int(labels.max(initial=0))) + 1, np.uint8)
    lookup[[value for value in salient if value < len(lookup)]] = 1
    lookup[VOID] = VOID
    return lookup[labels]


def _word(name: str) -> str:
    return name.lower().replace(" ", "-").replace("_", "-")
