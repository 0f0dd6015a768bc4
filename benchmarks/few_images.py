"""Thresholds of few images: python -m benchmarks.few_images --run RUN [--images 64] [--json-file FILE].

Some images of a finished run with ground truth choose the background threshold of the walked scores, as stage
`label-thresholds` does, alone or drawn towards the usual one (`tasks.pipeline.thresholds.steadied`). Their labels of
the walk, after the CRF, are scored on just these images: mean over draws, and the tenth that does worst.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks.machine import describe_machine, write_results
from data.dataset import Sample
from data.formats.label_maps import read_ground_truth
from data.store import open_store
from kernels.crf import refine_many
from tasks.engine.run_record import RunRecord, read_run
from tasks.evaluation.semantic_metrics import confusion, iou
from tasks.pipeline.score_maps import MapReader
from tasks.pipeline.thresholds import (
    CAMS,
    CANDIDATES,
    WALK,
    Curves,
    MapFile,
    colour_contrast,
    ends_weigh_less,
    masks_at,
    overlap,
    spread_out,
    steadied,
)
from tasks.publishing.runs import images_of
from tasks.training.working_size import read_working_image, to_size

COUNTS = (1, 2, 3, 5, 8, 16, 32)
ITERATIONS = 5


def main(run: Path, images: int = 64, draws: int = 200, seed: int = 0, json_file: Path | None = None) -> int:
    """Measure, and print.

    Args:
        run: Folder of the run.
        images: That the draws are of, spread over the set.
        draws: For each number of images.
        seed: Of the draws.
        json_file: Gets the figures.
    """
    record = read_run(run)
    samples = [sample for sample, _ in images_of(record) if sample.labels]
    samples = spread_out(sorted(samples, key=lambda sample: sample.id), images)
    measured = [_measure(record, sample) for sample in samples]
    rng, rows = np.random.default_rng(seed), {}
    for count in (number for number in COUNTS if number <= len(measured)):
        found = [_judge([measured[n] for n in rng.choice(len(measured), count, replace=False)]) for _ in range(draws)]
        scores = {name: np.array([each[name] for each in found]) for name in found[0]}
        rows[count] = {n: [round(float(v), 4) for v in (s.mean(), np.quantile(s, 0.1))] for n, s in scores.items()}
    results = {"machine": describe_machine(), "run": run.name, "images": len(measured), "counts": rows}
    print(json.dumps(results, indent=1))
    if json_file:
        write_results(results, json_file)
    return 0


def _measure(record: RunRecord, sample: Sample) -> dict[str, Any]:
    """Return an image's contrast per candidate of the CAMs, agreement per pair of candidates, and confusions."""
    settings = record.settings
    long_side = tuple(settings["long_side"]) if settings["long_side"] else None
    image = read_working_image(sample.image, long_side)  # pyright: ignore[reportArgumentType]
    cams, walked = (_maps(record, sample, file) for file in (CAMS, WALK))
    masks = [*masks_at(cams, image, CANDIDATES), *masks_at(walked / walked.max().clamp(min=1e-12), image, CANDIDATES)]
    refined = refine_many(image, masks, [len(cams) + 1] * len(masks), iterations=ITERATIONS)
    of_cams, of_walk = refined[: len(CANDIDATES)], refined[len(CANDIDATES) :]
    return {
        "contrast": colour_contrast(image, of_cams),
        "agreement": [[overlap(one > 0, other > 0) for one in of_walk] for other in of_cams],
        "confusion": _confusions(sample, of_walk, len(record.classes.values)),
    }


def _maps(record: RunRecord, sample: Sample, file: MapFile) -> Any:
    key = record.stages[file.stage].key_of(sample.id)
    assert key is not None
    with MapReader(open_store(record.store).fetch(file.stage, key) / file.name) as maps:
        return maps[sample.id]


def _confusions(sample: Sample, masks: list[NDArray[Any]], count: int) -> list[NDArray[np.int64]]:
    truth = read_ground_truth(sample).semantic
    assert truth is not None
    values = np.array([0, *(c + 1 for c in sample.labels)], truth.dtype)
    size = (truth.shape[0], truth.shape[1])
    return [confusion(truth, to_size(values[mask], size), count) for mask in masks]


def _judge(some: list[dict[str, Any]]) -> dict[str, float]:
    """Return the mIoU of images at the thresholds that they choose together, and at the one that suits them best."""
    zeros = (0.0,) * len(CANDIDATES)
    contrast = ends_weigh_less(np.mean([each["contrast"] for each in some], axis=0))
    of_cams = CANDIDATES.index(Curves(contrast, zeros).threshold)
    agreement = np.mean([each["agreement"][of_cams] for each in some], axis=0)
    alone = Curves(tuple(agreement), zeros).threshold
    scores = [
        float(np.nanmean(iou(np.sum([each["confusion"][n] for each in some], axis=0)))) for n in range(len(CANDIDATES))
    ]
    by_threshold = dict(zip(CANDIDATES, scores, strict=True))
    return {"alone": by_threshold[alone], "steadied": by_threshold[steadied(alone, len(some))], "best": max(scores)}


if __name__ == "__main__":
    sys.exit(tyro.cli(main, description=__doc__))
