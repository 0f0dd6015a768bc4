"""The tables of the IRNet paper: their rows, the request for them, and the runs that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from pydantic import Field, model_validator

from data.dataset import DatasetError, Problem
from data.readers import open_dataset, open_images
from flows.engine.presets import over_preset
from flows.engine.request import ListName, Request, WholePath
from flows.labels.presets import PRESETS
from flows.labels.request import RunRequest, open_set
from flows.training.prediction import PredictRequest
from tasks.config import Seed
from tasks.engine.artifact import has_truth
from tasks.pipeline import groups_without_a_stage
from tasks.pipeline.settings import PipelineConfig, PixelsConfig

TABLE = "irnet"


@dataclass(frozen=True)
class Row:
    """Row of a table.

    Attributes:
        title: What the row is of.
        run: Name in `RUNS`.
        method: Key of the scores: in the run's `metrics.json` a method, of networks the network.
        paper: Figure of the IRNet paper in each column, in percent; None where it has none.
    """

    title: str
    run: str
    method: str
    paper: tuple[float | None, ...]


@dataclass(frozen=True)
class PaperTable:
    """Table of the paper.

    Attributes:
        title: Title, with the table's number in the paper.
        scores: Column -> key of its score.
        tested_on: Images that the paper's figures are of.
        rows: The rows, in their order.
    """

    title: str
    scores: Mapping[str, str]
    tested_on: str
    rows: tuple[Row, ...]


RUNS: Mapping[str, Mapping[str, Any]] = {
    "affinitynet": {"refiner": "affinitynet"},
    "irnet": {"refiner": "irnet"},
    # Pieces of CAMs stay where they are, less what a boundary runs through.
    "displacement": {"refiner": "irnet", "walk": {"steps": 0}},
}
"""Run -> the settings in which it differs from the others."""
# The network that is tested on the list `test` as well, and that of instances.
SEGMENTER, DETECTOR = "deeplabv2", "maskrcnn"
TEACHERS: Mapping[str, tuple[str, ...]] = {"affinitynet": (SEGMENTER,), "irnet": (SEGMENTER, DETECTOR)}
"""Run -> the networks that learn its labels."""
PRECISIONS = {"AP50": "ap50", "AP70": "ap70"}
PAPER_TABLES: Mapping[str, PaperTable] = {
    "semantic": PaperTable(
        "Semantic pseudo labels (Table 2 of the paper)",
        {"mIoU": "miou"},
        "VOC 2012 train",
        (
            Row("CAM, best threshold", "irnet", "cam", (48.3,)),
            Row("CAM + CRF, best threshold", "irnet", "cam_crf", (None,)),
            Row("AffinityNet", "affinitynet", "labels", (59.3,)),
            Row("IRNet", "irnet", "labels", (66.5,)),
        ),
    ),
    "instances": PaperTable(
        "Instance pseudo labels (Table 1 of the paper)",
        PRECISIONS,
        "VOC 2012 train",
        (
            Row("CAM + components, best threshold", "irnet", "cam_components", (8.6, None)),
            Row("CAM + boundary + components", "irnet", "boundary_components", (34.1, None)),
            Row("CAM + displacement", "displacement", "labels", (None, None)),
            Row("CAM + displacement + boundary", "irnet", "labels", (37.7, None)),
        ),
    ),
    "detection": PaperTable(
        "Networks trained on the instance labels (Table 3 of the paper)",
        PRECISIONS,
        "VOC 2012 val",
        (Row("Mask R-CNN on IRNet's labels", "irnet", DETECTOR, (46.7, 23.5)),),
    ),
    "segmentation": PaperTable(
        "Networks trained on the semantic labels (Table 4 of the paper)",
        {"val mIoU": "val", "test mIoU": "test"},
        "VOC 2012 val and test",
        (
            Row("DeepLab v2 on AffinityNet's labels", "affinitynet", SEGMENTER, (58.7, None)),
            Row("DeepLab v2 on IRNet's labels", "irnet", SEGMENTER, (63.5, 64.8)),
        ),
    ),
}
"""Kind of labels or of network -> the table. AP is by the rule of the paper's authors (`chainercv`)."""


def _first_round(preset: Callable[[], PipelineConfig]) -> PipelineConfig:
    return preset().model_copy(update={"pixels": PixelsConfig()})


FIRST_ROUND_PRESETS: Mapping[str, Callable[[], PipelineConfig]] = {
    name: partial(_first_round, PRESETS[name]) for name in ("quick", "voc12", "demo")
}
"""Presets for the product's own attention maps, without a second round, which the paper has not."""


class CompareRefinersRequest(Request):
    """The tables of the IRNet paper. The parameters of the flow `compare-refiners`.

    Attributes:
        data: Folder of a data set, some images of which have label maps.
        labels: File or folder of image-level labels, where the data set does not hold them itself.
        split: The list of images that are labelled, and scored.
        val: A list of images with ground truth. DeepLab v2 is trained on AffinityNet's labels and on IRNet's, and where
            there are instances Mask R-CNN on IRNet's; they are scored on it (Tables 3 and 4).
        test: A list of images that DeepLab v2 is tested on too. Without ground truth, its label maps are written in the
            layout of VOC's evaluation server.
        classes: File with the name of a class a line.
        seeds: All runs are made once for each.
        settings: Of all runs. There is no second round, which the paper has not, unless `pixels.folds` asks for it.
    """

    data: WholePath
    labels: WholePath | None = None
    split: ListName | None = None
    val: ListName | None = None
    test: ListName | None = None
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

    @model_validator(mode="after")
    def _networks_are_scored(self) -> Self:
        if self.test and not self.val:
            raise ValueError("test: networks are trained where there is a list to score them on (val)")
        return self


def check_lists(request: CompareRefinersRequest) -> None:
    """Read the lists of images before anything runs.

    Raises:
        DatasetError: A list cannot be read, or its images lack the ground truth that scores need: all of those that
            labels are made for, or some of those that are predicted.
    """
    dataset, _ = open_set(next(runs(request))[2])
    if not any(map(has_truth, dataset.samples)):
        message = f"expected images with label maps, which the tables are scores against; none of {request.split} has"
        raise DatasetError([Problem(request.data, message)])
    if request.test is not None:
        open_images(request.data, dataset.classes, request.test)
        _has_truth(request, request.test)


def networks_of(request: CompareRefinersRequest) -> tuple[str, ...]:
    """Return the networks that are trained: none without `val`, and Mask R-CNN where all of its images have instances.

    Raises:
        DatasetError: The list cannot be read, or an image has no ground truth.
    """
    if request.val is None:
        return ()
    dataset, _ = open_dataset(request.data, request.labels, request.val, request.classes)
    if lacking := [sample for sample in dataset.samples if not has_truth(sample)]:
        raise DatasetError([Problem(each.image, "expected ground truth, found none", each.id) for each in lacking])
    has_instances = all(sample.instances or sample.coco for sample in dataset.samples)
    return (SEGMENTER, DETECTOR) if has_instances else (SEGMENTER,)


def predictions_of(request: CompareRefinersRequest) -> dict[tuple[str, int], PredictRequest]:
    """Return run and seed -> prediction of the list `test`; they are scored where every image has ground truth."""
    if request.test is None:
        return {}
    scored = _has_truth(request, request.test)
    return {
        (name, seed): PredictRequest(
            network=request.out.absolute() / f"{name}-{seed}" / SEGMENTER,
            data=request.data,
            split=request.test,
            evaluate=scored,
            out=request.out / f"test-{name}-{seed}",
            **request.where,
            time_limit=request.time_limit,
        )
        for seed in request.seeds
        for name in TEACHERS
    }


def _has_truth(request: CompareRefinersRequest, split: ListName) -> bool:
    """Tell whether the images of a list have ground truth: all of them, or none.

    Raises:
        DatasetError: Some have; names those that lack it.
    """
    try:
        dataset, problems = open_dataset(request.data, request.labels, split, request.classes, skip_bad=True)
    except DatasetError:
        # None of the server's images has even tags. What else may be wrong, the prediction reports.
        return False
    lacking = [sample for sample in dataset.samples if not has_truth(sample)]
    if len(lacking) == len(dataset.samples):
        return False
    message = f"expected ground truth, which {len(dataset.samples) - len(lacking)} other images of {split} have"
    problems = [*problems, *(Problem(sample.image, message, sample.id) for sample in lacking)]
    if problems:
        raise DatasetError(problems)
    return True


def runs(request: CompareRefinersRequest) -> Iterator[tuple[str, int, RunRequest]]:
    """Yield name, seed and request of every run, one seed after the other; what is alike is made once."""
    base, networks = request.settings.model_dump(), networks_of(request)
    preset = FIRST_ROUND_PRESETS[request.preset]()
    for seed in request.seeds:
        for name, changes in RUNS.items():
            changed = {
                key: {**base[key], **each} if isinstance(each, Mapping) else each for key, each in changes.items()
            }
            train = tuple(network for network in TEACHERS.get(name, ()) if network in networks)
            taught = {"train": train, "val": request.val} if train else {}
            settings = PipelineConfig.model_validate({**base, **changed, "seed": seed})
            idle = {group: getattr(preset, group) for group in groups_without_a_stage(settings.refiner)}
            yield (
                name,
                seed,
                RunRequest(
                    data=request.data,
                    labels=request.labels,
                    split=request.split,
                    classes=request.classes,
                    out=request.out / f"{name}-{seed}",
                    settings=settings.model_copy(update=idle),
                    **taught,
                    **request.where,
                    time_limit=request.time_limit,
                ),
            )
