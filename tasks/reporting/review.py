"""The order in which people look at a run's labels: the least sure first, and what is wrong with each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.formats.quality import MEASURES, QUALITY, ImageQuality, read_quality

WORST = 20
# A measure is named where no more than this share of the images is further out.
TAIL = 0.1
FULL = 0.95


class Reviewed(NamedTuple):
    """An image to look at, its quality in [0, 1], and the reasons as a phrase."""

    image: str
    quality: float
    why: str


def worst_images(run: Path, count: int = WORST) -> list[Reviewed]:
    """Return the images of a run to look at first; none where it has no `quality.csv`, as those of older versions.

    Raises:
        DatasetError: The file cannot be read.
    """
    file = run / QUALITY
    return rank(read_quality(file))[:count] if file.is_file() else []


def rank(rows: Sequence[ImageQuality]) -> list[Reviewed]:
    """Return images in the order of review, each with the measures in which it is among the set's worst."""
    if not rows:
        return []
    limits = {name: _tails([getattr(row, name) for row in rows]) for name in (*MEASURES, "weakest_quality")}
    ordered = sorted(rows, key=lambda row: (row.quality, row.image))
    return [Reviewed(row.image, row.quality, "; ".join(_reasons(row, limits))) for row in ordered]


def mean_measures(run: Path) -> dict[str, float]:
    """Return the mean of each measure of `quality.csv` over a run's images; nothing without such a file.

    Raises:
        DatasetError: The file cannot be read.
    """
    rows = read_quality(run / QUALITY) if (run / QUALITY).is_file() else []
    return {name: float(np.mean([getattr(row, name) for row in rows])) for name in MEASURES} if rows else {}


class _Tails(NamedTuple):
    low: float
    high: float
    middle: float


def _tails(values: Sequence[float]) -> _Tails:
    return _Tails(*(float(value) for value in np.quantile(values, (TAIL, 1 - TAIL, 0.5))))


def _reasons(row: ImageQuality, limits: Mapping[str, _Tails]) -> list[str]:
    found = []
    if row.tags_without_a_pixel:
        found.append(f"{row.tags_without_a_pixel} of its tags have no pixel")
    if row.foreground > FULL:
        found.append(f"{row.foreground:.0%} of it is labelled")
    for name, is_high, phrase in _PHRASES:
        value, (low, high, middle) = getattr(row, name), limits[name]
        if (value >= high if is_high else value <= low) and value != middle:
            found.append(phrase(value, middle))
    low, _, middle = limits["weakest_quality"]
    is_weak = row.weakest_quality <= low and row.weakest_quality != middle
    if row.weakest and (is_weak or not found):
        found.append(f"of {row.weakest} {row.weakest_quality:.0%} may be expected to be right ({middle:.0%})")
    return found or ["its least sure pixels are less sure than others'"]


_PHRASES: tuple[tuple[str, bool, Callable[[float, float], str]], ...] = (
    ("unsure", True, lambda value, middle: f"{value:.0%} of its pixels are unsure (median image {middle:.0%})"),
    (
        "cam_agreement",
        False,
        lambda value, middle: f"labels and attention maps agree on {value:.0%} of the labelled area ({middle:.0%})",
    ),
    ("components", True, lambda value, middle: f"{value:.0f} separate areas ({middle:.0f})"),
)
