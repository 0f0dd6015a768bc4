"""The choice among candidates, and how uncertain it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from numpy.typing import NDArray

from tasks.evaluation.bootstrap import interval, resample
from tasks.tuning.curves import CRITERIA
from tasks.tuning.space import Criterion, Values

DRAWS = 400


@dataclass(frozen=True)
class Candidate:
    """Settings, and what the labels with them are.

    Attributes:
        values: Dotted name of a setting -> value.
        score: mIoU over the images with ground truth; None without any.
        merits: `CRITERIA` -> mean over the images; nothing where they were not measured.
    """

    values: Values
    score: float | None
    merits: Mapping[str, float]

    def judged_by(self, criterion: Criterion | None) -> float:
        """Return what the search makes as high as it can: the score, or a criterion that needs no ground truth."""
        if criterion is None:
            assert self.score is not None
            return self.score
        return float(np.mean(list(self.merits.values()))) if criterion == "mean" else self.merits[criterion]

    def as_row(self) -> dict[str, Any]:
        """Return it as a line of a table."""
        return {**self.values, "miou": self.score, **self.merits}


def make_candidate(values: Values, counts: Int64[np.ndarray, "3 n v"], merits: Float[np.ndarray, "n m"]) -> Candidate:
    """Return a candidate from what its table says of each image."""
    scored = counts[:, counts[2].any(axis=1)]
    score = float(mean_iou(scored.sum(axis=1)[:, None])[0]) if scored.shape[1] else None
    known = ~np.isnan(merits)
    means = {name: float(merits[known[:, m], m].mean()) for m, name in enumerate(CRITERIA) if known[:, m].any()}
    return Candidate(dict(values), score, means)


def mean_iou(counts: Int64[np.ndarray, "3 b v"]) -> Float[np.ndarray, " b"]:
    """Return the mean IoU of each of B sets from its pixels that are hits, found and true, by value."""
    hits, found, true = counts.astype(np.float64)
    union = found + true - hits
    scores = np.divide(hits, union, out=np.full_like(hits, np.nan), where=union > 0)
    empty = np.isnan(scores).all(axis=1)
    return np.where(empty, np.nan, np.nanmean(np.where(empty[:, None], 0.0, scores), axis=1))


def best_of(candidates: Sequence[Candidate], criterion: Criterion | None, default: int) -> int:
    """Return the position of the best candidate: of equals the run's own settings, at `default`, else the first."""
    scores = [candidate.judged_by(criterion) for candidate in candidates]
    return default if scores[default] == max(scores) else int(np.argmax(scores))


def uncertainty(
    counts: Sequence[Int64[np.ndarray, "3 n v"]], candidates: Sequence[Candidate], chosen: int, default: int
) -> dict[str, Any]:
    """Say how uncertain a choice by ground truth is, by the bootstrap over the images.

    Args:
        counts: Of each candidate, by image and value.
        candidates: The same.
        chosen: Position of the chosen one.
        default: Position of the run's own settings.

    Returns:
        "images"; "interval" of the chosen one's score; "gain" over the run's own settings, and its "gain_interval";
        "gain_elsewhere", the mean gain on the images that a resampled set leaves out, of what is best on that set;
        "settings": name -> the range of what is chosen on resampled sets. Intervals hold 95 % of these.
    """
    num_images = counts[0].shape[1]
    drawn = resample(num_images, DRAWS)
    inside = np.stack([_scores(each, drawn) for each in counts])
    outside = np.stack([_scores(each, (drawn == 0).astype(np.int64)) for each in counts])
    best = np.nan_to_num(inside, nan=-1.0).argmax(axis=0)
    gains = inside[chosen] - inside[default]
    elsewhere = outside[best, np.arange(len(best))] - outside[default]
    own, usual = candidates[chosen].score, candidates[default].score
    assert own is not None
    assert usual is not None
    picked = {name: [candidates[row].values[name] for row in best] for name in candidates[chosen].values}
    return {
        "images": num_images,
        "interval": interval(inside[chosen]),
        "gain": own - usual,
        "gain_interval": interval(gains),
        "gain_elsewhere": float(np.nanmean(elsewhere)) if np.isfinite(elsewhere).any() else None,
        "settings": {name: interval(np.asarray(values, float)) for name, values in picked.items()},
    }


def _scores(counts: Int64[np.ndarray, "3 n v"], drawn: NDArray[np.int64]) -> Float[np.ndarray, " draws"]:
    """Return the mean IoU of each of the sets that are drawn from the images."""
    kinds, images, values = counts.shape
    summed = drawn @ counts.transpose(1, 0, 2).reshape(images, kinds * values)
    return mean_iou(summed.reshape(len(drawn), kinds, values).transpose(1, 0, 2))
