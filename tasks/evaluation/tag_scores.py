"""How well a classifier tells which images have a tag, and whether that is better than chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from data.dataset import ClassTable

PERMUTATIONS = 500
# Chance must find the tags themselves less often than this, or it cannot be told from knowledge.
LUCK = 0.005
FOLDS = 10
# Few held-out images look learnt by luck too often; they count alone where luck is rarer than this.
BEYOND_DOUBT = 0.004
MOST_HELD_OUT = 1000
# Fewer images cannot tell a classifier from chance.
ENOUGH_IMAGES = 10
# Copies, frames of a video and tiles that overlap have standardised features of such a cosine; other images do not.
ALIKE = 0.7
# A class of fewer groups cannot be judged by them.
LEAST_GROUPS = 3
# Where more of the images are alike, some that are held out were as good as learned.
FEW_ALIKE = 0.2


def average_precision(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float | None:
    """Return the mean, over the images that have a tag, of the precision at their rank; None where none or all has it.

    A classifier at chance has about the tag's share of the images. Equal scores count against it.
    """
    if not positive.any() or positive.all():
        return None
    order = np.lexsort((positive, -scores))
    hits = positive[order]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def score_tags(
    scores: Float[np.ndarray, "n c"],
    targets: NDArray[np.bool_],
    classes: ClassTable,
    seed: int,
    groups: Integer[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """Score a classifier on images.

    Args:
        scores: The higher, the likelier the image has the tag.
        targets: Whether it has.
        classes: Their names.
        seed: Of the permutations.
        groups: Of images that are alike, from `alike_groups`; chance is that of the first image of each.

    Returns:
        "images"; "judged", the number of groups, or of images without groups; "alike", the share of images that nearly
        equal another; "ap" and "share", class name -> average precision and share of the images, for the classes that
        some of the images have and some do not; "mean_ap"; "chance", the share of random assignments of the tags to
        the images whose mean is as high, or None where perfect scores would not stand out either.
    """
    each = {c: average_precision(scores[:, c], targets[:, c]) for c in range(scores.shape[1])}
    precisions = {c: value for c, value in each.items() if value is not None}
    known = list(precisions)
    mean = float(np.mean(list(precisions.values()))) if known else None
    first, counts = np.arange(len(scores)), np.ones(len(scores), int)
    if groups is not None:
        _, first, counts = np.unique(groups, return_index=True, return_counts=True)
    return {
        "images": len(scores),
        "judged": len(first),
        "alike": round(float(counts[counts > 1].sum() / len(scores)), 4),
        "ap": {classes.names[c]: round(precisions[c], 4) for c in known},
        "share": {classes.names[c]: round(float(targets[:, c].mean()), 4) for c in known},
        "mean_ap": None if mean is None else round(mean, 4),
        "chance": _chance(scores[first], targets[first], known, seed) if known else None,
    }


def verdict(held_out: Mapping[str, Any], folds: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return "chance" and "judged", the number of images that it is of, from `score_tags` of held-out images and folds.

    Folds over all images say whether the tags can be learnt, unless the held-out ones leave no doubt. These prove
    nothing where more than `FEW_ALIKE` are alike. "alike" is the share of the folds' images that are.
    """
    chance = held_out["chance"]
    if folds is None or folds["chance"] is None:
        return {"chance": chance, "judged": held_out["images"]}
    alike = folds.get("alike", 0.0)
    by_held_out = chance is not None and chance <= BEYOND_DOUBT and alike <= FEW_ALIKE
    judged = held_out["images"] if by_held_out else folds.get("judged", folds["images"])
    return {"chance": chance if by_held_out else folds["chance"], "judged": judged, "alike": alike}


def alike_groups(features: Float[np.ndarray, "n d"], targets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the group of each image: those that are alike have one, by links from image to image.

    Where a class of many images has hardly any groups, its images are alike by nature, and each is a group of its own.

    Args:
        features: Of the ImageNet weights, for at most some hundreds of images.
        targets: The tags [N, C].
    """
    standard = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    standard /= np.linalg.norm(standard, axis=1, keepdims=True) + 1e-6
    _, groups = connected_components(csr_array(standard @ standard.T >= ALIKE), directed=False)
    for tagged in targets.T:
        if tagged.sum() >= LEAST_GROUPS > len(np.unique(groups[tagged])):
            return np.arange(len(features))
    # In the order of their first images, as without groups.
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def hold_out(targets: NDArray[np.bool_], share: float, seed: int) -> NDArray[np.int64]:
    """Choose a share of the images such that each class, the rarest first, has about that share of its own among them.

    A class keeps at least two thirds of its images. At most `MOST_HELD_OUT` images are chosen: more tell no more.

    Returns:
        Their rows, ascending.
    """
    order = np.random.default_rng((seed, len(targets))).permutation(len(targets))
    share = min(share, MOST_HELD_OUT / max(1, len(targets)))
    total, counts = round(share * len(targets)), targets.sum(axis=0)
    room = counts // 3
    chosen, held = np.zeros(len(targets), bool), np.zeros_like(counts)
    for c in np.argsort(counts, kind="stable"):
        wanted = min(max(1, round(share * counts[c])), room[c])
        for row in order[targets[order, c]]:
            if held[c] >= wanted or chosen.sum() >= total:
                break
            if not chosen[row] and (held + targets[row] <= room)[targets[row]].all():
                chosen[row] = True
                held += targets[row]
    without = order[~targets[order].any(axis=1)]
    chosen[without[: round(share * len(without))]] = True
    return np.flatnonzero(chosen)


def score_in_folds(
    features: Float[np.ndarray, "n d"],
    targets: NDArray[np.bool_],
    seed: int,
    groups: Integer[np.ndarray, " n"] | None = None,
) -> NDArray[np.float64]:
    """Return the scores [N, C] of ridge regressions, each fitted to nine tenths of the images and asked for the rest.

    Everything is fitted to the nine tenths: the features' means and deviations, and the penalty, a tenth of the mean
    squared length of their standardised features. Images of a group (`alike_groups`) are asked together.
    """
    groups = np.arange(len(targets)) if groups is None else groups
    order = np.random.default_rng((seed, groups.max() + 1)).permutation(groups.max() + 1)
    scores = np.zeros(targets.shape)
    for chosen in np.array_split(order, min(FOLDS, len(order))):
        fold = np.flatnonzero(np.isin(groups, chosen))
        known = np.setdiff1d(np.arange(len(groups)), fold)
        mean, deviation = features[known].mean(axis=0), features[known].std(axis=0) + 1e-6
        given, asked = ((features[part] - mean) / deviation for part in (known, fold))
        kernel = given @ given.T
        ridge = (0.1 * np.trace(kernel) / len(kernel) + 1e-9) * np.eye(len(kernel))
        scores[fold] = asked @ given.T @ np.linalg.solve(kernel + ridge, targets[known] - targets[known].mean(axis=0))
    # Equal images have equal scores, whatever fold they are in.
    return scores.round(6)


def _chance(scores: Float[np.ndarray, "n c"], targets: NDArray[np.bool_], known: list[int], seed: int) -> float | None:
    rng = np.random.default_rng(seed)
    mean = np.mean([average_precision(scores[:, c], targets[:, c]) or 0.0 for c in known])
    means = []
    for _ in range(PERMUTATIONS):
        shuffled = targets[rng.permutation(len(targets))]
        means.append(np.mean([average_precision(scores[:, c], shuffled[:, c]) or 0.0 for c in known]))
    # Of few images with a tag, or without, chance finds the right ones now and then.
    perfect = np.mean([(targets[rng.permutation(len(targets))] == targets).all() for _ in range(PERMUTATIONS)])
    if len(scores) < ENOUGH_IMAGES or perfect > LUCK:
        return None
    return round((1 + float(np.sum(np.asarray(means) >= mean))) / (1 + PERMUTATIONS), 4)
