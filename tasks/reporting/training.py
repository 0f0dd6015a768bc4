"""The report of a training: its scores on the validation images, its epochs, and pictures of what it predicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.formats.images import read_image
from tasks.engine.run_record import RunRecord
from tasks.networks import NETWORKS
from tasks.networks.cooperative import PREDICTIONS
from tasks.reporting import pictures
from tasks.reporting.figures import read_history, read_training_metrics
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

COLUMNS = {
    "photo": Column("Photograph", "a validation image"),
    "semantic": Column("Predicted: semantic", "a colour a class"),
    "instances": Column("Predicted: instances", "a colour an instance"),
    "saliency": Column("Predicted: saliency", "dark blue: not salient"),
    "gt_semantic": Column("Truth: semantic", "grey: void"),
    "gt_instances": Column("Truth: instances", "a colour an instance"),
}


def training_page(run: Path, record: RunRecord, num_images: int) -> Page:
    """Return the page of a finished training.

    Args:
        run: Its folder.
        record: Of it.
        num_images: Validation images to show at most.

    Raises:
        ArtifactError: The training is not finished.
        DatasetError: A photograph, a label map or ground truth that the page shows cannot be read.
    """
    metrics, settings = read_training_metrics(run), shown_settings(record)
    classes, num_samples = record.classes, record.validation.count
    chosen = choose_samples(record.validation_samples, {}, num_images)
    rows = []
    for sample in chosen:
        photo = pictures.fit_height(read_image(sample.image), PICTURE_HEIGHT)
        cells = {"photo": pictures.data_uri(photo)} | label_cells(sample, photo, run / "predictions", classes)
        if "instances" not in cells:
            # A network that knows classes only is not compared with instances.
            cells.pop("gt_instances", None)
        rows.append(Row(sample.id, names_of_classes(sample, classes), cells))
    scores = score_tables(metrics.get("validation", {}))
    return Page(
        title=run.resolve().name,
        record=record,
        changes=changed_settings(settings, NETWORKS[settings["network"]].settings.model_validate({})),
        scores=scores,
        scores_note=f"In percent, on {num_samples} validation images.{_what_counts(metrics)}"
        if scores
        else "No validation images were given (--val), so nothing was scored.",
        seconds=metrics.get("seconds", {}),
        epochs=read_history(run),
        columns=COLUMNS,
        rows=rows,
        images_note=f"{len(rows)} of {num_samples} validation images"
        + (": every class in turn." if classes.has_background else ", in an order of chance."),
    )


def score_tables(scores: Mapping[str, Any]) -> dict[str, Table]:
    """Return the tables of `metrics.json`'s scores on the validation images, of either kind of network."""
    if "miou" in scores:
        whole = Table(
            ("mIoU", "Pixel accuracy", "Class accuracy", "Boundary F"),
            {
                "Validation images": (
                    scores["miou"],
                    scores["accuracy"],
                    scores["class_accuracy"],
                    scores["boundary_f"],
                )
            },
        )
        accuracy, boundary = scores["accuracy_per_class"], scores["boundary_f_per_class"]
        per_class = {name: (iou, accuracy.get(name), boundary.get(name)) for name, iou in scores["iou"].items()}
        tables = {"Label maps": whole, "Each class": Table(("IoU", "Accuracy", "Boundary F"), per_class)}
        if saliency := scores.get("saliency"):
            derived = ", ".join(saliency["derived_from"])
            name = f"Masks derived from {derived}" if derived else "Masks of the set"
            tables["Saliency"] = Table(("Mean absolute error", "max F"), {name: (saliency["mae"], saliency["max_f"])})
        return tables
    if "ap50" in scores:
        coco = scores["coco"]
        whole = Table(("AP50", "AP70", "COCO AP"), {"Validation images": (scores["ap50"], scores["ap70"], coco["ap"])})
        per_class = {name: (score["ap50"], score["ap70"]) for name, score in scores["per_class"].items()}
        return {"Instances": whole, "Each class": Table(("AP50", "AP70"), per_class)}
    return {}


def _what_counts(metrics: Mapping[str, Any]) -> str:
    prediction = metrics.get("validation", {}).get("prediction")
    return f" The prediction is {PREDICTIONS[prediction]}." if prediction else ""
