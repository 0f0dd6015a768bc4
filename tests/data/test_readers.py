"""Every layout and label source opens as the same notion of a set; every problem of a set is listed at once."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, Dataset, DatasetError
from data.formats.label_maps import read_ground_truth, write_label_map
from data.formats.voc import VOC_CLASSES
from data.readers import open_dataset
from data.validation import check_images

CAT, COW, DOG = (VOC_CLASSES.index(name) for name in ("cat", "cow", "dog"))


def make_images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10)).save(folder / name)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def labels_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {sample.id: tuple(dataset.classes.names[label] for label in sample.labels) for sample in dataset.samples}


def problems_of(root: Path, **options: object) -> list[str]:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, **options)
    assert caught.value.problems
    return [str(problem) for problem in caught.value.problems]


def make_voc(root: Path, labels: str = "image,labels\na,cat\nb,cat;dog\nc,\n") -> Path:
    make_images(root / "JPEGImages", "a.jpg", "b.jpg", "c.jpg")
    write(root / "ImageSets" / "Segmentation" / "train.txt", "b\na\n")
    write(root / "ImageSets" / "Main" / "val.txt", "c\n")
    write(root / "labels.csv", labels)
    return root


def test_the_voc_layout_opens_with_vocs_values(tmp_path: Path) -> None:
    dataset, problems = open_dataset(make_voc(tmp_path))
    assert not problems
    assert dataset.root == tmp_path
    assert dataset.classes.names == VOC_CLASSES
    assert [(sample.id, sample.labels) for sample in dataset.samples] == [("a", (CAT,)), ("b", (CAT, DOG)), ("c", ())]
    assert dataset.samples[0].image == tmp_path / "JPEGImages" / "a.jpg"
    assert all(sample.semantic is sample.instances is sample.coco is None for sample in dataset.samples)


def test_ground_truth_is_found_for_the_images_that_have_it(tmp_path: Path) -> None:
    make_voc(tmp_path)
    for folder in ("SegmentationClass", "SegmentationObject"):
        write_label_map(tmp_path / folder / "b.png", np.zeros((10, 12), np.uint8))
    a, b, _ = open_dataset(tmp_path)[0].samples
    assert a.semantic is a.instances is None
    assert b.semantic == tmp_path / "SegmentationClass" / "b.png"
    assert b.instances == tmp_path / "SegmentationObject" / "b.png"


def test_a_split_is_a_list_of_the_set_or_a_file(tmp_path: Path) -> None:
    make_voc(tmp_path / "set", "a,cat\nb,dog\nc,cow\n")
    own = write(tmp_path / "own.txt", "c.jpg\n\nb\n")
    write(tmp_path / "set" / "few.txt", "a\n")
    for split, expected in (("train", "ab"), (own, "bc"), (str(own), "bc"), ("few", "a"), ("val", "c")):
        dataset, _ = open_dataset(tmp_path / "set", split=split)
        assert [sample.id for sample in dataset.samples] == list(expected)


def test_every_split_has_the_class_table_of_the_whole_set(tmp_path: Path) -> None:
    make_voc(tmp_path, "a,zebra\nb,gnu\nc,okapi\n")
    for split in ("train", "val", None):
        assert open_dataset(tmp_path, split=split)[0].classes.names == ("gnu", "okapi", "zebra")


def test_a_split_ignores_what_is_wrong_with_other_images(tmp_path: Path) -> None:
    make_voc(tmp_path, "a,cat\nb,dog\nc,unicorn\nc,cat\ngone,cow\n")
    make_images(tmp_path / "JPEGImages", "c.png")
    assert len(open_dataset(tmp_path, split="train")[0].samples) == 2
    assert len(problems_of(tmp_path)) == 4


def test_labels_come_from_annotations_where_there_is_no_list(tmp_path: Path) -> None:
    make_voc(tmp_path)
    (tmp_path / "labels.csv").unlink()
    part = "<object><name>{}</name><difficult>1</difficult><part><name>head</name></part></object>"
    for id, names in (("a", ["cat", "cat"]), ("b", ["dog", "cat"]), ("c", [])):
        text = f"<annotation>{''.join(part.format(name) for name in names)}</annotation>"
        write(tmp_path / "Annotations" / f"{id}.xml", text)
    assert labels_of(open_dataset(tmp_path)[0]) == {"a": ("cat",), "b": ("cat", "dog"), "c": ()}
    write(tmp_path / "Annotations" / "b.xml", "<annotation><object>")
    (problem,) = problems_of(tmp_path)
    assert "b.xml: expected an annotation in VOC's XML" in problem


def test_labels_come_from_masks_where_there_is_nothing_else(tmp_path: Path) -> None:
    make_voc(tmp_path)
    (tmp_path / "labels.csv").unlink()
    mask = np.zeros((10, 12), np.uint8)
    mask[0, :3] = 255, CAT + 1, DOG + 1
    write_label_map(tmp_path / "SegmentationClass" / "b.png", mask)
    dataset, _ = open_dataset(tmp_path)
    assert labels_of(dataset) == {"a": (), "b": ("cat", "dog"), "c": ()}
    write(tmp_path / "classes.txt", "one\ntwo\n")
    (tmp_path / "SegmentationClass" / "a.png").touch()
    empty, unknown, *_ = problems_of(tmp_path)
    assert "a.png: expected a label map, found an empty file" in empty
    assert f"b.png: expected values 0 to 2 and 255, found {DOG + 1}" in unknown


def test_a_folder_of_masks_or_annotations_may_be_named_as_labels(tmp_path: Path) -> None:
    make_voc(tmp_path / "set")
    write_label_map(tmp_path / "masks" / "a.png", np.full((10, 12), COW + 1, np.uint8))
    dataset, _ = open_dataset(tmp_path / "set", labels=tmp_path / "masks")
    assert labels_of(dataset) == {"a": ("cow",), "b": (), "c": ()}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "image,labels\nx/a.jpg,zebra;gnu\nb,gnu\n"),
        ("labels.csv", "\ufeffImage,Labels\r\n./x/a , zebra ; gnu;\r\n\r\nb.PNG,gnu\r\n"),
        ("labels.csv", 'x/a,"zebra;gnu;gnu"\nb.png,gnu\nd.e\n'),
        ("labels.jsonl", '{"image": "x/a.jpg", "labels": ["zebra", "gnu"]}\n\n{"image": "b", "labels": ["gnu"]}\n'),
    ],
)
def test_a_plain_folder_opens_with_csv_and_json_lines(tmp_path: Path, name: str, text: str) -> None:
    make_images(tmp_path, "x/a.jpg", "b.PNG", "d.e.webp", ".hidden.png", ".cache/f.png")
    write(tmp_path / name, text)
    write_label_map(tmp_path / "SegmentationClass" / "x" / "a.png", np.zeros((10, 12), np.uint8))
    dataset, _ = open_dataset(tmp_path)
    assert dataset.classes.names == ("gnu", "zebra")
    assert labels_of(dataset) == {"b": ("gnu",), "d.e": (), "x/a": ("gnu", "zebra")}
    assert dataset.samples[2].semantic == tmp_path / "SegmentationClass" / "x" / "a.png"


def test_labels_may_lie_elsewhere_and_go_before_the_sets_own(tmp_path: Path) -> None:
    make_voc(tmp_path / "set")
    labels = write(tmp_path / "mine.ndjson", '{"image": "c", "labels": ["cow"]}\n')
    assert labels_of(open_dataset(tmp_path / "set", labels=labels)[0]) == {"a": (), "b": (), "c": ("cow",)}


def test_a_class_table_orders_the_classes(tmp_path: Path) -> None:
    make_voc(tmp_path)
    write(tmp_path / "classes.txt", "dog\n\ncat\n")
    assert open_dataset(tmp_path)[0].samples[1].labels == (0, 1)
    assert open_dataset(tmp_path)[0].classes.names == ("dog", "cat")
    mine = write(tmp_path / "mine.txt", "gnu\ncat\ndog\n")
    assert open_dataset(tmp_path, classes=mine)[0].samples[1].labels == (1, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\ndog\ncat\n", "expected each class once, found 'cat' 2 times"),
        ("cat\nbackground\ndog\n", "found 'background', which has value 0"),
        ("\n", "expected the name of a class a line, found none"),
        (None, "expected a text file in UTF-8"),
    ],
)
def test_a_class_table_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    make_voc(tmp_path)
    if text is not None:
        write(tmp_path / "mine.txt", text)
    (problem,) = problems_of(tmp_path, classes=tmp_path / "mine.txt")
    assert "mine.txt: " in problem
    assert message in problem


def test_the_classes_of_a_plain_folder_are_its_tags_whatever_their_names(tmp_path: Path) -> None:
    make_images(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path / "labels.csv", "image,labels\na,dog\nb,cat;person\n")
    dataset, _ = open_dataset(tmp_path)
    assert dataset.classes.names == ("cat", "dog", "person")
    assert dataset.classes.origin == "the tags of the set, 3 in all, in ascending order"
    assert (
        "3 of 3 tags are VOC's" in open_dataset(make_voc(tmp_path / "voc", "a,cow\nb,cat;dog\nc,\n"))[0].classes.origin
    )


@pytest.mark.parametrize(("values", "names"), [((12, 8), VOC_CLASSES), ((2, 1), ("cat", "dog"))])
def test_label_maps_tell_whether_they_count_vocs_classes_or_the_tags(
    tmp_path: Path, values: tuple[int, int], names: tuple[str, ...]
) -> None:
    make_images(tmp_path / "JPEGImages", "a.jpg", "b.jpg")
    write(tmp_path / "labels.csv", "image,labels\na,dog\nb,cat\n")
    for id, value in zip("ab", values, strict=True):
        labels = np.full((10, 12), 255, np.uint8)
        labels[:4], labels[6:] = value, 0
        write_label_map(tmp_path / "SegmentationClass" / f"{id}.png", labels)
    assert open_dataset(tmp_path)[0].classes.names == names


def test_an_unknown_class_is_named_with_its_line_and_image(tmp_path: Path) -> None:
    make_voc(tmp_path, "image,labels\na,cat\nb,dog;unicorn\nc,cow\n")
    (problem,) = problems_of(tmp_path)
    assert "labels.csv: line 3: expected one of aeroplane, " in problem
    assert "found the class 'unicorn' for the image 'b'" in problem


def test_labels_for_a_missing_image_are_named(tmp_path: Path) -> None:
    make_voc(tmp_path, "a,cat\ngone.jpg,dog\n")
    (problem,) = problems_of(tmp_path)
    assert problem.startswith(str(tmp_path / "JPEGImages" / "gone.jpg"))
    assert "expected an image, as labels.csv, line 2 has labels for it, found none" in problem


def test_a_list_that_names_a_missing_image_is_a_problem(tmp_path: Path) -> None:
    make_voc(tmp_path)
    write(tmp_path / "ImageSets" / "Segmentation" / "train.txt", "a\ngone\n")
    (problem,) = problems_of(tmp_path, split="train")
    assert "gone: expected an image, as train.txt lists it, found none" in problem


def test_a_duplicate_id_is_named_in_labels_lists_and_files(tmp_path: Path) -> None:
    make_voc(tmp_path, "a,cat\nb,dog\na.jpg,dog\n")
    make_images(tmp_path / "JPEGImages", "b.png")
    write(tmp_path / "ImageSets" / "Segmentation" / "train.txt", "a\nb\na\n")
    in_list, in_files, in_labels = problems_of(tmp_path, split="train")
    assert "train.txt: expected each image once, found 'a' 2 times" in in_list
    assert "b.png: expected one image with the id 'b', found b.jpg too" in in_files
    assert "labels.csv: line 1: expected the image 'a' once, found it again: line 3" in in_labels


def test_ids_that_differ_in_case_only_are_named(tmp_path: Path) -> None:
    make_images(tmp_path, "Cat.jpg", "cat.jpg", "x/cat.jpg")
    write(tmp_path / "labels.csv", "Cat,cat\ncat,cat\n")
    (problem,) = problems_of(tmp_path)
    assert "cat.jpg: expected ids that differ in more than case, found 'Cat' and 'cat'" in problem


@pytest.mark.parametrize("name", ["../a.jpg", "x/../../a", "/etc/a.jpg", "..\\a", "C:\\a.jpg"])
def test_an_id_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    make_images(tmp_path, "a.jpg")
    make_images(tmp_path / "set", "b.jpg")
    write(tmp_path / "set" / "labels.csv", f"b,cat\n{name},cat\n")
    (problem,) = problems_of(tmp_path / "set")
    assert f"labels.csv: line 2: expected a path inside the folder of images, found {name!r}" in problem
    write(tmp_path / "set" / "list.txt", f"{name}\nb\n")
    first, *_ = problems_of(tmp_path / "set", split="list")
    assert "list.txt: line 1: expected a path inside the folder" in first


def test_a_colon_in_a_name_is_explained(tmp_path: Path) -> None:
    make_images(tmp_path, "b.jpg")
    write(tmp_path / "labels.csv", "b,cat\nx:y,cat\n")
    (problem,) = problems_of(tmp_path)
    assert "Windows takes what stands before the colon for a drive, so rename the file" in problem


@pytest.mark.parametrize("text", ["a,cat,dog\n", "a,cat\n,dog\n"])
def test_csv_rows_of_another_form_are_named(tmp_path: Path, text: str) -> None:
    make_images(tmp_path, "a.jpg")
    write(tmp_path / "labels.csv", "b,dog\n" + text)
    assert any("labels.csv: line" in problem for problem in problems_of(tmp_path))


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"image": "a"}', '{"image": 3, "labels": []}', '{"image": "a", "labels": 3}']
)
def test_json_lines_of_another_form_are_named(tmp_path: Path, line: str) -> None:
    make_images(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path / "labels.jsonl", '{"image": "b", "labels": ["cat"]}\n' + line)
    (problem,) = problems_of(tmp_path)
    assert f'labels.jsonl: line 2: expected {{"image": "name", "labels": ["class", ...]}}, found {line}' in problem


def test_an_empty_set_is_a_problem(tmp_path: Path) -> None:
    assert any("expected images, found none" in problem for problem in problems_of(tmp_path))
    write(tmp_path / "labels.csv", "")
    assert problems_of(tmp_path) == [f"{tmp_path}: expected at least one usable image, found none"]
    assert problems_of(tmp_path / "gone") == [f"{tmp_path / 'gone'}: expected the folder of a data set, found none"]


def test_labels_that_are_nowhere_are_a_problem(tmp_path: Path) -> None:
    make_images(tmp_path, "a.jpg")
    (problem,) = problems_of(tmp_path)
    assert "expected image-level labels in labels.csv" in problem
    (problem,) = problems_of(tmp_path, labels=tmp_path / "gone.csv")
    assert "gone.csv: expected a text file in UTF-8" in problem
    (tmp_path / "bytes.csv").write_bytes(b"a,\xff\xfe")
    (problem,) = problems_of(tmp_path, labels=tmp_path / "bytes.csv")
    assert "bytes.csv: expected a text file in UTF-8" in problem


def test_a_split_that_is_nowhere_is_a_problem(tmp_path: Path) -> None:
    (problem,) = problems_of(make_voc(tmp_path), split="tarin")
    assert "tarin: expected a file, or the name of a .txt list" in problem


def test_a_set_without_any_label_is_a_problem(tmp_path: Path) -> None:
    assert problems_of(make_voc(tmp_path, "a,\n")) == [f"{tmp_path}: expected labels, but none of the 3 images has any"]


def test_no_class_has_the_value_of_void(tmp_path: Path) -> None:
    make_images(tmp_path, "a.jpg")
    write(tmp_path / "labels.csv", f"a,{';'.join(f'c{number:04}' for number in range(300))}")
    classes = open_dataset(tmp_path)[0].classes
    assert (len(classes), len(classes.real_names)) == (301, 300)
    assert (classes.names[253], classes.names[255]) == ("c0253", "c0254")
    assert (classes.category_ids[253], classes.category_ids[254:256]) == (254, (-1, 256))
    assert open_dataset(tmp_path)[0].samples[0].labels == (*range(254), *range(255, 301))
    # What a run writes of the table is read as the same.
    (tmp_path / "classes.txt").write_text("\n".join(classes.names))
    assert open_dataset(tmp_path)[0].classes == classes
    # A table of the user's has a line a class.
    (tmp_path / "classes.txt").write_text("\n".join(classes.real_names))
    assert open_dataset(tmp_path)[0].classes == classes


def test_a_table_makes_room_for_void_from_255_classes_on() -> None:
    names = [f"c{number}" for number in range(255)]
    assert ClassTable(tuple(names[:254])).names == tuple(names[:254])
    assert ClassTable(tuple(names)).names == (*names[:254], "(void)", names[254])
    # Without background a value is the class's number, so 255 classes have the values 0 to 254.
    assert ClassTable(tuple(names), has_background=False).names == tuple(names)


def test_too_many_classes_are_a_problem(tmp_path: Path) -> None:
    make_images(tmp_path, "a.jpg")
    write(tmp_path / "labels.csv", f"a,{';'.join(f'c{number}' for number in range(2001))}")
    (problem,) = problems_of(tmp_path)
    assert "expected at most 2000 classes, found 2001" in problem


def test_one_image_alone_opens(tmp_path: Path) -> None:
    make_images(tmp_path, "a.jpg")
    write(tmp_path / "labels.csv", "a,cat\n")
    assert labels_of(open_dataset(tmp_path)[0]) == {"a": ("cat",)}


def test_bad_images_are_set_aside_on_request_and_all_listed(tmp_path: Path) -> None:
    make_voc(tmp_path, "a,cat\nb,unicorn;dog\nc,cow\nc,cow\ngone,cat\n../x,cat\n")
    dataset, problems = open_dataset(tmp_path, skip_bad=True)
    assert labels_of(dataset) == {"a": ("cat",)}
    assert [problem.sample for problem in problems] == [None, "b", "c", "gone"]
    assert problems_of(tmp_path) == [str(problem) for problem in problems]


def test_nothing_left_is_an_error_even_when_bad_images_are_skipped(tmp_path: Path) -> None:
    make_images(tmp_path, "a.jpg")
    write(tmp_path / "labels.csv", "a,cat\na,dog\n")
    duplicate, nothing = problems_of(tmp_path, skip_bad=True)
    assert "expected the image 'a' once" in duplicate
    assert "expected at least one usable image" in nothing


# COCO


def make_coco(root: Path, name: str = "instances_val2017.json", **changes: object) -> Path:
    square = [[0, 0, 4, 0, 4, 4, 0, 4]]
    content = {
        "images": [
            {"id": 9, "file_name": "b.jpg", "height": 10, "width": 12},
            {"id": 5, "file_name": "a.jpg", "height": 10, "width": 12},
        ],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 18, "segmentation": square, "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 17, "segmentation": square, "iscrowd": 0},
        ],
        "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
    }
    return write(root / "annotations" / name, json.dumps(content | changes))


@pytest.mark.parametrize("folder", ["images", "val2017", "images/val2017", "."])
def test_coco_opens_with_its_categories_in_the_order_of_their_ids(tmp_path: Path, folder: str) -> None:
    file = make_coco(tmp_path)
    make_images(tmp_path / folder, "a.jpg", "b.jpg")
    dataset, _ = open_dataset(tmp_path)
    assert dataset.classes.names == ("cat", "dog")
    assert dataset.classes.category_ids == (17, 18)
    assert labels_of(dataset) == {"a": (), "b": ("cat", "dog")}
    source = dataset.samples[1].coco
    assert source is not None
    assert (source.file, source.image_id) == (file, 9)
    assert not check_images(dataset, 1)


def test_a_table_picks_and_orders_cocos_categories_in_labels_and_masks(tmp_path: Path) -> None:
    file = make_coco(tmp_path)
    make_images(tmp_path / "images", "a.jpg", "b.jpg")
    write(tmp_path / "classes.txt", "dog\n")
    dataset, _ = open_dataset(tmp_path, labels=file)
    assert dataset.classes.category_ids == (18,)
    assert labels_of(dataset) == {"a": (), "b": ("dog",)}
    assert sorted(np.unique(read_ground_truth(dataset.samples[1]).semantic)) == [0, 1]
    write(tmp_path / "classes.txt", "dog\ngnu\n")
    (problem,) = problems_of(tmp_path)
    assert "classes.txt: expected categories of instances_val2017.json (cat, dog), found gnu" in problem


def test_coco_takes_a_list_of_images_or_the_name_of_an_annotation_file_as_split(tmp_path: Path) -> None:
    make_coco(tmp_path)
    make_coco(tmp_path, "instances_train2017.json", annotations=[])
    write(tmp_path / "annotations" / "captions_val2017.json", "{}")
    make_images(tmp_path / "images", "a.jpg", "b.jpg")
    assert len(open_dataset(tmp_path, split="val2017")[0].samples) == 2
    some = write(tmp_path / "some.txt", "b.jpg\n")
    own = tmp_path / "annotations" / "instances_val2017.json"
    assert [sample.id for sample in open_dataset(tmp_path, labels=own, split=some)[0].samples] == ["b"]
    (problem,) = problems_of(tmp_path)
    assert "expected one instance file, or its name as labels or split" in problem
    (problem,) = problems_of(tmp_path, labels=own, split="test2017")
    assert "test2017: expected a list of images, or an instance file" in problem
    write(some, "b\nz\n")
    (problem,) = problems_of(tmp_path, labels=own, split=some)
    assert "some.txt: expected images that instances_val2017.json describes, found 'z'" in problem


def test_a_split_of_coco_is_a_word_of_the_files_name(tmp_path: Path) -> None:
    make_coco(tmp_path, "instances_trainval.json")
    make_images(tmp_path / "images", "a.jpg", "b.jpg")
    own = tmp_path / "annotations" / "instances_trainval.json"
    for part in ("train", "val", "in"):
        (problem,) = problems_of(tmp_path, labels=own, split=part)
        assert f"{part}: expected a list of images, or an instance file" in problem
    assert len(open_dataset(tmp_path, labels=own, split="trainval")[0].samples) == 2


def test_a_table_of_classes_behind_a_link_to_nothing_is_not_none(tmp_path: Path) -> None:
    make_images(tmp_path, "a.jpg")
    write(tmp_path / "labels.csv", "image,labels\na,dog\n")
    (tmp_path / "classes.txt").symlink_to(tmp_path / "unmounted" / "classes.txt")
    (problem,) = problems_of(tmp_path)
    assert "classes.txt" in problem


def test_everything_wrong_with_a_coco_set_is_listed_at_once(tmp_path: Path) -> None:
    names = ["a.jpg", "a.png", "gone.jpg", "../x.jpg", "A.jpg", "b.jpg"]
    images = [{"id": id, "file_name": name, "height": 10, "width": 12} for id, name in enumerate(names)]
    annotation = {"id": 0, "category_id": 99, "segmentation": []}
    annotations = [
        annotation | {"image_id": 0},
        annotation | {"image_id": 77},
        annotation | {"image_id": 5, "category_id": 17},
    ]
    make_coco(tmp_path, images=images, annotations=annotations)
    make_images(tmp_path / "images", "a.jpg", "a.png", "A.jpg", "b.jpg")
    dataset, problems = open_dataset(tmp_path, skip_bad=True)
    assert labels_of(dataset) == {"A": (), "b": ("cat",)}
    expected = [
        "expected one image with the id 'a', found image 0 and image 1",
        "image 3: expected a path inside the folder of images, found '../x.jpg'",
        "expected annotations of its own images, found 1 of image 77",
        "expected one of its own categories, found category 99 on image 'a'",
        "gone.jpg: expected an image, as instances_val2017.json describes it, found none",
        "expected ids that differ in more than case, found 'A' and 'a'",
    ]
    assert len(problems) == len(expected)
    for problem, message in zip(problems, expected, strict=True):
        assert message in str(problem)


# Real photographs


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "train", "val"), [("voc_small", 257, 51), ("coco_small", 31, 15)])
def test_the_real_sets_open_whole_and_by_list(real_data: Path, name: str, train: int, val: int) -> None:
    root = real_data / name
    for split, count in (("train", train), ("val", val), (None, train + val)):
        dataset, problems = open_dataset(root, split=split)
        assert not problems
        assert len(dataset.samples) == count
        assert dataset.classes.names == VOC_CLASSES
        assert all(sample.labels and sample.semantic for sample in dataset.samples)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["voc_small", "coco_small"])
def test_the_real_masks_tell_the_listed_labels(real_data: Path, name: str) -> None:
    root = real_data / name
    listed, _ = open_dataset(root, split="val")
    masks, _ = open_dataset(root, labels=root / "SegmentationClass", split="val")
    assert {s.id: s.labels for s in masks.samples} == {s.id: s.labels for s in listed.samples}
    assert not check_images(listed, 1)
