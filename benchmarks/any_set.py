"""The default command on many sets: python -m benchmarks.any_set --work DIR --weights FILE [--sets ..] [--seeds ..].

Real sets lie in the folder that PSEUDOMASK_REAL_DATA names: photographs of VOC with the names of VOC, the same with
other names, and parts of them with 2, 3 and 4 classes; MSRC; blood cells; COCO. Others are generated, of 1 to 300
classes, and one has random tags. Every set is a folder with tags for `pseudomask run`; no setting differs but the seed.

What is done is kept in the results' file, and not done again.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import tyro

from benchmarks.generated_set import write_generated
from benchmarks.machine import describe_machine, results_file, write_results
from data.formats.label_folder import INSTANCES, SEMANTIC
from data.formats.label_maps import read_label_map, write_label_map
from data.formats.voc import VOC_CLASSES

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("PSEUDOMASK_REAL_DATA", ROOT.parent / "shared" / "data"))
OTHER_NAMES = {"cat": "felis", "cow": "bos", "dog": "canis", "horse": "equus", "person": "homo", "sheep": "ovis"}
GENERATED = {1: (60, 60), 2: (80, 0), 6: (120, 0), 20: (200, 0), 80: (480, 0), 300: (1200, 0)}
"""Number of classes -> images with emblems, and without."""


def main(
    work: Path,
    weights: Path,
    sets: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0, 1, 2),
    json_file: Path | None = None,
) -> int:
    """Run the sets that are not in the results' file yet, and print the table.

    Args:
        work: Folder of the sets and runs.
        weights: ImageNet weights of the default backbone.
        sets: Their names; all by default.
        seeds: Of the runs.
        json_file: Results; benchmarks/results/any-set-<machine>.json if not said.
    """
    machine = describe_machine()
    file = json_file or results_file(machine, "any-set")
    document = json.loads(file.read_text()) if file.is_file() else {"machine": machine, "runs": {}}
    for seed in seeds:
        for name in sets or SETS:
            if f"{name} {seed}" not in document["runs"]:
                document["runs"][f"{name} {seed}"] = run_set(name, seed, work, weights)
                write_results(document, file)
                shutil.rmtree(work / "store", ignore_errors=True)
    print(tabulate(document["runs"]))
    return 0


def run_set(name: str, seed: int, work: Path, weights: Path) -> dict[str, Any]:
    """Return what a run of the default command said of a set."""
    data = work / "sets" / name.replace(" ", "-")
    if not (data / "labels.csv").is_file():
        SETS[name](data)
    run = work / "runs" / f"{data.name}-{seed}"
    words = ["run", "--data", data, "--weights", weights, "--seed", seed, "--out", run, "--store", work / "store"]
    begun = perf_counter()
    answer = subprocess.run(
        [sys.executable, "-m", "flows", *map(str, words), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    result: dict[str, Any] = {"exit_code": answer.returncode, "seconds": round(perf_counter() - begun)}
    if answer.returncode:
        return result | {"said": answer.stderr.splitlines()[-1:]}
    found = json.loads(answer.stdout)
    cam, labels = found["semantic"]["cam"], found["semantic"]["labels"]
    chosen = found["thresholds"]["relations"]["threshold"]
    tags = found["tags"]
    return result | {
        "classes": len(found["classes"]["images"]),
        "images": found["images"],
        "ap": tags["classifier"]["ap"],
        "share": tags["classifier"]["share"],
        "measured_on": tags["classifier"]["measured_on"],
        "cam": cam["miou"],
        "cam_threshold": cam["threshold"],
        "cam_chosen": cam["sweep"].get(str(chosen)),
        "chosen_threshold": chosen,
        "cam_crf": found["semantic"]["cam_crf"]["miou"],
        "walk": found["semantic"]["walk"]["miou"],
        "labels": labels["miou"],
        "labels_threshold": labels["threshold"],
        "iou": labels["iou"],
        "empty": tags["labels"]["images_without_a_pixel"] / tags["labels"]["tagged_images"],
        "tags_without_a_pixel": sum(tags["labels"]["tags_without_a_pixel"].values()) / tags["labels"]["tags"],
        "ap50": found["instances"]["labels"]["ap50"] if found["instances"] else None,
        "warnings": found["warnings"],
        "stages": found["seconds"],
    }


def tabulate(runs: Mapping[str, dict[str, Any]]) -> str:
    """Return the results as a Markdown table, a row per set: means over the seeds, and the deviation of the labels."""
    columns = ("set", "classes", "images", "AP (share)", "CAM, best", "CAM + CRF, best", "walk", "labels")
    columns += ("tags without a pixel", "minutes", "seeds")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name in dict.fromkeys(key.rpartition(" ")[0] for key in runs):
        found = [run for key, run in runs.items() if key.rpartition(" ")[0] == name]
        minutes = np.mean([run["seconds"] for run in found]) / 60
        if failed := [run for run in found if run["exit_code"]]:
            said = f"exit code {failed[0]['exit_code']}: {'; '.join(failed[0]['said'])[:120]}"
            lines.append(f"| {name} | {said} {'| ' * 8}| {minutes:.1f} | {len(found)} |")
            continue
        scores = ("cam", "cam_crf", "walk", "labels", "tags_without_a_pixel")
        means = {key: np.mean([run[key] for run in found]) for key in scores}
        precision = np.mean([np.mean(list(run["ap"].values())) for run in found])
        share = np.mean([np.mean(list(run["share"].values())) for run in found])
        spread = np.std([run["labels"] for run in found])
        cells = [
            name,
            found[0]["classes"],
            found[0]["images"],
            f"{100 * precision:.0f} ({100 * share:.0f})",
            f"{100 * means['cam']:.1f}",
            f"{100 * means['cam_crf']:.1f}",
            f"{100 * means['walk']:.1f}",
            f"**{100 * means['labels']:.1f}**" + (f" ± {100 * spread:.1f}" if len(found) > 1 else ""),
            f"{100 * means['tags_without_a_pixel']:.1f} %",
            f"{minutes:.1f}",
            len(found),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def copy_set(
    source: str,
    target: Path,
    split: str | None = None,
    rename: Mapping[str, str] | None = None,
    only: tuple[str, ...] = (),
    shuffle: int | None = None,
) -> None:
    """Copy a real set into a plain folder: images, `labels.csv`, and label maps whose values count the tags.

    Instances are copied where there are any, unless some tags are left out: they would be instances of no class.

    Args:
        source: Its folder below the real data.
        target: The new folder.
        split: The list that is copied; everything by default.
        rename: Tag -> other name.
        only: The tags that are kept, with the images that have one of them; all by default.
        shuffle: A seed by which the tags are dealt to other images, all of an image's together.
    """
    root, rename = REAL / source, rename or {}
    with (root / "labels.csv").open(newline="") as file:
        tags = {row["image"]: row["labels"].split(";") for row in csv.DictReader(file)}
    if split is not None:
        ids = (root / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split()
        tags = {id: tags[id] for id in ids}
    own = root / "classes.txt"
    table: list[str] = own.read_text().split() if own.is_file() else [*VOC_CLASSES]
    tags = {id: [tag for tag in given if not only or tag in only] for id, given in tags.items()}
    tags = {id: given for id, given in tags.items() if given}
    names = sorted({rename.get(tag, tag) for given in tags.values() for tag in given})
    value = {table.index(tag) + 1: names.index(rename.get(tag, tag)) + 1 for given in tags.values() for tag in given}
    lookup = np.array([value.get(old, 255 if old == 255 else 0) for old in range(256)], np.uint8)
    (target / SEMANTIC).mkdir(parents=True, exist_ok=True)
    shown = list(tags.values())
    if shuffle is not None:
        shown = [shown[row] for row in np.random.default_rng(shuffle).permutation(len(shown))]
    rows = []
    for id, given in zip(tags, shown, strict=True):
        shutil.copyfile(root / "JPEGImages" / f"{id}.jpg", target / f"{id}.jpg")
        labels = read_label_map(root / SEMANTIC / f"{id}.png")
        write_label_map(target / SEMANTIC / f"{id}.png", lookup[labels])
        if not only and (instances := root / INSTANCES / f"{id}.png").is_file():
            (target / INSTANCES).mkdir(exist_ok=True)
            shutil.copyfile(instances, target / INSTANCES / instances.name)
        rows.append(f"{id},{';'.join(rename.get(tag, tag) for tag in given)}\n")
    (target / "labels.csv").write_text("image,labels\n" + "".join(rows))


def _generated(num_classes: int) -> Callable[[Path], None]:
    images, untagged = GENERATED[num_classes]
    return lambda root: write_generated(root, num_classes=num_classes, num_images=images, untagged=untagged, seed=0)


def _part(*only: str) -> Callable[[Path], None]:
    return lambda root: copy_set("voc_small", root, "train", OTHER_NAMES, only)


SETS: dict[str, Callable[[Path], None]] = {
    "voc_small": lambda root: copy_set("voc_small", root, "train"),
    "voc_small renamed": lambda root: copy_set("voc_small", root, "train", OTHER_NAMES),
    "msrc_small": lambda root: copy_set("msrc_small", root, "train"),
    "wbc_small": lambda root: copy_set("wbc_small", root, "train"),
    "coco_small": lambda root: copy_set("coco_small", root),
    "voc_small, 2 classes": _part("cat", "horse"),
    "voc_small, 3 classes": _part("cow", "person", "sheep"),
    "voc_small, 4 classes": _part("cat", "cow", "dog", "person"),
    **{f"generated, {count}": _generated(count) for count in GENERATED},
    "voc_small, random tags": lambda root: copy_set("voc_small", root, "train", OTHER_NAMES, shuffle=0),
}

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    sys.exit(tyro.cli(main, description=__doc__))
