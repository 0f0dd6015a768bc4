"""What the tables of the IRNet paper on pseudo labels are asked for, and the runs that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from pydantic import Field, model_validator

from data.dataset import DatasetError, Problem
from flows.engine.presets import over_preset
from flows.engine.request import ListName, Request, WholePath
from flows.labels.presets import PRESETS
from flows.labels.request import RunRequest, open_set
from tasks.config import Seed
from tasks.engine.artifact import has_truth
from tasks.pipeline.settings import PipelineConfig, PixelsConfig

TABLE = "irnet"


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        title: What it is of.
        run: Of `RUNS`.
        method: Whose score of the run's `metrics.json` it has.
        paper: The figure of the IRNet paper, in percent; None where it has none.
    """

    title: str
    run: str
    method: str
    paper: float | None = None


RUNS: Mapping[str, Mapping[str, Any]] = {
    "none": {"refiner": "none"},
    "affinitynet": {"refiner": "affinitynet"},
    "irnet": {"refiner": "irnet"},
    # Pieces of CAMs stay where they are, less what a boundary runs through.
    "displacement": {"refiner": "irnet", "walk": {"steps": 0}},
}
"""Run -> the settings in which it differs from the others."""
SEMANTIC = (
    Row("CAM, best threshold", "irnet", "cam", 48.3),
    Row("CAM + CRF", "none", "labels"),
    Row("AffinityNet", "affinitynet", "labels", 59.3),
    Row("IRNet", "irnet", "labels", 66.5),
)
"""Table 2 of the paper: mIoU of pseudo labels on VOC 2012 `train`."""
INSTANCES = (
    Row("CAM + components, best threshold", "irnet", "cam_components", 8.6),
    Row("CAM + boundary + components", "irnet", "boundary_components", 34.1),
    Row("CAM + displacement", "displacement", "labels"),
    Row("CAM + displacement + boundary", "irnet", "labels", 37.7),
)
"""Table 1 of the paper: AP50 of pseudo instance labels there, and AP70, which it does not give."""


def _first_round(preset: Callable[[], PipelineConfig]) -> PipelineConfig:
    return preset().model_copy(update={"pixels": PixelsConfig()})


FIRST_ROUND_PRESETS: Mapping[str, Callable[[], PipelineConfig]] = {
    name: partial(_first_round, preset) for name, preset in PRESETS.items()
}
"""The presets without a second round, which the paper has not."""


class CompareRefinersRequest(Request):
    """The tables of the IRNet paper on pseudo labels. The parameters of the flow `compare-refiners`.

    Attributes:
        data: Folder of a data set, some images of which have label maps.
        labels: File or folder of image-level labels, where the data set does not hold them itself.
        split: The list of images that are labelled, and scored.
        classes: File with the name of a class a line.
        seeds: All runs are made once for each.
        settings: Of all runs. There is no second round, which the paper has not, unless `pixels.folds` asks for it.
    """

    data: WholePath
    labels: WholePath | None = None
    split: ListName | None = None
    classes: WholePath | None = None
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    settings: PipelineConfig = Field(default_factory=FIRST_ROUND_PRESETS["quick"])

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, values: Any) -> Any:
        return over_preset(values, FIRST_ROUND_PRESETS)

    @model_validator(mode="after")
    def _seeds_are_different(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected each once, got {', '.join(map(str, self.seeds))}")
        return self


def check_truth(request: CompareRefinersRequest) -> None:
    """Raise what is wrong with the set before anything runs.

    Raises:
        DatasetError: The set cannot be read, or no image has ground truth.
    """
    dataset, _ = open_set(next(runs(request))[2])
    if not any(map(has_truth, dataset.samples)):
        message = f"expected images with label maps, which the tables are scores against; none of {request.split} has"
        raise DatasetError([Problem(request.data, message)])


def runs(request: CompareRefinersRequest) -> Iterator[tuple[str, int, RunRequest]]:
    """Yield name, seed and request of every run, one seed after the other; what is alike is made once."""
    base = request.settings.model_dump()
    for seed in request.seeds:
        for name, changes in RUNS.items():
            changed = {
                key: {**base[key], **each} if isinstance(each, Mapping) else each for key, each in changes.items()
            }
            yield (
                name,
                seed,
                RunRequest(
                    data=request.data,
                    labels=request.labels,
                    split=request.split,
                    classes=request.classes,
                    out=request.out / f"{name}-{seed}",
                    settings=PipelineConfig.model_validate({**base, **changed, "seed": seed}),
                    **request.where,
                    time_limit=request.time_limit,
                ),
            )
