"""Instances that follow regions: an instance's pixels are those of its regions."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from scipy import ndimage

from tasks.pipeline.regions.rule import MOSTLY, Refined

COMPARABLE = 0.5
"""Parts of a region are two instances, or parts of an instance two regions, where the smaller has this share of the
larger."""


class Found(NamedTuple):
    """Instances of one image.

    Attributes:
        masks: bool [N, H, W], disjoint.
        values: The class value of each.
        scores: In [0, 1].
    """

    masks: NDArray[np.bool_]
    values: list[int]
    scores: list[float]


def follow_regions(found: Found, refined: Refined, least_area: float) -> Found:
    """Return the instances of an image once each has the pixels of its regions, by descending score.

    A region belongs to the instance of its class that has most pixels in it. Smaller parts of others that lie mostly in
    it are joined to that one; one of comparable size stays an instance of its own, and each pixel of the region goes to
    the nearest of them. An instance of two regions of comparable size, neither of which lies in the other, is split;
    one of more regions is an object in parts. A region without an instance becomes one, with its cover as score.

    Args:
        found: Before; an instance whose pixels have got another class loses them.
        refined: The labels and regions.
        least_area: Pixels of a new instance at least.
    """
    ids = np.zeros(refined.labels.shape, np.int32)
    for number, mask in enumerate(found.masks, start=1):
        ids[mask] = number
    sharing = _Sharing(ids, found, refined, least_area)
    values = np.array(sharing.values)
    new = np.where(refined.owners == 0, np.array(sharing.joined)[ids], 0)
    for position, box in enumerate(ndimage.find_objects(refined.owners), start=1):
        if box is not None and (numbers := sharing.instances[position]):
            inside = refined.owners[box] == position
            new[box][inside] = _nearest(ids[box], inside, numbers)[inside]
    new[values[new] != refined.labels] = 0
    order = sorted(np.unique(new[new > 0]).tolist(), key=lambda number: -sharing.scores[number])
    masks = np.stack([new == number for number in order]) if order else np.zeros((0, *new.shape), bool)
    return Found(masks, [int(values[number]) for number in order], [sharing.scores[number] for number in order])


class _Sharing:
    """Which instances have which regions.

    Attributes:
        values: Class value of each instance, those that regions become among them; 0 for none.
        scores: Likewise.
        joined: Number of an instance -> of the one that it is joined to, or its own.
        instances: 1 + position of a claim -> the instances that share its pixels.
    """

    def __init__(self, ids: NDArray[np.int32], found: Found, refined: Refined, least_area: float) -> None:
        self.values, self.scores = [0, *found.values], [0.0, *found.scores]
        self.joined = list(range(len(self.values)))
        self.instances: dict[int, list[int]] = {}
        totals = np.bincount(ids.ravel(), minlength=len(self.values))
        counts_of = _count(ids, refined, np.array(self.values))
        mains = [int(counts.argmax()) for counts in counts_of]
        split = _second_halves(counts_of, mains, refined.parents)
        for position, (claim, parent) in enumerate(zip(refined.claims, refined.parents, strict=True), start=1):
            counts, main = counts_of[position - 1], mains[position - 1]
            if not main:
                new = not parent and (refined.owners == position).sum() >= least_area
                added = [self._add(claim.value, claim.cover)] if new else []
                self.instances[position] = added or self.instances.get(parent, [])
                continue
            comparable = counts >= COMPARABLE * counts[main]
            for other in np.flatnonzero((counts > MOSTLY * totals) & ~comparable).tolist():
                self.joined[other] = main
            sharing = np.flatnonzero(comparable).tolist()
            halved = position in split and len(sharing) == 1
            self.instances[position] = [self._add(claim.value, self.scores[main])] if halved else sharing

    def _add(self, value: int, score: float) -> int:
        self.values.append(value)
        self.scores.append(score)
        return len(self.values) - 1


def _count(ids: Int[np.ndarray, "h w"], refined: Refined, values: Int[np.ndarray, " n"]) -> list[NDArray[np.int64]]:
    """Return the pixels that each instance of a claim's class has where the claim decided; [1 + N] for each claim."""
    found = []
    for position, claim in enumerate(refined.claims, start=1):
        counts = np.bincount(ids[refined.owners == position], minlength=len(values))
        found.append(np.where(values == claim.value, counts, 0))
    return found


def _second_halves(counts_of: list[NDArray[np.int64]], mains: list[int], parents: list[int]) -> set[int]:
    """Return 1 + the positions of claims that take half of an instance, of which one other claim has the other half."""
    regions_of: dict[int, list[int]] = defaultdict(list)
    for position, (main, parent) in enumerate(zip(mains, parents, strict=True), start=1):
        if main and not parent:
            regions_of[main].append(position)
    found = set()
    for main, positions in regions_of.items():
        less, more = sorted(counts_of[position - 1][main] for position in (positions[0], positions[-1]))
        if len(positions) == 2 and less >= COMPARABLE * more:
            found.add(positions[1])
    return found


def _nearest(ids: Int[np.ndarray, "h w"], inside: Bool[np.ndarray, "h w"], numbers: list[int]) -> NDArray[np.int32]:
    """Return for each pixel the nearest of some instances that has pixels inside; the first where none has."""
    seeds = np.isin(ids, numbers) & inside
    if len(numbers) == 1 or not seeds.any():
        return np.full(ids.shape, numbers[0], np.int32)
    nearest = ndimage.distance_transform_edt(~seeds, return_distances=False, return_indices=True)
    assert nearest is not None
    return ids[tuple(nearest)]
