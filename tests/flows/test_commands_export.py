"""`pseudomask export`."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fabricated_run import make_run
from pycocotools.coco import COCO
from safetensors.numpy import save_file

from data.dataset import DatasetError
from data.formats.label_maps import read_label_map
from data.store import ArtifactError
from flows.commands.storing.export_cams import export_cams
from flows.commands.storing.export_labels import Format, export_labels
from tasks.engine.run_record import read_run

VOC_FILES = {"SegmentationClass", "SegmentationObject", "ImageSets", "classes.txt"}
COCO_FILES = {"instances.json"}
ALWAYS = {"images.csv", "export.json"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path)


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_the_maps_of_sure_pixels_go_along_where_the_run_has_them(run: Path, tmp_path: Path):
    shutil.copytree(run / "labels/SegmentationClass", run / "labels/SegmentationSure")
    export_labels(run, tmp_path / "export", "voc")
    assert names(tmp_path / "export/SegmentationSure") == names(tmp_path / "export/SegmentationClass")


@pytest.mark.parametrize(
    ("format", "files"), [("voc", VOC_FILES), ("coco", COCO_FILES), ("both", VOC_FILES | COCO_FILES)]
)
def test_the_format_decides_what_is_written(run: Path, tmp_path: Path, format: Format, files: set[str]):
    export_labels(run, tmp_path / "new/export", format)
    assert names(tmp_path / "new/export") == files | ALWAYS
    assert names(tmp_path / "new") == {"export"}


@pytest.mark.parametrize("id", ["../../planted", "/planted", "stranger"])
def test_maps_of_no_image_of_the_run_are_refused_and_write_nothing(run: Path, tmp_path: Path, id: str) -> None:
    file = tmp_path / "store/cams/c/cams.safetensors"
    save_file({id: np.zeros((1, 2, 2), np.float16)}, file)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArtifactError, match=r"cams\.safetensors: expected maps of the run's images"):
        export_cams(run, tmp_path / "deep/out")
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before] == [tmp_path / "deep"]


def test_voc_folders_hold_the_runs_maps_and_list_its_images(run: Path, tmp_path: Path):
    out = tmp_path / "export"
    export_labels(run, out)
    samples = read_run(run).dataset.samples
    assert (out / "ImageSets/Segmentation/train.txt").read_text().split() == [sample.id for sample in samples]
    for kind in ("SegmentationClass", "SegmentationObject"):
        for sample in samples:
            ours, theirs = (read_label_map(root / kind / f"{sample.id}.png") for root in (out, run / "labels"))
            np.testing.assert_array_equal(ours, theirs)
    with (out / "images.csv").open(newline="") as file:
        listed = {row["image"]: Path(row["path"]) for row in csv.DictReader(file)}
    assert listed == {sample.id: sample.image.resolve() for sample in samples}


def test_coco_json_loads_in_pycocotools_and_agrees_with_the_maps(run: Path, tmp_path: Path):
    answer = export_labels(run, tmp_path / "export", "coco")
    coco = COCO(str(tmp_path / "export/instances.json"))
    classes = read_run(run).dataset.classes
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == dict(
        zip(classes.category_ids, classes.names, strict=True)
    )
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len({a["id"] for a in annotations}) == len(annotations) == answer["annotations"] > 0
    for image in coco.loadImgs(coco.getImgIds()):
        stem = Path(image["file_name"]).stem
        semantic = read_label_map(run / "labels/SegmentationClass" / f"{stem}.png")
        rebuilt = np.zeros_like(semantic)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            rebuilt[coco.annToMask(annotation) > 0] = annotation["category_id"]
        np.testing.assert_array_equal(rebuilt, semantic)


def test_an_earlier_export_is_replaced_whole(run: Path, tmp_path: Path):
    out = tmp_path / "export"
    export_labels(run, out, "both")
    export_labels(run, out, "coco")
    assert names(out) == COCO_FILES | ALWAYS
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".export")]


def test_what_somebody_changed_in_an_export_is_not_replaced(run: Path, tmp_path: Path):
    out = tmp_path / "export"
    export_labels(run, out, "labelme")
    file = next(file for file in sorted(out.rglob("*.json")) if file.name != "export.json")
    corrected = file.read_bytes() + b" "
    file.write_bytes(corrected)
    with pytest.raises(ArtifactError, match=f"{file.name}: changed since it was exported"):
        export_labels(run, out, "labelme")
    assert file.read_bytes() == corrected
    file.unlink()
    export_labels(run, out, "labelme")
    assert file.is_file()
    # Earlier versions listed names alone.
    stamp = json.loads((out / "export.json").read_text())
    (out / "export.json").write_text(json.dumps(stamp | {"files": sorted(stamp["files"])}))
    export_labels(run, out, "labelme")


def test_an_empty_folder_may_be_used(run: Path, tmp_path: Path):
    (tmp_path / "export").mkdir()
    export_labels(run, tmp_path / "export", "coco")
    assert names(tmp_path / "export") == COCO_FILES | ALWAYS


def test_a_folder_with_something_else_in_it_is_left_alone(run: Path, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("all of it")
    with pytest.raises(ArtifactError, match="mine: holds something else"):
        export_labels(run, tmp_path / "mine")
    assert names(tmp_path / "mine") == {"thesis.txt"}
    with pytest.raises(ArtifactError, match="holds something else"):
        export_labels(run, tmp_path / "mine/thesis.txt")
    with pytest.raises(ArtifactError, match="holds something else"):
        export_labels(run, run)


def test_missing_label_maps_are_all_listed_and_the_earlier_export_stays(run: Path, tmp_path: Path):
    out = tmp_path / "export"
    export_labels(run, out, "coco")
    for image in ("train_00001", "train_00003"):
        (run / f"labels/SegmentationObject/{image}.png").unlink()
    with pytest.raises(DatasetError) as error:
        export_labels(run, out, "voc")
    assert [problem.file.stem for problem in error.value.problems] == ["train_00001", "train_00003"]
    assert names(out) == COCO_FILES | ALWAYS
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".export")]


def test_damaged_coco_json_is_not_passed_on(run: Path, tmp_path: Path):
    (run / "labels/instances.json").write_text(json.dumps({"images": []}))
    with pytest.raises(DatasetError, match="annotations"):
        export_labels(run, tmp_path / "export", "coco")
    assert not (tmp_path / "export").exists()
