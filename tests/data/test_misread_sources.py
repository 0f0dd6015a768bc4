"""Sources of labels that could be taken for something else are read as they were meant, or refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import Dataset, DatasetError, SampleWithMore, unknown_classes
from data.readers import open_dataset

IMAGES = ("a", "b", "c", "d")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of four images."""
    folder = tmp_path / "set"
    folder.mkdir()
    for id in IMAGES:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{id}.png")
    return folder


def read(root: Path, table: str) -> Dataset:
    (root / "labels.csv").write_text(table, encoding="utf-8")
    return open_dataset(root)[0]


def problems_of(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    return str(caught.value)


# Two sources


@pytest.mark.parametrize("layout", ["camvid", "ecssd"])
@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "metadata.csv"])
def test_a_table_beside_scenes_is_not_passed_over(tmp_path: Path, layout: str, name: str) -> None:
    images, maps = ("train", "trainannot") if layout == "camvid" else ("images", "ground_truth_mask")
    for folder in (images, maps):
        (tmp_path / folder).mkdir()
    for id in IMAGES:
        Image.new("RGB", (8, 8)).save(tmp_path / images / f"{id}.png")
        Image.new("L", (8, 8)).save(tmp_path / maps / f"{id}.png")
    assert open_dataset(tmp_path)[0].classes.origin == "the set's own table"
    lines = [json.dumps({"image": f"{images}/{id}.png", "labels": ["cat"]}) for id in IMAGES]
    rows = ["image,labels", *(f"{images}/{id}.png,cat" for id in IMAGES)]
    (tmp_path / name).write_text("\n".join(lines if name.endswith(".jsonl") else rows))
    said = problems_of(tmp_path)
    assert f"{tmp_path / name}: expected one source of labels" in said
    assert f"--labels {tmp_path / name}" in said
    taken, _ = open_dataset(tmp_path, labels=tmp_path / name)
    assert taken.classes.names == ("cat",)


@pytest.mark.parametrize("name", ["labels.csv", "Labels.CSV", "metadata.jsonl", "Annotations", "SegmentationClass"])
def test_a_link_to_nothing_is_not_an_absent_source(root: Path, name: str) -> None:
    (root / "labels.jsonl").write_text("\n".join(json.dumps({"image": id, "labels": ["cat"]}) for id in IMAGES))
    open_dataset(root)
    (root / name).symlink_to("/nowhere/at/all")
    assert f"{root / name}: expected a file or folder of the set, found a link to /nowhere/at/all" in problems_of(root)


def test_a_link_to_something_is_that(root: Path) -> None:
    (root.parent / "tags.csv").write_text("image,labels\na,cat\nb,dog\n")
    (root / "labels.csv").symlink_to(root.parent / "tags.csv")
    assert open_dataset(root)[0].classes.names == ("cat", "dog")


# Several fields


@pytest.mark.parametrize("more", [{"tags": ["dog"]}, {"label": "dog"}, {"category": "cat;dog"}])
@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json", "metadata.jsonl"])
def test_fields_of_labels_that_differ_are_refused(root: Path, name: str, more: dict[str, object]) -> None:
    records = [{"image": f"{id}.png", "labels": ["cat"]} | more for id in IMAGES]
    text = json.dumps(records) if name.endswith(".json") else "\n".join(map(json.dumps, records))
    (root / name).write_text(text)
    said = problems_of(root)
    assert f"expected one field of labels, found 'labels' and '{next(iter(more))}', which differ" in said
    assert all(id in said for id in IMAGES)


def test_fields_that_say_the_same_are_one(root: Path) -> None:
    same = {"label": "cat", "labels": ["cat"], "tags": ["cat"], "categories": [], "class": None, "target": ""}
    records = [{"image": id, "negative": "false"} | same for id in IMAGES]
    (root / "labels.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert open_dataset(root)[0].classes.names == ("cat",)


def test_of_two_objects_of_a_class_in_a_record_the_likelier_counts(root: Path) -> None:
    records = [{"image": id, "labels": ["dog", "dog"], "scores": ["0.9", 0.2]} for id in IMAGES]
    (root / "labels.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert all((sample.labels, sample.certainty) == ((0,), (0.9,)) for sample in open_dataset(root)[0].samples)


def test_a_number_of_the_record_beside_the_file_is_no_other_image(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.jpg")
    records = [{"image_id": str(2 - n), "file_name": f"{n}.jpg", "label": f"class {n}"} for n in range(3)]
    (tmp_path / "labels.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert [sample.labels for sample in open_dataset(tmp_path)[0].samples] == [(0,), (1,), (2,)]


@pytest.mark.parametrize("value", [12, "red", [], "", None])
def test_a_field_or_column_called_value_is_a_probability_only_where_it_is_one(root: Path, value: object) -> None:
    records = [{"image": id, "label": "cat", "value": value} for id in IMAGES]
    (root / "labels.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert all(sample.labels == (0,) for sample in open_dataset(root)[0].samples)
    (root / "labels.jsonl").unlink()
    lines = [f"{id},cat,{value if isinstance(value, int | str) else ''},0.7" for id in IMAGES]
    (root / "labels.csv").write_text("image,label,value,score\n" + "\n".join(lines))
    assert all(sample.certainty == (0.7,) for sample in open_dataset(root)[0].samples)


# Signs


@pytest.mark.parametrize(
    "sign", ["-", "\u2010", "\u2011", "\u2012", "\u2013", "\u2014", "\u2212", "\ufe63", "\uff0d", "!"]
)
def test_any_dash_denies_a_class(root: Path, sign: str) -> None:
    dataset = read(root, f"image,labels\na,cat\nb,dog\nc,cat;dog\nd,?;{sign}cat\n")
    assert dataset.classes.names == ("cat", "dog")
    assert dataset.samples[3].labels == ()
    assert unknown_classes(dataset.samples[3]) == (1,)


@pytest.mark.parametrize("text", ["dog:0.8", "dog:.8", "dog: 0.8", "dog:80%", "dog:80 %", "dog:80.0%", '"dog:0,8"'])
def test_a_probability_is_read_in_the_forms_that_people_write(root: Path, text: str) -> None:
    dataset = read(root, f"image,labels\na,cat\nb,dog\nc,cat;dog\nd,{text}\n")
    assert dataset.classes.names == ("cat", "dog")
    last = dataset.samples[3]
    assert isinstance(last, SampleWithMore)
    assert (last.labels, last.certainty) == ((1,), (0.8,))


@pytest.mark.parametrize("text", ["~cat", "^cat", "cat?", "dog=0.8", "dog (0.8)", "dog 0.8", "dog@80%", "dog:3"])
def test_what_seems_to_deny_or_doubt_a_class_is_no_class(root: Path, text: str) -> None:
    (root / "labels.csv").write_text(f"image,labels\na,cat\nb,dog\nc,cat;dog\nd,{text}\n")
    said = problems_of(root)
    assert f"found '{text}' (line 5)" in said
    assert "`-NAME`" in said
    assert "`NAME:0.8`" in said


@pytest.mark.parametrize(
    "name",
    [
        "no entry",
        "not a cat",
        "type 2",
        "f-16",
        "12%",
        "no. 5",
        "cat:b",
        "dog:1.5",
        "covid-19",
        "Golf 1.6",
        "cat (2012)",
        "cat (200)",
    ],
)
def test_names_that_only_look_like_that_are_classes(root: Path, name: str) -> None:
    assert set(read(root, f"image,labels\na,cat\nb,dog\nc,cat;dog\nd,{name}\n").classes.names) == {"cat", "dog", name}


def test_a_comma_in_a_number_is_not_one_between_labels(root: Path) -> None:
    (root / "labels.csv").write_text("image;labels\na;cat,dog\nb;dog\nc;cat\nd;cat:0,3,dog\n")
    said = problems_of(root)
    assert "line 5: expected labels joined by commas, and probabilities with a point, found cat:0,3" in said


# Columns


def certainties(dataset: Dataset) -> dict[str, tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...]]]:
    return {
        sample.id: (sample.labels, getattr(sample, "certainty", ()), unknown_classes(sample))
        for sample in dataset.samples
    }


def test_columns_of_probabilities_are_tags_that_are_not_sure(root: Path) -> None:
    dataset = read(root, "image,cat,dog\na,0.02,0.97\nb,0.9,0\nc,0.5,1\nd,1,1e-3\n")
    assert certainties(dataset) == {
        "a": ((1,), (0.97,), (0,)),
        "b": ((0,), (0.9,), ()),
        "c": ((0, 1), (0.5, 1.0), ()),
        "d": ((0,), (), (1,)),
    }


def test_a_column_of_probabilities_may_be_sure_of_all(root: Path) -> None:
    dataset = read(root, "image,cat,dog,bird\na,1.0,0.0,0.0\nb,0.0,0.7,0.3\nc,0.0,0.1,0.9\nd,1.0,0.0,0.0\n")
    assert [sample.labels for sample in dataset.samples] == [(1,), (2,), (0,), (1,)]


def test_a_column_of_confidence_says_how_likely_the_label_of_its_line_is(root: Path) -> None:
    table = (
        "image,label,confidence\na,cat,0.02\na,dog,0.97\nb,dog,1\nc,cat,0\nc,dog,\nd,cat,0.7\nd,cat,0.9\nd,dog,0.1\n"
    )
    assert certainties(read(root, table)) == {
        "a": ((1,), (0.97,), (0,)),
        "b": ((1,), (), ()),
        "c": ((1,), (), ()),
        "d": ((0,), (0.9,), (1,)),
    }


def test_open_images_verified_absence_is_no_label(root: Path) -> None:
    table = "ImageID,Source,LabelName,Confidence\na,v,cat,1\na,v,dog,0\nb,v,dog,1\nc,v,cat,1\nd,v,dog,1\nd,v,cat,0\n"
    assert [labels for labels, *_ in certainties(read(root, table)).values()] == [(0,), (1,), (0,), (1,)]


@pytest.mark.parametrize("value", ["97", "97%", "-0.5", "high", "1.01"])
def test_a_column_of_confidence_of_another_kind_is_refused(root: Path, value: str) -> None:
    (root / "labels.csv").write_text(f"image,label,score\na,cat,1\nb,dog,{value}\nc,cat,1\nd,dog,1\n")
    assert f"line 3: expected how likely the labels are, from 0 to 1, found {value!r}" in problems_of(root)


def test_two_columns_of_confidence_are_one_too_many(root: Path) -> None:
    (root / "labels.csv").write_text("image,label,score,conf\na,cat,1,0\nb,dog,1,1\nc,cat,1,1\nd,dog,1,1\n")
    assert "expected one column of how likely labels are, found score, conf" in problems_of(root)


# XML


def annotate(root: Path, inner: str) -> None:
    (root / "Annotations").mkdir()
    for id in IMAGES:
        text = f"<annotation><filename>{id}.png</filename><owner><name>me</name></owner>{inner}</annotation>"
        (root / "Annotations" / f"{id}.xml").write_text(text)


@pytest.mark.parametrize("tag", ["obj", "item", "objekt", "instance"])
def test_objects_of_another_name_are_not_taken_for_none(root: Path, tag: str) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox>"
    annotate(root, f"<object><name>cat</name>{box}</object><{tag}><name>dog</name>{box}</{tag}>")
    said = problems_of(root)
    assert (
        f"a.xml: expected an annotation in VOC's XML (<annotation> with <object>s that have a <name>), found <{tag}>"
        in said
    )


@pytest.mark.parametrize(
    "more",
    [
        "<license><name>CC</name></license>",
        '<annotator name="Bob"/>',
        "<weather><name>rain</name></weather>",
        "<attributes><attribute><name>night</name></attribute></attributes>",
        "<project>objects</project><subject>street</subject>",
    ],
)
def test_names_beside_objects_are_nothing_to_us(root: Path, more: str) -> None:
    annotate(root, f"<object><name>cat</name></object>{more}")
    assert open_dataset(root)[0].classes.names == ("cat",)


def test_what_is_about_the_image_is_no_object(root: Path) -> None:
    annotate(
        root, "<source><database>x</database></source><object><name>cat</name><part><name>head</name></part></object>"
    )
    assert open_dataset(root)[0].classes.names == ("cat",)
