"""The picture of the README, from a run with ground truth or without: python docs/picture.py RUN IMAGE.. [--out FILE].

A row per image: photograph, CAM, boundary, displacement, semantic and instance labels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import tyro
from safetensors.numpy import load_file
from tyro.conf import Positional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.formats.images import read_image
from data.formats.label_folder import INSTANCES, SEMANTIC
from data.formats.label_maps import read_label_map
from data.store import open_store
from tasks.engine.run_record import RunRecord, read_run
from tasks.reporting import pictures

HEIGHT, GAP = 128, 6


def main(run: Positional[Path], images: Positional[tuple[str, ...]], out: Path = Path("docs/pipeline.png")) -> None:
    """Draw some images of a run.

    Args:
        run: Folder of a finished run.
        images: Their ids.
        out: PNG to write.
    """
    record = read_run(run)
    rows = [draw(record, image) for image in images]
    white = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
    stacked = np.vstack([part for row in rows for part in (row, white)][:-1])
    cv2.imwrite(str(out), cv2.cvtColor(stacked, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9])


def draw(record: RunRecord, image: str) -> np.ndarray:
    """Return the row of an image, uint8 [H, W, 3]."""
    (sample,) = (each for each in record.dataset.samples if each.id == image)
    photo = read_image(sample.image)
    field = load(record, "fields", "displacement.safetensors", image)
    labels = record.folder / "labels"
    cells = [
        photo,
        pictures.overlay_heat(photo, load(record, "cams", "cams.safetensors", image).max(axis=0)),
        pictures.paint_boundary(load(record, "fields", "boundary.safetensors", image)),
        pictures.paint_displacement(field, float(np.percentile(np.hypot(*field.astype(np.float32)), 99))),
        pictures.overlay_labels(photo, read_label_map(labels / SEMANTIC / f"{image}.png")),
        pictures.overlay_instances(photo, read_label_map(labels / INSTANCES / f"{image}.png")),
    ]
    size = (round(photo.shape[1] * HEIGHT / photo.shape[0]), HEIGHT)
    fitted = [cv2.resize(cell, size, interpolation=cv2.INTER_AREA) for cell in cells]
    white = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    return np.hstack([part for cell in fitted for part in (cell, white)][:-1])


def load(record: RunRecord, stage: str, file: str, image: str) -> np.ndarray:
    """Return an image's map of a stage, from the run's store."""
    key = record.stages[stage].key_of(image)
    assert key is not None
    return load_file(open_store(record.store).fetch(stage, key) / file)[image]


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
