"""`--cams`: runs and regenerations from class attention maps of another method."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from support.cam_writers import draw_maps, write_maps
from tests_flows_support import pseudomask, run_words

from data.cam_families import FAMILIES
from data.dataset import CamSource
from data.formats.images import image_size
from data.formats.label_maps import read_label_map, write_label_map
from data.readers import open_dataset
from flows.labels.presets import quick, voc12
from flows.labels.request import RunRequest, with_cam_thresholds
from tasks.engine.run_record import read_run

# Without weights IRNet has to train its backbone.
TRAINED = ["--irnet.backbone-lr-factor", "1", "--go-on"]


def draw(data: Path, folder: Path, form: str) -> Path:
    """Write the maps of the training images in a form."""
    dataset, _ = open_dataset(data, split="train")
    for number, sample in enumerate(dataset.samples):
        if sample.labels:
            size = image_size(sample.image)
            write_maps(folder, form, sample.id, draw_maps(sample.labels, size, number), size)
    return folder


def run(data: Path, place: Path, more: Sequence[str | Path]) -> dict:
    answer = pseudomask(*run_words(data, place, more), "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def labels_of(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((run / "labels").rglob("*.png"))}


def made(store: Path) -> dict[str, set[str]]:
    return {stage.name: {each.name for each in stage.iterdir()} for stage in store.iterdir() if stage.name[0] != "."}


@pytest.fixture(scope="module")
def irn_run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Return a folder with `maps`, `run` and `store`, and what the run said."""
    folder = tmp_path_factory.mktemp("irn_run")
    maps = draw(tiny_data, folder / "maps", "irn")
    return folder, run(tiny_data, folder, ["--cams", maps, *TRAINED])


def test_a_run_from_maps_trains_no_classifier_and_says_so(irn_run: tuple[Path, dict], tiny_data: Path) -> None:
    folder, said = irn_run
    assert "classifier" not in made(folder / "store")
    assert "classifier" not in said["seconds"]
    assert said["cams"]["family"] == "irn"
    assert said["cams"]["files"] == 12
    assert said["cams"]["classifier"].startswith("none was trained")
    assert "classifier" not in said["tags"]
    assert set(said["semantic"]) == {"cam", "cam_crf", "walk", "labels"}
    record = read_run(folder / "run")
    assert record.request["cams"] == str(folder / "maps")
    assert {sample.cams for sample in record.dataset.samples} == {
        folder / f"maps/{sample.id}.npy" for sample in record.dataset.samples
    }
    states = json.loads(pseudomask("status", folder / "run", "--json").stdout)["stages"]
    assert {entry["state"] for entry in states.values()} == {"cached"}
    assert pseudomask("report", folder / "run").returncode == 0
    page = (folder / "run/report/index.html").read_text()
    assert "Images with sure pixels" in page
    assert "AP of the classifier" not in page
    shown = pseudomask(*run_words(tiny_data, folder, ["--cams", folder / "maps", *TRAINED]))
    assert f"maps: 12 files of {folder / 'maps'}, of the form irn (jiwoon-ahn/irn)" in shown.stdout
    assert "thresholds: foreground " in shown.stdout


def test_a_run_names_the_images_that_it_leaves_out(irn_run: tuple[Path, dict], tiny_data: Path, tmp_path: Path) -> None:
    maps = shutil.copytree(irn_run[0] / "maps", tmp_path / "maps")
    (maps / "train_00003.npy").unlink()
    more = ["--cams", maps, "--missing-cams", "skip", "--networks", irn_run[0] / "run", "--go-on"]
    answer = pseudomask(*run_words(tiny_data, tmp_path, more))
    assert answer.returncode == 0, answer.stderr
    assert "\n1 image was left out: train_00003\n" in answer.stdout
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (metrics["images"], metrics["images_left_out"]) == (11, ["train_00003"])
    assert metrics["left_out"] == [
        f"{maps}: expected the maps of train_00003, train_00003.npy, .npz or .pt, found none"
    ]


def test_the_network_of_a_run_refines_maps_of_classes_that_it_never_saw(
    irn_run: tuple[Path, dict], tiny_data: Path, tmp_path: Path
) -> None:
    names = read_run(irn_run[0] / "run").classes.names
    other = tmp_path / "set"
    shutil.copytree(tiny_data, other)
    # The same objects under names of their own, and a class before them that no image has.
    (other / "classes.txt").write_text("".join(f"{name}\n" for name in ("aardvark", *(f"my {name}" for name in names))))
    rows = [line.partition(",") for line in (other / "labels.csv").read_text().splitlines()]
    tags = [";".join(f"my {tag}" for tag in tags.split(";") if tag) for _, _, tags in rows]
    (other / "labels.csv").write_text("".join(f"{row[0]},{tag}\n" for row, tag in zip(rows, tags, strict=True)))
    for file in (other / "SegmentationClass").glob("*.png"):
        labels = read_label_map(file)
        write_label_map(file, np.where((labels > 0) & (labels < 255), labels + 1, labels).astype(np.uint8))
    more = ["--cams", draw(other, tmp_path / "maps", "irn"), "--networks", irn_run[0] / "run", "--go-on", "--json"]
    answer = pseudomask(*run_words(other, tmp_path, more))
    assert answer.returncode == 0, answer.stderr
    assert read_run(tmp_path / "run").classes.names[0] == "aardvark"
    values = [read_label_map(file) for file in (tmp_path / "run/labels/SegmentationClass").glob("*.png")]
    assert {*np.unique(np.concatenate([each.ravel() for each in values]))} - {0} <= {*range(2, len(names) + 2)}
    assert 0 < json.loads(answer.stdout)["semantic"]["labels"]["miou"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["clip-es", "pseudomask"])
def test_other_forms_of_the_same_maps_give_the_same_labels(
    form: str, irn_run: tuple[Path, dict], tiny_data: Path, tmp_path: Path
) -> None:
    run(tiny_data, tmp_path, ["--cams", draw(tiny_data, tmp_path / "maps", form), *TRAINED])
    found, wanted = labels_of(tmp_path / "run"), labels_of(irn_run[0] / "run")
    assert any(np.frombuffer(content, np.uint8).size for content in wanted.values())
    assert found == wanted


def test_a_changed_map_repeats_its_own_shard_where_the_networks_are_kept(
    irn_run: tuple[Path, dict], tiny_data: Path, tmp_path: Path
) -> None:
    place = tmp_path / "copy"
    shutil.copytree(irn_run[0], place)
    first = [*run_words(tiny_data, place), "--networks", irn_run[0] / "run", "--cams", place / "maps", "--go-on"]
    first[first.index(place / "run")] = place / "second"
    assert pseudomask(*first).returncode == 0
    before = made(place / "store")
    dataset, _ = open_dataset(tiny_data, split="train")
    sample, size = dataset.samples[0], image_size(dataset.samples[0].image)
    write_maps(place / "maps", "irn", sample.id, draw_maps(sample.labels, size, 99), size)
    status = json.loads(pseudomask("status", place / "second", "--json").stdout)["stages"]
    assert status["cams"]["state"] == "stale"
    assert f"1 image with other attention maps: {sample.id}" in str(status["cams"]["reasons"])
    assert pseudomask(*first).returncode == 0
    new = {stage: len(keys - before[stage]) for stage, keys in made(place / "store").items()}
    repeated = {"cams", "walk", "labels", "quality", "scores", "metrics"}
    assert {stage for stage, count in new.items() if count} == repeated
    assert all(new[stage] == 1 for stage in ("cams", "walk", "labels"))


@pytest.mark.slow
def test_a_run_s_maps_are_exported_without_pickle_and_read_again(
    irn_run: tuple[Path, dict], tiny_data: Path, tmp_path: Path
) -> None:
    answer = pseudomask("export", "cams", irn_run[0] / "run", "--out", tmp_path / "maps", "--json")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["images"] == 12
    dataset, _ = open_dataset(tiny_data, split="train")
    names = (tmp_path / "maps/classes.txt").read_text().splitlines()
    for number, sample in enumerate(dataset.samples):
        with np.load(tmp_path / f"maps/{sample.id}.npz", allow_pickle=False) as file:
            assert file["scores"].dtype == np.float16
            assert [names[c] for c in file["classes"]] == [dataset.classes.names[c] for c in sample.labels]
            drawn = np.stack(list(draw_maps(sample.labels, image_size(sample.image), number).values()))
            np.testing.assert_array_equal(file["scores"], drawn)
    run(tiny_data, tmp_path, ["--cams", tmp_path / "maps", *TRAINED])
    assert labels_of(tmp_path / "run") == labels_of(irn_run[0] / "run")
    # An export is replaced by the next, and nothing else is.
    assert pseudomask("export", "cams", irn_run[0] / "run", "--out", tmp_path / "maps").returncode == 0
    refused = pseudomask("export", "labels", irn_run[0] / "run", "--out", tmp_path / "other")
    assert refused.returncode == 1
    assert "expected the folder of a run, or the word cams and that folder" in refused.stderr


class Runs:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("never_made",)


def test_what_is_wrong_with_maps_is_told_before_anything_runs(tmp_path: Path, tiny_data: Path) -> None:
    maps = draw(tiny_data, tmp_path / "maps", "clip-es")
    fewer, evil = (shutil.copytree(maps, tmp_path / name) for name in ("fewer", "evil"))
    (fewer / "train_00003.npy").unlink()
    stream = (evil / "train_00003.npy").open("wb")
    np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
    stream.write(pickle.dumps(Runs()))
    stream.close()
    for words, code, message in (
        ([], 2, "no classifier is trained that IRNet could take its backbone from; give ImageNet weights"),
        (["--cam-family", "irn", *TRAINED], 1, "expected class attention maps of the form irn, found 'keys'"),
        (["--cam-family", "unknown", *TRAINED], 2, "expected one of pseudomask, amn"),
        (["--cam-classes", "voc20", *TRAINED], 1, "expected classes of the set among those of its maps"),
    ):
        answer = pseudomask(*run_words(tiny_data, tmp_path, ["--cams", maps, *words]))
        assert answer.returncode == code, answer.stderr
        assert message in answer.stderr
    for folder, message in (
        (fewer, "expected the maps of train_00003, train_00003.npy, .npz or .pt, found none"),
        (evil, "train_00003.npy: expected class attention maps, but it names posix.mkdir, which is not looked up"),
    ):
        answer = pseudomask(*run_words(tiny_data, tmp_path, ["--cams", folder, *TRAINED]))
        assert answer.returncode == 1, answer.stderr
        assert message in answer.stderr
    assert not (tmp_path / "never_made").exists()
    answer = pseudomask(*run_words(tiny_data, tmp_path, ["--missing-cams", "skip"]))
    assert (answer.returncode, "no class attention maps are given" in answer.stderr) == (2, True)
    assert not [file for file in tmp_path.glob("store/*") if not file.name.startswith(".")]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_voc12_takes_the_thresholds_of_the_family_and_quick_chooses_its_own(family) -> None:
    cams = CamSource(family.name, ("cat",))
    found = with_cam_thresholds(voc12(), cams, "voc12")
    presets = family.presets or (0.3, 0.05, 0.25)
    chosen = found.relations.foreground_threshold, found.relations.background_threshold
    assert (*chosen, found.labels.background_threshold) == tuple(presets)
    assert with_cam_thresholds(quick(), cams, "quick") == quick()
    mine = voc12().model_copy(update={"labels": voc12().labels.model_copy(update={"background_threshold": 0.2})})
    assert with_cam_thresholds(mine, cams, "voc12").labels.background_threshold == 0.2


def test_a_request_without_a_backbone_for_irnet_is_refused(tmp_path: Path) -> None:
    words = {"data": tmp_path, "out": tmp_path / "run", "cams": tmp_path}
    with pytest.raises(ValidationError, match="give ImageNet weights"):
        RunRequest(**words)
    with pytest.raises(ValidationError, match="no classifier is trained; take pretrained"):
        RunRequest(**words, settings={"irnet": {"backbone_from": "classifier"}, "weights": "imagenet"})  # pyright: ignore
    with pytest.raises(ValidationError, match=r"train deeplabv2: .* there is no classifier to start from"):
        RunRequest(**words, networks=tmp_path, train=("deeplabv2",))
    assert RunRequest(**words, networks=tmp_path).cams == tmp_path
    assert RunRequest(**words, settings={"weights": "imagenet"}).cams == tmp_path  # pyright: ignore


def test_networks_of_a_run_from_maps_need_maps_again(
    irn_run: tuple[Path, dict], tiny_data: Path, tmp_path: Path
) -> None:
    answer = pseudomask(*run_words(tiny_data, tmp_path, ["--networks", irn_run[0] / "run"]))
    assert answer.returncode == 1
    assert "the run has no classifier: it was made with --cams" in answer.stderr


@pytest.mark.slow
def test_a_regeneration_gives_new_labels_to_the_images_whose_map_changed(tiny_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "set"
    shutil.copytree(tiny_data, data)
    maps = draw(data, tmp_path / "maps", "psa")
    words = ["regenerate", *run_words(data, tmp_path, ["--cams", maps, *TRAINED[:2]])[1:]]
    words[words.index(tmp_path / "run")] = tmp_path / "labels"
    words += ["--gate.background", "0", "1", "--gate.classes", "0", "9", "--gate.instances", "0", "99"]
    words += ["--gate.agreement", "0", "--json"]
    first = json.loads(pseudomask(*words).stdout)
    assert first["version"] == 1
    assert json.loads(pseudomask(*words).stdout)["version"] is None
    dataset, _ = open_dataset(data, split="train")
    sample, size = dataset.samples[0], image_size(dataset.samples[0].image)
    write_maps(maps, "psa", sample.id, draw_maps(sample.labels, size, 99), size)
    second = json.loads(pseudomask(*words).stdout)
    assert (second["version"], second["images"], second["train"]) == (2, 1, False)
    assert second["changes"]["with_other_maps"] == 1
    said = json.loads(pseudomask("lineage", sample.id, "--published", tmp_path / "labels", "--json").stdout)
    (cams,) = [stage for stage in said["stages"] if stage["stage"] == "cams"]
    assert cams["settings"]["family"] == "psa"
    assert len(cams["image"]["cams"]) == 64
