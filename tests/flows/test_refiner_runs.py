"""`run --refiner none`: labels of attention maps and CRF alone, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from tests_flows_support import pseudomask, run_words


def test_a_run_without_a_refiner_trains_the_classifier_alone_and_labels_every_image(
    tiny_data: Path, tmp_path: Path
) -> None:
    words = run_words(tiny_data, tmp_path, ["--refiner", "none", "--pixels.folds", "0", "--go-on", "--json"])
    answer = pseudomask(*words)
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    made = {folder.name for folder in (tmp_path / "store").iterdir() if folder.name[0] != "."}
    assert {"classifier", "cams", "walk", "labels", "metrics"} <= made
    assert not made & {"relations", "irnet", "fields", "affinitynet", "affinities", "pixel-classifier"}
    images = (tiny_data / "ImageSets" / "Segmentation" / "train.txt").read_text().split()
    for kind in ("SegmentationClass", "SegmentationObject"):
        assert {file.stem for file in (tmp_path / "run" / "labels" / kind).glob("*.png")} == set(images)
    assert {"cam", "cam_crf", "labels"} <= set(result["semantic"])
