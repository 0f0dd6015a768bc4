"""Published labels that follow their data set, through the command line."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from tests_flows_support import ROOT, pseudomask, tiny_settings

from data.dataset import ClassTable, Dataset, DatasetError
from data.files import file_digest
from data.formats.label_maps import read_label_map
from data.readers import open_dataset
from data.store.corrections import BACKGROUND, FIRST_CLASS, FOLDER, Corrections
from data.store.publication import Publication
from flows.engine.exit_codes import HELD, WORK_TO_DO
from flows.labels.request import CHOSEN_STAGES
from flows.publishing.request import _in_published_table
from tasks.pipeline import trained_stages
from tasks.review.subject import open_subject

KINDS = ("SegmentationClass", "SegmentationObject")


class Place:
    """A data set that changes, with its published labels and their store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "set"
        self.labels, self.list = folder / "labels", folder / "images.txt"

    def words(self, *more: str | Path) -> list[str | Path]:
        own = ["--data", self.data, "--split", self.list, "--out", self.labels]
        # Networks that learned next to nothing find next to nothing.
        gate = ["--gate.background", "0", "1", "--gate.classes", "0", "9", "--gate.instances", "0", "99"]
        gate += ["--gate.agreement", "0"]
        return ["regenerate", *own, *tiny_settings(), *gate, *more, "--json"]

    def regenerate(self, *more: str | Path, code: int = 0) -> dict:
        answer = pseudomask(*self.words(*more))
        assert answer.returncode == code, answer.stderr
        return json.loads(answer.stdout)

    def latest(self) -> dict[str, tuple[bytes, bytes]]:
        """Return the label maps of every image."""
        folder = self.labels / "latest"
        ids = {file.stem for file in (folder / KINDS[0]).glob("*.png")}
        return {id: tuple((folder / kind / f"{id}.png").read_bytes() for kind in KINDS) for id in ids}  # pyright: ignore

    def stages(self) -> dict[str, int]:
        """Return how many artifacts of each stage the store has."""
        return {
            stage.name: len(list(stage.glob("*/manifest.json")))
            for stage in (self.folder / "store").iterdir()
            if not stage.name.startswith(".")
        }

    def put_on_list(self, *ids: str) -> None:
        self.list.write_text("\n".join(ids) + "\n")

    def relabel(self, image: str, labels: str) -> None:
        file = self.data / "labels.csv"
        lines = file.read_text().splitlines()
        file.write_text("\n".join(f"{image}.jpg,{labels}" if line.startswith(image) else line for line in lines) + "\n")


@pytest.fixture(scope="module")
def first(tiny_data: Path, first_run: tuple[Path, dict], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """Publish the images of the tiny run, whose artifacts are in the store already."""
    place = Place(tmp_path_factory.mktemp("published"))
    shutil.copytree(tiny_data, place.data)
    shutil.copytree(first_run[0] / "store", place.folder / "store")
    place.put_on_list(*sorted(file.stem for file in (place.data / "JPEGImages").glob("train_*")))
    return place.folder, place.regenerate()


@pytest.fixture
def place(first: tuple[Path, dict], tmp_path: Path) -> Place:
    """Return a copy, to be changed."""
    copy = Place(tmp_path / "copy")
    shutil.copytree(first[0], copy.folder, symlinks=True)
    for file in (*copy.labels.glob("v*/version.json"), *copy.labels.glob("runs/*/run.json")):
        file.chmod(0o644)
        file.write_text(file.read_text().replace(str(first[0]), str(copy.folder)))
    return copy


def test_the_first_version_has_labels_of_every_image(first: tuple[Path, dict]) -> None:
    place, answer = Place(first[0]), first[1]
    assert (answer["version"], answer["latest"], answer["train"], answer["images"]) == (1, 1, True, 12)
    ids = place.list.read_text().split()
    assert sorted(place.latest()) == ids
    coco = COCO(place.labels / "latest/instances.json")
    assert [image["file_name"] for image in coco.imgs.values()] == [f"JPEGImages/{id}.jpg" for id in ids]


def test_nothing_new_makes_no_version(place: Place) -> None:
    before = place.stages()
    answer = place.regenerate()
    assert (answer["version"], answer["latest"], answer["images"]) == (None, 1, 0)
    assert (answer["outcome"], answer["message"]) == ("Unchanged", "Unchanged since v1")
    assert place.regenerate("--dry-run")["outcome"] == "Unchanged"
    assert place.stages() == before


def test_only_what_changed_gets_new_labels_and_versions_can_be_gone_back_to(place: Place) -> None:
    ids, old, counts = place.list.read_text().split(), place.latest(), place.stages()
    same, (changed, removed) = ids[:10], ids[10:]
    added = "val_00000"
    with Image.open(place.data / f"JPEGImages/{changed}.jpg") as image:
        image.transpose(Image.Transpose.ROTATE_180).save(place.data / f"JPEGImages/{changed}.jpg")
    place.put_on_list(*same, changed, added)
    wanted = {"added": 1, "changed": 1, "relabelled": 0, "removed": 1}

    said = place.regenerate("--dry-run", code=WORK_TO_DO)
    assert (said["version"], said["images"], said["changes"]) == (None, 2, wanted)
    assert place.stages() == counts

    answer = place.regenerate()
    assert (answer["version"], answer["latest"], answer["images"], answer["train"]) == (2, 2, 2, False)
    assert answer["changes"] == wanted
    new = place.latest()
    assert sorted(new) == sorted([*same, changed, added])
    assert {id: new[id] for id in same} == {id: old[id] for id in same}
    # One shard of the two images, by the networks that there were.
    after = place.stages()
    assert {stage: after[stage] - count for stage, count in counts.items()} == {
        stage: int(stage not in (*trained_stages("irnet"), *CHOSEN_STAGES, "relations")) for stage in counts
    }
    coco = COCO(place.labels / "latest/instances.json")
    assert [image["file_name"] for image in coco.imgs.values()] == [f"JPEGImages/{id}.jpg" for id in sorted(new)]
    assert len(list((place.labels / "v00001/SegmentationClass").glob("*.png"))) == 12

    listed = json.loads(pseudomask("versions", place.labels, "--json").stdout)
    assert [(v["number"], v["state"], v["base"]) for v in listed["versions"]] == [
        (1, "published", None),
        (2, "latest", 1),
    ]
    # A version knows where its labels came from without the store.
    (place.folder / "store").rename(place.folder / "away")
    traced = json.loads(pseudomask("lineage", added, "--published", place.labels, "--json").stdout)
    assert traced["stages"][0]["stage"] == "labels"
    assert {"walk", "cams", "fields", "classifier", "irnet"} < {stage["stage"] for stage in traced["stages"]}
    assert traced["version"] == 2
    assert all(stage["source"] and stage["finished"] for stage in traced["stages"])
    assert next(stage for stage in traced["stages"] if stage["stage"] == "cams")["image"]["image"] == traced["sha256"]
    (place.folder / "away").rename(place.folder / "store")
    refused = pseudomask("lineage", removed, "--published", place.labels)
    assert refused.returncode == 1
    assert "has no image" in refused.stderr

    back = pseudomask("rollback", place.labels, "--json")
    assert json.loads(back.stdout)["latest"] == 1
    assert place.latest() == old
    # What was rolled back is not made and published again by the next night's run.
    again = place.regenerate()
    assert (again["version"], again["same"], again["latest"]) == (None, 2, 1)
    assert json.loads(pseudomask("approve", place.labels, "2", "--json").stdout)["latest"] == 2
    assert place.latest() == new


def test_a_version_out_of_bounds_is_held_and_can_be_approved(place: Place) -> None:
    ids = place.list.read_text().split()
    place.put_on_list(*ids[1:])
    said = place.regenerate("--gate.background", "0.0", "0.001", code=HELD)
    assert (said["version"], said["latest"]) == (2, 1)
    assert said["message"].startswith("Held v2: the mean of background of the version is ")
    assert "background" in said["held"][0]
    assert ids[0] in place.latest()
    # It waits; the next run does not make it once more.
    waiting = place.regenerate("--gate.background", "0.0", "0.001", code=HELD)
    assert (waiting["same"], waiting["held"], waiting["outcome"]) == (2, said["held"], "Held")
    assert "awaits review" in waiting["message"]
    refused = pseudomask("rollback", place.labels, "--to", "2")
    assert refused.returncode == 1
    assert "approve" in refused.stderr
    assert json.loads(pseudomask("approve", place.labels, "2", "--json").stdout)["latest"] == 2
    assert ids[0] not in place.latest()


@pytest.mark.slow
def test_values_stay_as_published_when_a_class_has_gone(place: Place) -> None:
    dataset, _ = open_dataset(place.data, split=place.list)
    publication, names = Publication(place.labels), dataset.classes.names
    # The tags of fewer images, without ground truth, in an order of their own.
    table = ClassTable(names[:0:-1])
    moved = tuple(
        replace(s, semantic=None, instances=None, labels=tuple(sorted(len(names) - 1 - c for c in s.labels if c)))
        for s in dataset.samples
    )
    found = _in_published_table(Dataset(place.data, table, moved), publication)
    assert found.classes.names == names
    assert [s.labels for s in found.samples] == [tuple(c for c in s.labels if c) for s in dataset.samples]
    # A new class comes last; ground truth whose values mean other classes is refused.
    new = Dataset(place.data, ClassTable((*names, "kite")), (replace(moved[0], labels=(len(names),)),))
    assert _in_published_table(new, publication).classes.names == (*names, "kite")
    told = Dataset(place.data, table, (replace(moved[0], semantic=Path("a.png")),))
    with pytest.raises(DatasetError, match="label maps"):
        _in_published_table(told, publication)


def test_two_at_once_make_one_version(place: Place) -> None:
    place.put_on_list(*place.list.read_text().split(), "val_00000")
    command = [sys.executable, "-m", "flows", *map(str, place.words())]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(answer["version"] or 0 for answer in answers) == [0, 2]
    assert sorted(path.name for path in place.labels.glob("v*")) == ["v00001", "v00002"]


@pytest.mark.slow
def test_new_classes_train_the_networks_and_a_bad_image_is_named(place: Place) -> None:
    ids = place.list.read_text().split()
    place.relabel(ids[0], "gnome")
    with (place.data / "classes.txt").open("a") as table:
        table.write("gnome\n")
    said = place.regenerate("--dry-run", code=WORK_TO_DO)
    assert said["train"]
    assert "gnome" in said["reasons"][0]
    answer = place.regenerate()
    assert (answer["version"], answer["train"]) == (2, True)
    assert "gnome" in (place.labels / "latest/classes.txt").read_text().split()

    broken = place.data / "JPEGImages/val_00000.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    place.put_on_list(*ids, broken.stem)
    refused = pseudomask(*place.words())
    assert refused.returncode == 1
    assert "val_00000.jpg" in refused.stderr
    left = place.regenerate("--skip-bad")
    assert left["version"] is None
    assert "val_00000.jpg" in left["left_out"][0]


def test_corrections_stand_in_every_version_after_them(place: Place) -> None:
    corrections = Corrections(place.labels / FOLDER)
    id, other, *_ = place.list.read_text().split()
    image = place.data / "JPEGImages" / f"{id}.jpg"
    labels, objects = (read_label_map(place.labels / "latest" / kind / f"{id}.png") for kind in KINDS)
    names = (place.labels / "latest/classes.txt").read_text().split()
    mask = np.zeros(labels.shape, np.uint16)
    mask[:10, :20], mask[-10:, -20:] = FIRST_CLASS, BACKGROUND
    corrections.add(id, file_digest(image), author="Ada", made_on=1, classes=names[:1], semantic=mask)
    answer = place.regenerate()
    assert (answer["version"], answer["images"], answer["corrected"], answer["not_applied"]) == (2, 0, 1, [])
    assert answer["changes"]["with_other_corrections"] == 1
    found = read_label_map(place.labels / "latest" / KINDS[0] / f"{id}.png")
    np.testing.assert_array_equal(found, np.where(mask == FIRST_CLASS, 1, np.where(mask == BACKGROUND, 0, labels)))
    # What was there before is untouched, in its own version and beside the corrected labels.
    for kept in (place.labels / "v00001", place.labels / "v00002/automatic"):
        np.testing.assert_array_equal(read_label_map(kept / KINDS[0] / f"{id}.png"), labels)
        np.testing.assert_array_equal(read_label_map(kept / KINDS[1] / f"{id}.png"), objects)
    coco = COCO(place.labels / "latest/instances.json")
    (number,) = [each["id"] for each in coco.imgs.values() if Path(each["file_name"]).stem == id]
    marked = [coco.annToMask(each)[:10, :20] for each in coco.loadAnns(coco.getAnnIds(imgIds=[number]))]
    assert any(part.all() for part in marked)
    # Nothing new makes no version; another image that changed leaves the correction in place.
    assert place.regenerate()["version"] is None
    with Image.open(place.data / "JPEGImages" / f"{other}.jpg") as photograph:
        photograph.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(place.data / "JPEGImages" / f"{other}.jpg")
    answer = place.regenerate()
    assert (answer["version"], answer["images"], answer["corrected"]) == (3, 1, 1)
    np.testing.assert_array_equal(read_label_map(place.labels / "latest" / KINDS[0] / f"{id}.png"), found)
    # A rollback loses none, and a correction taken back by hand is not there in the next version.
    assert pseudomask("rollback", place.labels, "--to", "1").returncode == 0
    assert place.regenerate()["same"] == 3
    shutil.rmtree(corrections.root / id)
    assert pseudomask("rollback", place.labels, "--to", "3").returncode == 0
    assert place.regenerate()["corrected"] == 0
    np.testing.assert_array_equal(read_label_map(place.labels / "latest" / KINDS[0] / f"{id}.png"), labels)


def test_corrected_tags_count_and_what_does_not_fit_is_told(place: Place) -> None:
    corrections = Corrections(place.labels / FOLDER)
    id, other, *_ = place.list.read_text().split()
    digests = {each: file_digest(place.data / "JPEGImages" / f"{each}.jpg") for each in (id, other)}
    corrections.add(id, digests[id], author="Ada", tags=[])
    corrections.add(other, digests[other], author="Ada", classes=["teapot"], semantic=np.full((4, 4), FIRST_CLASS))
    corrections.add(other, "0" * 64, author="Ada", tags=[])
    answer = place.regenerate()
    assert answer["changes"]["relabelled"] == 1
    assert not read_label_map(place.labels / "latest" / KINDS[0] / f"{id}.png").any()
    (fault,) = answer["not_applied"]
    assert "teapot" in fault or "4 x 4" in fault
    # It is told once, and makes no version every night.
    assert place.regenerate()["version"] is None


def test_corrected_pixels_teach_the_next_networks_once(place: Place) -> None:
    corrections = Corrections(place.labels / FOLDER)
    id, *_ = place.list.read_text().split()
    image = place.data / "JPEGImages" / f"{id}.jpg"
    names = (place.labels / "latest/classes.txt").read_text().split()
    mask = np.zeros(read_label_map(place.labels / "latest" / KINDS[0] / f"{id}.png").shape, np.uint16)
    mask[:10, :20], mask[-10:, -20:] = FIRST_CLASS, BACKGROUND
    corrections.add(id, file_digest(image), author="Ada", made_on=1, classes=names[:1], semantic=mask)
    before, share = place.stages(), ("--retrain-share", "0.05")
    answer = place.regenerate(*share)
    assert (answer["version"], answer["train"]) == (2, True)
    assert "not as people corrected them since, 1 of 12 images, more than 5%" in answer["reasons"][0]
    assert place.stages()["irnet"] == before["irnet"] + 1
    known = np.full(mask.shape, 255)
    known[mask == FIRST_CLASS], known[mask == BACKGROUND] = 1, 0
    run = place.labels / "runs/v00002"
    np.testing.assert_array_equal(read_label_map(run / f"hints/{id}.png"), known)
    assert [file.stem for file in (run / "hints").iterdir()] == [id]
    # What the networks were taught is in the automatic labels, too, and they are taught once.
    automatic = read_label_map(place.labels / "latest/automatic" / KINDS[0] / f"{id}.png")
    np.testing.assert_array_equal(automatic[known != 255], known[known != 255])
    assert place.regenerate(*share)["version"] is None
    versions = json.loads(pseudomask("versions", place.labels, "--json").stdout)["versions"]
    assert [(each["corrected"], list(each.get("taught", {}))) for each in versions] == [(0, []), (1, [id])]


def test_a_rejected_image_is_left_out_until_it_is_accepted(place: Place) -> None:
    corrections = Corrections(place.labels / FOLDER)
    id, *others = place.list.read_text().split()
    digest = file_digest(place.data / "JPEGImages" / f"{id}.jpg")
    corrections.add(id, digest, author="Ada", made_on=1, verdict="rejected")
    answer = place.regenerate()
    assert (answer["version"], answer["train"], answer["images"], answer["changes"]["removed"]) == (2, False, 0, 1)
    assert "rejected by Ada" in answer["left_out"][0]
    assert sorted(place.latest()) == others
    assert place.regenerate()["version"] is None
    told = pseudomask("lineage", id, "--published", place.labels).stderr
    assert "which Ada rejected" in " ".join(told.split())
    # It can still be looked at, in the version that has it.
    (image,) = [image for image in open_subject(place.labels).images.values() if image.id == id]
    assert image.folder == place.labels / "v00001"
    corrections.add(id, digest, author="Bob", made_on=2, verdict="accepted")
    answer = place.regenerate()
    assert (answer["version"], answer["images"], answer["left_out"]) == (3, 1, [])
    assert sorted(place.latest()) == [id, *others]
