"""The settings that can be searched, and the settings that candidates have. Nothing here loads torch."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from tasks.pipeline.settings import PipelineConfig

BACKGROUND, PIXEL, CRF = "labels.background_threshold", "labels.pixel_threshold", "labels.crf_iterations"
SECOND_ROUND = (PIXEL, "labels.walk_power")
SEMANTIC = (BACKGROUND, *SECOND_ROUND, CRF, "walk.radius_px", "walk.beta", "walk.steps")
INSTANCES = ("walk.centroid_threshold_px", "labels.min_area", "labels.min_area_of_largest")
GRID = tuple(round(0.02 * k, 2) for k in range(1, 50))
ITERATIONS = (0, 5, 10)
Criterion = Literal["mean", "contrast", "cams", "crf", "tags"]
DEFAULT_CRITERION: Criterion = "mean"
Values = Mapping[str, float]
"""Dotted name of a setting -> its value."""


@dataclass(frozen=True)
class Space:
    """Settings with the values that each may have.

    Attributes:
        base: The settings of the run.
        values: Dotted name -> values, ascending.
    """

    base: PipelineConfig
    values: Mapping[str, tuple[float, ...]]

    @cached_property
    def size(self) -> int:
        """Number of candidates."""
        return math.prod(map(len, self.values.values()))

    def part(self, names: Sequence[str]) -> Space:
        """Return the space of some of the settings."""
        return Space(self.base, {name: self.values[name] for name in names if name in self.values})

    def candidates(self) -> Iterator[Values]:
        """Yield all combinations."""
        for combined in itertools.product(*self.values.values()):
            yield dict(zip(self.values, combined, strict=True))

    def settings(self, values: Values) -> PipelineConfig:
        """Return the run's settings with those of a candidate.

        Raises:
            pydantic.ValidationError: A value is out of range.
        """
        return with_values(self.base, values)


def make_space(
    base: PipelineConfig, asked: Mapping[str, Sequence[float]], *, second_round: bool, instances: bool
) -> Space:
    """Return the space of a search: what was asked for, or thresholds and iterations of the CRF.

    Args:
        base: Settings of the run, with numbers for thresholds.
        asked: Dotted name -> values.
        second_round: Whether the run has a pixel classifier.
        instances: Whether there is ground truth of instances to choose their settings by.

    Raises:
        ValueError: A setting cannot be searched, or not in this run; or it has no values.
        pydantic.ValidationError: A value is out of range.
    """
    if not asked:
        threshold = PIXEL if second_round else BACKGROUND
        iterations = sorted({*ITERATIONS, base.labels.crf_iterations})
        asked = {threshold: GRID, CRF: iterations}
    for name, values in asked.items():
        if name not in (*SEMANTIC, *INSTANCES):
            raise ValueError(f"--set {name}: expected one of {', '.join((*SEMANTIC, *INSTANCES))}")
        if not values:
            raise ValueError(f"--set {name}: expected the values that are to be tried, such as --set {name} 0.2 0.3")
        if name in SECOND_ROUND and not second_round:
            raise ValueError(f"--set {name}: the run has no pixel classifier (pixels.folds); take {BACKGROUND}")
        if name.startswith("walk.") and base.refiner != "irnet":
            raise ValueError(f"--set {name}: a setting of IRNet's walk, and the run has the refiner {base.refiner}")
        if name in INSTANCES and not instances:
            raise ValueError(
                f"--set {name}: settings of instances are chosen by ground truth of instances; there is none"
            )
    # The threshold last: what is tried in a row is in one table.
    names = sorted(asked, key=lambda name: name == (PIXEL if second_round else BACKGROUND))
    space = Space(base, {name: tuple(sorted(set(asked[name]))) for name in names})
    for name, values in space.values.items():
        for value in values:
            space.settings({name: value})
    return space


def read_values(texts: Sequence[Sequence[str]]) -> dict[str, tuple[float, ...]]:
    """Return what `--set NAME VALUE ...` says, given once per setting.

    Raises:
        ValueError: A value is no number, or a setting is there twice.
    """
    found: dict[str, tuple[float, ...]] = {}
    for words in texts:
        name, values = words[0].replace("-", "_") if words else "", words[1:]
        if name in found:
            raise ValueError(f"--set {name}: given more than once; give all values behind one")
        found[name] = tuple(_number(name, value) for value in values)
    return found


def value_of(settings: PipelineConfig, name: str) -> Any:
    """Return a setting by its dotted name."""
    section, _, field = name.partition(".")
    return getattr(getattr(settings, section), field)


def with_values(settings: PipelineConfig, values: Values) -> PipelineConfig:
    """Return settings with others in their places; thresholds of what is sure stay on both sides of the labels' own.

    Raises:
        pydantic.ValidationError: A value is out of range.
    """
    tree = settings.model_dump()
    for name, value in values.items():
        section, _, field = name.partition(".")
        tree[section][field] = value
    labels = tree["labels"]
    if isinstance(labels["sure_thresholds"], tuple) and isinstance(labels["background_threshold"], int | float):
        labels["sure_thresholds"] = _about(labels["background_threshold"], labels["sure_thresholds"])
    labels["sure_pixel_thresholds"] = _about(labels["pixel_threshold"], labels["sure_pixel_thresholds"])
    return PipelineConfig.model_validate(tree)


def _about(threshold: float, sure: tuple[float, float]) -> tuple[float, float]:
    low, high = min(sure[0], round(0.9 * threshold, 4)), max(sure[1], round(threshold + 0.1 * (1 - threshold), 4))
    return low, high


def _number(name: str, text: str) -> float:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"--set {name}: expected numbers, got {text!r}")
    return value
