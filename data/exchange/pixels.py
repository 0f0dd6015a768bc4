"""Labels of one image as pixels, and as regions: the shapes that tools edit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from data.dataset import VOID

NEW_OBJECT = 1 << 31
"""The first id of objects that a tool knows by no number; those of label maps and of tools lie below."""


class Pixels(NamedTuple):
    """The labels of one image.

    Attributes:
        semantic: Class values [H, W], 0 background, 255 void.
        objects: Ids of instances [H, W], 0 for none; None where nothing is said of instances.
    """

    semantic: NDArray[np.integer]
    objects: NDArray[np.integer] | None


def without_void(pixels: Pixels) -> Pixels:
    """Return the labels with objects that have no void pixels: neither those of their map nor those of the classes'."""
    semantic, objects = pixels
    if objects is None:
        return pixels
    return Pixels(semantic, np.where((objects == VOID) | (semantic == VOID), 0, objects))


class Region(NamedTuple):
    """The pixels of one class in one object.

    Attributes:
        value: Class value; 255 void.
        object: Id of the instance, 0 for none; None for one of its own.
        rows: Of the smallest box around it.
        columns: Likewise.
        mask: bool [rows, columns].
    """

    value: int
    object: int | None
    rows: slice
    columns: slice
    mask: NDArray[np.bool_]

    def whole(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the mask [H, W] of an image of this shape."""
        found = np.zeros(shape, bool)
        found[self.rows, self.columns] = self.mask
        return found


def regions(pixels: Pixels) -> Iterator[Region]:
    """Yield the regions of an image, by value and object; they cover all but background, and do not overlap."""
    semantic = pixels.semantic.astype(np.int64)
    objects = np.zeros_like(semantic) if pixels.objects is None else pixels.objects.astype(np.int64)
    span = int(objects.max(initial=0)) + 1
    pairs, numbers = numbered(semantic * span + objects)
    for number, (pair, box) in enumerate(zip(pairs.tolist(), ndimage.find_objects(numbers + 1), strict=True)):
        if pair and box is not None:
            yield Region(pair // span, pair % span, box[0], box[1], numbers[box] == number)


def cropped(mask: NDArray[np.bool_], value: int, object: int | None = None) -> Region:
    """Return a mask [H, W] of a class and an object as a region, which holds no more than its box."""
    boxes = ndimage.find_objects(mask.view(np.uint8))
    rows, columns = boxes[0] if boxes else (slice(0, 0), slice(0, 0))
    return Region(value, object, rows, columns, mask[rows, columns].copy())


def numbered(codes: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Return the different values of a map [H, W], ascending, and their places among them for each pixel.

    That is `np.unique`, which sorts, over runs of equal pixels: label maps have few.
    """
    flat = codes.ravel()
    starts = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]][: flat.size])
    values, places = np.unique(flat[starts], return_inverse=True)
    lengths = np.diff(np.r_[starts, flat.size])
    return values, np.repeat(places, lengths).reshape(codes.shape)


def as_shapes(pixels: Pixels) -> Pixels:
    """Return what tools keep that know no objects but their shapes: each region is an object of its own.

    Void pixels belong to no object.
    """
    objects = np.zeros(pixels.semantic.shape, np.int64)
    for number, region in enumerate(regions(pixels), start=1):
        if region.value not in (0, VOID):
            objects[region.rows, region.columns][region.mask] = number
    return Pixels(pixels.semantic, objects)


class Canvas:
    """An image that shapes are painted on, one over another."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._semantic = np.zeros(shape, np.int64)
        self._objects = np.zeros(shape, np.int64)
        self._next = NEW_OBJECT

    def paint(
        self,
        mask: NDArray[np.bool_],
        value: int,
        object: int | None = None,
        box: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> None:
        """Give the pixels of a mask a class value and an object: 0 for none, None for one of its own.

        Without an object of its own, background and void belong to none.

        Args:
            box: The rows and columns that the mask is of.

        Raises:
            ValueError: The mask has another size than the box.
        """
        semantic, objects = self._semantic[box], self._objects[box]
        if mask.shape != semantic.shape:
            raise ValueError(f"expected a mask of {size_text(semantic.shape)}, found one of {size_text(mask.shape)}")
        if object is None:
            object = 0 if value in (0, VOID) else self._next
            self._next += 1
        semantic[mask] = value
        objects[mask] = object

    def paint_region(self, region: Region) -> None:
        """Paint a region's pixels in its box."""
        self.paint(region.mask, region.value, region.object, (region.rows, region.columns))

    @property
    def pixels(self) -> Pixels:
        """What was painted."""
        return Pixels(self._semantic, self._objects)


def size_text(shape: tuple[int, ...]) -> str:
    """Return a size as people write it: width x height."""
    return f"{shape[1]} x {shape[0]}"
