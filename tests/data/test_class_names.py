"""Class tables, tags and categories have sound names, or are refused with the place and the name."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.dataset import DatasetError
from data.names import alike, clean_name, is_background, is_void, name_fault, nearly_alike
from data.readers import open_dataset
from data.readers.ids import read_class_names


def table(tmp_path: Path, text: str) -> tuple[str, ...] | None:
    (tmp_path / "classes.txt").write_text(text)
    return read_class_names(tmp_path, None)


@pytest.mark.parametrize(
    "text",
    [
        "__ignore__\n_background_\ncat\ndog\n",
        "background\ncat\ndog\n",
        "Background\ncat\ndog\n",
        "__background__\n\ncat\ndog\nvoid\n",
        "BACKGROUND\ncat\ndog\n__ignore__\n",
        " cat \ndog\u00a0\n",
    ],
)
def test_names_of_the_background_and_of_void_are_left_out_and_told(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert table(tmp_path, text) == ("cat", "dog")
    assert ("left out what is no class" in caplog.text) == (text.split()[0] != "cat")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\n_background_\ndog\n", "line 2: expected foreground classes only, found '_background_'"),
        ("cat\nBackground\n", "line 2: expected foreground classes only, found 'Background'"),
        ("cat\n__ignore__\ndog\n", "line 2: expected classes, found '__ignore__' between them"),
        ("_background_\n__ignore__\n", "found only names of the background or void"),
        ("cat\nCat\n", "expected classes that differ in more than case, found 'Cat' and 'cat'"),
        ("cat\ncat\u200b\n", "expected each class once, found 'cat' 2 times"),
        ("0 cat\n1 dog\n", "found numbers before each, as in '0 cat': take the numbers out"),
        ("1: cat\n2: dog\n", "found numbers before each"),
        ('["cat", "dog"]\n', "expected a name a line, found JSON or a list"),
        ("# classes\ncat\n", "line 1: expected the name of a class, found '# classes', which looks like a comment"),
        ("cat;dog\ncow\n", "line 1: expected the name of a class, found a name with `;`"),
        ("cat\nd\tog\n", "line 2: expected the name of a class, found a name with a line break, a control"),
        (f"cat\n{'x' * 300}\n", "line 2: expected the name of a class, found a name of 300 characters"),
    ],
)
def test_a_class_table_that_would_shift_or_break_values_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        table(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'classes.txt'}: ")


def test_the_reserved_line_of_a_large_table_stays(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(254)]
    assert table(tmp_path, "\n".join([*names, "(void)", "last"])) == (*names, "(void)", "last")


def test_the_parts_of_a_name_that_nobody_sees_do_not_count() -> None:
    assert clean_name(" \u200bNew\u00a0 York\ufeff\u3000") == "New York"
    assert clean_name("cafe\u0301") == "caf\u00e9"
    assert clean_name("\u0645\u06cc\u200c\u062e") == "\u0645\u06cc\u200c\u062e"
    assert is_background("__Background__")
    assert not is_background("background music")
    assert is_void("<unlabelled>")
    assert name_fault("traffic light, red: 50 %") is None
    assert alike(["Cat", "dog", "cat"]) == [("Cat", "cat")]


# Categories


def open_coco(tmp_path: Path, categories: list[dict[str, Any]], used: tuple[Any, ...] = (1, 2)) -> Any:
    images = [{"id": n, "file_name": f"{n}.jpg", "height": 10, "width": 12} for n in range(len(used))]
    for image in images:
        Image.new("RGB", (12, 10)).save(tmp_path / str(image["file_name"]))
    square = [[0, 0, 4, 0, 4, 4, 0, 4]]
    annotations = [{"id": n, "image_id": n, "category_id": c, "segmentation": square} for n, c in enumerate(used)]
    file = tmp_path / "coco.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return open_dataset(tmp_path, labels=file)[0]


def categories(*names: Any) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in enumerate(names, start=1)]


@pytest.mark.parametrize("name", ["background", "Background", "_background_"])
def test_a_category_of_the_background_is_left_out_where_it_is_not_used_and_refused_where_it_is(
    tmp_path: Path, name: str
) -> None:
    dataset = open_coco(tmp_path, [{"id": 0, "name": name}, *categories("cat", "dog")])
    assert (dataset.classes.names, dataset.classes.category_ids) == (("cat", "dog"), (1, 2))
    assert dataset.notes == (f"category 0 is called '{name}' and has no annotation: left out of the classes",)
    with pytest.raises(DatasetError, match=f"for category 0, found the background.*'{name}' with 1 annotations"):
        open_coco(tmp_path, [{"id": 0, "name": name}, *categories("cat", "dog")], used=(0, 1, 2))
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    assert open_coco(tmp_path, [{"id": 0, "name": name}, *categories("cat", "dog")], (0, 1, 2)).classes.names == (
        "dog",
        "cat",
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("traffic\nlight", "dog"), "for category 1, found a name with a line break"),
        (("cat", None), "category 2.*null"),
        (("cat", 7), "category 2.*7"),
        (("cat", ["dog"]), r'category 2.*\["dog"\]'),
        (("cat", " "), "category 2: expected a text as name"),
        (("cat", "dog;cow"), "for category 2, found a name with `;`"),
        (("cat", "\ud800"), "category 2: expected a text of Unicode"),
        (("dog", "dog"), "expected one category of each name, found 'dog' for categories 1, 2"),
        (("dog", "dog "), "expected one category of each name, found 'dog' for categories 1, 2"),
        (("cafe\u0301", "caf\u00e9"), "expected one category of each name"),
        (("Dog", "dog"), r"found 'Dog' \(category 1\) and 'dog' \(category 2\)"),
    ],
)
def test_categories_have_names_that_classes_can_have(tmp_path: Path, names: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        open_coco(tmp_path, categories(*names))
    assert "coco.json: " in str(caught.value)


def test_categories_are_trimmed_and_meet_the_table_in_any_form(tmp_path: Path) -> None:
    assert open_coco(tmp_path, categories(" cat ", "cafe\u0301")).classes.names == ("cat", "caf\u00e9")
    (tmp_path / "classes.txt").write_text("caf\u00e9\ncat\n")
    assert open_coco(tmp_path, categories(" cat ", "cafe\u0301")).classes.category_ids == (2, 1)


@pytest.mark.parametrize("name", [None, "", "x\ny.jpg", "\ud800.jpg", "x" * 245 + ".jpg", "x" * 5000])
def test_names_of_images_are_checked_with_their_id(tmp_path: Path, name: Any) -> None:
    open_coco(tmp_path, categories("cat", "dog"))
    file = tmp_path / "coco.json"
    content = json.loads(file.read_text())
    content["images"][0]["file_name"] = name
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, labels=file)
    assert "coco.json: " in str(caught.value)
    assert "image 0" in str(caught.value)


@pytest.mark.parametrize(
    ("json_name", "image_folder"),
    [
        ("_annotations.coco.json", ""),
        ("train/_annotations.coco.json", "train"),
        ("labels.json", "data"),
        ("annotations.json", "images"),
        ("result.json", "images"),
    ],
)
def test_coco_is_found_where_tools_put_it(tmp_path: Path, json_name: str, image_folder: str) -> None:
    (tmp_path / image_folder).mkdir(exist_ok=True)
    Image.new("RGB", (12, 10)).save(tmp_path / image_folder / "a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 10, "width": 12}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}],
        "categories": categories("cat"),
    }
    (tmp_path / json_name).write_text(json.dumps(content))
    dataset, _ = open_dataset(tmp_path)
    assert [(sample.id, sample.labels) for sample in dataset.samples] == [("a", (0,))]
    assert dataset.labels_from == f"{json_name}: COCO's annotations"


def test_several_files_of_roboflow_are_told_apart_by_the_list(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        (tmp_path / part).mkdir()
        Image.new("RGB", (12, 10)).save(tmp_path / part / f"{part}.jpg")
        content = {
            "images": [{"id": 1, "file_name": f"{part}.jpg", "height": 10, "width": 12}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}],
            "categories": categories("cat"),
        }
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
    assert [sample.id for sample in open_dataset(tmp_path, split="valid")[0].samples] == ["valid"]
    with pytest.raises(DatasetError, match=r"found train/_annotations\.coco\.json, valid/_annotations"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("category", [[1], {"id": 1}])
def test_a_category_that_is_no_id_is_named_with_its_annotation(tmp_path: Path, category: Any) -> None:
    with pytest.raises(DatasetError, match=r"coco\.json: .*annotation 1"):
        open_coco(tmp_path, categories("cat", "dog"), used=(1, category))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["traffic light", "traffic_light"], "'traffic light' and 'traffic_light'"),
        (["T-Shirt", "tshirt", "dog"], "'T-Shirt' and 'tshirt'"),
        (["cat", "cats", "dog"], None),
    ],
)
def test_classes_that_may_be_one_are_named_and_read_as_they_are(
    tmp_path: Path, names: list[str], told: str | None
) -> None:
    for number, name in enumerate(names):
        Image.new("RGB", (60, 40)).save(tmp_path / f"{number}.png")
        with (tmp_path / "labels.csv").open("a") as lines:
            lines.write(f"{number},{name}\n")
    dataset, problems = open_dataset(tmp_path)
    assert not problems
    assert set(dataset.classes.names) == set(names)
    notes = [note for note in dataset.notes if "nearly alike" in note]
    assert [told in note for note in notes] == [True] if told else notes == []


def test_the_groups_of_names_that_are_nearly_alike() -> None:
    assert nearly_alike(["a b", "A_B", "a-b", "ab", "c", "_", "-"]) == [("A_B", "a b", "a-b", "ab")]
