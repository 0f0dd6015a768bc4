"""What a box, a click or a stroke for each object gives: python -m benchmarks.hints RUN... --work DIR [--train].

Each RUN made labels of a set with ground truth. Hints are made of that: for each object its box, a disc of a click in
its middle, or a stroke along it, and strokes over background beside clicks and strokes. Then the run is repeated with
them: with the run's networks, or where `--train` with networks that learn from the hints too.

Objects are those of the instance maps, else the connected parts of each class that are a 500th of the image or more.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.machine import describe_machine, results_file, write_results
from data.dataset import Sample
from data.formats.label_maps import read_ground_truth, separate_objects
from tasks.engine.run_record import RunRecord, read_run

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
LEAST_SHARE = 1 / 500
KINDS = ("boxes", "clicks", "strokes")


def main(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    work: Path,
    kinds: tuple[str, ...] = KINDS,
    train: bool = False,
    json_file: Path | None = None,
) -> int:
    """Repeat runs with hints, and print what they give.

    Args:
        runs: Folders of finished runs whose sets have ground truth.
        work: Gets the hints and the new runs.
        kinds: Of hints.
        train: Train networks that learn from the hints, instead of using the run's.
        json_file: Results; benchmarks/results/hints-<machine>.json if not said.
    """
    machine = describe_machine()
    file = json_file or results_file(machine, "hints")
    document = json.loads(file.read_text()) if file.is_file() else {"machine": machine, "runs": {}}
    for run in runs:
        record = read_run(run)
        for kind in ("none", *kinds):
            name = f"{run.name} {kind}{' trained' if train and kind != 'none' else ''}"
            if name not in document["runs"]:
                document["runs"][name] = _scores(run, record, kind, train, work)
                write_results(document, file)
    for name, found in document["runs"].items():
        print(name, json.dumps(found))
    return 0


def _scores(run: Path, record: RunRecord, kind: str, train: bool, work: Path) -> dict[str, Any]:
    """Return the scores of the run, or of one like it with hints."""
    if kind == "none":
        return _facts(json.loads((run / "metrics.json").read_text()))
    hints, out = work / f"{run.name}-{kind}", work / f"{run.name}-{kind}-run"
    hints.mkdir(parents=True, exist_ok=True)
    for sample in record.dataset.samples:
        shapes = list(_shapes(sample, record.classes.names, kind))
        if shapes:
            file = hints / f"{sample.id}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"shapes": shapes}))
    request = record.request
    words = ["run", "--data", request["data"], "--out", out, "--store", record.store, "--hints", hints]
    for name in ("labels", "split", "classes"):
        words += [f"--{name}", request[name]] if request.get(name) else []
    weights = record.settings.get("weights")
    words += ["--weights", weights, "--seed", record.settings["seed"]] if train else ["--networks", run]
    command = [sys.executable, "-m", "flows", *map(str, words), "--go-on", "--json"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(answer.stderr)
    return _facts(json.loads(answer.stdout))


def _facts(metrics: dict[str, Any]) -> dict[str, Any]:
    instances = metrics.get("instances")
    return {
        "cam": metrics["semantic"]["cam"]["miou"],
        "labels": metrics["semantic"]["labels"]["miou"],
        "ap50": instances["labels"]["ap50"] if instances else None,
    }


def _shapes(sample: Sample, names: tuple[str, ...], kind: str) -> Iterator[dict[str, Any]]:
    """Yield the shapes of labelme that a person would draw."""
    truth = read_ground_truth(sample)
    if truth.semantic is None:
        return
    for mask, label in _objects(sample, truth.semantic, truth.instances):
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if kind == "boxes":
            corners = [[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]
            yield _shape(names[label], "rectangle", corners)
        elif kind == "clicks":
            yield _shape(names[label], "point", [_middle(mask)])
        else:
            yield _shape(names[label], "linestrip", _stroke(mask))
    background = truth.semantic == 0
    if kind != "boxes" and background.mean() > LEAST_SHARE:
        one = _middle(background)
        yield (
            _shape("background", "point", [one])
            if kind == "clicks"
            else _shape("background", "linestrip", _stroke(background))
        )


def _objects(
    sample: Sample, semantic: NDArray[np.integer], instances: NDArray[np.integer] | None
) -> Iterator[tuple[NDArray[np.bool_], int]]:
    if instances is not None:
        masks, labels = separate_objects(semantic, instances)
        yield from ((mask, int(label)) for mask, label in zip(masks, labels, strict=True) if label in sample.labels)
        return
    for label in sample.labels:
        parts, _ = ndimage.label(semantic == label + 1)  # pyright: ignore[reportGeneralTypeIssues]
        areas = np.bincount(parts.ravel())
        for number in np.flatnonzero(areas >= LEAST_SHARE * parts.size):
            if number:
                yield parts == number, label


def _middle(mask: NDArray[np.bool_]) -> list[float]:
    """Return the pixel (x, y) that is farthest from the outside."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return [float(column), float(row)]


def _stroke(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Return a stroke through the middles of the left, middle and right third of a mask, or its upper to lower ones."""
    axis = 0 if np.ptp(np.nonzero(mask)[0]) > np.ptp(np.nonzero(mask)[1]) else 1
    places = np.flatnonzero(mask.any(1 - axis))
    points = []
    for low, high in zip(
        *(np.linspace(places[0], places[-1] + 1, 4)[part].astype(int) for part in (slice(3), slice(1, 4))), strict=True
    ):
        part = np.zeros_like(mask)
        part[
            (slice(low, max(high, low + 1)), slice(None))
            if axis == 0
            else (slice(None), slice(low, max(high, low + 1)))
        ] = True
        if (mask & part).any():
            points.append(_middle(mask & part))
    return points if len(points) > 1 else [points[0], points[0]]


def _shape(label: str, kind: str, points: list[list[Any]]) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": [[float(x), float(y)] for x, y in points]}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(tyro.cli(main, description=__doc__))
