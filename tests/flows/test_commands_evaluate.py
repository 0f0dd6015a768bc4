"""`pseudomask evaluate`, and what it shows."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from fabricated_run import make_run
from rich.console import Console

from data.dataset import DatasetError
from data.formats.label_maps import read_label_map, write_label_map
from flows.commands.looking.evaluate import evaluate, show_scores


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def shown(result: dict) -> str:
    console = Console(file=StringIO(), width=100)
    show_scores(result, console)
    return console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_a_runs_labels_against_themselves_are_perfect(run: Path, tmp_path: Path):
    truth = tmp_path / "set"
    semantic = evaluate("semantic", run, truth)
    assert semantic["miou"] == semantic["accuracy"] == semantic["boundary_f"] == 1
    for pred in (run, run / "labels", run / "labels/instances.json"):
        instances = evaluate("instances", pred, truth)
        assert instances["ap50"] == instances["ap70"] == 1
        assert instances["coco"] == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1})
    for result in (semantic, instances):
        assert json.loads(json.dumps(result)) == result


def test_semantic_scores_are_shown_in_percent_by_class(run: Path, tmp_path: Path):
    file = run / "labels/SegmentationClass/train_00000.png"
    write_label_map(file, 0 * read_label_map(file))
    result = evaluate("semantic", run, tmp_path / "set")
    text = shown(result)
    assert 0 < result["miou"] < 1
    assert f"{100 * result['miou']:.1f}" in text
    assert 0 < result["boundary_f"] < 1
    assert f"{100 * result['boundary_f']:.1f}" in text
    assert all(name in text for name in result["iou"])
    assert "5 images" in text
    assert "ignored" not in text


def test_instance_scores_are_shown_with_the_number_of_objects(run: Path, tmp_path: Path):
    (tmp_path / "set/SegmentationObject/train_00000.png").unlink()
    result = evaluate("instances", run, tmp_path / "set")
    text = shown(result)
    assert "100.0" in text
    assert "COCO: AP 100.0, AP50 100.0, AP75 100.0" in text
    assert str(sum(score["gt"] for score in result["per_class"].values())) in text
    assert "1 predictions without ground truth were ignored" in text


def test_scores_of_saliency_are_shown_in_percent_and_have_no_classes(tmp_path: Path):
    for folder, value in (("pred", 51), ("gt", 255)):
        write_label_map(tmp_path / folder / "a.png", np.full((4, 6), value, np.uint8), grey=True)
    text = shown(evaluate("saliency", tmp_path / "pred", tmp_path / "gt"))
    assert "MAE 80.0, max F 100.0" in text
    assert "1 images" in text
    with pytest.raises(DatasetError, match="saliency has no classes"):
        evaluate("saliency", tmp_path / "pred", tmp_path / "gt", tmp_path / "classes.txt")
