"""`pseudomask doctor`: what this machine has, and what is wrong with a data set."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from pydantic import model_validator
from rich.console import Console
from rich.table import Table

from data.cam_families import family_of
from data.dataset import DatasetError, Problem
from data.readers import open_dataset
from data.readers.beside.cams import with_cams
from data.readers.beside.hints import with_hints
from data.readers.beside.regions import with_regions
from data.readers.beside.saliency import with_saliency
from data.text import one_line
from data.validation import examine_files, warnings
from flows.commands.command import Command, CommandEnded, Output, answer
from flows.engine.exit_codes import FAILED
from tasks.config import Config
from tasks.engine.plan import image_digests
from tasks.engine.processes import python_command, python_environment

PACKAGES = ("torch", "torchvision", "prefect", "pydensecrf2", "numba", "numpy", "opencv-python")


def examine_machine(folder: Path) -> dict[str, Any]:
    """Return what decides how fast, and whether, a run will go on this machine.

    Args:
        folder: Where results would be written.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1) if memory else None,
        "free_disk_gib": round(shutil.disk_usage(folder).free / 2**30, 1),
        "gpus": _gpus(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def examine_dataset(
    data: Path,
    labels: Path | None,
    split: str | None,
    classes: Path | None,
    regions: Path | None = None,
    hints: Path | None = None,
    cams: Path | None = None,
    cam_classes: str | None = None,
    cam_family: str | None = None,
    saliency: Path | None = None,
) -> tuple[dict[str, Any], list[Problem]]:
    """Read a data set and decode all of it, and what lies beside; return what it holds, and every problem."""
    try:
        dataset, problems = open_dataset(data, labels, split, classes, skip_bad=True)
        if cams is not None:
            of_maps = {"classes": cam_classes, "family": cam_family, "missing": "skip", "skip_bad": True}
            dataset, lacking = with_cams(dataset, cams, **of_maps)
            problems = [*problems, *lacking]
        if saliency is not None:
            dataset, lacking = with_saliency(dataset, saliency, skip_bad=True)
            problems = [*problems, *lacking]
        if regions is not None:
            dataset, lacking = with_regions(dataset, regions, skip_bad=True)
            problems = [*problems, *lacking]
        if hints is not None:
            dataset, several = with_hints(dataset, hints, skip_bad=True)
            problems = [*problems, *several]
    except DatasetError as error:
        return {}, error.problems or [Problem(data, str(error))]
    examined = examine_files(dataset, os.cpu_count() or 1)
    problems = [*problems, *examined.problems]
    counts = dict.fromkeys(dataset.classes.real_names, 0)
    for sample in dataset.samples:
        for label in sample.labels:
            counts[dataset.classes.names[label]] += 1
    bad = {problem.sample for problem in problems}
    digests = image_digests([sample for sample in dataset.samples if sample.id not in bad])
    facts = {
        "labels": dataset.labels_from or "label maps of the layout",
        "classes": f"{len(dataset.classes)}: {dataset.classes.origin}",
        "images": len(dataset.samples),
        "images_with_labels": sum(bool(sample.labels) for sample in dataset.samples),
        "images_without_labels": sum(not sample.labels for sample in dataset.samples),
        "pixel_values": examined.pixels,
        "with_semantic_ground_truth": sum(bool(s.semantic or s.coco) for s in dataset.samples),
        "with_instance_ground_truth": sum(bool(s.instances or s.coco) for s in dataset.samples),
        "class_values": {name: value for value, name in enumerate(dataset.classes.values) if name in counts},
        "images_per_class": counts,
        "notes": list(dataset.notes),
        "warnings": [*warnings(dataset, digests, examined.sizes), *examined.doubts],
    }
    return facts, problems


def show_diagnosis(result: dict[str, Any], console: Console) -> None:
    """Print the machine, the data set, and all problems with their files."""
    table = Table(title="This machine", title_justify="left", show_header=False)
    for name, value in result["machine"].items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(name, "none" if value in ([], None) else text)
    console.print(table)
    if facts := result.get("dataset"):
        table = Table(title="The data set", title_justify="left", show_header=False)
        for name, value in facts.items():
            if name in ("warnings", "notes"):
                continue
            if isinstance(value, dict):
                value = ", ".join(f"{k} {v}" for k, v in value.items() if v or name != "images_per_class")
            table.add_row(name, one_line("; ".join(value) if isinstance(value, list) else value))
        console.print(table)
    for note in (result.get("dataset") or {}).get("notes", ()):
        console.print(f"note: {one_line(note)}", highlight=False, markup=False, soft_wrap=True)
    for problem in result["problems"]:
        text = one_line(f"{problem['file']}: {problem['message']}")
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if count := len(result["problems"]):
        told = "1 problem" if count == 1 else f"{count} problems"
        remedy = "`run --skip-bad` sets bad images aside" if facts else "No run can use the set before it is mended"
        console.print(f"{told}. {remedy}.", highlight=False)
    for note in (result.get("dataset") or {}).get("warnings", ()):
        console.print(f"warning: {note}", style="yellow", highlight=False, markup=False, soft_wrap=True)
    if not result["problems"] and "dataset" in result:
        warnings = len((result["dataset"] or {}).get("warnings", ()))
        told = f" {warnings} warning{'s' * (warnings > 1)}: labels may be poor, see above." if warnings else ""
        console.print(f"No problem found.{told}", highlight=False)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpus() -> list[str]:
    """Return the GPUs that torch can use; asked of another process, since torch takes seconds to load."""
    if not Path("/dev/nvidiactl").exists() and sys.platform == "linux":
        return []
    code = "import torch; print(*map(torch.cuda.get_device_name, range(torch.cuda.device_count())), sep='\\n')"
    answer = subprocess.run(
        python_command("-c", code), env=os.environ | python_environment(), capture_output=True, text=True, check=False
    )
    return answer.stdout.split("\n")[:-1] if answer.returncode == 0 and answer.stdout.strip() else []


class DoctorRequest(Config):
    """A data set that is looked through, beside the machine.

    Attributes:
        data: Folder of a data set.
        labels: Its image-level labels.
        split: A list of its images.
        classes: File with the name of a class per line.
        regions: Folder of a segmenter's regions of its images.
        hints: Folder of boxes, points and strokes in its images.
        cams: Folder of class attention maps of another method.
        cam_classes: The table of their classes: voc20, coco80, coco91, or a file with a name per line.
        cam_family: Their form, such as irn or clip-es; by default told by the files and the tags.
        saliency: Folder of maps of saliency of its images.
    """

    data: Path | None = None
    labels: Path | None = None
    split: str | None = None
    classes: Path | None = None
    regions: Path | None = None
    hints: Path | None = None
    cams: Path | None = None
    cam_classes: str | None = None
    cam_family: str | None = None
    saliency: Path | None = None

    @model_validator(mode="after")
    def _family_is_known(self) -> Self:
        if self.cam_family is not None:
            family_of(self.cam_family)
        if self.cams is None and (self.cam_classes or self.cam_family):
            raise ValueError("cam_classes and cam_family are without effect: no attention maps are given (--cams DIR)")
        return self


def _carry_out(request: DoctorRequest, options: Output) -> None:
    result: dict[str, Any] = {"machine": examine_machine(Path.cwd()), "problems": []}
    if request.data:
        result["dataset"], problems = examine_dataset(**dict(request))
        result["problems"] = [{"file": str(p.file), "sample": p.sample, "message": p.message} for p in problems]
    answer(result, show_diagnosis, options.as_json)
    if result["problems"]:
        raise CommandEnded(FAILED)


COMMAND = Command(
    name="doctor",
    help="What this machine has, and everything that is wrong with a data set.",
    request=DoctorRequest,
    carry_out=_carry_out,
)
