"""`pseudomask compare`, `train` and `predict --evaluate` on scenes, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from tests_flows_support import pseudomask

from flows.comparison.request import CompareRequest, check_sets, trials
from flows.comparison.results import notes_on, percent, scores_of, tables_of
from flows.training.request import TrainRequest, open_training_sets
from tasks.measurement.resources import Variant

ROWS = ("segnet-basic-single-channel-decoder", "bilinear-interpolation")
SALIENCY: tuple[dict[str, list[float]], ...] = ({"MAE": [0.1, 0.3], "max F": [0.7, 0.9]}, {})
SETTINGS = ("--set", "image_size=[32,48]", "epochs=1", "batch-size=4", "validate_epochs=1", "log_steps=0")


TINY = ["--backbone", "resnet18", "--training.image-size", "32", "48", "--training.crop-size", "32", "48"]
TINY += ["--training.epochs", "1", "--training.steps", "1", "9", "--training.batch-size", "2"]
TINY += ["--training.validate-epochs", "1"]


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


@pytest.mark.slow
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
    text = (folder / "segnet-decoders-median_frequency.md").read_text()
    assert text.startswith("segnet-decoders, test and train images, median frequency balancing, 1 seed\n")
    assert len([line for line in text.splitlines() if line.startswith("| ")]) == 4
    assert "for an image of 32 x 48 on cpu, one thread" in text
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
    small += ["--training.steps", "1", "9"]
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
    # Unscored, the images are the same, and the label maps beside them are no photographs.
    words[words.index("--out") + 1] = tmp_path / "unscored"
    unscored = pseudomask(*words)
    assert unscored.returncode == 0, unscored.stderr
    names = [sorted(file.name for file in (tmp_path / name).rglob("*.*")) for name in ("test", "unscored")]
    assert set(names[0]) - set(names[1]) == {"metrics.json"}
    assert (tmp_path / "test/values.txt").read_text().startswith("sky\nbuilding\n")
    report = pseudomask("report", tmp_path / "net")
    assert report.returncode == 0, report.stderr
    page = (tmp_path / "net/report/index.html").read_text()
    assert "sky, road, car" in page
    assert "background only" not in page
    for words, said in (
        (("train", "--out", "segnet", "--data", camvid, "fcn-basic"), "validation images"),
        (
            ("train", "segnet-basic", "--labels", tmp_path / "net", "--val", "val", "--out", tmp_path / "x"),
            "a training's",
        ),
        (
            ("compare", "segnet-decoders", "--data", camvid, "--test", "tests", "--out", tmp_path / "x"),
            "of the set's lists",
        ),
        (
            ("compare", "segnet-decoders", "--data", camvid, "--size", "9", "9", "--out", tmp_path / "x"),
            "no use for --size",
        ),
        (("compare", "segnet-resources", "--threads", "0"), "expected positive numbers"),
        (("compare", "segnet-resources", "--weights", "imagenet"), "no use for --weights"),
        (("train", "segnet", "--preset", "voc12", "--data", camvid, "--out", tmp_path / "x"), "expected one of quick"),
        (("train", "segnet", "--data", camvid, "--split", "train", "--out", tmp_path / "x", *small), "--val"),
        (("run", "--data", camvid, "--out", tmp_path / "x"), "image-level labels"),
        (("compare", "segnet-decoders", "--out", tmp_path / "x"), "expected a data set (data)"),
        (("compare", "segnet-resources", "--rows", "unet"), "unknown networks unet"),
    ):
        refused = pseudomask(*words)
        assert refused.returncode in (1, 2), words
        assert said in refused.stderr.replace("\n", " "), refused.stderr


@pytest.mark.slow
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
        ((*both, "--training.task-weights", "1", "1", "--training.sigma-lr-factor", "3"), "weights that are learned"),
        ((*both, "--training.task-weights", "inf", "1"), "finite"),
    ):
        refused = pseudomask("train", *words, "--out", tmp_path / "x")
        assert refused.returncode in (1, 2), words
        assert said in refused.stderr.replace("\n", " "), refused.stderr


@pytest.mark.slow
def test_tables_of_the_other_papers_have_their_own_rows(camvid: Path, tmp_path: Path) -> None:
    rows = {"saliency-ablation": ["segmentation-only", "saliency-uniform"], "cooperative": ["danet-same-layer"]}
    for table, chosen in rows.items():
        words = ["compare", table, "--data", camvid, "--rows", *chosen, "--backbone", "resnet18", *SETTINGS]
        answer = pseudomask(*words, "crop_size=[32,48]", "--out", tmp_path / table, "--json")
        assert answer.returncode == 0, answer.stderr
        result = json.loads(answer.stdout)
        assert [row["row"] for row in result["rows"]] == chosen
        assert all(row["storage"] is None and 0 <= row["test"]["G"][0] <= 1 for row in result["rows"])
        if table == "saliency-ablation":
            plain, both = result["rows"]
            assert 0 < plain["gmacs"] < both["gmacs"]
            assert plain["parameters"] < both["parameters"]
            assert both["kept"] == [{"epoch": 1, "of": 1, "by": "miou"}]
            text = (tmp_path / table / "saliency-ablation-inverse_log.md").read_text()
            assert "| network | M | GMACs | ms | MB |" in text
            assert "MAE" not in plain["test"]
            assert 0 < both["test"]["MAE"][0] < 1
            assert both["weighting"] == "inverse_log"
            assert (tmp_path / table / "report/index.html").read_text().count("derived from sign-symbol") == 1
            assert both["masks_derived_from"] == ["sign-symbol", "car", "pedestrian", "bicyclist"]
        else:
            assert result["rows"][0]["prediction"] == "second"
            trained = next((tmp_path / table).glob("danet-same-layer-*"))
            metrics = [json.loads((trained / name).read_text()) for name in ("metrics.json", "test/metrics.json")]
            assert metrics[0]["validation"]["prediction"] == metrics[1]["prediction"] == "second"
            words = ["predict", trained, "--data", camvid, "--split", "test", "--evaluate", "--out", tmp_path / "p"]
            assert "The prediction is the second network's output." in " ".join(pseudomask(*words).stdout.split())
            assert pseudomask("report", trained).returncode == 0
            assert "prediction is the second network" in (trained / "report/index.html").read_text()
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
    row |= {"weights": None, "crf_iterations": 0}
    rows = [row | {"weighting": name, "test": scores, "train": scores} for name in ("median_frequency", "none")]
    result = {"seeds": [0, 1], "size": [360, 480], "device": "cpu", "saliency_tested": True}
    tables = tables_of({**result, "table": "segnet-decoders", "rows": rows})
    assert list(tables) == ["median_frequency", "none"]
    cells = [next(iter(column.cells)) for column in tables["none"].columns]
    assert cells[:8] == ["segnet", "1.425", "4", "52", "2", "85.0 ± 7.1", "50.0 ± 0.0", "30.0 ± 7.1"]
    # Networks without indices to store have no such column, and one that learns no saliency has no score of it.
    rows = [row | {"storage": None, "weighting": "none", "test": scores | more, "train": scores} for more in SALIENCY]
    columns = tables_of({**result, "table": "saliency-ablation", "rows": rows})["none"].columns
    assert [column.header for column in columns][:4] == ["network", "M", "ms", "MB"]
    found = {str(column.header): list(column.cells) for column in columns}
    assert found["test MAE"] == ["20.0 ± 14.1", "-"]
    # Nor is there a column of what is known of no network on these images.
    assert "train MAE" not in found


def test_what_is_known_of_scores_is_said_and_what_is_not_known_is_left_out() -> None:
    assert percent([None, None]) == percent(None) == "-"
    assert percent([0.5, None]) == "50.0"
    shared = {"storage": None, "crf_iterations": 0}
    rows = [shared | {"row": "a", "weights": "file"}, shared | {"row": "b", "weights": None}]
    assert notes_on({"saliency_tested": False}, rows) == [
        "b: from random weights, the others from ImageNet's",
        "saliency was not tested: no list of images was given (--saliency-test)",
    ]
    dense = [{**rows[0], "crf_iterations": 10, "prediction": "mean", "masks_derived_from": ["car"]}]
    assert notes_on({"saliency_tested": True}, dense) == [
        "a: the prediction is the mean of both networks' probabilities",
        "a: costs without the dense CRF",
        "masks of salient objects are derived from car",
    ]
    assert notes_on({"saliency_tested": True, "notes": ["3 of 4"]}, rows[:1]) == ["3 of 4"]


def test_the_decoder_variants_are_the_papers_eight_rows_of_one_recipe(tmp_path: Path) -> None:
    request = CompareRequest(table="segnet-decoders", data=tmp_path, out=tmp_path, preset="camvid")
    recipes = {trial.row: trial.training.settings for trial in trials(request)}
    assert list(recipes) == [
        "segnet-basic",
        "segnet-basic-encoder-addition",
        "segnet-basic-single-channel-decoder",
        "bilinear-interpolation",
        "fcn-basic",
        "fcn-basic-no-addition",
        "fcn-basic-no-dim-reduction",
        "fcn-basic-no-addition-no-dim-reduction",
    ]
    assert len({settings.training for settings in recipes.values()}) == 1
    assert {settings.weights for settings in recipes.values()} == {None}


def test_the_benchmark_takes_no_validation_images(tmp_path: Path) -> None:
    for preset in ("camvid", "sunrgbd"):
        given = {"data": tmp_path, "out": tmp_path, "preset": preset}
        found = list(trials(CompareRequest(table="segnet-benchmark", **given)))  # pyright: ignore
        assert {(trial.training.val, trial.training.settings.training.keep) for trial in found} == {(None, "last")}
        found = list(trials(CompareRequest(table="segnet-decoders", **given)))  # pyright: ignore
        assert {(trial.training.val, trial.training.settings.training.keep) for trial in found} == {("val", "best")}


def test_test_images_that_are_learned_or_choose_the_network_are_told(camvid: Path, tmp_path: Path) -> None:
    def notes(**lists: str) -> list[str]:
        rows = ("segnet-basic", "fcn-basic")
        return check_sets(CompareRequest(table="segnet-decoders", data=camvid, out=tmp_path, rows=rows, **lists))  # pyright: ignore

    assert notes() == []
    assert notes(train="test", val="test") == [
        "3 of the 3 test images are learned too",
        "3 of the 3 test images choose the network too",
    ]
    (tmp_path / "some.txt").write_text("test1\nval0\n")
    assert notes(val=str(tmp_path / "some.txt")) == ["1 of the 3 test images choose the network too"]


def test_images_with_masks_of_salient_objects_that_are_learned_are_told(
    camvid: Path, ecssd: Path, tmp_path: Path
) -> None:
    def notes(test: str) -> list[str]:
        given: dict[str, Any] = {"table": "saliency-ablation", "rows": ("saliency-uniform",), "out": tmp_path}
        lists = {"saliency": (ecssd,), "saliency_split": (learned,), "saliency_test": test}
        return check_sets(CompareRequest(**given, data=camvid, **lists))

    learned, tested = (str(tmp_path / f"{name}.txt") for name in ("learned", "tested"))
    Path(learned).write_text("0000\n0001\n")
    Path(tested).write_text("0002\n")
    assert notes(tested) == []
    Path(tested).write_text("0001\n0002\n")
    assert notes(tested) == ["1 of the 2 test images with masks of salient objects are learned too"]


def test_validation_images_that_are_learned_are_told(camvid: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"network": "segnet-basic"}
    for val, said in (("val", ""), ("train", "6 of the 6 validation images are learned too")):
        caplog.clear()
        with caplog.at_level("WARNING"):
            open_training_sets(TrainRequest(data=camvid, split="train", val=val, out=camvid / "x", settings=settings))  # pyright: ignore
        assert said in caplog.text
        assert bool(said) == bool(caplog.text)


def test_a_table_says_where_sigmas_end(tmp_path: Path) -> None:
    row = {"row": "a", "weights": None, "storage": 1, "crf_iterations": 0}
    row |= {"sigma_segmentation": [0.75, 0.85], "sigma_saliency": [4.0, 5.0]}
    said = notes_on({"saliency_tested": True}, [row])
    assert said == ["a: sigma ends at 0.80 for segmentation and 4.50 for saliency"]


def test_rows_without_saliency_get_no_set_of_it_and_are_the_first_table_by_one_loss(tmp_path: Path) -> None:
    given = {"table": "saliency-ablation", "data": tmp_path, "out": tmp_path, "saliency": tmp_path / "d"}
    found = {trial.row: trial.training for trial in trials(CompareRequest(**given))}
    without = ("deeplabv3plus", "deeplabv3plus-dsc", "segmentation-only-plain-aspp", "segmentation-only")
    without += ("densenet-segmentation-only",)
    assert {row for row, training in found.items() if not training.saliency} == {*without}
    plain, separable = (
        found[row].settings.training.model_dump() for row in ("segmentation-only-plain-aspp", "segmentation-only")
    )
    assert {name for name in plain if plain[name] != separable[name]} == {"dsc"}
    costs = [
        Variant(found[row].settings.network, "resnet18", found[row].settings.training.network_options).build(5)  # pyright: ignore
        for row in ("deeplabv3plus-dsc", "segmentation-only")
    ]
    assert costs[0].state_dict().keys() == costs[1].state_dict().keys()


def test_settings_go_to_the_rows_that_have_them(tmp_path: Path) -> None:
    given = {"table": "cooperative", "data": tmp_path, "out": tmp_path, "training": {"prediction": "mean", "dsc": True}}
    found = {trial.row: trial.training.settings.training for trial in trials(CompareRequest(**given))}
    assert found["danet-single"].prediction is None  # pyright: ignore
    assert found["danet-ensemble"].prediction == "mean"  # pyright: ignore
    assert [name for name, training in found.items() if training.dsc] == [n for n in found if "deeplab" in n]  # pyright: ignore
    given = {"table": "segnet-benchmark", "data": tmp_path, "out": tmp_path, "weights": tmp_path / "vgg16.pth"}
    found = {trial.row: trial.training.settings.weights for trial in trials(CompareRequest(**given))}
    assert set(found.values()) == {tmp_path / "vgg16.pth"}
    given = {"table": "saliency-ablation", "data": tmp_path, "out": tmp_path, "preset": "cityscapes"}
    for weights, of_densenet in ((None, "imagenet"), (tmp_path / "resnet.pth", None)):
        found = {trial.row: trial.training.settings for trial in trials(CompareRequest(**given, weights=weights))}
        assert found["densenet-saliency-uniform"].weights == of_densenet
        assert found["deeplabv3plus"].weights == (weights or "imagenet-v1")
    # A file of the rows' own backbone is theirs too, and those of another can be given one.
    file = tmp_path / "densenet.pth"
    for more in ({"backbone": "densenet121", "weights": file}, {"row_weights": {"densenet121": file}}):
        found = {trial.row: trial.training.settings for trial in trials(CompareRequest(**given, **more))}
        assert found["densenet-saliency-uniform"].weights == file
        assert found["densenet-saliency-uniform"].backbone == "densenet121"
    asked = CompareRequest(**{**given, "preset": "quick"}, training={"sigma_lr_factor": 9})
    factors = {trial.row: getattr(trial.training.settings.training, "sigma_lr_factor", None) for trial in trials(asked)}
    assert {factor: row for row, factor in factors.items()}[9] == "saliency-uncertainty"
    assert list(factors.values()).count(9) == 1
    small = trials(CompareRequest(**{**given, "preset": "quick"}, weights=tmp_path / "mobilenet.pth"))
    assert [trial.row for trial in small if trial.training.settings.weights is None] == [
        "densenet-segmentation-only",
        "densenet-saliency-uniform",
    ]


@pytest.mark.parametrize(
    ("table", "given", "said"),
    [
        ("segnet-decoders", {"preset": "cityscapes"}, "preset 'cityscapes' of segnet-decoders: expected one of quick"),
        ("segnet-decoders", {"rows": ("fcn-basic",) * 2}, "rows: expected each once, got fcn-basic, fcn-basic"),
        ("segnet-decoders", {"weights": "imagenet"}, "weights: every network of segnet-decoders starts from random"),
        ("segnet-decoders", {"training": {"dropout": 0.1}}, "no network of segnet-decoders has a training setting"),
        ("segnet-decoders", {"seeds": (0, 0)}, "seeds: expected each once"),
        ("cooperative", {"training": {"connections": "single"}}, "connections: what the rows of cooperative differ in"),
        ("saliency-ablation", {"training": {"dsc": True}}, "dsc: what the rows"),
        ("saliency-ablation", {"saliency_test": "test"}, "take their data set"),
        ("cooperative", {"row_weights": {"densenet121": "imagenet"}}, "no row of cooperative is named after densenet"),
        ("saliency-ablation", {"saliency": Path("d"), "saliency_test": "test"}, "the images of test would be learned"),
        (
            "saliency-ablation",
            {"saliency": Path("d"), "rows": ("segmentation-only",)},
            "no network of segmentation-only",
        ),
        (
            "saliency-ablation",
            {"rows": ("saliency-uniform",), "training": {"sigma_lr_factor": 9}},
            "saliency-uniform has",
        ),
        ("cooperative", {"weightings": ("none",), "training": {"class_weights": "none"}}, "the parts of the table"),
    ],
)
def test_what_a_comparison_cannot_mean_is_refused(table: str, given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=said):
        CompareRequest(table=table, data=tmp_path, out=tmp_path, **given)  # pyright: ignore


def test_saliency_is_that_on_the_set_which_has_masks(tmp_path: Path) -> None:
    given = {"table": "saliency-ablation", "data": tmp_path, "out": tmp_path, "saliency": tmp_path / "d"}
    request = CompareRequest(**given, saliency_split="train", saliency_test="test")
    by_row = {trial.row: trial for trial in trials(request)}
    scores = {
        "accuracy": 0.9,
        "class_accuracy": None,
        "miou": 0.5,
        "boundary_f": 0.1,
        "iou": {},
        "accuracy_per_class": {},
    }
    for row in ("segmentation-only", "saliency-uniform"):
        for test, request_of_test in by_row[row].tests.items():
            saliency = {"saliency": {"mae": 0.2, "max_f": 0.7}} if test == "saliency" else {}
            request_of_test.out.mkdir(parents=True)
            (request_of_test.out / "metrics.json").write_text(json.dumps({**scores, **saliency}))
    found = scores_of([by_row["saliency-uniform"]], "test")
    assert (found["mIoU"], found["C"], found["MAE"], found["max F"]) == ([0.5], [None], [0.2], [0.7])
    assert "MAE" not in scores_of([by_row["saliency-uniform"]], "train")
    # What has not learned saliency has no score of it.
    assert "MAE" not in scores_of([by_row["segmentation-only"]], "test")
    assert set(by_row["deeplabv3plus"].tests) == {"test", "train"}
