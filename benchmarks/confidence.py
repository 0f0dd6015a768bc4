"""How far confidence tells right labels, and quality bad images: python -m benchmarks.confidence --run RUN [RUN ...].

Each run is a finished one over a set with ground truth, and its store is there. Printed are the expected calibration
error and the AUC of "this label is right", before (scores alone) and after the calibration; the rank correlation of
each measure of `quality.csv` with the true IoU of the image; how many of the 20 worst images are among the 40 first
that it proposes; and the calibration that fits the runs best: numbers for
`tasks.pipeline.confidence.odds.CALIBRATIONS`.

Of several runs of one kind each is also judged by the calibration that was fitted on the others.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import spearmanr

from benchmarks.machine import write_results
from data.dataset import VOID, DatasetError, Problem, Sample
from data.formats.images import image_size
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import read_ground_truth, read_label_map
from data.formats.quality import MEASURES, QUALITY, ImageQuality, read_quality
from tasks.evaluation.calibration import LEVELS, calibration_summary, confidence_counts, fit_odds
from tasks.evaluation.semantic_metrics import image_iou
from tasks.pipeline.confidence.odds import CALIBRATIONS, as_bytes
from tasks.pipeline.labels import Decided, decide_rows
from tasks.pipeline.second_round import LabelScores
from tasks.reporting.review import rank
from tasks.training.working_size import read_working_image, to_size, working_size
from tasks.tuning.artifacts import RunArtifacts

WORST, PROPOSED = 20, 40
PIXELS = 2000
"""Of an image, drawn for the fit."""
LOW_IS_BAD = {"quality": True, "confidence": True, "unsure": False, "cam_agreement": True, "foreground": True}
LOW_IS_BAD |= {"masks": False, "components": False, "tags_without_a_pixel": False}
Kind = tuple[bool, bool]


@dataclass
class RunPixels:
    """What pixels of a run say.

    Attributes:
        kind: Key of `CALIBRATIONS` that most of its images have.
        features: Of drawn pixels [N, 4].
        right: Whether their label is right [N].
        before: Counts of `confidence_counts` by the scores alone.
        after: The same by the calibration.
    """

    kind: Kind
    features: NDArray[np.floating]
    right: NDArray[np.bool_]
    before: NDArray[np.int64]
    after: NDArray[np.int64]


def main(run: tuple[Path, ...], json_file: Path | None = None) -> int:
    """Print what runs say.

    Args:
        run: Folders of finished runs.
        json_file: Gets the figures.
    """
    results: dict[str, Any] = {}
    pixels: dict[str, RunPixels] = {}
    for folder in run:
        pixels[str(folder)] = found = pixels_of(folder)
        results[str(folder)] = figures_of(found) | ranking_of(folder)
        print(f"{folder}\n{json.dumps(results[str(folder)], indent=1)}")
    results["fits"] = fits_of(pixels)
    print(json.dumps(results["fits"], indent=1))
    write_results(results, json_file)
    return 0


def pixels_of(run: Path) -> RunPixels:
    """Decide the labels of a run's images again, and count right and wrong pixels by confidence.

    Raises:
        DatasetError: No image has ground truth.
    """
    artifacts, rng = RunArtifacts(run), np.random.default_rng(0)
    config = artifacts.labels
    samples = {sample.id: sample for sample in artifacts.samples if (sample.semantic or sample.coco) and sample.labels}
    if not samples:
        raise DatasetError([Problem(run, "expected a run with ground truth, found none")])
    before, after = (np.zeros((2, LEVELS), np.int64) for _ in range(2))
    drawn: dict[Kind, list[tuple[NDArray[np.floating], NDArray[np.bool_]]]] = defaultdict(list)
    for job in artifacts.jobs(samples, config):
        with LabelScores(job, config) as scores:
            for sample in job.samples:
                maps, by_pixels = scores.deciding(sample.id)
                size = working_size(image_size(sample.image), job.long_side)
                image = read_working_image(sample.image, job.long_side)
                decided = decide_rows(maps, size, config, image, by_pixels=by_pixels)
                right, known = _right(sample, decided, size)
                before += confidence_counts(as_bytes(expit(decided.features[..., 0])), right, known)
                after += confidence_counts(as_bytes(decided.confidence), right, known)
                if not known.any():
                    continue
                chosen = rng.choice(np.flatnonzero(known), min(PIXELS, int(known.sum())), replace=False)
                kind = by_pixels, bool(config.crf_iterations)
                drawn[kind].append((decided.features.reshape(-1, 4)[chosen], right.ravel()[chosen]))
    kind = max(drawn, key=lambda each: len(drawn[each]))
    features, right = (np.concatenate(part) for part in zip(*drawn[kind], strict=True))
    return RunPixels(kind, features.astype(np.float64), right, before, after)


def _right(sample: Sample, decided: Decided, size: tuple[int, int]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pixels are right, and which count, at the working size."""
    truth = read_ground_truth(sample).semantic
    assert truth is not None
    truth = to_size(truth, size)
    labels = np.array([0, *(c + 1 for c in sample.labels)])[decided.rows[0]]
    return labels == truth, truth != VOID


def figures_of(found: RunPixels) -> dict[str, Any]:
    """Return ECE and AUC before and after the calibration, and the reliability."""
    summaries = {name: calibration_summary(getattr(found, name)) for name in ("before", "after")}
    return {
        "decided_by": "pixel classifier" if found.kind[0] else "walk",
        "crf": found.kind[1],
        **{name: {key: summary[key] for key in ("ece", "auc", "accuracy")} for name, summary in summaries.items()},
        "reliability": summaries["after"]["bins"],
    }


def ranking_of(run: Path) -> dict[str, Any]:
    """Return how the measures of `quality.csv` order a run's images, against their true IoU."""
    artifacts = RunArtifacts(run)
    rows = {row.image: row for row in read_quality(run / QUALITY)}
    num_values = len(artifacts.record.classes.values)
    truth: dict[str, float] = {}
    for sample in artifacts.samples:
        known = read_ground_truth(sample).semantic if sample.semantic or sample.coco else None
        if known is None or not sample.labels or sample.id not in rows:
            continue
        score = image_iou(known, read_label_map(run / "labels" / SEMANTIC / f"{sample.id}.png"), num_values)
        if score is not None:
            truth[sample.id] = score
    ids = list(truth)
    worst = set(sorted(ids, key=lambda id: truth[id])[:WORST])
    scored = [rows[id] for id in ids]
    orders: dict[str, Callable[[ImageQuality], float]] = {name: _order_by(name) for name in MEASURES}
    correlation = {
        name: _correlation([order(row) for row in scored], [*truth.values()]) for name, order in orders.items()
    }
    proposed = {name: sorted(scored, key=order)[:PROPOSED] for name, order in orders.items()}
    hits = {name: sum(row.image in worst for row in some) for name, some in proposed.items()}
    hits["order of review"] = sum(row.image in worst for row in rank(scored)[:PROPOSED])
    return {"images": len(ids), "spearman": correlation, f"worst_{WORST}_in_first_{PROPOSED}": hits}


def _correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation; None where all values are one."""
    if min(len(set(first)), len(set(second))) < 2:
        return None
    return float(spearmanr(first, second).statistic)  # pyright: ignore[reportAttributeAccessIssue]


def _order_by(name: str) -> Callable[[ImageQuality], float]:
    sign = 1 if LOW_IS_BAD[name] else -1
    return lambda row: sign * float(getattr(row, name))


def fits_of(pixels: dict[str, RunPixels]) -> dict[str, Any]:
    """Return for each kind of run the calibration that fits best, and how it does on runs that it was not fitted on."""
    fits: dict[str, Any] = {}
    for kind in {found.kind for found in pixels.values()}:
        of_kind = {name: found for name, found in pixels.items() if found.kind == kind}
        weights = _fit(list(of_kind.values()))
        elsewhere = {
            name: _error(found, _fit([other for other in of_kind.values() if other is not found]))
            for name, found in of_kind.items()
            if len(of_kind) > 1
        }
        fits[str(kind)] = {
            "now": list(vars(CALIBRATIONS[kind]).values()),
            "fitted": [round(float(weight), 3) for weight in weights],
            "ece_on_others": elsewhere,
        }
    return fits


def _fit(runs: Sequence[RunPixels]) -> NDArray[np.float64]:
    return fit_odds(np.concatenate([run.features for run in runs]), np.concatenate([run.right for run in runs]))


def _error(found: RunPixels, weights: NDArray[np.float64]) -> float | None:
    sure = as_bytes(expit(found.features @ weights))
    return calibration_summary(confidence_counts(sure, found.right, np.ones_like(found.right)))["ece"]


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
