"""`pseudomask export`: a run's labels for other programs, as VOC folders and COCO JSON."""

from __future__ import annotations

import csv
import json
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from data.coco import read_coco
from data.dataset import DatasetError, Problem, Sample
from data.label_folder import DETECTIONS, KINDS, SURE
from data.store import ArtifactError, explain_os_errors
from tasks.run_record import RunRecord, read_run

Format = Literal["voc", "coco", "both"]
STAMP = "export.json"


def export_labels(run: Path, out: Path, format: Format = "both") -> dict[str, Any]:
    """Write a run's labels into a folder of their own, which appears whole or not at all.

    VOC: `SegmentationClass` and `SegmentationObject` (palette PNGs), `ImageSets/Segmentation/train.txt` (the images'
    ids) and `classes.txt`. COCO: `instances.json`, with RLE masks and scores; its file names are relative to the data
    set. Photographs are not copied: `images.csv` says where each one is.

    Args:
        run: Folder of a finished run.
        out: A folder that does not exist, is empty, or holds an earlier export, which is replaced.
        format: Which of the two.

    Returns:
        "out", "format", "images", and for COCO the number of "annotations".

    Raises:
        ArtifactError: The folder holds no run, or `out` holds something else or cannot be written.
        DatasetError: Labels of the run are missing, all of them listed, or damaged.
    """
    record = read_run(run)
    if "network" in record.settings:
        raise ArtifactError(f"{run}: a training has no labels; its network is exported by --format onnx or torchscript")
    _refuse_foreign(out)
    answer: dict[str, Any] = {"out": str(out), "format": format, "images": len(record.dataset.samples)}
    temporary = out.absolute().with_name(f".{out.absolute().name}.{secrets.token_hex(4)}")
    with explain_os_errors(out):
        try:
            temporary.mkdir(parents=True)
            _write_list(temporary / "images.csv", record.dataset.samples)
            if format in ("voc", "both"):
                _write_voc(temporary, run / "labels", record)
            if format in ("coco", "both"):
                answer["annotations"] = _write_coco(temporary, run / "labels")
            (temporary / STAMP).write_text(json.dumps({**answer, "run": str(run.resolve())}))
            _replace(out, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return answer


def show_export(result: dict[str, Any], console: Console) -> None:
    """Print what was written, and where."""
    written = {"voc": "VOC label maps", "coco": "COCO JSON", "both": "VOC label maps and COCO JSON"}[result["format"]]
    console.print(f"{written} of {result['images']} images: {result['out']}", highlight=False, soft_wrap=True)


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not (out / STAMP).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise ArtifactError(f"{out}: holds something else than an earlier export; choose another folder, or empty it")


def _write_list(file: Path, samples: Sequence[Sample]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("image", "path"))
        writer.writerows((sample.id, sample.image.resolve()) for sample in samples)


def _write_voc(folder: Path, labels: Path, record: RunRecord) -> None:
    kinds = (*KINDS, SURE) if (labels / SURE).is_dir() else KINDS
    names = [f"{kind}/{sample.id}.png" for kind in kinds for sample in record.dataset.samples]
    if missing := [name for name in names if not (labels / name).is_file()]:
        raise DatasetError([Problem(labels / name, "expected a label map of the run, found none") for name in missing])
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(labels / name, folder / name)
    listing = folder / "ImageSets" / "Segmentation" / "train.txt"
    listing.parent.mkdir(parents=True)
    listing.write_text("".join(f"{sample.id}\n" for sample in record.dataset.samples), encoding="utf-8")
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in record.dataset.classes.names), encoding="utf-8")


def _write_coco(folder: Path, labels: Path) -> int:
    """Copy the run's COCO file, once it has been read; return the number of its annotations."""
    annotations = read_coco(labels / DETECTIONS).annotations
    shutil.copyfile(labels / DETECTIONS, folder / DETECTIONS)
    return sum(map(len, annotations.values()))


def _replace(out: Path, folder: Path) -> None:
    if not out.exists():
        folder.rename(out)
        return
    retired = folder.with_name(f"{folder.name}.old")
    out.rename(retired)
    folder.rename(out)
    shutil.rmtree(retired)
