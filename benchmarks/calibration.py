"""How sure labels are, fitted and tried: python -m benchmarks.calibration --runs NAME=RUN .. --judged NAME=RUN ..

Every run is of the default command and has ground truth, and its store is there. Of each image some pixels are drawn,
with what is known of their labels (`tasks.pipeline.confidence.odds`) and whether these are right. For labels by the
pixel classifier and by the walk, with a CRF and without, the weights are fitted on all sets of `--runs`, each counted
alike; what they are worth is told of each of these sets with weights fitted on the others, and of `--judged`, on which
nothing is fitted.

The weights go into `CALIBRATIONS` by hand, from the results' file; a test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float
from scipy.special import expit

from benchmarks.machine import describe_machine, results_file, write_results
from data.dataset import VOID
from tasks.evaluation.calibration import calibration_summary, confidence_counts, fit_odds
from tasks.pipeline.confidence.odds import as_bytes
from tasks.pipeline.labels import decide_rows
from tasks.pipeline.second_round import LabelScores
from tasks.training.working_size import file_working_size, read_working_image
from tasks.tuning.artifacts import RunArtifacts
from tasks.tuning.curves import truth_at

PIXELS = 300
"""Of an image, at random."""
KINDS = {
    "pixel classifier, CRF": (True, True),
    "pixel classifier": (True, False),
    "walk, CRF": (False, True),
    "walk": (False, False),
}
WITHOUT_CRF = [0, 2, 3, 4]
"""Weights that are fitted where there is no CRF."""


class Drawn(NamedTuple):
    """Pixels of a set: what is known of their labels, and which are right."""

    features: Float[np.ndarray, "n 5"]
    right: Bool[np.ndarray, " n"]


def main(runs: tuple[str, ...], judged: tuple[str, ...] = (), json_file: Path | None = None) -> int:
    """Fit the weights and print what they are worth.

    Args:
        runs: NAME=FOLDER of finished runs.
        judged: The same, for runs that are not fitted on.
        json_file: Results; benchmarks/results/calibration-<machine>.json if not said.
    """
    torch.set_num_threads(1)
    machine = describe_machine()
    fitted, tried = _folders(runs), _folders(judged)
    found: dict[str, dict] = {}
    print("| labels by | set | pixels right | ECE before | after | AUC before | after |\n|---|---|---|---|---|---|---|")
    for kind, (second, crf) in KINDS.items():
        drawn_of = {name: draw(run, second=second, crf=crf) for name, run in (fitted | tried).items()}
        sets = {name: drawn_of[name] for name in fitted}
        scores = {}
        for name, drawn in drawn_of.items():
            others = {other: each for other, each in sets.items() if other != name}
            if others:
                scores[name] = judge(drawn, fit(others, crf=crf))
                print(f"| {kind} | {name} | {' | '.join(f'{value:.3f}' for value in scores[name].values())} |")
        weights = [round(float(weight), 2) for weight in fit(sets, crf=crf)]
        found[kind] = {"weights": weights, "sets": scores}
        print(f"{kind}: {weights}")
    write_results(
        {"machine": machine, "runs": list(fitted), "judged": list(tried), "kinds": found},
        json_file or results_file(machine, "calibration"),
    )
    return 0


def draw(run: Path, *, second: bool, crf: bool) -> Drawn:
    """Return some pixels of each image of a run.

    Args:
        run: Its folder.
        second: Labels by the pixel classifier; else by the walked scores.
        crf: With a dense CRF.
    """
    artifacts = RunArtifacts(run)
    config = artifacts.labels.model_copy(update={"crf_iterations": 5 if crf else 0})
    random = np.random.default_rng(0)
    features, right = [], []
    for job in artifacts.jobs({sample.id: sample for sample in artifacts.samples}, config):
        inputs = {name: folders for name, folders in job.inputs.items() if second or name != "pixel-scores"}
        with LabelScores(replace(job, inputs=inputs), config) as scores:
            for sample in (sample for sample in job.samples if sample.id in scores):
                size = file_working_size(sample.image, job.long_side)
                truth = truth_at(sample, size)
                maps, by_pixels = scores.deciding(sample.id)
                if truth is None or by_pixels != second:
                    continue
                image = read_working_image(sample.image, job.long_side) if crf else None
                decided = decide_rows(maps, size, config, image, by_pixels=by_pixels)
                labels = np.array([0, *(c + 1 for c in sample.labels)])[decided.rows[0]]
                known = np.flatnonzero(truth != VOID)
                drawn = random.choice(known, min(PIXELS, len(known)), replace=False)
                features.append(decided.features.reshape(-1, decided.features.shape[-1])[drawn])
                right.append((labels == truth).ravel()[drawn])
    return Drawn(np.concatenate(features), np.concatenate(right))


def fit(sets: Mapping[str, Drawn], *, crf: bool) -> Float[np.ndarray, " 5"]:
    """Return the weights of all sets, of which each counts as much as the others."""
    least = min(len(drawn.right) for drawn in sets.values())
    random = np.random.default_rng(0)
    places = [random.choice(len(drawn.right), least, replace=False) for drawn in sets.values()]
    pairs = list(zip(sets.values(), places, strict=True))
    columns = list(range(5)) if crf else WITHOUT_CRF
    features = np.concatenate([drawn.features[place] for drawn, place in pairs]).astype(np.float64)
    weights = np.zeros(5)
    weights[columns] = fit_odds(features[:, columns], np.concatenate([drawn.right[place] for drawn, place in pairs]))
    return weights


def judge(drawn: Drawn, weights: Float[np.ndarray, " 5"]) -> dict[str, float]:
    """Return how often labels are right, and error and order of their scores' odds and of the fitted ones."""
    everywhere = np.ones_like(drawn.right)
    before, after = (
        calibration_summary(confidence_counts(as_bytes(expit(odds)), drawn.right, everywhere))
        for odds in (drawn.features[:, 0], drawn.features @ weights)
    )
    return {
        "right": float(drawn.right.mean()),
        "ece_before": before["ece"] or 0.0,
        "ece": after["ece"] or 0.0,
        "auc_before": before["auc"] or 0.0,
        "auc": after["auc"] or 0.0,
    }


def _folders(runs: tuple[str, ...]) -> dict[str, Path]:
    """Return name -> folder of what is given as NAME=FOLDER."""
    return {name: Path(folder) for name, _, folder in (run.partition("=") for run in runs)}


if __name__ == "__main__":
    sys.exit(tyro.cli(main, description=__doc__))
