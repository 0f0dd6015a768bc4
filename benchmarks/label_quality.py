"""What each option gives the labels: python -m benchmarks.label_quality --work DIR --weights FILE [--saliency ONNX].

Each set is labelled by the default command, and again with one option changed; a set's runs share a store, so that an
option repeats only what depends on it. `voc_small` is there twice: settings are chosen on its `val` images with their
own tags, and the figures that count are those of `train`, on which nothing is chosen.

What is done is kept in the results' file, and not done again. `--images FILE` also writes a line per image.
"""

from __future__ import annotations

import csv
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tyro

from benchmarks.any_set import ROOT, copy_set
from benchmarks.machine import describe_machine, results_file, write_results
from data.formats.label_folder import SEMANTIC
from data.formats.label_maps import read_label_map
from data.synthetic.dataset import write_synthetic
from tasks.evaluation.semantic_metrics import confusion, iou

logger = logging.getLogger(__name__)
SETS: dict[str, Callable[[Path], None]] = {
    "voc_small val": lambda root: copy_set("voc_small", root, "val"),
    "voc_small train": lambda root: copy_set("voc_small", root, "train"),
    "msrc_small": lambda root: copy_set("msrc_small", root, "train"),
    "wbc_small": lambda root: copy_set("wbc_small", root, "train"),
    "coco_small": lambda root: copy_set("coco_small", root),
    "synthetic": lambda root: write_synthetic(root, num_images=256, seed=0),
}
OPTIONS: dict[str, tuple[str, ...]] = {
    "default": (),
    "walk alone": ("--pixels.folds", "0"),
    "pixel classifier alone": ("--labels.walk-power", "0"),
}


def main(
    work: Path,
    weights: Path,
    saliency: Path | None = None,
    sets: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0, 1, 2),
    only: tuple[str, ...] = (),
    images: Path | None = None,
    json_file: Path | None = None,
) -> int:
    """Make the runs that are not in the results' file yet, and print the table.

    Args:
        work: Folder of the sets and runs.
        weights: ImageNet weights of the default backbone.
        saliency: A network of saliency, for one option more.
        sets: Names of sets; all by default.
        seeds: Of the runs.
        only: The options that are tried; all by default.
        images: CSV that gets the mean IoU of every image that was labelled now.
        json_file: Results; benchmarks/results/label-quality-<machine>.json if not said.
    """
    machine = describe_machine()
    file = json_file or results_file(machine, "label-quality")
    document = json.loads(file.read_text()) if file.is_file() else {"machine": machine, "runs": {}}
    options = OPTIONS | ({"saliency": ("--saliency", str(saliency))} if saliency else {})
    for seed in seeds:
        for name in sets or SETS:
            for option, words in ((each, options[each]) for each in only or options):
                key = f"{name} / {option} / {seed}"
                if key not in document["runs"]:
                    document["runs"][key] = label(name, option, words, seed, work, weights, images)
                    write_results(document, file)
            shutil.rmtree(work / "store", ignore_errors=True)
    print(tabulate(document["runs"]))
    return 0


def label(
    name: str, option: str, words: tuple[str, ...], seed: int, work: Path, weights: Path, images: Path | None
) -> dict[str, Any]:
    """Return the scores of one run."""
    data = work / "sets" / name.replace(" ", "-")
    if not (data / "labels.csv").is_file():
        SETS[name](data)
    run = work / "runs" / f"{data.name}-{option.replace(' ', '-')}-{seed}"
    command = ["run", "--data", str(data), "--weights", str(weights), "--seed", str(seed), "--out", str(run)]
    begun = perf_counter()
    answer = subprocess.run(
        [sys.executable, "-m", "flows", *command, "--store", str(work / "store"), "--json", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = {"exit_code": answer.returncode, "seconds": round(perf_counter() - begun)}
    if answer.returncode:
        return found | {"said": answer.stderr.splitlines()[-1:]}
    metrics = json.loads(answer.stdout)
    if images is not None:
        write_images(images, f"{name} / {option} / {seed}", data, run)
    scores = {method: metrics["semantic"][method]["miou"] for method in ("cam", "cam_crf", "labels")}
    found |= scores | {"iou": metrics["semantic"]["labels"]["iou"]}
    return found | ({"ap50": metrics["instances"]["labels"]["ap50"]} if metrics.get("instances") else {})


def write_images(file: Path, run_name: str, data: Path, run: Path) -> None:
    """Append the mean IoU of each image's own classes and background to a CSV file."""
    truths = sorted((data / SEMANTIC).rglob("*.png"))
    rows = []
    for truth in truths:
        id = truth.relative_to(data / SEMANTIC).with_suffix("").as_posix()
        labels = run / "labels" / SEMANTIC / f"{id}.png"
        if labels.is_file():
            scores = iou(confusion(read_label_map(truth), read_label_map(labels), 255))
            rows.append((run_name, id, f"{np.nanmean(scores):.4f}"))
    with file.open("a", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def tabulate(runs: Mapping[str, dict[str, Any]]) -> str:
    """Return a Markdown table: a row per set and option, means over the seeds, and the deviation of the labels.

    Seconds are those beyond what an earlier option of the set has made.
    """
    columns = (
        "set",
        "option",
        "CAM, best",
        "CAM + CRF, best",
        "labels",
        "AP50",
        "seconds beyond what is shared",
        "seeds",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, option in dict.fromkeys(tuple(key.split(" / ")[:2]) for key in runs):
        found = [run for key, run in runs.items() if key.startswith(f"{name} / {option} / ")]
        if failed := [run for run in found if run["exit_code"]]:
            lines.append(f"| {name} | {option} | exit code {failed[0]['exit_code']} {'| ' * 4}| {len(found)} |")
            continue
        mean = lambda key, found=found: float(np.mean([run[key] for run in found]))  # noqa: E731
        precision = f"{100 * mean('ap50'):.1f}" if all("ap50" in run for run in found) else ""
        spread = f" ± {100 * np.std([run['labels'] for run in found]):.1f}" if len(found) > 1 else ""
        scores = [f"{100 * mean('cam'):.1f}", f"{100 * mean('cam_crf'):.1f}", f"**{100 * mean('labels'):.1f}**{spread}"]
        cells = (name, option, *scores, precision, f"{mean('seconds'):.0f}", str(len(found)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(tyro.cli(main, description=__doc__))
