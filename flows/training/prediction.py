"""What a prediction is asked to do, and how that becomes a plan."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.dataset import ClassTable, Dataset, DatasetError, Problem
from data.readers import has_own_classes, open_dataset, open_images
from data.store import ArtifactError
from data.validation import can_be_set_aside, check_images, set_aside
from flows.engine.request import ListName, PlannedRun, Request, WholePath, plan_run
from flows.training.request import settings_of
from tasks.engine.artifact import has_truth
from tasks.engine.plan import Networks, Plan, digest_samples, make_plan
from tasks.engine.run_record import RunRecord, read_run
from tasks.networks import NETWORKS, NetworkSettings
from tasks.networks.saliency import SaliencySettings
from tasks.networks.stages.saliency_targets import has_own_mask
from tasks.reporting.figures import read_training_metrics

log = logging.getLogger(__name__)


class PredictRequest(Request):
    """Label maps of images from a trained network. The parameters of the flow `predict`.

    Attributes:
        network: Folder of a finished training.
        data: Folder of images, or of a data set.
        split: A list of its images: a file, or the name of a list of the set.
        skip_bad: Set bad images aside instead of refusing all.
        evaluate: Score the labels against the ground truth of the images, which then must have some.
    """

    network: WholePath
    data: WholePath
    split: ListName | None = None
    skip_bad: bool = False
    evaluate: bool = False


def prepare_prediction(request: PredictRequest) -> PlannedRun:
    """Read the images, check them, and plan the predictions.

    Raises:
        DatasetError: Lists every bad image.
        ArtifactError: `network` is not the folder of a training.
    """
    record = read_run(request.network)
    settings = settings_of(record)
    network, predictions, _, metrics = NETWORKS[settings.network].pipeline
    result = (metrics if request.evaluate else predictions).name
    if (key := record.network(network.name)) is None:
        raise ArtifactError(f"{request.network}: expected the record of a training, found no network in it")
    if request.evaluate:
        # What its scores are of is said beside them; nobody should predict for hours to learn that it cannot be read.
        read_training_metrics(request.network)
    given = Networks(record.store, {network.name: key})

    def lay_out(dataset: Dataset) -> Plan:
        stages = NETWORKS[settings.network].pipeline
        digests = digest_samples(dataset)
        return make_plan(dataset, settings, digests, stages, (result,), networks=given)

    def read() -> tuple[Dataset, list[Problem]]:
        dataset, problems = _open_images(request, record)
        for note in dataset.notes:
            log.info("%s", note)
        return dataset, problems

    def drop(dataset: Dataset, problems: list[Problem]) -> Dataset:
        bad = {problem.sample for problem in problems}
        kept = tuple(sample for sample in dataset.samples if sample.id not in bad)
        if not kept:
            raise DatasetError(problems)
        return replace(dataset, samples=kept)

    check = partial(check_images, num_workers=request.num_workers)
    return plan_run(request, read, lay_out, check, drop, skip_bad=request.skip_bad)


def _open_images(request: PredictRequest, record: RunRecord) -> tuple[Dataset, list[Problem]]:
    """Return images without labels, or with the ground truth that they are to be scored against."""
    if not request.evaluate:
        return open_images(request.data, record.classes, request.split, request.skip_bad)
    return open_truth(request, settings_of(record), record.classes, _classes_file(record))


def open_truth(
    request: PredictRequest, settings: NetworkSettings, classes: ClassTable, names: Path | None
) -> tuple[Dataset, list[Problem]]:
    """Return images with the ground truth that a network's labels are scored against, and what was left out.

    Args:
        classes: What the network learned.
        names: The file that these are from, where there is one.

    Raises:
        DatasetError: Lists every problem: of the set, other classes, images without ground truth.
    """
    names = None if has_own_classes(request.data) else names
    dataset, problems = open_dataset(request.data, split=request.split, classes=names, skip_bad=request.skip_bad)
    learns_saliency = isinstance(settings, SaliencySettings) and settings.training.learns_saliency
    if learns_saliency and all(map(has_own_mask, dataset.samples)):
        # Scored by their masks alone.
        samples = tuple(replace(sample, labels=()) for sample in dataset.samples)
        return replace(dataset, classes=classes, samples=samples), problems
    if dataset.classes.values != classes.values:
        message = f"expected the network's classes, {', '.join(classes.names)}, found "
        raise DatasetError([Problem(dataset.root, message + ", ".join(dataset.classes.names))])
    lacking = [sample for sample in dataset.samples if not has_truth(sample)]
    if lacking and not request.skip_bad:
        expected = "expected ground truth to score against, found none"
        found = [Problem(sample.image, expected, sample.id) for sample in lacking]
        raise DatasetError(found, of_images=can_be_set_aside(dataset, found))
    return set_aside(dataset, [Problem(s.image, "has no ground truth", s.id) for s in lacking]), problems


def _classes_file(record: RunRecord) -> Path | None:
    """Return the file with the names of the classes that a training, or the run whose labels it learned, was given."""
    if record.asked("classes") is None and (labels := record.asked("labels")):
        record = read_run(labels)
    return record.asked("classes")
