"""A link that leads to nothing is what cannot be read now: nothing is read as if it were absent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.dataset import DatasetError
from data.readers import open_dataset
from data.readers.beside.cams import with_cams
from data.readers.beside.hints import with_hints
from data.readers.beside.saliency import with_saliency
from data.validation import check_images

NOWHERE = "a link to /nowhere/x, where nothing is"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of four images with a table of their labels."""
    folder = tmp_path / "set"
    folder.mkdir()
    for id in "abcd":
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(folder / f"{id}.png")
    (folder / "labels.csv").write_text("image,labels\na,cat\nb,dog\nc,cat;dog\nd,cat\n")
    return folder


def link(file: Path, target: str = "/nowhere/x") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.symlink_to(target)
    return file


def refused(root: Path, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("_annotations.coco.json", "result.json", "annotations.json", "a.xml", "tags.csv", "cat_train.txt"),
        *(
            "images",
            "masks",
            "more",
            "2024.05",
            "gtFine",
            "trainannot",
            "ground_truth_mask",
            "sub/more",
            "ImageSets/Main",
        ),
    ],
)
def test_a_source_or_folder_that_leads_nowhere_is_named(root: Path, name: str) -> None:
    open_dataset(root)
    file = link(root / name)
    said = refused(root)
    assert f"{file}: expected" in said
    assert NOWHERE in said


@pytest.mark.parametrize("name", [".cache", "notes.md", "photo.jpg.bak"])
def test_other_files_may_lead_nowhere(root: Path, name: str) -> None:
    link(root / name)
    open_dataset(root)


def test_a_link_to_itself_leads_nowhere(root: Path) -> None:
    file = link(root / "labels.jsonl", "labels.jsonl")
    assert f"{file}: expected a file or folder of the set, found a link to labels.jsonl" in refused(root)


def test_a_list_of_images_that_leads_nowhere_is_not_looked_for_elsewhere(root: Path) -> None:
    (root / "train.txt").write_text("a\n")
    assert [sample.id for sample in open_dataset(root, split="train")[0].samples] == ["a"]
    file = link(root / "ImageSets/Main/train.txt")
    assert f"{file}: expected a text file in UTF-8, found {NOWHERE}" in refused(root, split="train")


def test_a_class_list_that_cannot_be_read_is_a_class_that_is_not_left_out(root: Path) -> None:
    (root / "labels.csv").unlink()
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "dog_train.txt").write_text("a 1\nb 1\nc -1\nd -1\n")
    (lists / "few_train.txt").write_text("a\nb\n")
    assert open_dataset(root)[0].classes.names == ("dog",)
    file = link(lists / "cat_train.txt")
    assert f"{file}: expected a text file in UTF-8, found {NOWHERE}" in refused(root)
    file.unlink()
    file.write_text("a 1\nb 1\nc 2\nd -1\n")
    assert f"{file}: line 3: expected an image and 1, 0 or -1, found 'c 2'" in refused(root)


@pytest.mark.parametrize("name", ["d.xml", "more"])
def test_annotations_that_lead_nowhere_are_named(root: Path, name: str) -> None:
    (root / "labels.csv").unlink()
    folder = root / "Annotations"
    folder.mkdir()
    (folder / "a.xml").write_text("<annotation><object><name>dog</name></object></annotation>")
    file = link(folder / name)
    said = refused(root)
    assert f"{file}: expected" in said
    assert NOWHERE in said


def test_a_table_that_is_named_and_leads_nowhere_is_named(root: Path) -> None:
    file = link(root.parent / "mine.csv")
    assert f"{file}: expected a text file in UTF-8, found {NOWHERE}" in refused(root, labels=file)


# Beside the set


def test_maps_of_saliency_that_lead_nowhere_are_not_missing_ones(root: Path) -> None:
    maps = root.parent / "maps"
    maps.mkdir()
    for id in "abc":
        Image.fromarray(np.full((8, 8), 200, np.uint8)).save(maps / f"{id}.png")
    link(maps / "d.png")
    dataset, _ = with_saliency(open_dataset(root)[0], maps)
    (problem,) = check_images(dataset, 1)
    assert (problem.file, problem.sample) == (maps / "d.png", "d")


def test_attention_maps_that_lead_nowhere_are_not_taken_for_empty(root: Path) -> None:
    maps = root.parent / "maps"
    maps.mkdir()
    link(maps / "d.npy")
    with pytest.raises(DatasetError, match=r"d\.npy"):
        with_cams(open_dataset(root)[0], maps, missing="background", family="irn")
    link(maps / "classes.txt")
    with pytest.raises(DatasetError, match=r"classes\.txt"):
        with_cams(open_dataset(root)[0], maps, missing="background", family="irn")


@pytest.mark.parametrize("names", ["data.yaml", "classes.txt"])
def test_names_of_boxes_that_lead_nowhere_do_not_make_them_captions(root: Path, names: str) -> None:
    hints = root.parent / "hints"
    hints.mkdir()
    (hints / "a.txt").write_text("cat 0.5 0.5 0.2 0.2\n")
    (hints / "b.json").write_text('{"shapes": [], "imageHeight": 8, "imageWidth": 8}')
    with_hints(open_dataset(root)[0], hints)
    link(hints / names)
    with pytest.raises(DatasetError, match=names.replace(".", r"\.")):
        with_hints(open_dataset(root)[0], hints)


def test_boxes_that_lead_nowhere_are_named(root: Path) -> None:
    hints = root.parent / "hints"
    file = link(hints / "a.txt")
    (hints / "classes.txt").write_text("cat\n")
    with pytest.raises(DatasetError, match=rf"{file}: expected a text file in UTF-8, found a link to /nowhere"):
        with_hints(open_dataset(root)[0], hints)
