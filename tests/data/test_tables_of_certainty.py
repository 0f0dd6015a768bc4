"""Numbers, doubts and repeated fields in tables and JSON of labels say what they mean, or are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.dataset import Dataset, DatasetError, unknown_classes
from data.readers import open_dataset

IDS = "abcd"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of four images."""
    for id in IDS:
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{id}.png")
    return tmp_path


def refused(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    return str(caught.value)


def tags(dataset: Dataset, id: str) -> tuple[tuple[str, ...], tuple[float, ...], tuple[str, ...]]:
    """Return an image's labels, how sure they are, and the classes of which nothing is known."""
    (sample,) = (sample for sample in dataset.samples if sample.id == id)
    names = dataset.classes.names
    unknown = tuple(names[c] for c in unknown_classes(sample))
    return tuple(names[c] for c in sample.labels), getattr(sample, "certainty", ()), unknown


def table(root: Path, *lines: str) -> None:
    (root / "labels.csv").write_text("\n".join(lines))


def records(root: Path, *found: dict[str, Any]) -> None:
    (root / "labels.jsonl").write_text("\n".join(map(json.dumps, found)))


def test_one_column_of_probabilities_is_that_of_its_class(root: Path) -> None:
    table(root, "image,cat", "a,0.02", "b,0.97", "c,1", "d,0")
    dataset, _ = open_dataset(root)
    assert dataset.classes.names == ("cat",)
    assert [tags(dataset, id) for id in IDS] == [
        ((), (), ("cat",)),
        (("cat",), (0.97,), ()),
        (("cat",), (), ()),
        ((), (), ()),
    ]


@pytest.mark.parametrize("head", ["image,labels", "a,0.5"])
def test_numbers_in_the_place_of_labels_are_no_classes(root: Path, head: str) -> None:
    table(root, head, "b,0.97", "c,0.02", "d,.1")
    assert "expected the names of classes, found the number '.1'" in refused(root)


@pytest.mark.parametrize("name", ["scores", "confidence_score", "likelihood", "p", "probs"])
def test_a_number_beside_the_label_is_how_likely_it_is_whatever_it_is_called(root: Path, name: str) -> None:
    table(root, f"image,label,{name}", "a,cat,0.02", "b,dog,0.97", "c,cat,1", "d,dog,1")
    dataset, _ = open_dataset(root)
    assert (tags(dataset, "a"), tags(dataset, "b")) == (((), (), ("cat",)), (("dog",), (0.97,), ()))


def test_a_measurement_beside_columns_of_0_and_1_is_no_class(root: Path) -> None:
    table(root, "image,cat,dog,blur", "a,1,0,0.3", "b,0,1,0.2", "c,1,1,0.9", "d,0,0,0.5")
    assert "found 0 and 1 in 'cat', 'dog' and other numbers in 'blur': take out what is no class" in refused(root)


def test_a_column_of_zeros_beside_probabilities_is_a_class_that_no_image_has(root: Path) -> None:
    table(root, "image,cat,dog", "a,0.9,0", "b,0.2,0", "c,1,0", "d,0.6,0")
    assert tags(open_dataset(root)[0], "a") == (("cat",), (0.9,), ())


@pytest.mark.parametrize("name", ["confidence", "score"])
def test_a_number_about_the_line_is_no_class_among_columns_of_classes(root: Path, name: str) -> None:
    table(root, f"image,cat,dog,{name}", *(f"{id},1,0,1" for id in IDS))
    assert f"expected a column for each class, found '{name}' among them" in refused(root)


def test_two_columns_of_one_class_are_refused(root: Path) -> None:
    table(root, "image,cat,cat", "a,1,0", "b,0,1", "c,1,1", "d,0,0")
    assert "expected one column for each class, found 'cat' more than once" in refused(root)


@pytest.mark.parametrize(("name", "cell"), [("absent", "1"), ("negative", "yes"), ("Negative labels", "dog")])
def test_a_column_that_says_that_a_label_is_not_there_is_not_left_unread(root: Path, name: str, cell: str) -> None:
    table(root, f"image,label,{name}", f"a,cat,{cell}", "b,dog,0", "c,cat,0", "d,dog,")
    assert f"found lines whose column '{name}' says that they are not: write `-NAME`" in refused(root)
    table(root, f"image,label,{name}", *(f"{id},cat,0" for id in IDS))
    open_dataset(root)


@pytest.mark.parametrize("line", ["a,dog:0.9,0.5", "a,-dog,0.5", "a,-dog,0"])
def test_a_sign_and_a_number_beside_it_are_refused(root: Path, line: str) -> None:
    table(root, "image,label,confidence", line, "b,dog,1", "c,cat,1", "d,dog,1")
    assert "with a sign, and 0" in refused(root)


# JSON


@pytest.mark.parametrize("score", [0.97, [0.97], "0.97"])
def test_the_score_of_a_record_is_how_likely_its_label_is(root: Path, score: Any) -> None:
    records(
        root,
        {"image": "a", "label": "cat", "score": 0.02},
        {"image": "b", "label": "dog", "confidence": score},
        {"image": "c", "labels": ["cat", "dog"], "scores": [0.7, 1]},
        {"image": "d", "label": "cat", "probability": None},
    )
    dataset, _ = open_dataset(root)
    assert [tags(dataset, id) for id in IDS] == [
        ((), (), ("cat",)),
        (("dog",), (0.97,), ()),
        (("cat", "dog"), (0.7, 1.0), ()),
        (("cat",), (), ()),
    ]


@pytest.mark.parametrize("score", [97, -0.5, "high", [0.5, 0.5], {"cat": 1}, float("nan")])
def test_a_score_of_another_kind_is_refused(root: Path, score: Any) -> None:
    records(root, {"image": "a", "label": "cat", "score": score}, {"image": "b", "label": "dog"})
    said = refused(root)
    assert "labels.jsonl: line 1: expected how likely the labels are, one number from 0 to 1 for each, found" in said


def test_fields_that_differ_in_case_alone_are_several(root: Path) -> None:
    records(root, {"image": "a", "label": "cat", "Label": "dog"}, {"image": "b", "label": "dog"})
    assert "line 1: expected one field of labels, found 'label' and 'Label', which differ" in refused(root)


def test_fields_with_the_names_of_two_images_are_refused(root: Path) -> None:
    records(root, {"image": "a", "file_name": "b.png", "label": "cat"}, {"image": "c", "label": "dog"})
    assert "line 1: expected one image, found fields with the names of several" in refused(root)
    records(root, {"image": "a", "file_name": "a.png", "id": "b", "label": "cat"}, {"image": "c", "label": "dog"})
    open_dataset(root)


@pytest.mark.parametrize("value", [True, 1, ["dog"], "dog"])
def test_a_field_that_says_that_labels_are_not_there_is_not_left_unread(root: Path, value: Any) -> None:
    records(root, {"image": "a", "label": "cat", "negative": value}, {"image": "b", "label": "dog"})
    assert "line 1: expected labels that are there, found 'negative': write `-NAME`" in refused(root)
    records(root, {"image": "a", "label": "cat", "negative": False}, {"image": "b", "label": "dog"})
    open_dataset(root)


def test_fields_that_are_left_unread_are_told(root: Path) -> None:
    records(root, {"image": "a", "label": "cat", "objects": [], "width": 8, "split": "train", "value": "x"})
    assert "labels.jsonl: fields left unread: objects, value, width" in open_dataset(root)[0].notes


def test_an_image_beside_the_field_of_labels_is_not_left_out(root: Path) -> None:
    content: dict[str, Any] = {"classes": ["cat", "dog"], "labels": {"a": 0, "b": 1}}
    (root / "labels.json").write_text(json.dumps(content | {"c": ["cat"]}))
    assert "expected the labels of all images in the field 'labels', found 'c' beside it" in refused(root)
    (root / "labels.json").write_text(json.dumps(content | {"info": "x"}))
    assert "labels.json: fields left unread: info" in open_dataset(root)[0].notes
