"""What `pseudomask tune` finds, and how fast: python -m benchmarks.tuning --run RUN --work DIR.

The run is a finished one over a set with ground truth. Printed are the seconds of a search of thresholds, killed in
the middle and continued, beside those of as many runs of stage `labels`; for each criterion without ground truth the
mIoU of its choice, beside that of the run's own settings and of the best; and what ground truth of 20 images chooses,
judged on all others, over many draws of the 20.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter, sleep
from typing import Any, get_args

import numpy as np
import tyro

from benchmarks.any_set import ROOT
from benchmarks.machine import describe_machine, write_results
from tasks.tuning.artifacts import RunArtifacts
from tasks.tuning.choose import mean_iou
from tasks.tuning.curves import CRITERIA
from tasks.tuning.space import CRF, Criterion, Space, make_space, value_of
from tasks.tuning.tables import Searched, Tables

FEW, DRAWS = 20, 50
FIRST_THRESHOLDS = 99
"""Thresholds of the timed search, at two numbers of CRF iterations: 198 candidates."""


def main(run: Path, work: Path, kill_after: float = 0.0, json_file: Path | None = None) -> int:
    """Measure, and print.

    Args:
        run: Folder of the run.
        work: Folder of the searches.
        kill_after: Seconds after which the first search is killed; 0 lets it end.
        json_file: Gets the figures.
    """
    results: dict[str, Any] = {"machine": describe_machine(), "run": str(run)}
    results["speed"] = measure_speed(run, work / "speed", kill_after)
    results["criteria"] = judge_criteria(run, work / "criteria")
    results["few_images"] = choose_by_few(run, work / "few")
    print(json.dumps(results, indent=1))
    write_results(results, json_file)
    return 0


def measure_speed(run: Path, out: Path, kill_after: float) -> dict[str, Any]:
    """Search thresholds by ground truth, killed once where that is asked for, and compare with the stage's own time."""
    artifacts = RunArtifacts(run)
    name = Searched(artifacts, {}, Space(artifacts.settings, {}), out, False, 1, "cpu").axis
    thresholds = [f"{(k + 1) / (FIRST_THRESHOLDS + 1):.2f}" for k in range(FIRST_THRESHOLDS)]
    iterations = sorted({0, artifacts.labels.crf_iterations or 5})
    words = ["tune", run, "--out", out, "--images", len(artifacts.samples), "--json"]
    words += ["--set", name, *thresholds, "--set", CRF, *iterations]
    command = [sys.executable, "-m", "flows", *map(str, words)]
    begun, killed = perf_counter(), None
    if kill_after:
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
        sleep(kill_after)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        killed = perf_counter() - begun
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, found = perf_counter() - begun, json.loads(done.stdout)
    stage = json.loads((run / "metrics.json").read_text())["seconds"].get("labels", 0.0)
    return {
        "candidates": found["candidates"],
        "images": found["images"],
        "killed_after": killed,
        "seconds": round(seconds, 1),
        "seconds_of_the_stage": stage,
        "ratio_to_as_many_stages": round(stage * found["candidates"] / seconds, 1) if stage else None,
        "default": found["default"]["miou"],
        "chosen": found["chosen"],
        "uncertainty": found["uncertainty"],
    }


def judge_criteria(run: Path, out: Path) -> dict[str, Any]:
    """Return the true mIoU of what each criterion chooses, of the run's own settings, and of the best."""
    words = ["tune", str(run), "--out", str(out), "--gt", "none", "--images", "1000000", "--json"]
    done = subprocess.run([sys.executable, "-m", "flows", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    with (out / "candidates.csv").open(newline="") as stream:
        rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(stream)]
    judged: dict[Criterion, Any] = {}
    for criterion in get_args(Criterion):
        names = CRITERIA if criterion == "mean" else (criterion,)
        best = max(rows, key=lambda row, names=names: np.mean([row[name] for name in names]))
        judged[criterion] = {"miou": best["miou"], **{name: best[name] for name in found["space"]}}
    return {"default": found["default"]["miou"], "oracle": found["oracle"], **judged}


def choose_by_few(run: Path, out: Path) -> dict[str, Any]:
    """Return the mean gain over the run's own settings on images that did not choose, by `FEW` images that did."""
    artifacts, rng = RunArtifacts(run), np.random.default_rng(0)
    samples = {sample.id: sample for sample in artifacts.samples if sample.semantic or sample.coco}
    base = artifacts.numbered
    space = make_space(base, {}, second_round=artifacts.second_round, instances=False)
    searched = Searched(artifacts, samples, space, out, False, os.cpu_count() or 1, "cpu")
    tables = Tables(searched)
    counts = np.stack([table.counts(row) for table, row in map(tables.at, space.candidates())])
    own = {name: value_of(base, name) for name in space.values}
    single = replace(searched, space=Space(base, {name: (value,) for name, value in own.items()}))
    table, row = Tables(single).at(own)
    default = table.counts(row)
    gains = []
    for _ in range(DRAWS):
        few = np.zeros(counts.shape[2], bool)
        few[rng.choice(len(few), min(FEW, len(few) // 2), replace=False)] = True
        best = int(np.argmax([mean_iou(each[:, few].sum(axis=1)[:, None])[0] for each in counts]))
        chosen, usual = (mean_iou(each[:, ~few].sum(axis=1)[:, None])[0] for each in (counts[best], default))
        gains.append(float(chosen - usual))
    return {"images": FEW, "draws": DRAWS, "mean_gain": float(np.mean(gains)), "least": min(gains), "most": max(gains)}


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
