"""What corrected images give the next version: python -m benchmarks.budget --work DIR --weights FILE [--seeds ..].

A set with ground truth is published from its tags alone. Then N images are corrected as the page of `review` would: the
pixels that differ from the ground truth get its class, and the image is accepted. `regenerate --retrain always` makes
the next version. The N images are those of `review --budget N`, or drawn at random.

Corrected images are right afterwards, whatever is learnt from them. So both versions are scored on all images, and on
those alone that nobody corrected. What is done is kept in the results' file, and not done again.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from numpy.typing import NDArray

from benchmarks.machine import describe_machine, results_file, write_results
from data.dataset import VOID, ClassTable, Dataset, LabelMap, Sample
from data.formats.label_folder import SEMANTIC, value_names
from data.formats.label_maps import read_ground_truth, read_label_map
from data.readers import open_dataset
from data.store.publication import Publication
from tasks.evaluation.semantic_metrics import confusion, iou
from tasks.review.difference import Masks
from tasks.review.session import Session
from tasks.review.spans import decode_spans
from tasks.review.subject import open_subject

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("PSEUDOMASK_REAL_DATA", ROOT.parent / "shared" / "data"))
Order = Literal["budget", "random"]
BUDGETS, SEEDS = (10, 25, 50, 100), (0, 1, 2)
# What the corrections change must not hold a version.
GATE = "--gate.background 0 1 --gate.classes 0 99999 --gate.instances 0 99999 --gate.agreement 0"
Truths = Mapping[str, LabelMap]


def main(
    work: Path,
    weights: Path | None = None,
    data: Path = REAL / "voc_small",
    split: str | None = "train",
    budgets: tuple[int, ...] = BUDGETS,
    seeds: tuple[int, ...] = SEEDS,
    orders: tuple[Order, ...] = ("budget", "random"),
    retrain: Literal["always", "never"] = "always",
    options: str = "",
    json_file: Path | None = None,
) -> int:
    """Measure what is not in the results' file yet, and print the table.

    Args:
        work: Folder of the set's copy, the store and the publications.
        weights: ImageNet weights of the backbone.
        data: Folder of a set with ground truth.
        split: Its list of images.
        budgets: Numbers of images that are corrected.
        seeds: Of the networks, and of the random choice.
        orders: Whose images are corrected.
        retrain: Whether the next version's networks learn from the corrections.
        options: More words of `regenerate`, such as "--preset demo".
        json_file: Results; benchmarks/results/budget-<machine>.json if not said.
    """
    machine = describe_machine()
    file = json_file or results_file(machine, "budget")
    document = json.loads(file.read_text()) if file.is_file() else {"machine": machine, "runs": {}}
    dataset, _ = open_dataset(data, split=split)
    words = _copy_set(dataset, work / "set") + shlex.split(f"{GATE} --retrain {retrain} {options}")
    words += ["--store", str(work / "store"), *(["--weights", str(weights)] if weights else [])]
    for seed in seeds:
        for number in budgets:
            for order in orders:
                name = f"{data.name} {seed} {order} {number}" + (", networks kept" if retrain == "never" else "")
                if name not in document["runs"]:
                    document["runs"][name] = measure(dataset, work, [*words, "--seed", str(seed)], order, number, seed)
                    write_results(document, file)
                    logger.info("%s: %s", name, json.dumps(document["runs"][name]))
    print(tabulate(document["runs"]))
    return 0


def measure(
    dataset: Dataset, work: Path, words: Sequence[str], order: Order, number: int, seed: int
) -> dict[str, float | int]:
    """Correct some images of the first version, and return the scores of both versions and what was corrected."""
    base, labels = work / f"first-{seed}", work / f"{order}-{number}-{seed}"
    if not Publication(base).published:
        _call("regenerate", *words, "--out", base)
    shutil.rmtree(labels, ignore_errors=True)
    shutil.copytree(base, labels, symlinks=True)
    chosen = choose_images(labels, order, number, seed)
    truths = dict(truths_of(dataset, value_names(labels / "latest")))
    before = matrices(labels / "latest", truths)
    changed = correct_by_truth(labels, {id: truths[id] for id in chosen})
    _call("regenerate", *words, "--out", labels)
    return scores(before, matrices(labels / "latest", truths), chosen) | {"changed": changed}


def choose_images(labels: Path, order: Order, number: int, seed: int) -> list[str]:
    """Return the images that are corrected: those that the product proposes, or some that are drawn."""
    if order == "budget":
        found = json.loads(_call("review", labels, "--budget", str(number), "--list", "--json"))
        return [each["image"] for each in found["images"]]
    ids = sorted(open_subject(labels).images)
    return [ids[place] for place in np.random.default_rng(seed).permutation(len(ids))[:number]]


def correct_by_truth(labels: Path, truths: Truths) -> float:
    """Correct images through a review, and return the share of their pixels that changed."""
    session, changed, total = Session(open_subject(labels), "benchmark"), 0, 0
    for id, truth in truths.items():
        state = session.state(id)
        now = decode_spans(state["labels"], truth.shape)
        names = [each["name"] for each in state["classes"]]
        semantic = np.zeros(truth.shape, np.uint16)
        differs = (now != truth) & (truth != VOID)
        used = [int(value) for value in np.unique(truth[differs])]
        # The values of `data.store.corrections`: 1 is background, and 3 the first of the classes.
        classes = [value for value in used if value]
        for value in used:
            semantic[differs & (truth == value)] = 3 + classes.index(value) if value else 1
        masks = Masks(tuple(names[value] for value in classes), semantic)
        session.correct(id, state["records"], masks, verdict="accepted", tags=None)
        changed, total = changed + int(differs.sum()), total + truth.size
    return changed / max(total, 1)


def truths_of(dataset: Dataset, names: Sequence[str]) -> Iterator[tuple[str, LabelMap]]:
    """Yield the ground truth of each image that has one, in the values of some labels; other classes are background."""
    for sample in dataset.samples:
        truth = read_ground_truth(sample).semantic
        if truth is not None:
            yield sample.id, renamed(truth, dataset.classes, names)


def renamed(truth: LabelMap, classes: ClassTable, names: Sequence[str]) -> LabelMap:
    """Return a label map in the values that other labels give its classes."""
    lookup = np.zeros(max(len(classes.values), VOID + 1), np.uint16)
    for value, name in enumerate(classes.values):
        lookup[value] = names.index(name) if name in names else 0
    lookup[VOID] = VOID
    return lookup[truth]


def matrices(folder: Path, truths: Truths) -> dict[str, NDArray[np.int64]]:
    """Return the confusion matrix of each image of a folder of labels."""
    count = len(value_names(folder))
    found = {}
    for id, truth in truths.items():
        file = folder / SEMANTIC / f"{id}.png"
        if file.is_file():
            found[id] = confusion(truth, read_label_map(file), count)
    return found


def scores(
    before: Mapping[str, NDArray[np.int64]], after: Mapping[str, NDArray[np.int64]], corrected: Collection[str]
) -> dict[str, float | int]:
    """Return the mean IoU of two versions over all images, and over the "rest", which nobody corrected."""
    rest = [id for id in after if id not in corrected]
    return {
        "images": len(after),
        "corrected": len(corrected),
        "all_before": _miou([before[id] for id in after]),
        "all": _miou([*after.values()]),
        "rest_before": _miou([before[id] for id in rest]),
        "rest": _miou([after[id] for id in rest]),
    }


def tabulate(runs: Mapping[str, Mapping[str, float]]) -> str:
    """Return the results as a Markdown table: means over the seeds, in percent."""
    columns = ("images", "corrected", "pixels changed", "all before", "all", "rest before", "rest", "gain of the rest")
    lines = [f"| {' | '.join((*columns, 'seeds'))} |", "|---" * (len(columns) + 1) + "|"]
    groups: dict[str, list[Mapping[str, float]]] = {}
    for key, run in runs.items():
        set_name, _, order, number = key.split(" ", 3)
        groups.setdefault(f"{set_name}, {order}, {number}", []).append(run)
    for name, found in groups.items():
        means = {key: 100 * float(np.mean([run[key] for run in found])) for key in found[0]}
        shown = [f"{means[key]:.1f}" for key in ("changed", "all_before", "all", "rest_before", "rest")]
        gain = f"{means['rest'] - means['rest_before']:+.1f}"
        lines.append(f"| {name} | {found[0]['corrected']} | {' | '.join(shown)} | {gain} | {len(found)} |")
    return "\n".join(lines)


def _miou(found: Sequence[NDArray[np.int64]]) -> float:
    return float(np.nanmean(iou(np.sum(found, axis=0)))) if found else float("nan")


def _copy_set(dataset: Dataset, target: Path) -> list[str]:
    """Write images and tags without any ground truth, and return the words that read them."""
    target.mkdir(parents=True, exist_ok=True)
    rows = [("image", "labels")]
    for sample in dataset.samples:
        shutil.copyfile(sample.image, target / _flat(sample))
        rows.append((sample.id, ";".join(dataset.classes.names[label] for label in sample.labels)))
    with (target / "labels.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return ["--data", str(target), "--labels", str(target / "labels.csv")]


def _flat(sample: Sample) -> str:
    if "/" in sample.id:
        raise SystemExit(f"{sample.image}: expected images in one folder")
    return f"{sample.id}{sample.image.suffix}"


def _call(*words: str | Path) -> str:
    command = [sys.executable, "-m", "flows", *map(str, words), *([] if "--json" in words else ["--json"])]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{shlex.join(command)}: exit code {answer.returncode}\n{answer.stderr}")
    return answer.stdout


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(tyro.cli(main, description=__doc__))
