"""Which class each region takes, and what becomes of the labels.

The rule is that of SAM-enhanced pseudo labels (Chen et al. 2023): a region takes a class that covers more than half of
it, or of whose object it holds 85 %; where regions are silent, labels stay. What is added, since segmenters also find
groups and backgrounds:

- An object is a connected area (4 neighbours) of a class, where the paper has all pixels of the class.
- A region that holds such an object takes the class only if the class covers a fifth of it, and if no smaller region
  has taken the object: a meadow does not become the cow on it.
- A region that holds more than half of the pixels of another class than its own takes none: no tag is lost to it.
- Regions of nearly the whole image are not looked at.
- Where regions overlap, the smaller decides; of two of one size that with the larger cover.
- Pixels of an object outside the regions that took its class become background, if these regions hold a quarter of it;
  an object of which they hold less stays whole. The paper keeps such pixels wherever no region lies, and so what CAMs
  spill around an object.
- An image in which a class would lose its last pixel stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy import ndimage

from data.dataset import LabelMap
from data.region_masks import Regions
from tasks.pipeline.settings import RegionsConfig

MOSTLY = 0.5
"""Above this share most of something is meant."""


class Claim(NamedTuple):
    """A region that takes a class.

    Attributes:
        region: Its number among the image's, from 0.
        value: Of the class, in the label map.
        cover: Share of the region that had the class, in [0, 1].
        area: Of the region, in pixels.
        held: Whether it takes the class for an object that it holds, which covers less of it than others have.
    """

    region: int
    value: int
    cover: float
    area: int
    held: bool


@dataclass(frozen=True)
class Objects:
    """The connected areas of the classes of a label map.

    Attributes:
        ids: int32 [H, W], 0 for background, else the number of an object from 1.
        values: [1 + N], the class value of each; that of 0 is 0.
        sizes: [1 + N], in pixels.
    """

    ids: NDArray[np.int32]
    values: NDArray[np.int64]
    sizes: NDArray[np.int64]


@dataclass(frozen=True)
class Refined:
    """Labels of an image after its regions.

    Attributes:
        labels: [H, W], class values.
        claims: The regions that took a class, in the order in which they were painted.
        parents: 1 + the position of the claim of the same class that each of them mostly lies in; 0 for none.
        owners: int32 [H, W], 1 + the position of the claim that decided a pixel; 0 where none did.
        objects: Of the labels before.
        held: [1 + N], the share of each object that lies in regions of its class, in [0, 1].
    """

    labels: LabelMap
    claims: list[Claim]
    parents: list[int]
    owners: NDArray[np.int32]
    objects: Objects
    held: Float[np.ndarray, " n"]


def refine_by_regions(labels: LabelMap, regions: Regions, config: RegionsConfig) -> Refined:
    """Let the labels of an image follow its regions.

    Args:
        labels: Class values [H, W], 0 for background.
        regions: Of the same size.
        config: The shares that decide.

    Raises:
        DatasetError: A mask cannot be read.
    """
    objects = find_objects(labels)
    heard = _listen(regions, objects, config)
    claims, own = heard.claims, heard.own
    held = _held(own, objects)
    for claim, ids in sorted(heard.others, key=lambda other: (other[0].area, -other[0].cover)):
        if (held[ids] <= MOSTLY).any():
            claims.append(claim)
            own |= regions.mask(claim.region) & (objects.values[objects.ids] == claim.value)
            held = _held(own, objects)
    # The later cover those before.
    claims.sort(key=lambda claim: (-claim.area, claim.cover, claim.region))
    owners, parents = _paint(claims, regions)
    values = np.array([0, *(claim.value for claim in claims)], labels.dtype)
    found = np.where(owners > 0, values[owners], labels)
    found[(owners == 0) & (held > config.least_follow)[objects.ids]] = 0
    if np.setdiff1d(labels, found).any():
        return Refined(labels, [], [], np.zeros_like(owners), objects, np.zeros_like(held))
    return Refined(found, claims, parents, owners, objects, held)


def find_objects(labels: LabelMap) -> Objects:
    """Return the connected areas (4 neighbours) of each class of a label map [H, W]."""
    ids, values = np.zeros(labels.shape, np.int32), [0]
    for value in np.flatnonzero(np.bincount(labels.ravel())):
        if value:
            parts, count = ndimage.label(labels == value)  # pyright: ignore[reportGeneralTypeIssues]
            ids += np.where(parts > 0, parts + len(values) - 1, 0).astype(np.int32)
            values += [int(value)] * count
    return Objects(ids, np.array(values), np.bincount(ids.ravel(), minlength=len(values)))


class _Heard(NamedTuple):
    """What the regions of an image say, one by one.

    Attributes:
        claims: Those by cover.
        others: Those for objects that a region holds, with the numbers of these objects.
        own: bool [H, W], where a pixel lies in a region of `claims` that takes its class.
    """

    claims: list[Claim]
    others: list[tuple[Claim, list[int]]]
    own: NDArray[np.bool_]


def _listen(regions: Regions, objects: Objects, config: RegionsConfig) -> _Heard:
    heard = _Heard([], [], np.zeros(objects.ids.shape, bool))
    labels = objects.values[objects.ids]
    totals = np.bincount(objects.values, objects.sizes)
    for number, mask in enumerate(regions):
        ids = objects.ids[mask]
        area = len(ids)
        if not area or area > config.largest * mask.size:
            continue
        inside = np.bincount(ids, minlength=len(objects.sizes))
        by_class = np.bincount(objects.values, inside)
        by_class[0] = 0
        value = int(by_class.argmax())
        holds = by_class > MOSTLY * totals
        holds[[0, value]] = False
        if not by_class[value] or holds.any():
            continue
        cover = float(by_class[value] / area)
        if cover > config.least_cover:
            heard.claims.append(Claim(number, value, cover, area, held=False))
            np.logical_or(heard.own, mask & (labels == value), out=heard.own)
        elif cover >= config.least_cover_held:
            whole = np.flatnonzero((objects.values == value) & (inside >= config.least_held * objects.sizes))
            if len(whole):
                heard.others.append((Claim(number, value, cover, area, held=True), whole.tolist()))
    return heard


def _paint(claims: list[Claim], regions: Regions) -> tuple[NDArray[np.int32], list[int]]:
    """Return `owners` and `parents` of `Refined`."""
    owners, parents = np.zeros(regions.size, np.int32), []
    for position, claim in enumerate(claims, start=1):
        mask = regions.mask(claim.region)
        below = np.bincount(owners[mask], minlength=1)
        below[0] = 0
        parent = int(below.argmax())
        inside = below[parent] > MOSTLY * claim.area and claims[parent - 1].value == claim.value
        parents.append(parent if inside else 0)
        owners[mask] = position
    return owners, parents


def _held(own: Bool[np.ndarray, "h w"], objects: Objects) -> Float[np.ndarray, " n"]:
    """Return the share of each object that lies in regions which took its class; 0 for background."""
    counts = np.bincount(objects.ids[own], minlength=len(objects.sizes)).astype(np.float64)
    counts[0] = 0
    return counts / np.maximum(objects.sizes, 1)
