"""What the commands write, and what they leave alone."""

import fcntl
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fabricated_run import make_run, make_training

from data.dataset import ClassTable, Dataset
from data.files import exchange
from data.ownership import own
from data.store import ArtifactError, Store
from flows.commands.comparing.compare_runs import compare_runs
from flows.commands.comparing.resources import compare_resources
from flows.commands.looking.report import make_report
from flows.commands.making.demo import write_demo_set
from flows.commands.making.predict import predict_images
from flows.commands.making.run import run_pipeline
from flows.commands.making.train import train_network
from flows.commands.publishing.regenerate import regenerate_published
from flows.commands.storing import export_labels as export
from flows.commands.storing.export_cams import export_cams
from flows.commands.storing.export_labels import export_labels
from flows.commands.storing.export_network import export_network
from flows.engine.collect import collect_labels, writing
from flows.labels.request import RunRequest
from flows.publishing.request import RegenerateRequest
from flows.training.prediction import PredictRequest
from flows.training.request import TrainRequest


def write(file: Path, text: str = "mine") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def files(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.startswith(".pseudomask")
    }


def labels_node(store: Store, key: str, names: list[str]) -> Any:
    with store.create("labels", key) as draft:
        for name in names:
            write(draft.folder / "SegmentationClass" / f"{name}.png", key)
    return SimpleNamespace(stage=SimpleNamespace(name="labels"), key=key, samples=())


@pytest.mark.parametrize("part", ["", "labels"])
def test_collecting_removes_its_own_stale_maps_and_no_other_file(tmp_path: Path, part: str) -> None:
    store, dataset = Store(tmp_path / "store"), Dataset(tmp_path, ClassTable(("cat",)), ())
    first, second = labels_node(store, "k1", ["a", "b"]), labels_node(store, "k2", ["b"])
    out = tmp_path / "out"
    with own(out, "predict") as output:
        collect_labels(output, part, [first], store, dataset)
    hand = [write(out / part / kind / "hand.png") for kind in ("SegmentationClass", "SegmentationObject", "Saliency")]
    with own(out, "predict") as output:
        collect_labels(output, part, [second], store, dataset)
    assert all(file.read_text() == "mine" for file in hand)
    assert {f.name for f in (out / part / "SegmentationClass").iterdir()} == {"b.png", "hand.png"}
    assert (out / part / "SegmentationClass/b.png").read_text() == "k2"


VOC = ("JPEGImages/a.jpg", "SegmentationClass/a.png", "SegmentationObject/a.png", "labels/SegmentationClass/a.png")


@pytest.mark.parametrize("name", VOC)
def test_no_command_touches_a_folder_that_holds_something_else(tmp_path: Path, name: str) -> None:
    out, data = tmp_path / "mine", tmp_path / "set"
    write(out / name)
    data.mkdir()
    for start in (
        lambda: run_pipeline(RunRequest(data=data, out=out)),
        lambda: predict_images(PredictRequest(network=tmp_path / "net", data=data, out=out)),
        lambda: regenerate_published(RegenerateRequest(data=data, out=out)),
        lambda: compare_resources(["segnet"], (32, 32), 2, "cpu", 1, out),
    ):
        with pytest.raises(ArtifactError, match="holds something else"):
            start()
    assert files(out) == {name: b"mine"}
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("place", [".", "out", "deep/out"])
def test_results_inside_the_data_set_are_refused_before_anything_starts(tmp_path: Path, place: str) -> None:
    data = tmp_path / "set"
    data.mkdir()
    out = data / place
    for start in (
        lambda: run_pipeline(RunRequest(data=data, out=out)),
        lambda: run_pipeline(RunRequest(data=data, out=tmp_path / "run", store=str(out))),
        lambda: predict_images(PredictRequest(network=tmp_path / "net", data=data, out=out)),
        lambda: regenerate_published(RegenerateRequest(data=data, out=out)),
    ):
        with pytest.raises(ArtifactError, match="lies in the data set"):
            start()
    assert not list(data.iterdir())


@pytest.mark.parametrize("place", [".", "deep/out"])
def test_results_inside_the_data_set_of_a_run_are_refused(tmp_path: Path, place: str) -> None:
    run, training = make_run(tmp_path), make_training(tmp_path / "other", "deeplabv2")
    write(training / "network/network.json", "{}")
    settings: Any = {"network": "deeplabv2"}
    for root, start in (
        (tmp_path, lambda out: train_network(TrainRequest(labels=run, out=out, settings=settings))),
        (tmp_path, lambda out: make_report(run, out)),
        (tmp_path, lambda out: compare_runs((run, run), out)),
        (tmp_path, lambda out: export_labels(run, out)),
        (tmp_path, lambda out: export_cams(run, out)),
        (tmp_path / "other", lambda out: export_network(training, out / "net.onnx", "onnx")),
    ):
        before = files(root / "set")
        with pytest.raises(ArtifactError, match=r"lies in the data set|holds something else"):
            start(root / "set" / place)
        assert files(root / "set") == before


@pytest.mark.parametrize("name", ["cams", "saliency", "labels", "hints", "regions"])
def test_results_among_maps_or_labels_are_refused(tmp_path: Path, name: str) -> None:
    data, maps = tmp_path / "set", tmp_path / "maps"
    data.mkdir()
    maps.mkdir()
    given: Any = {"data": data, "settings": {"weights": "imagenet"}, name: maps}
    for values in ({"out": maps / "out"}, {"out": tmp_path / "out", "store": str(maps / "store")}):
        with pytest.raises(ArtifactError, match=r"lies in the folder .*maps, so that results would be taken for"):
            run_pipeline(RunRequest(**given, **values))
        with pytest.raises(ArtifactError, match="lies in the folder"):
            regenerate_published(RegenerateRequest(**given, **values))
    assert not list(maps.iterdir())


def test_the_demo_replaces_only_a_set_of_its_own(tmp_path: Path) -> None:
    mine, ours = tmp_path / "mine", tmp_path / "ours"
    for name in ("JPEGImages/train_00000.jpg", "labels.csv", "classes.txt"):
        write(mine / name)
    before = files(mine)
    for stamp in (None, "{}", '{"images": 2, "seed": 5}'):
        if stamp is not None:
            write(mine / "recipe.json", stamp)
            before["recipe.json"] = stamp.encode()
        with pytest.raises(ArtifactError, match="holds something else"):
            write_demo_set(mine, 2, 0)
        assert files(mine) == before
    write_demo_set(ours, 2, 0)
    first = files(ours)
    # As it was before there were marks.
    (ours / ".pseudomask.json").unlink()
    write_demo_set(ours, 1, 1)
    assert set(files(ours)) < set(first)
    hand = write(ours / "JPEGImages/train_00001.jpg")
    with pytest.raises(ArtifactError, match="train_00001"):
        write_demo_set(ours, 2, 0)
    assert hand.read_text() == "mine"


@pytest.mark.parametrize("stamp", ["{}", "[]", "{", '{"run": "x"}'])
def test_export_replaces_no_folder_for_a_file_of_the_name_of_its_stamp(tmp_path: Path, stamp: str) -> None:
    run = make_run(tmp_path)
    write(tmp_path / "mine/export.json", stamp)
    write(tmp_path / "mine/thesis.txt")
    with pytest.raises(ArtifactError, match="holds something else"):
        export_labels(run, tmp_path / "mine")
    assert files(tmp_path / "mine") == {"export.json": stamp.encode(), "thesis.txt": b"mine"}


@pytest.mark.parametrize("old", [False, True])
def test_export_refuses_an_export_to_which_files_were_added(tmp_path: Path, old: bool) -> None:
    run, out = make_run(tmp_path), tmp_path / "export"
    export_labels(run, out)
    if old:
        stamp = json.loads((out / "export.json").read_text())
        del stamp["files"]
        (out / "export.json").write_text(json.dumps(stamp))
        export_labels(run, out)
        (out / "export.json").write_text(json.dumps(stamp))
    corrected = write(out / "corrected/m.png")
    with pytest.raises(ArtifactError, match=r"corrected/m.png: not a file of the earlier export"):
        export_labels(run, out, "coco")
    assert corrected.read_text() == "mine"
    assert (out / "SegmentationClass").is_dir()


def test_export_clears_what_a_kill_left_and_nothing_else(tmp_path: Path) -> None:
    run, out = make_run(tmp_path), tmp_path / "export"
    export_labels(run, out)
    out.rename(tmp_path / ".export.01234567.old")
    write(tmp_path / ".export.89abcdef.old/thesis.txt")
    write(tmp_path / ".export.00000000/.unfinished")
    write(tmp_path / ".export.11111111/SegmentationClass/a.png")
    busy = write(tmp_path / ".export.22222222/.unfinished").parent
    descriptor = os.open(busy, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    export_labels(run, out)
    os.close(descriptor)
    left = [".export.11111111", ".export.22222222", ".export.89abcdef.old"]
    assert sorted(file.name for file in tmp_path.glob(".export*")) == left


def test_an_export_takes_the_place_of_the_earlier_one_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = make_run(tmp_path), tmp_path / "export"
    export_labels(run, out, "voc")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("the file system of temporary files cannot let folders change places")

    def refuse(file: Path, target: Path) -> None:
        raise AssertionError(f"{file} is not there for a while")

    monkeypatch.setattr(Path, "rename", refuse)
    export_labels(run, out, "coco")
    assert (out / "instances.json").is_file()
    assert not (out / "SegmentationClass").exists()
    assert not list(tmp_path.glob(".export*"))


def test_an_export_replaces_the_earlier_one_where_folders_cannot_change_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = make_run(tmp_path), tmp_path / "export"
    export_labels(run, out, "voc")
    monkeypatch.setattr(export, "exchange", lambda *_: False)
    export_labels(run, out, "coco")
    assert (out / "instances.json").is_file()
    assert not (out / "SegmentationClass").exists()
    assert not list(tmp_path.glob(".export*"))


def test_an_id_of_a_runs_list_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    (listing,) = run.glob("images-*.jsonl")
    listing.write_text(listing.read_text().replace('"id":"train_00000"', '"id":"../../../planted"'))
    planted = write(tmp_path / "planted.png")
    with pytest.raises(ArtifactError, match=r"images-.*planted"):
        export_labels(run, tmp_path / "deep/a/out", "voc")
    assert planted.read_text() == "mine"
    assert not (tmp_path / "deep/planted.png").exists()


def test_a_report_replaces_only_a_page_of_pseudomask(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    make_report(run)
    make_report(run)
    page = write(tmp_path / "www/index.html", "<!doctype html><title>mine</title>")
    with pytest.raises(ArtifactError, match=r"index.html: holds something else"):
        make_report(run, tmp_path / "www")
    with pytest.raises(ArtifactError, match=r"index.html: holds something else"):
        compare_runs((run, run), tmp_path / "www")
    assert "mine" in page.read_text()


def test_a_network_replaces_only_a_file_of_its_format(tmp_path: Path) -> None:
    training = make_training(tmp_path, "deeplabv2")
    write(training / "network/network.json", "{}")
    thesis = write(tmp_path / "thesis.txt")
    for format in ("onnx", "torchscript"):
        with pytest.raises(ArtifactError, match=rf"thesis.txt: holds something else than a network in {format}"):
            export_network(training, thesis, format)
    assert thesis.read_text() == "mine"


def test_the_run_of_a_regeneration_starts_from_its_list_of_images(tmp_path: Path) -> None:
    run = tmp_path / "runs/v00002"
    request = RunRequest(data=tmp_path / "set", out=run, split=str(run / "images.txt"))
    write(request.out / "images.txt", "a\n")
    with writing(request, "run") as output:
        output.claim(["run.json"])
    assert (request.out / "images.txt").read_text() == "a\n"


def test_a_label_map_that_was_corrected_by_hand_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    store, dataset = Store(tmp_path / "store"), Dataset(tmp_path, ClassTable(("cat",)), ())
    first, second = labels_node(store, "k1", ["a", "b"]), labels_node(store, "k2", ["b"])
    request = RunRequest(data=tmp_path / "set", out=tmp_path / "run")
    request.data.mkdir()
    with writing(request, "run") as output:
        collect_labels(output, "labels", [first], store, dataset)
    for name in ("a", "b"):
        corrected = write(request.out / f"labels/SegmentationClass/{name}.png", "corrected")
        before = files(request.out)
        with pytest.raises(
            ArtifactError, match=rf"SegmentationClass/{name}.png: changed since .* choose another folder"
        ):
            run_pipeline(request)
        with own(request.out, "run") as output, pytest.raises(ArtifactError, match="changed since"):
            collect_labels(output, "labels", [second], store, dataset)
        assert files(request.out) == before
        corrected.unlink()
    with writing(request, "run") as output:
        collect_labels(output, "labels", [second], store, dataset)
    assert files(request.out) == {"labels/SegmentationClass/b.png": b"k2", "labels/classes.txt": b"cat\n"}
    with writing(request, "run") as output:
        collect_labels(output, "labels", [first], store, dataset)
    assert (request.out / "labels/SegmentationClass/b.png").read_text() == "k1"


@pytest.mark.parametrize("name", ["instances.json", "classes.txt"])
def test_what_is_beside_the_label_maps_is_not_replaced_where_it_was_corrected(tmp_path: Path, name: str) -> None:
    store, dataset = Store(tmp_path / "store"), Dataset(tmp_path, ClassTable(("cat",)), ())
    with store.create("labels", "k1") as draft:
        write(draft.folder / "instances.json", "[]")
    artifact: Any = SimpleNamespace(stage=SimpleNamespace(name="labels"), key="k1", samples=())
    with own(tmp_path / "out", "predict") as output:
        collect_labels(output, "", [artifact], store, dataset)
    write(tmp_path / "out" / name, "corrected")
    with own(tmp_path / "out", "predict") as output, pytest.raises(ArtifactError, match=rf"{name}: changed since"):
        collect_labels(output, "", [artifact], store, dataset)
