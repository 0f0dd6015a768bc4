"""The report of a comparison: its tables, and what every network makes of the same photographs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from data.dataset import ClassTable, Sample
from data.formats.images import read_image
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import read_ground_truth, read_label_map
from tasks.engine.run_record import read_run
from tasks.networks import NETWORKS
from tasks.reporting import pictures
from tasks.reporting.page import (
    PICTURE_HEIGHT,
    Column,
    Page,
    Row,
    Table,
    changed_settings,
    names_of_classes,
    shown_settings,
)

IMAGES = 8
SCORES = ("G", "C", "mIoU", "BF", "MAE", "max F")


def comparison_page(
    title: str,
    trials: Sequence[tuple[str, str, Path]],
    rows: Sequence[dict[str, Any]],
    notes: Sequence[str],
    samples: Sequence[Sample],
) -> Page:
    """Return the page of a comparison.

    Args:
        trials: Row of the table, weighting of the classes and folder of every training.
        rows: Of `comparison.json`.
        notes: What has to be known of their scores.
        samples: The test images.

    Raises:
        DatasetError: A photograph, a label map or ground truth cannot be read.
    """
    name, _, first = trials[0]
    record = read_run(first)
    settings = shown_settings(record)
    # One training of each row and weighting has pictures, the first seed's.
    shown: dict[str, Path] = {}
    for row, weighting, folder in trials:
        shown.setdefault(f"{row}, {weighting}", folder)
    return Page(
        title=title,
        record=record,
        changes=changed_settings(settings, NETWORKS[settings["network"]].settings.model_validate({})),
        scores=_tables(rows),
        scores_note="In percent, the mean over the seeds. "
        + "".join(f"{note[0].upper()}{note[1:]}. " for note in notes)
        + f"Seed, backbone, weights and settings are those of {name}.",
        seconds={},
        columns={
            "photo": Column("Photograph", "a test image"),
            "truth": Column("Truth", "grey: void"),
            **{name: Column(name.partition(",")[0], name.partition(", ")[2]) for name in shown},
        },
        rows=[_row(sample, shown, record.classes) for sample in samples[:: max(1, len(samples) // IMAGES)][:IMAGES]],
        images_note="Test images, at even distances in the list. A colour a class.",
    )


def _row(sample: Sample, shown: dict[str, Path], classes: ClassTable) -> Row:
    photo = pictures.fit_height(read_image(sample.image), PICTURE_HEIGHT)
    cells = {"photo": pictures.data_uri(photo)}
    truth = read_ground_truth(sample).semantic
    maps = {"truth": truth} | {
        name: read_label_map(folder / "test" / SEMANTIC / f"{sample.id}.png") for name, folder in shown.items()
    }
    for name, labels in maps.items():
        if labels is not None:
            painted = pictures.fit_height(pictures.paint_labels(labels), PICTURE_HEIGHT)
            cells[name] = pictures.data_uri(painted, lossless=True)
    return Row(sample.id, names_of_classes(sample, classes), cells)


def _tables(rows: Sequence[dict[str, Any]]) -> dict[str, Table]:
    tables = {}
    for weighting in dict.fromkeys(row["weighting"] for row in rows):
        for test in ("test", "train"):
            found = {row["row"]: row[test] for row in rows if row["weighting"] == weighting and test in row}
            columns = tuple(name for name in SCORES if any(name in scores for scores in found.values()))
            if found:
                cells = {name: tuple(_mean(scores.get(column)) for column in columns) for name, scores in found.items()}
                tables[f"{test}, {weighting}"] = Table(columns, cells)
    return tables


def _mean(values: Sequence[float | None] | None) -> float | None:
    known = [value for value in values or () if value is not None]
    return mean(known) if known else None
