"""Boxes as hints: COCO's instance files and YOLO's text files, and what is refused with file and line."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.dataset import ClassTable, Dataset, DatasetError, Problem, Sample, SampleWithMore
from data.formats.hints import Box, check_hints, read_hints
from data.readers.beside.hints import with_hints
from tasks.engine.artifact import ImageSet
from tasks.engine.image_list import read_images, write_images
from tasks.engine.plan import digest_samples

SIZE = (40, 50)
CLASSES = ClassTable(("cat", "dog"))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Three photographs of 50 x 40 pixels, each with a cat and a dog."""
    samples = []
    for id in ("a", "b", "c"):
        file = tmp_path / f"images/train/{id}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(file)
        samples.append(Sample(f"images/train/{id}", file, (0, 1)))
    return Dataset(tmp_path, CLASSES, tuple(samples))


def coco(*annotations: dict[str, Any], **sides: Any) -> str:
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 40, "width": 50, **sides} for n in "abc"]
    images += [{"id": "z", "file_name": "z.jpg"}]
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 9, "name": "cow"}]
    numbered = [{"id": number, **annotation} for number, annotation in enumerate(annotations, start=1)]
    return json.dumps({"images": images, "annotations": numbered, "categories": categories})


def box(image: str, category: int, *sides: Any, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": list(sides), **more}


def boxes_of(dataset: Dataset, place: int) -> tuple[Box, ...]:
    sample = dataset.samples[place]
    assert isinstance(sample, SampleWithMore)
    check_hints(sample, dataset.classes)
    return read_hints(sample, dataset.classes).boxes


def boxes_or_problems(dataset: Dataset, source: Path) -> tuple[tuple[Box, ...], list[Problem]]:
    try:
        return boxes_of(with_hints(dataset, source)[0], 0), []
    except DatasetError as error:
        return (), error.problems


def write_yolo(root: Path, names: str | None = "names: [dog, cat]\n", **texts: str) -> Path:
    labels = root / "labels/train"
    labels.mkdir(parents=True, exist_ok=True)
    for id, text in texts.items():
        (labels / f"{id}.txt").write_text(text)
    if names is not None:
        (root / "data.yaml").write_text(names)
    return root / "labels"


def test_boxes_of_coco_are_hints_in_any_place(dataset: Dataset) -> None:
    text = coco(box("a", 7, 10, 5, 20, 15), box("a", 3, -2, 0, 8.5, 60), box("b", 3, 0, 0, 50, 40))
    folder = dataset.root / "hints"
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations/instances_train.json").write_text(text)
    for source in (folder, folder / "annotations/instances_train.json"):
        found, problems = with_hints(dataset, source)
        assert not problems
        assert boxes_of(found, 0) == (Box(2, 10, 5, 30, 20), Box(1, 0, 0, 6.5, 40))
        assert boxes_of(found, 1) == (Box(1, 0, 0, 50, 40),)
        assert found.samples[2] == dataset.samples[2]
        assert "hints: 2 of 3 images have some" in found.notes


def test_a_crowd_is_no_box_and_its_class_may_be_anywhere_in_the_image(dataset: Dataset) -> None:
    file = dataset.root / "boxes.json"
    crowd = box("a", 7, 0, 0, 9, 9, iscrowd=1)
    file.write_text(coco(crowd, box("a", 7, 10, 5, 20, 15), box("a", 3, 1, 1, 4, 4), box("b", 7, 1, 1, 4, 4)))
    found, _ = with_hints(dataset, file)
    assert boxes_of(found, 0) == (Box(1, 1, 1, 5, 5),)
    assert boxes_of(found, 1) == (Box(2, 1, 1, 5, 5),)
    assert any("boxes.json has 1 crowds" in note for note in found.notes)


def test_boxes_of_yolo_are_those_of_coco(dataset: Dataset) -> None:
    labels = write_yolo(dataset.root, a="0 0.4 0.3125 0.4 0.375\n\n1 0.05 0.5 0.1 1\n", b="", c="\n")
    for folder in (labels, labels.parent):
        found, problems = with_hints(dataset, folder)
        assert not problems
        assert boxes_of(found, 0) == (Box(2, 10, 5, 30, 20), Box(1, 0, 0, 5, 40))
        assert found.samples[1:] == dataset.samples[1:]


def test_names_of_labelimg_count_by_their_lines(dataset: Dataset) -> None:
    labels = write_yolo(dataset.root, None, a="2 0.5 0.5 1 1\r\n")
    (labels / "classes.txt").write_text("background\ncow\ncat\n\n")
    found, _ = with_hints(dataset, labels)
    assert boxes_of(found, 0) == (Box(1, 0, 0, 50, 40),)


def test_captions_beside_hints_are_no_boxes_and_boxes_want_names(dataset: Dataset) -> None:
    labels = write_yolo(dataset.root, None, a="A dog on a sofa.\n")
    shapes = {"shapes": [{"label": "dog", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}]}
    (labels / "train/a.json").write_text(json.dumps(shapes))
    found, problems = with_hints(dataset, labels)
    assert not problems
    assert boxes_of(found, 0) == (Box(2, 1, 1, 9, 9),)
    write_yolo(dataset.root, None, b="0 0.5 0.5 1 1\n")
    with pytest.raises(DatasetError, match=r"labels: expected data\.yaml or classes\.txt with the names"):
        with_hints(dataset, labels)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 0.5 0.5 1 1\n0 0.5 0.5 1\n", r"line 2: expected a class and four numbers, found 4 words; mend the line"),
        ("0 0.1 0.1 0.9 0.1 0.9 0.9\n", r"line 1: .* found 7 words, which may be an outline: export boxes"),
        ("\n2 0.5 0.5 1 1\n", "line 2: expected the number of a class below 2, found '2'"),
        ("-1 0.5 0.5 1 1\n", "line 1: expected the number of a class below 2, found '-1'"),
        ("dog 0.5 0.5 1 1\n", "line 1: expected the number of a class below 2, found 'dog'"),
        ("0 0.5 nan 1 1\n", "line 1: expected shares of the image from 0 to 1"),
        ("0 12 7 20 9\n", "line 1: expected shares of the image from 0 to 1.* found 12 7 20 9; mend"),
        ("0 0.5 0.5 0 1\n", "line 1: .* with a width and a height"),
    ],
)
def test_a_bad_line_of_yolo_is_refused_with_its_file(dataset: Dataset, text: str, expected: str) -> None:
    labels = write_yolo(dataset.root, a=text)
    with pytest.raises(DatasetError, match=expected) as raised:
        with_hints(dataset, labels)
    assert raised.value.problems[0].file == labels / "train/a.txt"
    kept, problems = with_hints(dataset, labels, skip_bad=True)
    assert {problem.sample for problem in problems} == {"images/train/a"}
    assert kept.samples[0] == dataset.samples[0]


def test_classes_that_the_set_lacks_are_refused_where_they_stand(dataset: Dataset) -> None:
    labels = write_yolo(dataset.root, "names: {0: dog, 1: sheep}\n", a="0 .5 .5 1 1\n1 .5 .5 1 1\n")
    with pytest.raises(DatasetError, match=r"line 2: expected classes of the set \(cat, dog\), found 'sheep'; mend"):
        with_hints(dataset, labels)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (coco(box("a", 7, 1, 2, 3)), "annotation 1 of image 'a.jpg': expected left, top, width and height as bbox"),
        (coco(box("a", 7, 1, 2, "3", 4)), r"expected left, top, width and height as bbox, found \[1, 2, '3', 4\]"),
        (coco(box("a", 7, 1, 2, math.nan, 4)), "expected left, top, width and height as bbox"),
        (coco(box("a", 7, 0.1, 0.2, 0.5, 0.6)), "annotation 1 of image 'a.jpg': expected pixels, not shares of the"),
        (coco(box("a", 7, 10, 10, 20, 5000)), "expected a box in the image, which is 50 x 40, found 10 10 20 5000"),
        (coco({"image_id": "a", "category_id": 7}), "as bbox, found None; mend it, or delete it"),
        (coco(box("a", 7, 60, 5, 9, 9)), "boxes with pixels of the image, found 60 5 9 9"),
        (coco(box("a", 7, 5, 5, -1, 9)), "boxes with pixels of the image"),
        (coco(box("a", 9, 5, 5, 9, 9)), r"expected classes of the set \(cat, dog\), found 'cow'; mend"),
        (coco(box("a", 4, 5, 5, 9, 9)), "expected classes of the set"),
        (coco(box("a", 7, 5, 5, 9, 9), width=51), "of 50 x 40 pixels, found a size of 51 x 40: export the boxes again"),
        ('{"images": 3, "annotations": [], "categories": []}', "boxes.json"),
    ],
)
def test_a_bad_box_of_coco_is_refused_with_its_annotation(dataset: Dataset, text: str, expected: str) -> None:
    file = dataset.root / "boxes.json"
    file.write_text(text)
    with pytest.raises(DatasetError, match=expected) as raised:
        with_hints(dataset, file)
    assert raised.value.problems[0].file == file


def test_what_is_no_source_of_hints_and_two_sources_of_one_image_are_refused(dataset: Dataset) -> None:
    file = dataset.root / "boxes.csv"
    file.write_text("a,1,2,3,4\n")
    with pytest.raises(DatasetError, match="expected a folder of hints, or COCO's JSON of boxes"):
        with_hints(dataset, file)
    labels = write_yolo(dataset.root, a="0 .5 .5 1 1\n")
    (labels / "boxes.json").write_text(coco(box("a", 7, 1, 1, 4, 4), box("b", 7, 1, 1, 4, 4)))
    with pytest.raises(DatasetError, match=r"hints of images/train/a once, found a\.txt and boxes\.json"):
        with_hints(dataset, labels)
    kept, problems = with_hints(dataset, labels, skip_bad=True)
    assert len(problems) == 1
    assert boxes_of(kept, 1) == (Box(2, 1, 1, 5, 5),)


def test_boxes_on_an_image_that_lacks_the_tag_are_refused_with_the_image(dataset: Dataset) -> None:
    labels = write_yolo(dataset.root, a="0 .5 .5 1 1\n")
    found, _ = with_hints(replace(dataset, samples=(replace(dataset.samples[0], labels=(0,)),)), labels)
    with pytest.raises(DatasetError, match=r"classes that the image has \(cat\), found dog: tag it so"):
        boxes_of(found, 0)


def test_only_images_whose_boxes_changed_have_another_digest_and_lists_keep_boxes(
    dataset: Dataset, tmp_path: Path
) -> None:
    file = dataset.root / "boxes.json"
    file.write_text(coco(box("a", 7, 10, 5, 20, 15), box("b", 3, 0, 0, 50, 40)))
    found, _ = with_hints(dataset, file)
    before = digest_samples(found)
    images = ImageSet(found.samples, before)
    (tmp_path / "run").mkdir()
    listed = write_images(tmp_path / "run", images, dataset.root)
    kept = list(read_images(tmp_path / "run", listed, dataset.root))
    assert [sample for sample, _ in kept] == list(found.samples)
    assert [digest for _, digest in kept] == [before[sample.id] for sample in found.samples]
    file.write_text(coco(box("a", 7, 10, 5, 20, 16), box("b", 3, 0, 0, 50, 40)))
    after = digest_samples(with_hints(dataset, file)[0])
    assert [id for id in before if before[id] != after[id]] == ["images/train/a"]


@given(st.text(alphabet="0123456789.-+e nan\t\n\r\x0bx", max_size=40))
def test_any_text_as_yolos_boxes_gives_boxes_or_a_named_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    root = tmp_path_factory.mktemp("any")
    photo = root / "a.png"
    Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(photo)
    labels = root / "labels"
    labels.mkdir()
    (labels / "a.txt").write_text(text)
    (labels / "classes.txt").write_text("cat\ndog\n")
    boxes, problems = boxes_or_problems(Dataset(root, CLASSES, (Sample("a", photo, (0, 1)),)), labels)
    assert all(problem.file in (labels, labels / "a.txt") for problem in problems)
    for each in boxes:
        assert 0 <= each.left < each.right <= 5
        assert 0 <= each.top < each.bottom <= 4


JSON = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3) | st.lists(st.floats(), max_size=5)


@given(st.lists(st.tuples(st.sampled_from(("image_id", "category_id", "bbox", "iscrowd", "id")), JSON), max_size=4))
def test_any_values_in_cocos_boxes_give_boxes_or_a_named_problem(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, Any]]
) -> None:
    root = tmp_path_factory.mktemp("any")
    photo, file = root / "a.png", root / "boxes.json"
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(photo)
    file.write_text(coco({**box("a", 7, 10, 5, 20, 15), **dict(changes)}, box("a", 3, 1, 1, 9, 9)))
    boxes, problems = boxes_or_problems(Dataset(root, CLASSES, (Sample("a", photo, (0, 1)),)), file)
    assert boxes or problems
    assert all(problem.file == file for problem in problems)
