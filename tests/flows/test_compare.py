"""`pseudomask compare`, `train` and `predict --evaluate` on scenes, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests_flows_support import pseudomask

from flows.commands.compare import tables_of

ROWS = ("segnet-basic-single-channel-decoder", "bilinear-interpolation")
SALIENCY: tuple[dict[str, list[float]], ...] = ({"MAE": [0.1, 0.3], "max F": [0.7, 0.9]}, {})
SETTINGS = ("--set", "image_size=[32,48]", "epochs=1", "batch-size=4", "validate_epochs=1", "log_steps=0")


TINY = ["--backbone", "resnet18", "--training.image-size", "32", "48", "--training.crop-size", "32", "48"]
TINY += ["--training.epochs", "1", "--training.batch-size", "2", "--training.validate-epochs", "1"]


@pytest.fixture(scope="module")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a set in CamVid's layout: road below, sky above, a car now and then."""
    root = tmp_path_factory.mktemp("camvid")
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        for folder in (split, f"{split}annot"):
            (root / folder).mkdir()
        for number in range(count):
            generator = np.random.default_rng(number)
            image, labels = generator.integers(0, 90, (40, 60, 3)), np.full((40, 60), 3)
            image[:20] += 150
            labels[:20] = 0
            labels[25:30, 5 * number : 5 * number + 9] = 8
            labels[-1] = 11
            cv2.imwrite(str(root / split / f"{split}{number}.png"), image.astype(np.uint8))
            cv2.imwrite(str(root / f"{split}annot" / f"{split}{number}.png"), labels.astype(np.uint8))
    return root


@pytest.fixture(scope="module")
def ecssd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a set in ECSSD's layout: a bright object each."""
    root = tmp_path_factory.mktemp("ecssd")
    for folder in ("images", "ground_truth_mask"):
        (root / folder).mkdir()
    for number in range(3):
        mask = np.zeros((40, 50), np.uint8)
        mask[5 : 20 + number, 10:30] = 255
        noise = np.random.default_rng(number).integers(0, 60, (40, 50, 3))
        cv2.imwrite(str(root / "images" / f"{number:04d}.jpg"), (noise + mask[..., None] // 2).astype(np.uint8))
        cv2.imwrite(str(root / "ground_truth_mask" / f"{number:04d}.png"), mask)
    return root


def test_a_comparison_has_a_row_a_network_its_report_and_is_cached(camvid: Path, tmp_path: Path) -> None:
    words = ["compare", "segnet-decoders", "--data", camvid, "--out", tmp_path / "table", "--rows", *ROWS]
    words += [*SETTINGS, "--json"]
    answer = pseudomask(*words)
    assert answer.returncode == 0, answer.stderr
    result = json.loads(answer.stdout)
    assert [row["row"] for row in result["rows"]] == list(ROWS)
    for row in result["rows"]:
        assert len(row["test"]["mIoU"]) == len(row["train"]["BF"]) == 1
        assert 0 <= row["test"]["G"][0] <= 1
        assert row["bytes"] > row["model_bytes"] > 4 * row["parameters"]
        # Most classes are in no image: they are left out.
        assert row["test"]["accuracy"][0]["tree"] is None
    stored = {row["row"]: row["storage"] for row in result["rows"]}
    assert stored == dict(zip(ROWS, (4, 0), strict=True))
    folder = tmp_path / "table"
    assert json.loads((folder / "comparison.json").read_text()) == result
    assert (folder / "segnet-decoders-median_frequency.md").read_text().count("\n") == 4
    page = (folder / "report/index.html").read_text()
    # Three photographs with their truth, and what each network makes of them.
    assert page.count('<img src="data:image') == 3 * 4
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "store").glob("*/*/manifest.json")}
    assert len([file for file in before if file.parts[-3] in ROWS]) == 2
    again = pseudomask(*words[:-1])
    assert again.returncode == 0, again.stderr
    assert "segnet-basic-single-channel-decoder" in again.stdout
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_scene_network_is_trained_tested_exported_and_refuses_what_it_cannot_use(
    camvid: Path, tmp_path: Path
) -> None:
    small = ["--training.image-size", "32", "48", "--training.epochs", "1", "--training.batch-size", "4"]
    words = ["train", "segnet-basic", "--data", camvid, "--split", "train", "--val", "val", "--out", tmp_path / "net"]
    answer = pseudomask(*words, *small, "--json")
    assert answer.returncode == 0, answer.stderr
    validation = json.loads(answer.stdout)["validation"]
    assert validation["images"] == 2
    assert validation["accuracy_per_class"]["fence"] is None
    words = ["predict", tmp_path / "net", "--data", camvid, "--split", "test", "--out", tmp_path / "test"]
    tested = pseudomask(*words, "--evaluate", "--json")
    assert tested.returncode == 0, tested.stderr
    assert json.loads(tested.stdout)["validation"]["images"] == 3
    assert len(list((tmp_path / "test/SegmentationClass").glob("*.png"))) == 3
    report = pseudomask("report", tmp_path / "net")
    assert report.returncode == 0, report.stderr
    for words, said in (
        (("train", "segnet", "--preset", "voc12", "--data", camvid, "--out", tmp_path / "x"), "expected one of quick"),
        (("train", "segnet", "--data", camvid, "--split", "train", "--out", tmp_path / "x", *small), "--val"),
        (("run", "--data", camvid, "--out", tmp_path / "x"), "image-level labels"),
        (("compare", "segnet-decoders", "--out", tmp_path / "x"), "--data"),
        (("compare", "segnet-resources", "--rows", "unet"), "unknown networks unet"),
    ):
        refused = pseudomask(*words)
        assert refused.returncode in (1, 2), words
        assert said in refused.stderr.replace("\n", " "), refused.stderr


def test_saliency_is_learned_from_a_set_of_its_own_and_scored_on_it(camvid: Path, ecssd: Path, tmp_path: Path) -> None:
    words = ["train", "saliency-deeplabv3plus", "--data", camvid, "--split", "train", "--val", "val"]
    answer = pseudomask(*words, "--saliency", ecssd, "--out", tmp_path / "net", *TINY, "--json")
    assert answer.returncode == 0, answer.stderr
    validation = json.loads(answer.stdout)["validation"]
    # Scenes have no masks of their own, and none were derived.
    assert "saliency" not in validation
    words = ["predict", tmp_path / "net", "--data", ecssd, "--out", tmp_path / "objects", "--evaluate", "--json"]
    tested = pseudomask(*words)
    assert tested.returncode == 0, tested.stderr
    validation = json.loads(tested.stdout)["validation"]
    assert validation["saliency"]["images"] == 3
    assert 0 < validation["saliency"]["max_f"] <= 1
    assert validation["miou"] is None
    assert len(list((tmp_path / "objects/Saliency").glob("*.png"))) == 3
    report = pseudomask("report", tmp_path / "net")
    assert report.returncode == 0, report.stderr
    both = ("saliency-deeplabv3plus", "--data", camvid, "--val", "val")
    for words, said in (
        (("deeplabv3plus", "--data", camvid, "--val", "val", "--saliency", ecssd), "does not learn saliency"),
        ((*both, "--saliency", camvid), "expected a set with masks"),
        ((*both, "--training.salient-classes", "bus"), "expected some of sky"),
        (("saliency-deeplabv3plus", "--data", ecssd, "--val", "all"), "with label maps of classes too"),
        (("cooperative-danet", "--data", camvid), "--val"),
    ):
        refused = pseudomask("train", *words, "--out", tmp_path / "x")
        assert refused.returncode in (1, 2), words
        assert said in refused.stderr.replace("\n", " "), refused.stderr


def test_tables_of_the_other_papers_have_their_own_rows(camvid: Path, tmp_path: Path) -> None:
    rows = {"saliency-ablation": ["deeplabv3plus-dsc", "saliency-uniform"], "cooperative": ["danet-same-layer"]}
    for table, chosen in rows.items():
        words = ["compare", table, "--data", camvid, "--rows", *chosen, "--backbone", "resnet18", *SETTINGS]
        answer = pseudomask(*words, "crop_size=[32,48]", "--out", tmp_path / table, "--json")
        assert answer.returncode == 0, answer.stderr
        result = json.loads(answer.stdout)
        assert [row["row"] for row in result["rows"]] == chosen
        assert all(row["storage"] is None and 0 <= row["test"]["G"][0] <= 1 for row in result["rows"])
        if table == "saliency-ablation":
            plain, both = result["rows"]
            assert "MAE" not in plain["test"]
            assert 0 < both["test"]["MAE"][0] < 1
            assert both["weighting"] == "inverse_log"
            assert both["masks_derived_from"] == ["sign-symbol", "car", "pedestrian", "bicyclist"]
        else:
            assert result["rows"][0]["prediction"] == "second"
    refused = pseudomask("compare", "cooperative", "--data", camvid, "--rows", "unet", "--out", tmp_path / "x")
    assert "unknown rows unet of cooperative" in refused.stderr.replace("\n", " ")
    # Before anything is trained.
    for more, said in (
        (("--saliency", tmp_path), "no network of cooperative learns saliency"),
        (("--set", "salient_classes=[]"), "no network of cooperative has a training setting salient_classes"),
    ):
        refused = pseudomask("compare", "cooperative", "--data", camvid, *more, "--out", tmp_path / "x")
        assert said in refused.stderr.replace("\n", " "), refused.stderr
    missing = ("--saliency", tmp_path / "none", "--out", tmp_path / "y")
    refused = pseudomask("compare", "saliency-ablation", "--data", camvid, *missing)
    assert refused.returncode == 1
    assert not (tmp_path / "y").exists()


def test_resources_are_measured_of_each_network() -> None:
    words = ["compare", "segnet-resources", "--rows", "segnet-basic", "fcn-basic", "--size", "64", "96", "--json"]
    answer = pseudomask(*words)
    assert answer.returncode == 0, answer.stderr
    rows = json.loads(answer.stdout)["rows"]
    assert [row["network"] for row in rows] == ["segnet-basic", "fcn-basic"]
    for row in rows:
        assert row["training_bytes"] > row["model_bytes"]
        assert min(row[name] for name in ("forward_seconds", "backward_seconds", "inference_seconds")) > 0


def test_a_table_has_mean_and_deviation_over_the_seeds_and_a_part_a_weighting() -> None:
    scores = {"G": [0.8, 0.9], "C": [0.5, 0.5], "mIoU": [0.25, 0.35], "BF": [0.1, 0.2]}
    row = {"row": "segnet", "network": "segnet", "parameters": 1_425_000, "storage": 4, "seconds": 0.0524, "bytes": 2e6}
    rows = [row | {"weighting": name, "test": scores, "train": scores} for name in ("median_frequency", "none")]
    tables = tables_of({"table": "segnet-decoders", "seeds": [0, 1], "rows": rows})
    assert list(tables) == ["median_frequency", "none"]
    cells = [next(iter(column.cells)) for column in tables["none"].columns]
    assert cells[:8] == ["segnet", "1.425", "4", "52", "2", "85.0 ± 7.1", "50.0 ± 0.0", "30.0 ± 7.1"]
    # Networks without indices to store have no such column, and one that learns no saliency has no score of it.
    rows = [row | {"storage": None, "weighting": "none", "test": scores | more, "train": scores} for more in SALIENCY]
    columns = tables_of({"table": "saliency-ablation", "seeds": [0, 1], "rows": rows})["none"].columns
    assert [column.header for column in columns][:4] == ["network", "M", "ms", "MB"]
    found = {str(column.header): list(column.cells) for column in columns}
    assert found["test MAE"] == ["20.0 ± 14.1", "-"]
    # Nor is there a column of what is known of no network on these images.
    assert "train MAE" not in found
