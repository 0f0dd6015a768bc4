"""What a run is asked to do, and how that becomes a plan."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, model_validator

from data.cam_families import family_of
from data.dataset import CamSource, Dataset, DatasetError, Problem, relabelled
from data.formats.class_tables import in_table
from data.readers import open_dataset
from data.readers.beside.cams import Missing, with_cams
from data.readers.beside.hints import with_hints
from data.readers.beside.regions import with_regions
from data.readers.beside.saliency import with_saliency
from data.saliency_maps import is_network
from data.store import ArtifactError
from data.validation import check_images, set_aside, warnings
from flows.engine.presets import over_file, over_preset
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
from flows.labels.presets import OF_VOC12, PRESETS, quick
from flows.labels.successors import SUCCESSORS
from tasks.engine.plan import Networks, Plan, digest_samples, weights_digest
from tasks.engine.run_record import RunRecord, read_run
from tasks.networks import NETWORKS
from tasks.pipeline import trained_stages
from tasks.pipeline.plan import pipeline_settings, plan_labels, without_effect
from tasks.pipeline.settings import PipelineConfig, PixelsConfig, RegionsConfig, SaliencyPriorConfig

log = logging.getLogger(__name__)
# What was chosen or learnt on the set that the networks were trained on goes with them, where the run has it.
CHOSEN_STAGES = ("thresholds", "label-thresholds", "pixel-classifier")
KNOW_CLASSES = {"classifier", "pixel-classifier"}
if TYPE_CHECKING:
    NetworkName = str
else:
    NetworkName = Literal[tuple(spec.name for spec in NETWORKS.values() if spec.follows_run)]


class LabelsRequest(Request):
    """What the flows that make labels are asked for: the set with image-level labels, and the settings.

    Attributes:
        data: Folder of the data set.
        labels: Image-level labels: CSV, JSON lines, COCO JSON, a folder of XML or label maps.
        split: A list of images: a file, or the name of a list of the set.
        classes: File with the name of a class per line.
        saliency: Weights of scores: folder of maps, ID.png or ID.npy, or a network, FILE.onnx.
        regions: A segmenter's regions for labels: ID.json of SAM, ID.png of ids, folders ID.
        hints: Boxes, points, strokes of labelme, VOC, COCO, YOLO, or PNGs of values.
        cams: Folder of CAMs of another method (.npy, .npz, .pt), in place of the classifier.
        cam_classes: Table of their classes: voc20, coco80, coco91, or a file with a name per line. By default
            `classes.txt` in their folder, else the classes of the set.
        cam_family: Their form, such as irn or clip-es; by default told by the files and the tags.
        missing_cams: Labelled images without a map: refuse, skip, or take for background.
        skip_bad: Set bad images aside instead of refusing the set.
        settings: The settings of all stages.
        settings_file: JSON of settings over the preset's, such as best.json of tune. Options go before it.
    """

    data: WholePath
    labels: WholePath | None = None
    split: ListName | None = None
    classes: WholePath | None = None
    saliency: WholePath | None = None
    regions: WholePath | None = None
    hints: WholePath | None = None
    cams: WholePath | None = None
    cam_classes: ListName | None = None
    cam_family: str | None = None
    missing_cams: Missing = "error"
    skip_bad: bool = False
    settings: PipelineConfig = Field(default_factory=quick)
    settings_file: Path | None = None

    preset_names: ClassVar[tuple[str, ...]] = tuple(PRESETS)

    @model_validator(mode="before")
    @classmethod
    def _start_from_the_preset(cls, values: Any) -> Any:
        preset = values.get("preset") if isinstance(values, dict) else None
        if isinstance(preset, str) and preset in SUCCESSORS and values.get("cam_family") is None:
            values = {**values, "cam_family": preset}
        return over_preset(over_file(values, PRESETS), PRESETS)

    @model_validator(mode="after")
    def _backbone_is_there(self) -> Self:
        check_backbone(self.settings)
        return self

    @model_validator(mode="after")
    def _saliency_has_a_source(self) -> Self:
        if self.saliency is None and self.settings.saliency != SaliencyPriorConfig():
            raise ValueError(
                "saliency.floor and saliency.non_salient are without effect: no saliency is given (--saliency DIR or "
                "FILE.onnx)"
            )
        return self

    @model_validator(mode="after")
    def _regions_have_a_source(self) -> Self:
        if self.regions is None and self.settings.regions != RegionsConfig():
            raise ValueError("the settings of regions are without effect: no regions are given (--regions DIR)")
        return self

    @model_validator(mode="after")
    def _settings_have_a_stage(self, info: ValidationInfo) -> Self:
        if not isinstance(info.context, CommandLine):
            # Whole settings of another preset, or of a record that an earlier version wrote, were not said one by one.
            return self
        settings, kept = self.settings, getattr(self, "networks", None) is not None
        found = without_effect(settings, PRESETS[self.preset](), cams=self.cams is not None, networks=kept)
        if found:
            why = [f"refiner {settings.refiner}"] + ["maps of --cams"] * (self.cams is not None)
            why += ["networks of --networks"] * kept
            log.warning("%s: without effect in a run with %s", ", ".join(found), ", ".join(why))
        return self

    @model_validator(mode="after")
    def _the_preset_has_its_maps(self) -> Self:
        if self.preset in SUCCESSORS and (self.cams is None or self.cam_family != self.preset):
            writer = family_of(self.preset).writer
            raise ValueError(f"preset {self.preset}: expected attention maps of {writer} (--cams DIR), of that family")
        return self

    @model_validator(mode="after")
    def _cams_have_a_source(self) -> Self:
        if self.cam_family is not None:
            family_of(self.cam_family)
        if self.cams is None and (self.cam_classes or self.cam_family or self.missing_cams != "error"):
            raise ValueError(
                "cam_classes, cam_family and missing_cams are without effect: no class attention maps are given "
                "(--cams DIR)"
            )
        return self

    @model_validator(mode="after")
    def _the_refiner_has_a_backbone_without_a_classifier(self) -> Self:
        refiner, kept = self.settings.refiner, getattr(self, "networks", None)
        if self.cams is None or kept or refiner == "none":
            return self
        name, trained = (
            ("IRNet", self.settings.irnet) if refiner == "irnet" else ("AffinityNet", self.settings.affinitynet)
        )
        if trained.backbone_from == "classifier":
            raise ValueError(
                f"{refiner}.backbone_from classifier: with maps of another method (--cams) no classifier is trained; "
                "take pretrained, and give --weights"
            )
        if self.settings.weights is None and not trained.backbone_lr_factor:
            raise ValueError(
                f"weights: with maps of another method (--cams) no classifier is trained that {name} could take its "
                "backbone from; give ImageNet weights (--weights FILE or imagenet), the networks of an earlier run "
                f"(--networks RUN), or have {name} train its backbone (--{refiner}.backbone-lr-factor 1)"
            )
        return self


class RunRequest(LabelsRequest):
    """A run: a data set, settings, and where the results go. The parameters of the flow `pseudo-labels`.

    Attributes:
        networks: An earlier run whose networks are used; nothing is trained.
        go_on: Go on where a stage failed: classifier at chance, no sure pixel, empty labels.
        train: Networks to train on the labels, each into a folder of the results. By the preset of the same name.
        val: A list of images with ground truth, which those networks are evaluated on.
    """

    networks: Path | None = None
    go_on: bool = False
    train: tuple[NetworkName, ...] = ()
    val: ListName | None = None

    @model_validator(mode="after")
    def _validation_is_of_networks(self) -> Self:
        if self.val is not None and not self.train:
            raise ValueError(
                f"val {self.val}: without effect, since no network is trained on the labels (--train NAME)"
            )
        return self

    @model_validator(mode="after")
    def _networks_start_from_weights_without_a_classifier(self) -> Self:
        if self.cams is not None and self.train and self.settings.weights is None:
            raise ValueError(
                f"train {' '.join(self.train)}: with maps of another method (--cams) there is no classifier to start "
                "from; give ImageNet weights (--weights)"
            )
        return self


def open_set(request: LabelsRequest) -> tuple[Dataset, list[Problem]]:
    """Read the lists and labels of a request's set, and find its maps and regions; no image is decoded.

    Returns:
        The set, and the problems of what was left out (none unless `skip_bad`).

    Raises:
        DatasetError: Lists every problem, or names of classes in the settings that the set does not have.
    """
    dataset, problems = open_dataset(
        request.data, request.labels, request.split, request.classes, skip_bad=request.skip_bad
    )
    if request.cams is not None:
        missing = "skip" if request.skip_bad and request.missing_cams == "error" else request.missing_cams
        options = {"classes": request.cam_classes, "family": request.cam_family}
        dataset, lacking = with_cams(dataset, request.cams, missing=missing, skip_bad=request.skip_bad, **options)
        dataset, problems = set_aside(dataset, lacking), [*problems, *lacking]
    if request.regions is not None:
        dataset, lacking = with_regions(dataset, request.regions, request.skip_bad)
        dataset, problems = set_aside(dataset, lacking), [*problems, *lacking]
    if request.hints is not None:
        dataset, several = with_hints(dataset, request.hints, request.skip_bad)
        dataset, problems = set_aside(dataset, several), [*problems, *several]
    if request.saliency is None:
        return dataset, problems
    names = dataset.classes.real_names
    if unknown := [name for name in request.settings.saliency.non_salient if name not in names]:
        message = f"saliency.non_salient: expected classes of the set ({', '.join(names)}), found {', '.join(unknown)}"
        raise DatasetError([Problem(request.data, message)])
    dataset, lacking = with_saliency(dataset, request.saliency, request.skip_bad)
    return set_aside(dataset, lacking), [*problems, *lacking]


def check_files(request: LabelsRequest, dataset: Dataset) -> list[Problem]:
    """Return what `check_images` finds in a request's set.

    Raises:
        DatasetError: The network of its saliency cannot be used.
    """
    if request.saliency is not None and is_network(request.saliency):
        # Only who has such a network waits for its library.
        from models.onnx_saliency import SaliencyNetwork

        try:
            SaliencyNetwork(request.saliency)
        except ValueError as error:
            raise DatasetError([Problem(request.saliency, str(error))]) from error
    return check_images(dataset, request.num_workers)


def prepare(request: RunRequest) -> PlannedRun:
    """Read the data set, check it, and plan the run.

    Images are decoded for the check only where the plan has work to do.

    Raises:
        DatasetError: Lists every problem of the set.
        ArtifactError: The run whose networks were asked for cannot be used.
    """
    prepared = plan_run(
        request,
        lambda: take_over(request, lambda: open_set(request)),
        lambda dataset: replan(request, dataset),
        lambda dataset: check_files(request, dataset),
        set_aside,
        skip_bad=request.skip_bad,
    )
    if prepared.checked:
        plan = prepared.plan
        for note in plan.dataset.notes:
            log.info("%s", note)
        for warning in warnings(plan.dataset, {id: each.image for id, each in plan.images.digests.items()}):
            log.warning("%s", warning)
    return prepared


def replan(request: RunRequest, dataset: Dataset) -> Plan:
    """Lay out the artifacts of a request over a data set that was read already.

    Raises:
        DatasetError: Files cannot be read, the set has no background, or the networks do not know its classes.
        ArtifactError: The run whose networks were asked for cannot be used.
    """
    settings, networks = request.settings, None
    if not dataset.classes.has_background:
        message = "expected image-level labels; every pixel of this set has a class: train a network on it (pseudomask "
        raise DatasetError([Problem(dataset.root, message + "train segnet --data ...)")])
    if request.networks:
        source = read_run(request.networks)
        theirs = pipeline_settings(source)
        keys, fits = _networks_of(source, theirs, request), _fits(source, theirs, request)
        if request.cams and (problem := _problem_of_classes(dataset, source)) and keys.pop("pixel-classifier", None):
            # A refiner knows no classes.
            log.warning("the pixel classifier of %s does not count: %s", source.folder, problem.message)
        networks = Networks(source.store, keys)
        settings = settings.model_copy(update={"backbone": theirs.backbone, "weights": None})
        if "label-thresholds" not in keys and fits:
            settings = with_numbers_of(settings, theirs)
        if "pixel-classifier" not in keys:
            if settings.pixels.folds:
                log.warning("%s has no pixel classifier that fits: the labels are the walk's", source.folder)
            settings = settings.model_copy(update={"pixels": PixelsConfig()})
        if KNOW_CLASSES & keys.keys():
            dataset = _as_trained(dataset, source)
    if dataset.cams:
        settings = with_cam_thresholds(settings, dataset.cams, request.preset)
    settings = with_refiner_thresholds(settings, request.preset)
    return plan_labels(dataset, settings, digest_samples(dataset), weights=weights_digest(settings), networks=networks)


def with_cam_thresholds(settings: PipelineConfig, cams: CamSource, preset: str) -> PipelineConfig:
    """Return settings with the thresholds of the maps' own method where they are those of a preset of `OF_VOC12`.

    Other presets choose theirs on the set, and a number that is not the preset's is the user's.
    """
    family = family_of(cams.family)
    presets = family.coco if preset == "coco14" and family.coco else family.presets
    if preset not in OF_VOC12 or presets is None:
        return settings
    ours, relations, labels = PRESETS[preset](), settings.relations, settings.labels
    pair = relations.foreground_threshold, relations.background_threshold
    if pair == (ours.relations.foreground_threshold, ours.relations.background_threshold):
        update = {"foreground_threshold": presets.foreground, "background_threshold": presets.background}
        relations = relations.model_copy(update=update)
    if (labels.background_threshold, labels.sure_thresholds) == (ours.labels.background_threshold, None):
        labels = labels.model_copy(update={"background_threshold": presets.labels})
    return settings.model_copy(update={"relations": relations, "labels": labels})


def with_refiner_thresholds(settings: PipelineConfig, preset: str) -> PipelineConfig:
    """Return settings with AffinityNet's thresholds of labels where they are the preset's numbers, which are IRNet's.

    It decides for a class where its share exceeds 0.5.
    """
    ours, labels = PRESETS[preset]().labels, settings.labels
    update: dict[str, object] = {}
    same = (labels.background_threshold, labels.sure_thresholds) == (ours.background_threshold, ours.sure_thresholds)
    if settings.refiner == "affinitynet" and same and labels.background_threshold != "auto":
        update["background_threshold"] = 0.5
        if labels.sure_thresholds is not None:
            update["sure_thresholds"] = (0.3, 0.7)
    for name, value in update.items():
        log.info("labels.%s: %s, for the refiner %s and the preset's own number", name, value, settings.refiner)
    return settings.model_copy(update={"labels": labels.model_copy(update=update)}) if update else settings


def _fits(source: RunRecord, theirs: PipelineConfig, request: LabelsRequest) -> bool:
    """Return whether what an earlier run chose for its scores fits a request's: of maps alike, by the same refiner."""
    same_maps = bool(source.request.get("cams")) == bool(request.cams)
    return same_maps and theirs.refiner == request.settings.refiner


def _networks_of(source: RunRecord, theirs: PipelineConfig, request: LabelsRequest) -> dict[str, str]:
    """Return stage -> key of the networks of an earlier run that a run needs, and of what was chosen with them.

    Raises:
        ArtifactError: It has not all of them.
    """
    needed = [
        stage for stage in trained_stages(request.settings.refiner) if stage != "classifier" or request.cams is None
    ]
    chosen = CHOSEN_STAGES if _fits(source, theirs, request) else ()
    keys = {stage: key for stage in (*needed, *chosen) if (key := source.network(stage))}
    if missing := [stage for stage in needed if stage not in keys]:
        told = f"{source.folder}: the run has no {' and no '.join(missing)}"
        if request.cams is None and source.request.get("cams"):
            told += f": it was made with --cams {source.request['cams']}; give maps of that method by --cams"
        raise ArtifactError(told)
    return keys


def with_numbers_of(settings: PipelineConfig, theirs: PipelineConfig) -> PipelineConfig:
    """Return settings with the labels' thresholds of another run in place of what is left to be chosen."""
    labels, pixels = settings.labels, settings.pixels
    if labels.background_threshold == "auto" != theirs.labels.background_threshold:
        update = {name: getattr(theirs.labels, name) for name in ("background_threshold", "sure_thresholds")}
        labels = labels.model_copy(update=update)
        if pixels.taught_thresholds == "auto":
            # Its own are those of the labels, which nothing chooses now.
            pixels = pixels.model_copy(update={"taught_thresholds": theirs.pixels.taught_thresholds})
    return settings.model_copy(update={"labels": labels, "pixels": pixels})


def _problem_of_classes(dataset: Dataset, source: RunRecord) -> Problem | None:
    """Return why a set cannot have the class table of an earlier run; None where it can."""
    table = source.classes
    if unknown := sorted({dataset.classes.names[c] for s in dataset.samples for c in s.labels} - set(table.names)):
        message = f"classes {', '.join(unknown)} are unknown to the networks: {', '.join(table.names)}"
        return Problem(dataset.root, message)
    if dataset.classes.names != table.names and any(s.semantic or s.instances for s in dataset.samples):
        return Problem(dataset.root, "its label maps need the networks' class table; give it by --classes")
    return None


def _as_trained(dataset: Dataset, source: RunRecord) -> Dataset:
    """Return the set with the class table of an earlier run, and no labels but those that it was trained on.

    Raises:
        DatasetError: A class of the set is not in the run's table.
    """
    if problem := _problem_of_classes(dataset, source):
        raise DatasetError([problem])
    table = source.classes
    seen = {c for sample in source.dataset.samples for c in sample.labels}
    found = in_table(dataset, replace(table, origin=f"those of the networks of {source.folder}"))
    if unseen := {table.names[c] for sample in found.samples for c in sample.labels} - {table.names[c] for c in seen}:
        log.warning("the networks have never seen %s: these labels are left out", ", ".join(sorted(unseen)))
    samples = (relabelled(sample, tuple(c for c in sample.labels if c in seen)) for sample in found.samples)
    return replace(found, samples=tuple(samples))
