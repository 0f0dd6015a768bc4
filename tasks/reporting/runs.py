"""What differs between runs that made labels: settings, code, scores, and the labels of each image."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.dataset import VOID, ClassTable, DatasetError, LabelMap, Problem, Sample, value_type
from data.formats.images import read_image
from data.formats.label_folder import SEMANTIC, value_names
from data.formats.label_maps import read_ground_truth, read_label_map
from data.store import ArtifactError
from tasks.engine.artifact import has_truth
from tasks.engine.run_record import RunRecord, read_run
from tasks.evaluation.bootstrap import mean_interval
from tasks.evaluation.semantic_metrics import confusion, image_iou, iou
from tasks.reporting import pictures
from tasks.reporting.figures import read_run_metrics
from tasks.reporting.page import PICTURE_HEIGHT, Column, Page, Row, Table, flatten, names_of_classes, shown_settings
from tasks.reporting.review import mean_measures

SHOWN_DIGITS = 8
# What of a request decides the labels, beside the settings.
ASKED = (
    "data",
    "labels",
    "split",
    "saliency",
    "regions",
    "cams",
    "cam_classes",
    "cam_family",
    "missing_cams",
    "networks",
)

# Settings of networks, and of what they begin with.
TRAINED = ("weights", "classifier", "irnet", "affinitynet")


@dataclass(frozen=True)
class LabelledRun:
    """A finished run that made labels.

    Attributes:
        name: Short name, unique among the runs that are compared.
        metrics: Content of its `metrics.json`.
        values: By value of its label maps, the same class's in the first run's; `VOID` where that has no such class.
    """

    name: str
    folder: Path
    record: RunRecord
    metrics: Mapping[str, Any]
    values: NDArray[np.int64]

    def read(self, sample: str, num_values: int) -> LabelMap | None:
        """Return an image's label map in the first run's values, None where the run has none of it."""
        file = self.folder / "labels" / SEMANTIC / f"{sample}.png"
        if not file.is_file():
            return None
        return self.values[read_label_map(file)].astype(value_type(num_values))


def open_runs(folders: Sequence[Path]) -> list[LabelledRun]:
    """Read the records and scores of runs.

    Raises:
        ArtifactError: There are fewer than two, or one is no finished run that made labels.
    """
    if len(folders) < 2:
        raise ArtifactError(f"expected two runs or more to compare, got {len(folders)}")
    runs: list[LabelledRun] = []
    for number, folder in enumerate(folders):
        record = read_run(folder)
        if "network" in record.settings:
            raise ArtifactError(f"{folder}: expected a run that made labels, found a training")
        shown_settings(record)
        name = folder.resolve().name
        name = f"{name} ({number + 1})" if name in [run.name for run in runs] else name
        values = _values_in(folders[0], folder)
        runs.append(LabelledRun(name, folder, record, read_run_metrics(folder), values))
    return runs


def compare_labels(runs: Sequence[LabelledRun], num_images: int) -> dict[str, Any]:
    """Compare the first run with each other one.

    Args:
        num_images: Images of either kind that are listed: those that gained most, and those that lost most.

    Returns:
        "runs": names and folders; "settings": dotted name -> a value per run, where they differ; "code": stage -> a
        digest per run, where they differ; "semantic": method -> an mIoU per run; "instances": method -> an AP50 per
        run; "per_class": class -> an IoU of the labels per run; "quality": measure of `quality.csv` -> its mean per
        run; "pairs": for each run but the first what `compare_pair` returns.

    Raises:
        ArtifactError: The list of a run's images cannot be read.
        DatasetError: A label map or ground truth cannot be read, or maps of an image differ in size.
    """
    first = runs[0]
    return {
        "runs": [{"name": run.name, "run": str(run.folder), "images": run.record.images.count} for run in runs],
        "settings": _different([_settings(run.record) for run in runs]),
        "code": _different_code([_code(run.record) for run in runs]),
        "semantic": _side_by_side([_scores(run.metrics, "semantic", "miou") for run in runs]),
        "instances": _side_by_side([_scores(run.metrics, "instances", "ap50") for run in runs]),
        "per_class": _side_by_side([_class_scores(run.metrics) for run in runs]),
        "quality": _side_by_side([mean_measures(run.folder) for run in runs]),
        "pairs": [compare_pair(first, other, num_images) for other in runs[1:]],
    }


def compare_pair(first: LabelledRun, other: LabelledRun, num_images: int) -> dict[str, Any]:
    """Compare the labels of two runs, image by image.

    Returns:
        "name" of the other; "images" that both have; "agreement", the share of their pixels with one class, and
        "agreement_iou", the mean IoU of the two; where there is ground truth "scored" images, the "gain" of their mean
        IoU from the first to the other, its bootstrap "interval", and the images that "gained" and "lost" most, with
        the scores "before" and "after".
    """
    names = first.record.classes.values
    total = np.zeros((len(names), len(names) + 1), np.int64)
    changes: list[dict[str, Any]] = []
    count = 0
    for sample, maps in _pairs(first, other, len(names)):
        count += 1
        total += confusion(*maps, len(names))
        if (scores := _image_scores(sample, maps, len(names))) is not None:
            changes.append({"image": sample.id, "before": scores[0], "after": scores[1]})
    pixels = int(total.sum())
    known = iou(total)
    found: dict[str, Any] = {
        "name": other.name,
        "images": count,
        "agreement": float(np.diagonal(total).sum() / pixels) if pixels else None,
        "agreement_iou": float(np.nanmean(known)) if np.isfinite(known).any() else None,
    }
    if not changes:
        return found
    changes.sort(key=lambda change: change["after"] - change["before"])
    gains = [change["after"] - change["before"] for change in changes]
    return {
        **found,
        "scored": len(changes),
        "gain": float(np.mean(gains)),
        "interval": mean_interval(gains),
        "gained": [change for change in changes[::-1] if change["after"] > change["before"]][:num_images],
        "lost": [change for change in changes if change["after"] < change["before"]][:num_images],
    }


def runs_page(runs: Sequence[LabelledRun], found: Mapping[str, Any]) -> Page:
    """Return the page of a comparison, with pictures of the images that gained and lost most.

    Args:
        found: What `compare_labels` returned.

    Raises:
        DatasetError: A photograph, a label map or ground truth cannot be read.
    """
    first = runs[0]
    names = tuple(run.name for run in runs)
    titles = {"semantic": "mIoU", "instances": "AP50", "per_class": "IoU of the labels, class by class"}
    scores = {
        title: Table(names, {name: tuple(values) for name, values in found[part].items()}, compares_columns=True)
        for part, title in titles.items()
        if found[part]
    }
    samples = {sample.id: sample for sample in first.record.dataset.samples}
    listed = [
        change["image"] for pair in found["pairs"] for kind in ("gained", "lost") for change in pair.get(kind, ())
    ]
    return Page(
        title=" and ".join(names),
        record=first.record,
        changes=found["settings"],
        scores=scores,
        scores_note="In percent, against the ground truth." if scores else "Without ground truth nothing was scored.",
        seconds={},
        columns={
            "photo": Column("Photograph", ""),
            "truth": Column("Truth", "grey: void"),
            **{name: Column(name, "semantic labels") for name in names},
        },
        rows=[_row(samples[id], runs, first.record.classes) for id in dict.fromkeys(listed)],
        images_note="Images that gained most from the first run to the others, then those that lost most.",
        settings_of=names,
        settings_note=("Settings that differ", "All settings are the same."),
    )


def _values_in(first: Path, other: Path) -> NDArray[np.int64]:
    """Return by value of a run's label maps that of the same class in those of the first, `VOID` where it has none."""
    new = {name: value for value, name in enumerate(value_names(first / "labels"))}
    values = np.full(1 << 16, VOID)
    for value, name in enumerate(value_names(other / "labels")):
        if value != VOID:
            values[value] = new.get(name, VOID)
    return values


def _pairs(
    first: LabelledRun, other: LabelledRun, num_values: int
) -> Iterator[tuple[Sample, tuple[LabelMap, LabelMap]]]:
    """Yield each image that both runs have, with its label maps.

    Raises:
        DatasetError: They differ in size.
    """
    for sample in first.record.dataset.samples:
        ours, theirs = first.read(sample.id, num_values), other.read(sample.id, num_values)
        if ours is None or theirs is None:
            continue
        if ours.shape != theirs.shape:
            message = f"expected the size of {first.name}'s, {ours.shape}, found {theirs.shape}"
            raise DatasetError([Problem(other.folder / "labels" / SEMANTIC / f"{sample.id}.png", message, sample.id)])
        yield sample, (ours, theirs)


def _image_scores(sample: Sample, maps: Sequence[LabelMap], num_values: int) -> tuple[float, float] | None:
    """Return the mean IoU of an image's two label maps; None without ground truth.

    Raises:
        DatasetError: It is of another size than the labels, or has values of no class.
    """
    truth = read_ground_truth(sample).semantic if has_truth(sample) else None
    if truth is None:
        return None
    try:
        before, after = (image_iou(truth, labels, num_values) for labels in maps)
    except ValueError as error:
        raise DatasetError([Problem(sample.semantic or sample.image, str(error), sample.id)]) from None
    return None if before is None or after is None else (before, after)


def _settings(record: RunRecord) -> dict[str, Any]:
    """Return dotted name -> setting; settings of networks are those of the run that trained them."""
    asked = {f"request.{name}": record.request.get(name) for name in ASKED}
    settings = dict(record.settings)
    if source := record.request.get("networks"):
        # Where that run is gone, its settings are not known.
        with contextlib.suppress(ArtifactError):
            trained = read_run(Path(str(source))).settings
            settings |= {name: trained[name] for name in TRAINED if name in trained}
    return {"preset": record.preset, **dict(flatten(settings)), **asked}


def _code(record: RunRecord) -> dict[str, str]:
    """Return stage -> digest of the source that made its artifacts; "" where they are those of an earlier run."""
    return {name: str((stage.common or {}).get("source", ""))[:SHOWN_DIGITS] for name, stage in record.stages.items()}


def _different_code(of_runs: Sequence[Mapping[str, str]]) -> dict[str, list[Any]]:
    """Return the stages that runs made by different code; a run that did not make one has nothing to differ."""
    different = _different(of_runs).items()
    return {name: values for name, values in different if len({value for value in values if value}) > 1}


def _different(of_runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {
        name: values
        for name, values in _side_by_side(of_runs).items()
        if len({json.dumps(value, sort_keys=True, default=str) for value in values}) > 1
    }


def _side_by_side(of_runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for one in of_runs for name in one)
    return {name: [one.get(name) for one in of_runs] for name in names}


def _scores(metrics: Mapping[str, Any], part: str, figure: str) -> dict[str, float | None]:
    methods = {name: score for name, score in metrics.get(part, {}).items() if figure in score}
    return {name: score[figure] for name, score in methods.items()}


def _class_scores(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    return metrics.get("semantic", {}).get("labels", {}).get("iou", {})


def _row(sample: Sample, runs: Sequence[LabelledRun], classes: ClassTable) -> Row:
    photo = pictures.fit_height(read_image(sample.image), PICTURE_HEIGHT)
    maps = {"truth": read_ground_truth(sample).semantic}
    maps |= {run.name: run.read(sample.id, len(classes.values)) for run in runs}
    cells = {"photo": pictures.data_uri(photo)} | {
        name: pictures.data_uri(pictures.overlay_labels(photo, labels))
        for name, labels in maps.items()
        if labels is not None
    }
    return Row(sample.id, names_of_classes(sample, classes), cells)
