"""What a person changed of an image's labels: the masks of a correction, from the labels before and after."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID
from data.exchange.pixels import Pixels, numbered, size_text
from data.store.corrections import BACKGROUND, FIRST_CLASS, FIRST_INSTANCE, NO_INSTANCE, UNCHANGED, UNSURE


class Change(NamedTuple):
    """The masks of a correction, as `data.store.corrections` has them.

    Attributes:
        classes: What the values of the semantic mask mean, from `FIRST_CLASS`.
        semantic: [H, W], or None where no pixel has another class.
        instances: [H, W], or None where no object is another.
    """

    classes: tuple[str, ...]
    semantic: NDArray[np.integer] | None
    instances: NDArray[np.integer] | None


def find_change(before: Pixels, after: Pixels, name: Callable[[int], str]) -> Change | None:
    """Return what differs; None where nothing does.

    Objects are compared by their pixels, since tools number them anew. One that has other pixels, or a pixel of another
    class, is a new instance, whole.

    Args:
        before: As the format keeps what was exported.
        after: As the tool wrote it.
        name: Returns the name of a class value.

    Raises:
        ValueError: They are of two sizes.
    """
    if before.semantic.shape != after.semantic.shape:
        expected, found = size_text(before.semantic.shape), size_text(after.semantic.shape)
        raise ValueError(f"expected labels of {expected}, found {found}")
    before, after = _settled(before), _settled(after)
    differs = before.semantic != after.semantic
    if not differs.any() and _are_alike(before, after):
        return None
    values = np.unique(after.semantic[differs]).tolist()
    known = [value for value in values if value not in (0, VOID)]
    codes = {0: BACKGROUND, VOID: UNSURE} | {value: FIRST_CLASS + place for place, value in enumerate(known)}
    semantic = np.full(differs.shape, UNCHANGED, np.int64)
    for value in values:
        semantic[differs & (after.semantic == value)] = codes[value]
    instances = None
    if before.objects is not None and after.objects is not None:
        instances = _instances(before.objects, after.objects, differs)
    if not differs.any() and instances is None:
        return None
    return Change(tuple(map(name, known)), semantic if differs.any() else None, instances)


def _settled(pixels: Pixels) -> Pixels:
    """Return labels whose void pixels belong to no object; objects may have any number here, 255 too."""
    semantic, objects = pixels
    return Pixels(semantic, None if objects is None else np.where(semantic == VOID, 0, objects))


def _are_alike(before: Pixels, after: Pixels) -> bool:
    """Tell whether objects have the same numbers, or nothing is said of them; the cheapest of comparisons."""
    if before.objects is None or after.objects is None:
        return True
    return bool((before.objects == after.objects).all())


def _instances(
    before: NDArray[np.integer], after: NDArray[np.integer], differs: NDArray[np.bool_]
) -> NDArray[np.int64] | None:
    """Return the mask of new instances, [H, W]; None where there are none, and none is gone."""
    olds, old = numbered(before)
    numbers, new = numbered(after)
    # [old, new]: the pixels that two objects have in common.
    common = np.bincount((old * len(numbers) + new).ravel(), minlength=len(olds) * len(numbers))
    common = common.reshape(len(olds), len(numbers))
    alike = (common == common.sum(axis=1, keepdims=True)) & (common == common.sum(axis=0)) & (common > 0)
    kept = alike[olds != 0].any(axis=0)
    kept[np.unique(new[differs])] = False
    mask = np.full(before.shape, UNCHANGED, np.int64)
    # Where there was an object, or the class is another, a pixel of none must be said to belong to none.
    mask[(after == 0) & ((before != 0) | differs)] = NO_INSTANCE
    fresh = np.flatnonzero((numbers != 0) & ~kept)
    for place, number in enumerate(fresh, start=FIRST_INSTANCE):
        mask[new == number] = place
    return mask if (mask != UNCHANGED).any() else None
