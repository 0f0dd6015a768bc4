"""The report of a run: its scores, times, warnings, and pictures of what every stage made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from data.dataset import ClassTable, LabelMap, Sample
from data.formats.coco import read_detections
from data.formats.images import read_image
from data.formats.label_folder import DETECTIONS
from data.formats.label_maps import read_label_map
from data.store import ArtifactError, open_store
from tasks.engine.run_record import RunRecord, read_run
from tasks.evaluation.health import collapse_of
from tasks.pipeline.regions import TAKEN
from tasks.pipeline.settings import PipelineConfig
from tasks.reporting import pictures
from tasks.reporting.figures import read_run_metrics
from tasks.reporting.page import (
    PICTURE_HEIGHT,
    Column,
    Page,
    Row,
    Table,
    changed_settings,
    choose_samples,
    label_cells,
    names_of_classes,
    shown_settings,
)
from tasks.reporting.pictures import Picture
from tasks.reporting.review import worst_images
from tasks.reporting.training import training_page

SEMANTIC_METHODS = {"cam": "CAM", "cam_crf": "CAM + CRF", "walk": "Random walk", "labels": "Labels"}
INSTANCE_METHODS = {
    "cam_components": "CAM + components",
    "boundary_components": "CAM + boundary + components",
    "labels": "Labels",
}
COLUMNS = {
    "photo": Column("Photograph", "as the networks see it"),
    "cams": Column("CAMs", "the highest score of the image's classes"),
    "saliency": Column("Saliency", "what the scores of salient classes are weighted by"),
    "relations": Column("Relations", "confident pixels; black: background, grey: do not care"),
    "boundary": Column("Boundary", "probability; white: between two classes"),
    "affinity": Column("Affinity", "of a cell and its right and lower neighbour; white: none"),
    "displacement": Column("Displacement", "towards the centroid; direction and length as on the wheel"),
    "regions": Column("Regions", "those of the segmenter that took a class; a colour a region"),
    "semantic": Column("Semantic labels", "what the run wrote"),
    "instances": Column("Instance labels", "a colour an instance"),
    "gt_semantic": Column("Truth: semantic", "grey: void"),
    "gt_instances": Column("Truth: instances", "a colour an instance"),
}


def build_report(run: Path, num_images: int = 12) -> str:
    """Return the page of a finished run, or training.

    Args:
        run: Its folder.
        num_images: Images to show at most.

    Raises:
        ArtifactError: The folder holds no finished run, or the store no longer has what the page shows.
        DatasetError: A photograph, a label map or ground truth that the page shows cannot be read.
    """
    record = read_run(run)
    page = training_page if "network" in record.settings else labels_page
    return page(run, record, num_images).render()


def labels_page(run: Path, record: RunRecord, num_images: int) -> Page:
    """Return the page of a run that made labels; arguments and errors are those of `build_report`."""
    metrics = read_run_metrics(run)
    artifacts = _Artifacts(record)
    samples = record.dataset.samples
    chosen = choose_samples(samples, artifacts.count_instances(), num_images)
    rows, full_px = draw_rows(chosen, run, artifacts, record.classes)
    scores = semantic_tables(metrics.get("semantic", {})) | instance_tables(metrics.get("instances", {}))
    note = "In percent, against the ground truth. Baselines at the threshold that suits them best."
    if not scores:
        note = "The data set has no ground truth, so the labels were not scored."
    return Page(
        title=run.resolve().name,
        record=record,
        changes=changed_settings(shown_settings(record), PipelineConfig()),
        warnings=list(
            dict.fromkeys([*metrics.get("failures", ()), *metrics.get("warnings", ()), *artifacts.warnings()])
        ),
        scores=tag_tables(metrics) | scores,
        scores_note=note,
        seconds=metrics.get("seconds", {}),
        columns=COLUMNS,
        rows=rows,
        images_note=f"{len(rows)} of {len(samples)} images. Every class in turn, images of several instances first.",
        full_px=full_px,
        review=worst_images(run),
        reliability=reliability if (reliability := metrics.get("confidence", {})).get("bins") else None,
    )


def semantic_tables(scores: Mapping[str, Any]) -> dict[str, Table]:
    """Return the tables of `metrics.json`'s semantic scores: over all classes, and class by class."""
    found = {method: scores[method] for method in SEMANTIC_METHODS if method in scores}
    if not found:
        return {}
    titles = {method: _method_title(method, found[method]) for method in found}
    whole = Table(
        ("mIoU", "Pixel accuracy"), {titles[m]: (score["miou"], score["accuracy"]) for m, score in found.items()}
    )
    names = next(iter(found.values()))["iou"]
    per_class = {name: tuple(score["iou"].get(name) for score in found.values()) for name in names}
    return {"Semantic labels": whole, "IoU of each class": Table(tuple(titles.values()), per_class, True)}


def tag_tables(metrics: Mapping[str, Any]) -> dict[str, Table]:
    """Return the table of what the stages found of each class's tags, without any ground truth."""
    tags = metrics.get("tags", {})
    precision = tags.get("classifier", {}).get("ap", {})
    sure = tags.get("relations", {}).get("images_with_confident_pixels", {})
    images = metrics.get("classes", {}).get("images", {})
    lost = tags.get("labels", {}).get("tags_without_a_pixel", {})
    rows = {
        name: (precision.get(name), sure.get(name), 1 - lost.get(name, 0) / count if tags.get("labels") else None)
        for name, count in images.items()
    }
    if not tags or not rows:
        return {}
    where = tags.get("classifier", {}).get("measured_on")
    title = f"AP of the classifier ({where})" if where else "AP of the classifier"
    columns = (title, "Images with sure pixels", "Images with labelled pixels")
    if "cams" in metrics:
        # Another method made the maps, and there is no classifier.
        columns, rows = columns[1:], {name: row[1:] for name, row in rows.items()}
    return {"Tags": Table(columns, rows)}


def instance_tables(scores: Mapping[str, Any]) -> dict[str, Table]:
    """Return the tables of `metrics.json`'s instance scores: by our rule and the authors', and of each class."""
    tables = {}
    for title, group in (
        ("Instance labels", scores),
        ("Instance labels, images where objects of a class touch", scores.get("touching", {})),
        ("Instance labels, void left in them, as the paper's authors score", scores.get("chainercv", {})),
    ):
        rows = {
            _method_title(method, group[method]): (group[method]["ap50"], group[method]["ap70"])
            for method in INSTANCE_METHODS
            if method in group
        }
        if rows:
            tables[title] = Table(("AP50", "AP70"), rows)
    found = {method: scores[method]["per_class"] for method in INSTANCE_METHODS if method in scores}
    if found:
        names = next(iter(found.values()))
        per_class = {name: tuple(score[name]["ap50"] for score in found.values()) for name in names}
        tables["AP50 of each class"] = Table(tuple(INSTANCE_METHODS[method] for method in found), per_class, True)
    return tables


def draw_rows(
    samples: Sequence[Sample], run: Path, artifacts: _Artifacts, classes: ClassTable
) -> tuple[list[Row], float]:
    """Draw every picture of some images.

    Returns:
        The rows, and the length of a displacement, in feature pixels, that is drawn fully saturated: one for all
        images, so that their pictures can be compared.
    """
    fields = {sample.id: artifacts.map("fields", "displacement.safetensors", sample.id) for sample in samples}
    lengths = [np.hypot(*field.astype(np.float32)).ravel() for field in fields.values() if field is not None]
    full_px = float(np.percentile(np.concatenate(lengths), 99)) if lengths else 0.0
    rows = []
    for sample in samples:
        photo = pictures.fit_height(read_image(sample.image), PICTURE_HEIGHT)
        cells = {"photo": pictures.data_uri(photo)}
        cells |= _stage_cells(sample, photo, artifacts)
        if (field := fields[sample.id]) is not None:
            cells["displacement"] = _uri_like(photo, pictures.paint_displacement(field, full_px))
        cells |= label_cells(sample, photo, run / "labels", classes)
        rows.append(Row(sample.id, names_of_classes(sample, classes), cells))
    return rows, full_px


class _Artifacts:
    """Finds what the stages made of an image."""

    def __init__(self, record: RunRecord) -> None:
        self._record = record
        self._store = open_store(record.store)
        self._fetch = cache(self._store.fetch)

    def folder(self, stage: str, sample: str) -> Path | None:
        """Return the folder of the artifact that covers an image; None where the run does not have the stage.

        Raises:
            ArtifactError: The store no longer has it.
        """
        key = self._record.stages[stage].key_of(sample) if stage in self._record.stages else None
        return None if key is None else self._fetch(stage, key)

    def map(self, stage: str, file: str, sample: str) -> NDArray[np.float16] | None:
        """Return an image's map as it is stored, or None where the stage has none for it."""
        folder = self.folder(stage, sample)
        if folder is None:
            return None
        try:
            with safe_open(folder / file, framework="np") as maps:
                return maps.get_tensor(sample) if sample in maps.keys() else None  # noqa: SIM118 (no mapping)
        except (OSError, SafetensorError) as error:
            message = f"{folder / file}: cannot be read ({error}); the command of the run makes it again"
            raise ArtifactError(message) from None

    def count_instances(self) -> dict[str, Counter[int]]:
        """Return sample id -> class -> number of detections."""
        counts: dict[str, Counter[int]] = defaultdict(Counter)
        for key in self._keys("labels"):
            for detection in read_detections(self._fetch("labels", key) / DETECTIONS):
                counts[detection["image"]][detection["class"]] += 1
        return counts

    def warnings(self) -> list[str]:
        """Say what makes the labels worse than they could be."""
        settings = shown_settings(self._record).get("irnet", {})
        summaries = (self._store.read_manifest("irnet", key)["summary"] for key in self._keys("irnet"))
        return list(filter(None, (collapse_of(summary, settings) for summary in summaries)))

    def _keys(self, stage: str) -> Iterable[str]:
        return self._record.stages[stage].keys.values() if stage in self._record.stages else ()


def _stage_cells(sample: Sample, photo: Picture, artifacts: _Artifacts) -> dict[str, str]:
    cells = {}
    cams = artifacts.map("cams", "cams.safetensors", sample.id)
    if cams is not None:
        cells["cams"] = pictures.data_uri(pictures.overlay_heat(photo, cams.max(axis=0)))
    saliency = artifacts.map("saliency", "saliency.safetensors", sample.id)
    if saliency is not None:
        cells["saliency"] = pictures.data_uri(pictures.overlay_heat(photo, saliency[0]))
    labels = artifacts.folder("labels", sample.id)
    if labels is not None and (taken := labels / TAKEN / f"{sample.id}.png").exists():
        cells["regions"] = pictures.data_uri(pictures.overlay_instances(photo, read_label_map(taken)))
    relations = artifacts.folder("relations", sample.id)
    if relations is not None:
        labels = _resize_nearest(read_label_map(relations / f"{sample.id}.png"), photo)
        cells["relations"] = pictures.data_uri(pictures.paint_labels(labels), lossless=True)
    boundary = artifacts.map("fields", "boundary.safetensors", sample.id)
    if boundary is not None:
        cells["boundary"] = _uri_like(photo, pictures.paint_boundary(boundary))
    affinities = artifacts.map("affinities", "affinities.safetensors", sample.id)
    if affinities is not None:
        cells["affinity"] = _uri_like(photo, pictures.paint_boundary(1 - _inside(affinities[:2]).min(axis=0)))
    return cells


def _inside(affinities: NDArray[np.float16]) -> NDArray[np.float16]:
    """Return affinities [2, h, w] to the right and lower neighbour; at the last column and row those before them."""
    inside = affinities.copy()
    for pairs, axis in zip(inside, (1, 0), strict=True):
        last = np.moveaxis(pairs, axis, 0)
        last[-1] = last[-2] if len(last) > 1 else 1
    return inside


def _uri_like(photo: Picture, picture: Picture) -> str:
    """Encode a picture of the feature grid at the photograph's size."""
    size = (photo.shape[1], photo.shape[0])
    return pictures.data_uri(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8))


def _resize_nearest(labels: LabelMap, photo: Picture) -> LabelMap:
    size = (photo.shape[1], photo.shape[0])
    return np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), labels.dtype)


def _method_title(method: str, score: Mapping[str, Any]) -> str:
    name = (SEMANTIC_METHODS | INSTANCE_METHODS)[method]
    if "threshold" not in score:
        return name
    # The thresholds of walk and labels were set or chosen without ground truth; the others' are the best of a sweep.
    return f"{name} ({'at' if method in ('walk', 'labels') else 'best at'} {score['threshold']:g})"
