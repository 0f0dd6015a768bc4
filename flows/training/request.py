"""What a training is asked to do, and how that becomes a plan."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from data.dataset import ClassTable, CocoSource, Dataset, DatasetError, Problem, Sample, without_more
from data.formats.class_tables import in_table
from data.formats.label_folder import CONFIDENCE, DETECTIONS, SEMANTIC, SURE
from data.readers import open_dataset
from data.store import ArtifactError, open_store
from data.validation import check_images, set_aside
from flows.engine.presets import over_preset
from flows.engine.request import (
    CommandLine,
    ListName,
    PlannedRun,
    Request,
    WholePath,
    check_backbone,
    plan_run,
    take_over,
)
from tasks.engine.artifact import ImageSet, has_truth
from tasks.engine.plan import Networks, Plan, digest_samples, make_plan, weights_digest
from tasks.engine.run_record import FILE_NAME, RunRecord, read_run
from tasks.networks import NETWORKS, NetworkSettings
from tasks.networks.saliency import SaliencyConfig, SaliencySettings
from tasks.networks.segnet import ON_VGG16, SceneConfig
from tasks.networks.stages.saliency_targets import as_saliency_samples, has_own_mask, salient_values
from tasks.networks.trainer import PixelTrainerConfig

log = logging.getLogger(__name__)
if TYPE_CHECKING:
    AnySettings = NetworkSettings
else:
    AnySettings = Annotated[
        Union[tuple(dict.fromkeys(spec.settings for spec in NETWORKS.values()))],  # noqa: UP007
        Field(discriminator="network"),
    ]


def _one_or_several(value: Any) -> Any:
    """Return what is given alone, as requests in JSON may have it, as one of several."""
    return () if value is None else (value,) if isinstance(value, str | Path) else value


Folders = Annotated[tuple[WholePath, ...], BeforeValidator(_one_or_several)]
Lists = Annotated[tuple[ListName, ...], BeforeValidator(_one_or_several)]


class TrainRequest(Request):
    """A training: label maps, settings, and where the results go. The parameters of the flow `downstream`.

    Attributes:
        data: Folder of the data set; by default that of the run `labels`.
        labels: A run, whose labels are learned for its images; by default the ground truth of the set is.
        split: A list of images of the set to learn from: a file, or the name of a list of the set.
        val: A list of images with ground truth to evaluate on; without one nothing is evaluated.
        classes: File with the name of a class per line.
        saliency: Sets with masks of salient objects, for saliency-deeplabv3plus; without any it derives masks.
        saliency_split: A list of images of each of these sets, in their order.
        skip_bad: Set bad images aside instead of refusing the set.
        processes: Processes that train together, each on a GPU or with its share of the cores.
        settings: The network's settings; its weights may also be a run, whose classifier is taken.
    """

    data: WholePath | None = None
    labels: WholePath | None = None
    split: ListName | None = None
    val: ListName | None = None
    classes: WholePath | None = None
    saliency: Folders = ()
    saliency_split: Lists = ()
    skip_bad: bool = False
    processes: int = Field(default=1, ge=1)
    settings: AnySettings

    # What is trained where the settings do not say.
    default_network: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, values: Any, info: ValidationInfo) -> Any:
        settings = values.get("settings", {}) if isinstance(values, dict) else None
        network = settings.get("network", cls.default_network) if isinstance(settings, dict) else None
        presets = NETWORKS[network].presets if isinstance(network, str) and network in NETWORKS else None
        if _weighs_twice(settings, values, info):
            raise ValueError("sigma_lr_factor is of weights that are learned; here they are given (task_weights)")
        return over_preset(values, presets) if presets else values

    @model_validator(mode="after")
    def _preset_is_the_networks(self) -> TrainRequest:
        presets = NETWORKS[self.settings.network].presets
        if self.preset not in presets:
            raise ValueError(f"preset {self.preset!r} of {self.settings.network}: expected one of {', '.join(presets)}")
        return self

    @model_validator(mode="after")
    def _backbone_is_there(self) -> TrainRequest:
        check_backbone(self.settings)
        return self

    @model_validator(mode="after")
    def _lists_are_of_sets(self) -> TrainRequest:
        if self.saliency and not isinstance(self.settings, SaliencySettings):
            raise ValueError(f"{self.settings.network} does not learn saliency; saliency-deeplabv3plus does")
        if self.split and self.labels:
            raise ValueError("a list of images (split) is of a data set; of a run's labels (labels) all are learned")
        if self.saliency_split and not self.saliency:
            raise ValueError("a list of images to learn saliency from takes their data set (saliency)")
        if self.saliency_split and len(self.saliency_split) != len(self.saliency):
            raise ValueError(
                "lists of images to learn saliency from (saliency_split): expected one of each set, or none"
            )
        training = self.settings.training
        if self.saliency and isinstance(training, SaliencyConfig) and not training.learns_saliency:
            raise ValueError("a set with masks (saliency) is learned where saliency has a weight (task_weights)")
        if self.saliency and isinstance(training, SaliencyConfig) and training.salient_classes:
            raise ValueError("salient_classes are what masks are derived from; the data set (saliency) has its own")
        return self

    @model_validator(mode="after")
    def _dropout_is_of_networks_that_have_it(self) -> TrainRequest:
        training = self.settings.training
        if isinstance(training, SceneConfig) and self.settings.network not in ON_VGG16:
            preset = NETWORKS[self.settings.network].presets[self.preset]().training
            if training.dropout != preset.dropout:  # pyright: ignore[reportAttributeAccessIssue]
                raise ValueError(f"{self.settings.network} has no dropout; those on VGG16 do: {', '.join(ON_VGG16)}")
        return self

    @model_validator(mode="after")
    def _confidence_is_of_labels(self) -> TrainRequest:
        if confidence_power(self.settings) and self.labels is None:
            raise ValueError("training.confidence_weight is of the labels of a run (labels); ground truth has none")
        return self

    @model_validator(mode="after")
    def _the_best_is_found_by_images(self) -> TrainRequest:
        if self.settings.training.keep == "best" and self.val is None:
            raise ValueError("to keep the best network takes validation images: give a list of them by --val")
        return self


def prepare_training(request: TrainRequest) -> PlannedRun:
    """Read the data sets, check them, and plan the training.

    Raises:
        DatasetError: Lists every problem of the sets.
        ArtifactError: The run whose labels or classifier were asked for cannot be used.
    """

    def read() -> tuple[tuple[Dataset, Dataset], list[Problem]]:
        training, validation, left_out = take_over(request, lambda: read_training_sets(request))
        return (training, validation), left_out

    def check(sets: tuple[Dataset, Dataset]) -> list[Problem]:
        return [problem for dataset in sets for problem in check_images(dataset, request.num_workers)]

    def drop(sets: tuple[Dataset, Dataset], problems: list[Problem]) -> tuple[Dataset, Dataset]:
        training, validation = set_aside(sets[0], problems), sets[1]
        if request.saliency and not any(map(has_own_mask, training.samples)):
            raise DatasetError(problems)
        bad = {problem.sample for problem in problems}
        return training, replace(validation, samples=tuple(s for s in validation.samples if s.id not in bad))

    lay_out = partial(replan_training, request)
    return plan_run(request, read, lambda sets: lay_out(*sets), check, drop, skip_bad=request.skip_bad)


def open_training_sets(request: TrainRequest) -> tuple[Dataset, Dataset]:
    """Return the sets of `read_training_sets`."""
    training, validation, _ = read_training_sets(request)
    return training, validation


def read_training_sets(request: TrainRequest) -> tuple[Dataset, Dataset, list[Problem]]:
    """Return the set to learn from and the one to evaluate on, which may be empty; both with label maps.

    The problems are those of images that were left out (none unless `skip_bad`).

    Raises:
        DatasetError: A set cannot be read, has no label maps, or the two have different classes.
        ArtifactError: `labels` is not the folder of a run.
    """
    data, classes, left_out = request.data, request.classes, []
    if request.labels is None:
        if data is None:
            raise DatasetError("expected a data set with label maps (--data), or the labels of a run (--labels)")
        training, left_out = open_dataset(data, split=request.split, classes=classes, skip_bad=request.skip_bad)
        for note in training.notes:
            log.info("%s", note)
    else:
        instances = NETWORKS[request.settings.network].learns == "instances"
        weighted = bool(confidence_power(request.settings))
        training = _labels_of_run(request.labels, instances=instances, weighted=weighted)
        origin = read_labelled_run(request.labels)
        data = data or origin.asked("data", needed=True)
        classes = classes or origin.asked("classes")
    labelled = tuple(filter(has_truth, training.samples))
    if not labelled:
        raise DatasetError([Problem(training.root, "expected images with label maps to learn from, found none")])
    if len(labelled) < len(training.samples):
        log.warning("%d images have no label map and are left out", len(training.samples) - len(labelled))
    salient, bad_masks = _saliency_samples(request, training.classes)
    training = replace(training, samples=(*labelled, *salient))
    left_out = [*left_out, *bad_masks]
    if request.val is None:
        return training, replace(training, samples=()), left_out
    assert data is not None
    validation, bad = open_dataset(data, split=request.val, classes=classes, skip_bad=request.skip_bad)
    if not set(validation.classes.names) <= set(training.classes.names):
        message = (
            f"expected the classes that are learned, {', '.join(training.classes.names)}, "
            f"found {', '.join(validation.classes.names)}"
        )
        raise DatasetError([Problem(validation.root, message)])
    if validation.classes.names != training.classes.names:
        validation = in_table(validation, training.classes)
    tested = tuple(filter(has_truth, validation.samples))
    if not tested:
        message = f"expected images with ground truth in the list {request.val!r}, found none"
        raise DatasetError([Problem(validation.root, message)])
    validation = replace(validation, samples=tested)
    if count := num_shared(validation, training):
        log.warning("%d of the %d validation images are learned too", count, len(tested))
    return training, validation, [*left_out, *bad]


def _weighs_twice(settings: Any, values: Any, info: ValidationInfo) -> bool:
    """Tell whether weights of the tasks were given, and beside them what only learned ones have a use for.

    On the command line every setting has a value, so the words count. Where a file names every setting, as of a request
    that was written, none was asked for. Of settings in Python's form one that differs from the preset's was.
    """
    if isinstance(settings, SaliencySettings):
        if settings.training.task_weights is None:
            return False
        if isinstance(info.context, CommandLine):
            return "training.sigma-lr-factor" in info.context.given
        presets = NETWORKS[settings.network].presets
        preset = presets.get(values.get("preset", "quick"))
        of_preset: Any = preset().training if preset else settings.training
        return settings.training.sigma_lr_factor != of_preset.sigma_lr_factor
    training = settings.get("training") if isinstance(settings, dict) else None
    if not isinstance(training, dict) or SaliencyConfig.model_fields.keys() <= training.keys():
        return False
    return bool(training.get("task_weights")) and "sigma_lr_factor" in training


def num_shared(first: Dataset, second: Dataset) -> int:
    """Return how many images of the first set are images of the second."""
    return len({sample.image.resolve() for sample in first.samples} & {s.image.resolve() for s in second.samples})


def _saliency_samples(request: TrainRequest, classes: ClassTable) -> tuple[list[Sample], list[Problem]]:
    """Return the samples of sets with masks of salient objects, none where masks are derived; and what was left out.

    Raises:
        DatasetError: A set has no such masks, or none can be derived.
    """
    if not request.saliency:
        training = request.settings.training
        if isinstance(training, SaliencyConfig) and training.learns_saliency:
            salient_values(classes, training.salient_classes)
        return [], []
    samples, left_out = [], []
    splits = request.saliency_split or [None] * len(request.saliency)
    for number, (root, split) in enumerate(zip(request.saliency, splits, strict=True), start=1):
        dataset, bad = open_dataset(root, split=split, skip_bad=request.skip_bad)
        if not dataset.samples or not all(map(has_own_mask, dataset.samples)):
            message = "expected a set with masks of salient objects, in the layout of DUTS or ECSSD"
            raise DatasetError([Problem(dataset.root, message)])
        samples += as_saliency_samples(dataset.samples, number)
        # Their ids are of another set than those of the scenes.
        left_out += [replace(problem, sample=None) for problem in bad]
    return samples, left_out


def replan_training(request: TrainRequest, training: Dataset, validation: Dataset) -> Plan:
    """Lay out the network's artifact, and those of its predictions for the validation images.

    Raises:
        DatasetError: Files cannot be read.
        ArtifactError: The run whose classifier was asked for cannot be used.
    """
    settings = _with_weights(request.settings)
    stages = NETWORKS[settings.network].pipeline
    network, _, _, metrics = (stage.name for stage in stages)
    digests = digest_samples(validation)
    plan = make_plan(
        training,
        settings,
        digest_samples(training),
        stages,
        (network,),
        weights=weights_digest(settings),
        validation=ImageSet(validation.samples, digests),
    )
    if not validation.samples:
        return plan
    # The plan of the predictions takes the network as given: its artifact is that of the first plan.
    given = Networks(request.store_address, {network: plan.artifacts[0].key})
    testing = make_plan(validation, settings, digests, stages, (metrics,), networks=given)
    return replace(plan, artifacts=(*plan.artifacts, *testing.artifacts[1:]))


def confidence_power(settings: NetworkSettings) -> float:
    """Return the power of the labels' confidence that a training's loss is weighted by; 0 for no weights."""
    training = settings.training
    return training.confidence_weight if isinstance(training, PixelTrainerConfig) else 0.0


def _labels_of_run(run: Path, *, instances: bool, weighted: bool) -> Dataset:
    """Return the images of a run with its labels for ground truth: its instances, with their scores, or label maps.

    Those of sure pixels are taken where the run has them.

    Args:
        weighted: With how sure each pixel is.

    Raises:
        ArtifactError: The labels have no such maps.
    """
    dataset = read_labelled_run(run).dataset
    labels = run.absolute() / "labels"
    maps = labels / (SURE if (labels / SURE).is_dir() else SEMANTIC)
    sure = labels / CONFIDENCE
    if weighted and not sure.is_dir():
        message = "expected the confidence of the run's labels (training.confidence_weight), found none"
        raise ArtifactError(f"{sure}: {message}; the run's own command makes it")

    def relabel(number: int, sample: Sample) -> Sample:
        # The file counts the run's images from 1.
        source = CocoSource(labels / DETECTIONS, number, dataset.classes.category_ids) if instances else None
        own = replace(sample, semantic=maps / f"{sample.id}.png", instances=None, coco=source, coding=None)
        confidence = sure / f"{sample.id}.png" if weighted else None
        return replace(without_more(own), saliency=None, cams=None, confidence=confidence)

    return replace(dataset, samples=tuple(relabel(*numbered) for numbered in enumerate(dataset.samples, start=1)))


def read_labelled_run(run: Path) -> RunRecord:
    """Read the record of a run that made labels.

    Raises:
        ArtifactError: The folder is not that of a run, or it is that of a training.
    """
    record = read_run(run)
    if "network" in record.settings:
        raise ArtifactError(f"{run}: expected the folder of a run with labels (pseudomask run), found a training's")
    return record


def _with_weights(settings: NetworkSettings) -> NetworkSettings:
    """Return the settings with the classifier's own file where the weights are those of a run."""
    weights = settings.weights
    if not (isinstance(weights, Path) and (weights / FILE_NAME).is_file()):
        return settings
    record = read_run(weights)
    classifier = record.network("classifier")
    if classifier is None:
        raise ArtifactError(f"{weights}: the run has no classifier whose weights could be taken")
    file = open_store(record.store).fetch("classifier", classifier) / "network.safetensors"
    return settings.model_copy(update={"weights": file})


def settings_of(record: RunRecord) -> NetworkSettings:
    """Return the settings of a training's record.

    Raises:
        ArtifactError: It is the record of another kind of run.
    """
    network = record.settings.get("network")
    if network not in NETWORKS:
        raise ArtifactError(
            f"{record.folder / 'run.json'}: expected the folder of a training (pseudomask train), "
            "found that of another run"
        )
    return record.settings_as(NETWORKS[network].settings)
