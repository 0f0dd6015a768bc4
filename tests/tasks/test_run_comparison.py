"""Runs side by side: what differs, and which images gained and lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fabricated_run import make_run, make_training

from data.dataset import DatasetError
from data.formats.label_maps import read_label_map, write_label_map
from data.store import ArtifactError
from flows.cli import main
from flows.commands.comparing.compare_runs import compare_runs
from tasks.engine.run_record import StageRecord, read_run
from tasks.evaluation.bootstrap import interval, mean_interval, resample
from tasks.evaluation.semantic_metrics import image_iou
from tasks.reporting.runs import compare_labels, open_runs


def map_of(run: Path, sample: str) -> Path:
    return run / "labels/SegmentationClass" / f"{sample}.png"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Return two runs over one set: the first has the ground truth but for one image, the second for another."""
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    samples = [sample.id for sample in read_run(first).dataset.samples]
    for run, sample in ((first, samples[0]), (second, samples[1])):
        labels = read_label_map(map_of(run, sample))
        write_label_map(map_of(run, sample), np.zeros_like(labels))
    return first, second


def test_images_that_gained_and_lost_are_listed_with_their_scores(runs: tuple[Path, Path]) -> None:
    first, second = runs
    (pair,) = compare_labels(open_runs([first, second]), 10)["pairs"]
    samples = [sample.id for sample in read_run(first).dataset.samples]
    (gained,), (lost,) = pair["gained"], pair["lost"]
    assert (gained["image"], gained["after"]) == (samples[0], 1.0)
    assert (lost["image"], lost["before"]) == (samples[1], 1.0)
    # An image of k classes of which background alone is found has the mean of one IoU and k zeros.
    truth = read_label_map(map_of(first, samples[1]))
    assert lost["after"] == pytest.approx((truth == 0).mean() / len(np.unique(truth)))
    assert pair["scored"] == pair["images"] == len(samples)
    assert pair["gain"] == pytest.approx((1 - gained["before"] - 1 + lost["after"]) / len(samples))
    low, high = pair["interval"]
    assert low < pair["gain"] < high
    other = read_label_map(map_of(second, samples[0]))
    differ = (truth > 0).sum() + (other > 0).sum()
    assert pair["agreement"] == pytest.approx(1 - differ / (len(samples) * truth.size))


def test_without_ground_truth_runs_are_compared_by_agreement(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / name, with_truth=False) for name in "ab"]
    found = compare_labels(open_runs(folders), 10)
    assert found["pairs"] == [{"name": "run (2)", "images": 5, "agreement": 1.0, "agreement_iou": 1.0}]
    assert found["semantic"] == found["per_class"] == {}


def test_settings_code_and_scores_stand_side_by_side(runs: tuple[Path, Path]) -> None:
    record = read_run(runs[1])
    walk = {**record.settings["walk"], "beta": 7.0}
    for run, digit in zip(runs, "ef", strict=True):
        # Relations are those of an earlier run in the second.
        common = {"cams": {"source": digit * 64}, "relations": {"source": "e" * 64} if digit == "e" else None}
        own = read_run(run)
        stages = {name: StageRecord(keys={0: "c"}, common=each) for name, each in common.items()}
        own.model_copy(update={"stages": {**own.stages, **stages}}).write(run)
    record = read_run(runs[1])
    record.model_copy(update={"settings": {**record.settings, "walk": walk}}).write(runs[1])
    metrics = json.loads((runs[1] / "metrics.json").read_text())
    metrics["semantic"]["labels"]["miou"] = 0.7
    (runs[1] / "metrics.json").write_text(json.dumps(metrics))
    found = compare_labels(open_runs(runs), 10)
    assert found["settings"] == {"walk.beta": [10.0, 7.0]}
    assert found["code"] == {"cams": ["eeeeeeee", "ffffffff"]}
    assert found["semantic"]["labels"] == [0.655, 0.7]
    assert found["per_class"]["disc"] == [0.41, 0.41]


def test_settings_of_networks_are_those_of_the_run_that_trained_them(runs: tuple[Path, Path]) -> None:
    first, second = runs
    trained, record = read_run(first), read_run(second)
    irnet = {**trained.settings["irnet"], "crop_size": 128}
    trained.model_copy(update={"settings": {**trained.settings, "irnet": irnet}}).write(first)
    record.model_copy(update={"request": {**record.request, "networks": str(first)}}).write(second)
    found = compare_labels(open_runs(runs), 10)
    assert found["settings"] == {"request.networks": [None, str(first)]}
    # Of a run that is gone nothing is known.
    record.model_copy(update={"request": {**record.request, "networks": str(first / "gone")}}).write(second)
    assert compare_labels(open_runs(runs), 10)["settings"]["irnet.crop_size"] == [128, 512]


def test_classes_are_compared_by_their_names(runs: tuple[Path, Path]) -> None:
    first, second = runs
    names = (second / "labels/classes.txt").read_text().splitlines()
    (second / "labels/classes.txt").write_text("".join(f"{name}\n" for name in reversed(names)))
    for sample in read_run(second).dataset.samples:
        labels = read_label_map(map_of(second, sample.id))
        write_label_map(map_of(second, sample.id), np.where(labels, len(names) + 1 - labels, 0).astype(np.uint8))
    (pair,) = compare_labels(open_runs([first, second]), 10)["pairs"]
    assert len(pair["gained"]) == len(pair["lost"]) == 1


def test_the_page_shows_the_images_and_the_command_prints_one_object(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare-runs", *map(str, runs), "--out", str(tmp_path / "page"), "--images", "1"]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    page = (tmp_path / "page/index.html").read_text()
    for kind in ("gained", "lost"):
        assert found["pairs"][0][kind][0]["image"] in page
    assert page.count('alt="Photograph') == 2
    assert "All settings are the same." in page
    assert main(words) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "lost 100.0 -> " in shown
    assert "5 images in common" in shown


def test_what_is_no_labelled_run_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="two runs or more"):
        compare_runs(runs[:1])
    training = make_training(tmp_path / "t", "deeplabv2")
    with pytest.raises(ArtifactError, match="expected a run that made labels, found a training"):
        compare_runs((runs[0], training))
    sample = read_run(runs[1]).dataset.samples[0].id
    write_label_map(map_of(runs[1], sample), np.zeros((3, 4), np.uint8))
    with pytest.raises(DatasetError, match=f"{sample}.png: expected the size of run's"):
        compare_runs(runs)


def test_an_images_score_is_the_mean_over_its_classes_without_void() -> None:
    truth = np.array([[1, 1, 0, 255]], np.uint8)
    assert image_iou(truth, np.array([[1, 0, 0, 2]], np.uint8), 3) == pytest.approx(0.5)
    assert image_iou(np.full((1, 4), 255, np.uint8), truth, 3) is None


def test_the_bootstrap_of_a_mean_has_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    found = mean_interval(values.tolist())
    assert found is not None
    expected = values.mean() + np.array([-1.96, 1.96]) * values.std() / 20
    assert found == pytest.approx(tuple(expected), abs=0.03)
    assert (resample(400).sum(axis=1) == 400).all()
    assert mean_interval([1.0]) is None
    assert interval(np.array([1.0, 1.0, np.nan])) == (1.0, 1.0)
