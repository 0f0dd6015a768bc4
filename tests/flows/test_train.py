"""Trainings through the command line: on a run's labels, on ground truth, as a run's tail; and their predictions."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from pycocotools.coco import COCO
from tests_flows_support import pseudomask, run_words

from flows.training.request import TrainRequest, open_training_sets
from tasks.engine.run_record import read_run
from tasks.networks.deeplabv2 import demo as deeplabv2_demo

NETWORKS = {
    "deeplabv2": ["--training.crop-size", "64", "--testing.scales", "1"],
    "maskrcnn": [
        *["--training.crop-size", "64", "--training.min-size", "64", "--training.max-size", "80"],
        *["--training.channels", "16", "--training.num-proposals", "40", "--training.num-sampled", "16"],
        *["--testing.min-score", "0.0"],
    ],
}


def train_words(network: str, out: Path, *more: str | Path) -> list[str | Path]:
    shared = ["--training.epochs", "1", "--training.steps", "1", "9", "--training.batch-size", "4"]
    shared += ["--training.log-steps", "1", "--shard-size", "4"]
    return ["train", network, "--preset", "demo", "--out", out, *shared, *NETWORKS[network], *more]


def states(run: Path) -> dict[str, str]:
    answer = pseudomask("status", run, "--json")
    assert answer.returncode == 0, answer.stderr
    return {stage: entry["state"] for stage, entry in json.loads(answer.stdout)["stages"].items()}


def made(store: Path) -> set[str]:
    return {f"{file.parent.parent.name}/{file.parent.name}" for file in store.glob("*/*/manifest.json")}


@pytest.fixture(scope="module")
def trained(first_run: tuple[Path, dict], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict]]:
    """Return of each network the folder of a training on a run's labels, and its answer."""
    folder = tmp_path_factory.mktemp("trained")
    run = first_run[0] / "run"
    answers = {}
    for network in NETWORKS:
        words = train_words(network, folder / network, "--labels", run, "--weights", run, "--val", "val", "--json")
        answer = pseudomask(*words)
        assert answer.returncode == 0, answer.stderr
        answers[network] = (folder / network, json.loads(answer.stdout))
    return answers


def test_networks_learn_where_the_labels_are_sure_if_the_run_says_where(first_run: tuple, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(first_run[0] / "run", run)
    request = TrainRequest(labels=run, out=tmp_path / "out", settings=deeplabv2_demo())
    for kind in ("SegmentationSure", "SegmentationClass"):
        training, _ = open_training_sets(request)
        assert {sample.semantic for sample in training.samples} == set((run / "labels" / kind).glob("*.png"))
        shutil.rmtree(run / "labels" / kind)


def test_a_training_on_a_runs_labels_gives_the_network_its_logs_and_scores(trained: dict) -> None:
    for network, (out, answer) in trained.items():
        files = {file.name for file in (out / "network").iterdir()}
        assert files >= {"network.safetensors", "network.json", "history.json", "logs"}
        assert any((out / "network/logs").glob("events.out.tfevents.*"))
        assert answer["images"] == 12
        assert answer["validation"]["images"] == 4
        assert answer["training"]["loss"] > 0
        assert set(states(out).values()) == {"cached"}
        assert list(states(out)) == [network, *(f"{network}-{part}" for part in ("predictions", "scores", "metrics"))]
        assert len(list((out / "predictions/SegmentationClass").glob("*.png"))) == 4
    assert 0 <= trained["deeplabv2"][1]["validation"]["miou"] <= 1
    assert 0 <= trained["deeplabv2"][1]["validation"]["boundary_f"] <= 1
    assert set(trained["maskrcnn"][1]["validation"]) >= {"ap50", "ap70", "coco"}


def test_the_scores_are_those_of_evaluate_on_the_predictions(trained: dict, tiny_data: Path, tmp_path: Path) -> None:
    for kind in ("SegmentationClass", "SegmentationObject"):
        (tmp_path / kind).mkdir()
        for name in (tiny_data / "ImageSets/Segmentation/val.txt").read_text().split():
            shutil.copy(tiny_data / kind / f"{name}.png", tmp_path / kind)
    shutil.copy(tiny_data / "classes.txt", tmp_path)
    out, answer = trained["deeplabv2"]
    semantic = pseudomask("evaluate", "semantic", "--pred", out / "predictions", "--gt", tmp_path, "--json")
    assert json.loads(semantic.stdout)["miou"] == pytest.approx(answer["validation"]["miou"])
    out, answer = trained["maskrcnn"]
    found = out / "predictions/instances.json"
    instances = pseudomask("evaluate", "instances", "--pred", found, "--gt", tmp_path, "--json")
    assert json.loads(instances.stdout)["ap50"] == pytest.approx(answer["validation"]["ap50"])
    assert json.loads(instances.stdout)["coco"] == pytest.approx(answer["validation"]["coco"])


@pytest.mark.slow
def test_the_same_training_again_makes_nothing_and_other_testing_trains_nothing(
    trained: dict, first_run: tuple[Path, dict]
) -> None:
    out, _ = trained["deeplabv2"]
    run = first_run[0] / "run"
    words = train_words("deeplabv2", out, "--labels", run, "--weights", run, "--val", "val")
    before = made(out.parent / "store")
    assert pseudomask(*words).returncode == 0
    assert made(out.parent / "store") == before
    assert pseudomask(*words, "--testing.crf-iterations", "1").returncode == 0
    stages = {name.split("/")[0] for name in made(out.parent / "store") - before}
    assert stages == {"deeplabv2-predictions", "deeplabv2-scores", "deeplabv2-metrics"}


@pytest.mark.slow
def test_ground_truth_is_learned_where_no_run_is_given(tiny_data: Path, tmp_path: Path) -> None:
    words = train_words("deeplabv2", tmp_path / "out", "--data", tiny_data, "--split", "train", "--json")
    answer = pseudomask(*words)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["images"] == 12
    assert "validation" not in json.loads(answer.stdout)
    learned = read_run(tmp_path / "out").dataset.samples
    assert all(sample.semantic and tiny_data in sample.semantic.parents for sample in learned)


@pytest.mark.slow
def test_images_of_any_size_get_labels_and_bad_ones_are_named(trained: dict, tmp_path: Path) -> None:
    images = tmp_path / "images"
    (images / "deep").mkdir(parents=True)
    for name, size in {"a": (61, 47), "b": (130, 33), "deep/c": (61, 47)}.items():
        Image.effect_noise(size, 80).convert("RGB").save(images / f"{name}.jpg")
    (images / "bad.jpg").write_text("no image")
    for network, (out, _) in trained.items():
        answer = pseudomask("predict", out, "--data", images, "--out", tmp_path / network)
        assert answer.returncode == 1
        assert "bad.jpg" in answer.stderr
        answer = pseudomask("predict", out, "--data", images, "--out", tmp_path / network, "--skip-bad", "--json")
        assert answer.returncode == 0, answer.stderr
        assert json.loads(answer.stdout)["images"] == 3
        with Image.open(tmp_path / network / "SegmentationClass/deep/c.png") as labels:
            assert (labels.size, labels.mode) == ((61, 47), "P")
    coco = COCO(tmp_path / "maskrcnn/instances.json")
    assert sorted(image["file_name"] for image in coco.imgs.values()) == ["a.jpg", "b.jpg", "deep/c.jpg"]


def test_what_cannot_be_trained_on_is_refused_at_once(
    trained: dict, first_run: tuple[Path, dict], tiny_data: Path, tmp_path: Path
) -> None:
    refused = pseudomask(*train_words("deeplabv2", tmp_path / "out"))
    assert refused.returncode == 1
    assert "--data" in refused.stderr
    run = first_run[0] / "run"
    refused = pseudomask(*train_words("deeplabv2", tmp_path / "out", "--labels", run, "--val", "elsewhere"))
    assert refused.returncode == 1
    assert "elsewhere" in refused.stderr
    refused = pseudomask("predict", run, "--data", tiny_data, "--out", tmp_path / "labels")
    assert refused.returncode == 1
    assert "pseudomask train" in refused.stderr
    refused = pseudomask("export", trained["deeplabv2"][0], "--out", tmp_path / "x")
    assert refused.returncode == 1
    assert "training" in refused.stderr
    copy = tmp_path / "copy"
    shutil.copytree(tiny_data, copy)
    small, strange = (copy / f"SegmentationClass/train_0000{number}.png" for number in (1, 2))
    with Image.open(small) as labels:
        labels.crop((0, 0, 10, 10)).save(small)
    with Image.open(strange) as labels:
        labels.point(lambda value: 77 if value == 0 else value).save(strange)
    refused = pseudomask(*train_words("deeplabv2", tmp_path / "out", "--data", copy, "--split", "train"))
    assert refused.returncode == 1
    assert "train_00001.png: expected the size of" in refused.stderr
    assert "train_00002.png: expected values 0 to 5 and 255, found 77" in refused.stderr


@pytest.mark.slow
def test_a_run_trains_networks_at_its_end_and_once(tiny_data: Path, tmp_path: Path) -> None:
    words = run_words(tiny_data, tmp_path, ["--train", "deeplabv2", "--val", "val", "--json"])
    answer = pseudomask(*words)
    assert answer.returncode == 0, answer.stderr
    trained = json.loads(answer.stdout)["networks"]["deeplabv2"]
    assert trained["validation"]["images"] == 4
    assert (tmp_path / "run/deeplabv2/network/network.safetensors").is_file()
    before = made(tmp_path / "store")
    assert pseudomask(*words).returncode == 0
    assert made(tmp_path / "store") == before
