"""`--saliency`: runs and regenerations whose scores are weighted by maps or a network."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fabricated_run import make_run
from PIL import Image
from tests_flows_support import pseudomask, run_words

from data.formats.label_maps import read_label_map
from flows.training.request import TrainRequest, open_training_sets
from tasks.engine.artifact import ImageSet, SampleDigest
from tasks.engine.image_list import write_images
from tasks.engine.run_record import read_run
from tasks.networks import NETWORKS


@pytest.fixture(scope="module")
def maps(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map of each training image of 64 x 80 pixels: its right half is salient."""
    folder = tmp_path_factory.mktemp("maps")
    saliency = np.zeros((64, 80), np.uint8)
    saliency[:, 40:] = 255
    for file in (tiny_data / "JPEGImages").glob("train_*"):
        Image.fromarray(saliency).save(folder / f"{file.stem}.png")
    return folder


@pytest.fixture
def copy_of_store(first_run: tuple[Path, dict], tmp_path: Path) -> Path:
    """Return a folder with the store of a run without saliency."""
    shutil.copytree(first_run[0] / "store", tmp_path / "copy/store")
    return tmp_path / "copy"


def test_labels_are_empty_where_saliency_and_floor_are_0_and_what_saw_no_saliency_is_kept(
    copy_of_store: Path, tiny_data: Path, maps: Path
) -> None:
    kept = {stage: set((copy_of_store / "store" / stage).iterdir()) for stage in ("classifier", "cams")}
    more = ["--saliency", maps, "--saliency.floor", "0", "--labels.crf-iterations", "0", "--go-on"]
    answer = pseudomask(*run_words(tiny_data, copy_of_store, more), "--json")
    assert answer.returncode == 0, answer.stderr
    assert {stage: set((copy_of_store / "store" / stage).iterdir()) for stage in kept} == kept
    said = json.loads(answer.stdout)
    shares = said["tags"]["saliency"]["salient_share"]
    assert shares
    assert all(0 <= share <= 1 for share in shares.values())

    run, painted = copy_of_store / "run", 0
    for file in (run / "labels/SegmentationClass").iterdir():
        for kind in ("SegmentationClass", "SegmentationObject"):
            found = read_label_map(run / "labels" / kind / file.name)
            # Bilinear interpolation reaches one cell far.
            assert not found[:, :36].any()
            painted += int((found > 0).sum())
    assert painted

    record = read_run(run)
    assert record.request["saliency"] == str(maps)
    assert {sample.saliency for sample in record.dataset.samples} == {
        maps / f"{s.id}.png" for s in record.dataset.samples
    }
    assert pseudomask("report", run).returncode == 0
    assert "what the scores of salient classes are weighted by" in (run / "report/index.html").read_text()
    states = json.loads(pseudomask("status", run, "--json").stdout)["stages"]
    assert {entry["state"] for entry in states.values()} == {"cached"}


def test_what_is_wrong_with_saliency_is_told_before_anything_runs(tmp_path: Path, tiny_data: Path, maps: Path) -> None:
    broken = tmp_path / "net.onnx"
    broken.write_text("no network")
    fewer = tmp_path / "fewer"
    shutil.copytree(maps, fewer)
    (fewer / "train_00003.png").unlink()
    bad = tmp_path / "bad"
    shutil.copytree(maps, bad)
    np.save(bad / "train_00003.npy", np.full((64, 80), 2.0))
    (bad / "train_00003.png").unlink()
    for words, code, message in (
        (["--saliency", broken], 1, "net.onnx: expected a network in ONNX"),
        (["--saliency", fewer], 1, "expected a map of saliency, train_00003.png or .npy, found none"),
        (["--saliency", bad], 1, "train_00003.npy: expected a map of saliency from 0 to 1, found 2 to 2"),
        (["--saliency", maps, "--saliency.non-salient", "sky"], 1, "saliency.non_salient: expected classes of the set"),
        (["--saliency.floor", "0.2"], 2, "non_salient are without effect: no saliency is given"),
    ):
        answer = pseudomask(*run_words(tiny_data, tmp_path, words))
        assert answer.returncode == code, answer.stderr
        assert message in answer.stderr
    assert not [file for file in tmp_path.glob("store/*") if not file.name.startswith(".")]


def test_networks_on_a_run_s_labels_see_no_saliency_whose_maps_may_be_gone(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    record = read_run(run)
    samples = tuple(replace(sample, saliency=tmp_path / "gone.png") for sample in record.dataset.samples)
    digests = {sample.id: SampleDigest("image", saliency="map") for sample in samples}
    images = write_images(run, ImageSet(samples, digests), record.root)
    request = {"data": str(record.root), "classes": None, "split": None, "val": None}
    record.model_copy(update={"images": images, "request": request}).write(run)
    assert read_run(run).dataset.samples[0].saliency
    settings = NETWORKS["deeplabv2"].presets["quick"]()
    training, _ = open_training_sets(TrainRequest(labels=run, out=tmp_path / "network", settings=settings))
    assert {sample.saliency for sample in training.samples} == {None}
