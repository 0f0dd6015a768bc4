"""The correction that turns an image's labels into others: what a scribble that has grown says of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, LabelMap
from data.store.corrections import (
    BACKGROUND,
    FIRST_CLASS,
    FIRST_INSTANCE,
    NO_INSTANCE,
    UNSURE,
    Correction,
    Record,
    apply_corrections,
    check_masks,
)

CODES = {0: BACKGROUND, VOID: UNSURE}


class Maps(NamedTuple):
    """Labels of an image: class values [H, W], and the instances' ids [H, W], 0 for none."""

    labels: LabelMap
    objects: LabelMap


class Masks(NamedTuple):
    """Masks of a correction: the classes that its values name, and the masks of `Correction`, [H, W]."""

    classes: tuple[str, ...]
    semantic: NDArray[np.uint16] | None = None
    instances: NDArray[np.uint16] | None = None


def apply_masks(maps: Maps, masks: Masks, values: Mapping[str, int]) -> Maps:
    """Return labels with one more correction over them.

    Raises:
        ValueError: A mask is of another size, holds a value that is none, or is of a class without a value.
    """
    given = {"semantic": masks.semantic, "instances": masks.instances}
    check_masks({kind: mask for kind, mask in given.items() if mask is not None}, len(masks.classes))
    record: Any = Record("-", "", "", "", classes=masks.classes)
    correction = Correction(record, masks.semantic, masks.instances)
    return Maps(*apply_corrections(maps.labels, maps.objects, [correction], values))


def difference(now: Maps, target: Maps, names: Sequence[str]) -> Masks:
    """Return the masks that turn labels into others. Ids of instances do not count, only which pixels are one.

    Args:
        names: What the values are called.
    """
    changed = now.labels != target.labels
    used = [int(value) for value in np.unique(target.labels[changed]) if value not in CODES]
    lookup = np.zeros(int(target.labels.max(initial=0)) + 1, np.uint16)
    for value, code in [*CODES.items(), *zip(used, range(FIRST_CLASS, FIRST_CLASS + len(used)), strict=True)]:
        if value < len(lookup):
            lookup[value] = code
    semantic = np.where(changed, lookup[target.labels], 0).astype(np.uint16)
    classes = tuple(names[value] for value in used)
    between = apply_masks(now, Masks(classes, semantic), {name: names.index(name) for name in classes})
    return Masks(classes, semantic, _regroup(between.objects, target.objects))


def _regroup(now: LabelMap, target: LabelMap) -> NDArray[np.uint16]:
    """Return the mask of instances that groups the pixels of a map as those of another are."""
    ids = [np.where(objects == VOID, 0, objects).astype(np.int64) for objects in (now, target)]
    size = int(ids[0].max(initial=0)) + 1
    pairs, counts = np.unique(ids[1] * size + ids[0], return_counts=True)
    wanted, present = np.divmod(pairs, size)
    sizes = np.bincount(present, weights=counts, minlength=size)
    partners = np.bincount(wanted)
    # An instance is there already where its pixels are one instance, and all of it.
    same = (partners[wanted] == 1) & (present > 0) & (counts == sizes[present])
    mask = np.where((ids[1] == 0) & (ids[0] != 0), NO_INSTANCE, 0).astype(np.uint16)
    new = [id for id in np.unique(wanted) if id > 0 and not same[wanted == id].any()]
    for number, id in enumerate(new, start=FIRST_INSTANCE):
        mask[ids[1] == id] = number
    return mask
