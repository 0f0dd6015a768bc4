"""Tags that are incomplete, denied or not sure: `?`, `-cat`, `dog:0.8`."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, Dataset, DatasetError, SampleWithMore, relabelled, unknown_classes
from data.formats.class_tables import in_table
from data.readers import open_dataset
from data.validation import warnings
from tasks.engine.artifact import ImageSet, Reads, SampleDigest


def write(root: Path, *lines: str, classes: str | None = None) -> None:
    root.mkdir(exist_ok=True)
    for line in lines:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / f"{line.partition(',')[0]}.png")
    (root / "labels.csv").write_text("image,labels\n" + "".join(f"{line}\n" for line in lines))
    if classes is not None:
        (root / "classes.txt").write_text(classes)


def test_what_is_left_open_is_unknown_and_not_absent(tmp_path: Path) -> None:
    write(tmp_path, "a,dog;?", "b,?;-cat", "c,cat;cow", "d,cow:0.75;dog", "e,cat;-dog", "f,")
    dataset, _ = open_dataset(tmp_path)
    assert dataset.classes.names == ("cat", "cow", "dog")
    a, b, c, d, e, f = dataset.samples
    assert (a.labels, unknown_classes(a)) == ((2,), (0, 1))
    assert (b.labels, unknown_classes(b)) == ((), (1, 2))
    assert isinstance(d, SampleWithMore)
    assert (d.labels, d.certainty, d.unknown) == ((1, 2), (0.75, 1.0), ())
    assert [sample.labels for sample in (c, e, f)] == [(0, 1), (0,), ()]
    assert not any(isinstance(sample, SampleWithMore) for sample in (c, e, f))
    told = "\n".join(dataset.notes)
    assert "`?`, the image may have other classes too: 2 images" in told
    assert "`-NAME`, the image surely has not that class: 2 images" in told
    assert "`NAME:0.8`, labels that are not sure: 1 images" in told


def test_names_of_the_table_are_no_signs(tmp_path: Path) -> None:
    write(tmp_path, "a,-x;?", "b,y:0.5", classes="-x\n?\ny:0.5\n")
    dataset, _ = open_dataset(tmp_path)
    assert [sample.labels for sample in dataset.samples] == [(0, 1), (2,)]
    assert not any(isinstance(sample, SampleWithMore) for sample in dataset.samples)


def test_any_probability_is_read_and_under_a_half_a_class_is_not_known(tmp_path: Path) -> None:
    write(tmp_path, "a,cat:1;cow 2:0.3;dog:0", "b,cow 2:1.0;dog", "c,cat:5e-1;cow 2:1e-5", "d,cat;-zebra")
    dataset, _ = open_dataset(tmp_path)
    assert dataset.classes.names == ("cat", "cow 2", "dog")
    a, b, c, d = dataset.samples
    assert (a.labels, unknown_classes(a)) == ((0,), (1,))
    assert (b.labels, unknown_classes(b)) == ((1, 2), ())
    assert isinstance(c, SampleWithMore)
    assert (c.labels, c.certainty, c.unknown) == ((0,), (0.5,), (1,))
    assert d.labels == (0,)
    assert "classes that no image has, only denied or doubted: zebra" in dataset.notes


@pytest.mark.parametrize("line", ["a,cat:0.8;cat:0.3", "a,cat;cat:0.8", "a,cat;-cat"])
def test_two_words_on_one_class_are_refused(tmp_path: Path, line: str) -> None:
    write(tmp_path, line, "b,dog")
    with pytest.raises(DatasetError, match="line 2: expected the names of classes, found 'cat' with two probabilities"):
        open_dataset(tmp_path)


def test_a_denied_class_in_another_case_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a,dog;?;-Cat", "b,cat")
    with pytest.raises(DatasetError, match=r"found 'Cat'; is it 'cat'\?"):
        open_dataset(tmp_path)


def test_columns_folders_and_xml_have_names_and_no_signs(tmp_path: Path) -> None:
    write(tmp_path / "columns", "a,", "b,")
    (tmp_path / "columns/labels.csv").write_text("image,-x,ratio:0.5,ratio:0.8\na,1,0,1\nb,0,1,0\n")
    dataset, _ = open_dataset(tmp_path / "columns")
    assert dataset.classes.names == ("-x", "ratio:0.5", "ratio:0.8")
    for folder in ("-x", "a:0.5", "mask"):
        (tmp_path / "folders" / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "folders" / folder / "1.png")
    dataset, _ = open_dataset(tmp_path / "folders", labels=tmp_path / "folders")
    assert [(sample.id, dataset.classes.names[sample.labels[0]]) for sample in dataset.samples] == [
        ("-x/1", "-x"),
        ("a:0.5/1", "a:0.5"),
        ("mask/1", "mask"),
    ]


def test_doctor_foretells_what_nothing_denies(tmp_path: Path) -> None:
    write(tmp_path, "a,dog;?", "b,cat;?", "c,?", "d,dog;cat")
    dataset, _ = open_dataset(tmp_path)
    told = "\n".join(warnings(dataset))
    assert "no image surely lacks cat, dog (`?`)" in told
    assert "taken for background only" not in told


@pytest.mark.parametrize("tag", ["1:1", "cat:2", "cat:x", "--", "-5", "?!"])
def test_what_looks_like_a_sign_and_is_none_is_a_name_or_nothing(tmp_path: Path, tag: str) -> None:
    write(tmp_path, f"a,{tag}", "b,dog")
    dataset, _ = open_dataset(tmp_path)
    assert not any(isinstance(sample, SampleWithMore) for sample in dataset.samples)
    assert dataset.classes.names in ((tag, "dog"), ("dog",), ("dog", tag))


def test_other_tables_and_other_labels_keep_what_is_open(tmp_path: Path) -> None:
    sample = SampleWithMore("a", tmp_path / "a.png", (0, 2), unknown=(1,), certainty=(0.5, 1.0))
    dataset = Dataset(tmp_path, ClassTable(("cat", "cow", "dog")), (sample,))
    (found,) = in_table(dataset, ClassTable(("dog", "emu", "cow", "cat"))).samples
    assert isinstance(found, SampleWithMore)
    assert (found.labels, found.unknown, found.certainty) == ((0, 3), (1, 2), (1.0, 0.5))
    fewer = relabelled(sample, (1, 2))
    assert isinstance(fewer, SampleWithMore)
    assert (fewer.labels, fewer.unknown, fewer.certainty) == ((1, 2), (), (1.0, 1.0))


def test_what_is_open_is_part_of_recipes(tmp_path: Path) -> None:
    digests = {"a": SampleDigest("0")}
    kinds = ({}, {"unknown": (1,)}, {"certainty": (0.5,)})
    samples = [SampleWithMore("a", tmp_path, (0,), **kind) for kind in kinds]
    recipes = [ImageSet((sample,), digests).recipe((sample,), Reads())["a"] for sample in samples]
    assert recipes == [
        {"image": "0", "labels": [0]},
        {"image": "0", "labels": [0], "unknown": [1]},
        {"image": "0", "labels": [0], "certainty": [0.5]},
    ]
