"""The report of a comparison: its tables, and what every network makes of the same photographs, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from data.dataset import Sample
from data.images import read_image
from data.label_folder import SEMANTIC
from data.label_maps import read_ground_truth, read_label_map
from tasks.network_settings import NETWORK_SETTINGS
from tasks.reporting import pictures
from tasks.reporting.page import PICTURE_HEIGHT, Column, Page, Row, Table, changed_settings
from tasks.run_record import read_run

IMAGES = 8
SCORES = ("G", "C", "mIoU", "BF")


def comparison_page(
    title: str, trials: Sequence[tuple[str, str, Path]], rows: Sequence[dict[str, Any]], samples: Sequence[Sample]
) -> Page:
    """Return the page of a comparison.

    Args:
        trials: Row of the table, weighting of the classes and folder of every training.
        rows: Of `comparison.json`.
        samples: The test images.

    Raises:
        DatasetError: A photograph, a label map or ground truth cannot be read.
    """
    first = trials[0][2]
    record = read_run(first)
    # One training of each row and weighting has pictures, the first seed's.
    shown: dict[str, Path] = {}
    for row, weighting, folder in trials:
        shown.setdefault(f"{row}, {weighting}", folder)
    return Page(
        title=title,
        record=record,
        changes=changed_settings(record.settings, NETWORK_SETTINGS[record.settings["network"]]()),
        scores=_tables(rows),
        scores_note="In percent, the mean over the seeds.",
        seconds={},
        columns={
            "photo": Column("Photograph", "a test image"),
            "truth": Column("Truth", "grey: void"),
            **{name: Column(name.partition(",")[0], name.partition(", ")[2]) for name in shown},
        },
        rows=[_row(sample, shown) for sample in samples[:: max(1, len(samples) // IMAGES)][:IMAGES]],
        images_note="Test images, at even distances in the list. A colour a class.",
    )


def _row(sample: Sample, shown: dict[str, Path]) -> Row:
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
    return Row(sample.id, (), cells)


def _tables(rows: Sequence[dict[str, Any]]) -> dict[str, Table]:
    return {
        f"{test}, {weighting}": Table(
            SCORES,
            {
                row["row"]: tuple(mean(row[test][name]) for name in SCORES)
                for row in rows
                if row["weighting"] == weighting
            },
        )
        for weighting in dict.fromkeys(row["weighting"] for row in rows)
        for test in ("test", "train")
        if test in rows[0]
    }
