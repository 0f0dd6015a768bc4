"""Labels are read in the forms that people and tools write; what is not understood is a problem, never background."""

import contextlib
import json
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import Dataset, DatasetError
from data.formats.label_maps import write_label_map
from data.formats.voc import VOC_CLASSES
from data.readers import open_dataset

BOTH = {"a": ("cat",), "b": ("dog",), "c": ("cat", "dog")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of three images."""
    return make_images(tmp_path / "set", "a.jpg", "b.jpg", "c.jpg")


def make_images(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10)).save(folder / name, format="JPEG")
    return folder


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def tags(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {sample.id: tuple(dataset.classes.names[label] for label in sample.labels) for sample in dataset.samples}


def opened(root: Path, **options: object) -> dict[str, tuple[str, ...]]:
    return tags(open_dataset(root, **options)[0])


def problems_of(root: Path, **options: object) -> str:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root, **options)
    return str(caught.value)


# Tables


@pytest.mark.parametrize(
    "text",
    [
        "filename,labels\na.jpg,cat\nb.jpg,dog\nc.jpg,cat;dog\n",
        "image,label\na.jpg,cat\nb.jpg,dog\nc.jpg,cat;dog\n",
        "Image ID,Tags\na,cat\nb,dog\nc,cat;dog\n",
        "labels,image\ncat,a\ndog,b\ncat;dog,c\n",
        "\n\n# made by hand\nimage,labels\na,cat\n# the last two\nb,dog\nc,cat;dog\n",
        "photo,labels\na,cat\nb,dog\nc,cat;dog\n",
        "image,breed\na,cat\nb,dog\nc,cat;dog\n",
        ",image,labels\n0,a,cat\n1,b,dog\n2,c,cat;dog\n",
        "Unnamed: 0,image,width,labels,split\n0,a,12,cat,train\n1,b,12,dog,val\n2,c,12,cat;dog,val\n",
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,9,9,cat,1,1,2,2\nb.jpg,9,9,dog,1,1,2,2\n"
        "c.jpg,9,9,cat,1,1,2,2\nc.jpg,9,9,dog,3,3,4,4\nc.jpg,9,9,dog,5,5,6,6\n",
        "a,cat,\nb,dog,\nc,cat;dog,\n",
        "image;labels\na;cat\nb;dog\nc;cat,dog\n",
        "a.jpg;cat\nb.jpg;dog\nc.jpg;cat,dog\n",
        '"image";"labels"\n"a.jpg";"cat"\n"b.jpg";"dog"\n"c.jpg";"cat,dog"\n',
        "image\tlabels\na\tcat\nb\tdog\nc\tcat;dog\n",
        "a\tcat\nb\tdog\nc\tcat,dog\n",
        "image,labels\na,cat\nb,dog\nc,cat|dog\n",
        "image|labels\na|cat\nb|dog\nc|cat;dog\n",
        "sep=;\nimage;labels\na;cat\nb;dog\nc;cat,dog\n",
        "image,label\na,cat\nb,dog\nc,cat\nc,dog\nc,dog\n",
        "image,cat,dog\na,1,0\nb,0,1\nc,1,1\n",
        "image,cat,dog\na,True,False\nb,False,True\nc,True,True\n",
        "image,cat,dog\na,1.0,0.0\nb,0.0,1.0\nc,1.0,1.0\n",
        "image,cat,dog\na,1,\nb,,1\nc,1,1\n",
        "image,cat,dog\na,1,-1\nb,-1,1\nc,1,1\n",
        ",image,cat,dog\n0,a,1,0\n1,b,0,1\n2,c,1,1\n",
        "what,cat,dog\na,1,0\nb,0,1\nc,1,1\n",
        "image;cat;dog\na;1;0\nb;0;1\nc;1;1\n",
        "image,labels\na,\"['cat']\"\nb,\"['dog']\"\nc,\"['cat', 'dog']\"\n",
        'image,labels\na,"[""cat""]"\nb,[dog]\nc,"[\'cat\' \'dog\']"\n',
        "image,labels\na,cat\nb,dog\nc,\"{'cat', 'dog'}\"\n",
    ],
)
def test_tables_are_read_in_the_forms_that_tools_write(root: Path, text: str) -> None:
    write(root / "labels.csv", text)
    assert opened(root) == BOTH
    dataset, _ = open_dataset(root)
    assert dataset.classes.names == ("cat", "dog")
    assert dataset.labels_from.startswith("labels.csv: a table with")


def test_tables_of_one_class_alone_are_read(root: Path) -> None:
    write(root / "labels.csv", "image,cat\na,1\nb,0\nc,1\n")
    assert opened(root) == {"a": ("cat",), "b": (), "c": ("cat",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,labels\na,cat,dog\nb,dog\nc,cat\n",
            "line 2: expected `image,labels` with labels joined by `;`, found 3",
        ),
        ("a,x,cat\nb,x,dog\nc,x,cat\n", "or a header that names the columns, found 3 columns without one"),
        ("image,cat,size\na,1,33\nb,0,44\n", "found '33' in 'size': take such columns out"),
        (
            "image,cat,dog\na,0.7,1.1\nb,0.2,0.9\n",
            "or in each column but the image's 0 and 1, or how likely the class is",
        ),
        ("image,cat,dog\na,1,-1\nb,0,1\n", "or in each column but the image's 0 and 1"),
        ("image,cat,dog\na,1,0\nb,1\nc,1,1\n", "line 3: expected 3 columns, as the header has, found 2"),
        ("image,label,class\na,cat,x\nb,dog,y\n", "expected one column of labels, found label, class"),
        ("image,width,height\na,3,4\nb,3,4\n", "found '3' in 'width', '4' in 'height'"),
        ("image,labels\na,0\nb,1\nc,1\n", "expected the names of classes, found only '0', '1'"),
        ("image,label\na,True\nb,False\n", "expected the names of classes, found only 'False', 'True'"),
        ("Bild,Klasse\na,cat\nb,dog\n", "if that line is a header, call its columns `image,labels`"),
        ("image,labels\na,cat;cow\nb,dog\nc,cat|dog\n", "look like lists of classes"),
        ('image,labels\na,cat\nb,dog\nc,"cat, dog"\n', "look like lists of classes"),
        ('image,labels\na,"cat,dog"\nb,"dog,cow"\n', "look like lists of classes"),
        ("image,labels\na,cat\n,dog\n", "line 3: expected the name of an image, found none"),
        ('image,labels\na,"[[cat], dog]"\nb,dog\n', "line 2: expected labels, or a list of them"),
    ],
)
def test_tables_of_another_form_are_refused_with_what_to_do(root: Path, text: str, message: str) -> None:
    write(root / "labels.csv", text)
    problems = problems_of(root)
    assert message in problems
    assert "labels.csv" in problems


def test_a_table_that_cannot_be_read_is_one_problem(root: Path) -> None:
    write(root / "labels.csv", "image,labels\n" + "".join(f"{id},cat,dog\n" for id in "abcabcabc"))
    problems = problems_of(root).splitlines()
    assert "and 8 more lines that cannot be read" in problems[0]
    assert len(problems) == 2


@pytest.mark.parametrize("line", ['a,"cat', 'a,"cat""', 'a,"cat" x', 'a,ca"t', '"a,cat'])
def test_a_quote_that_is_not_closed_spoils_its_own_line_alone(root: Path, line: str) -> None:
    write(root / "labels.csv", f"image,labels\n{line}\nb,dog\nc,cat;dog\n")
    (problem,) = problems_of(root).splitlines()
    assert "labels.csv: line 2: expected `image,labels`" in problem
    dataset, (aside,) = open_dataset(root, skip_bad=True)
    assert tags(dataset) == {"b": ("dog",), "c": ("cat", "dog")}
    assert aside.sample == "a"


@pytest.mark.parametrize("sign", ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\x1b[31m", "\u202e"])
@pytest.mark.parametrize("name", ["labels.csv", "labels.jsonl", "classes.txt"])
def test_lines_end_at_line_ends_alone_and_other_signs_are_problems(root: Path, sign: str, name: str) -> None:
    write(root / "labels.csv", "a,cat\nb,dog\n")
    if name == "labels.csv":
        write(root / name, f"a,cat{sign}dog\nb,dog\n")
    elif name == "labels.jsonl":
        (root / "labels.csv").unlink()
        records = [{"image": "a", "labels": [f"cat{sign}dog"]}, {"image": "b", "labels": ["dog"]}]
        write(root / name, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    else:
        write(root / name, f"cat\nx{sign}y\ndog\n")
    problems = problems_of(root)
    assert f"{name}: line {2 if name == 'classes.txt' else 1}: expected the name" in problems
    assert "a control character" in problems
    assert sign not in problems


def test_zero_bytes_are_a_problem_with_their_line(root: Path) -> None:
    write(root / "labels.csv", b"image,labels\na,ca\0t\nb,dog\n")
    assert "found a zero byte in line 2" in problems_of(root)


# Words for nothing, and spellings


@pytest.mark.parametrize("word", ["none", "NaN", "NA", "null", "background", "_background_", "-"])
def test_words_for_nothing_are_no_classes_and_are_told(root: Path, word: str) -> None:
    write(root / "labels.csv", f"image,labels\na,{word}\nb,dog;{word}\nc,cat\n")
    dataset, _ = open_dataset(root)
    assert tags(dataset) == {"a": (), "b": ("dog",), "c": ("cat",)}
    assert f"words that stand for no label were taken for none: {word!r} 2 (of a, b)" in dataset.notes


def test_a_word_for_nothing_is_a_class_where_the_table_has_it(root: Path) -> None:
    write(root / "labels.csv", "image,labels\na,none\nb,dog\n")
    write(root / "classes.txt", "dog\nnone\n")
    assert opened(root) == {"a": ("none",), "b": ("dog",), "c": ()}


@pytest.mark.parametrize(
    "other", ["cafe\u0301", "caf\u00e9\u200b", "\u00a0caf\u00e9", "caf\u00e9\u2003", "\ufeffcaf\u00e9"]
)
def test_one_class_is_one_however_its_letters_are_stored(root: Path, other: str) -> None:
    write(root / "labels.csv", f"image,labels\na,caf\u00e9\nb,x;{other}\nc,x\n")
    assert opened(root) == {"a": ("caf\u00e9",), "b": ("caf\u00e9", "x"), "c": ("x",)}
    write(root / "classes.txt", f"x\n{other}\n")
    assert open_dataset(root)[0].classes.names == ("x", "caf\u00e9")


def test_classes_that_differ_in_case_alone_are_refused(root: Path) -> None:
    write(root / "labels.csv", "image,labels\na,Cat\nb,cat;dog\nc,CAT\n")
    assert "found 'CAT' (line 4) and 'Cat' (line 2) and 'cat' (line 3)" in problems_of(root)
    assert "one spelling of each class" in problems_of(root, skip_bad=True)
    write(root / "classes.txt", "cat\ndog\n")
    assert "found the class 'Cat' for the image 'a'; is it 'cat'?" in problems_of(root)


def test_names_that_look_wrong_are_told(root: Path) -> None:
    write(root / "labels.csv", 'image,labels\na,cat|cow\nb,"7;cat"\nc,dog house;dog;house\n')
    notes = "\n".join(open_dataset(root)[0].notes)
    assert "classes that look like several (labels are joined by `;`): 'cat|cow'" in notes
    assert "classes that are called by a number alone: '7'" in notes
    assert "classes whose words are classes, too: 'dog house'" in notes


# JSON


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.jsonl", '{"file_name": "a.jpg", "label": "cat"}\n{"image": "b", "labels": "dog"}\n'
         '{"id": "c", "tags": ["cat", "dog"]}'),
        ("labels.jsonl", '[{"image": "a", "labels": ["cat"]},\n {"image": "b", "labels": ["dog"]},\n'
         ' {"image": "c", "labels": ["cat", "dog"]}]'),
        ("metadata.jsonl", '{"file_name": "a.jpg", "label": "cat"}\n{"file_name": "b.jpg", "label": "dog"}\n'
         '{"file_name": "c.jpg", "label": ["cat", "dog"]}'),
        ("labels.json", '[{"image": "a", "labels": ["cat"]}, {"image": "b", "labels": ["dog"]},\n'
         ' {"image": "c", "labels": ["cat", "dog"]}]'),
        ("labels.json", '{"a.jpg": ["cat"], "b.jpg": "dog", "c.jpg": ["cat", "dog"]}'),
        ("labels.json", '{"classes": ["cat", "dog"], "labels": {"a": 0, "b": 1, "c": ["cat", "dog"]}}'),
        ("LABELS.NDJSON", '\ufeff{"image": "a", "labels": ["cat"]}\r\n{"image": "b", "labels": ["dog"]}\r\n'
         '{"image": "c", "labels": ["cat", "dog"]}\r\n'),
    ],
)  # fmt: skip
def test_json_is_read_in_the_forms_that_tools_write(root: Path, name: str, text: str) -> None:
    write(root / name, text)
    assert opened(root) == BOTH
    assert opened(root, labels=root / name) == BOTH


@pytest.mark.parametrize("label", ["cat;dog", "\ud800", "x\ny", "\x1b[31mred"])
def test_names_that_no_class_may_have_are_refused_in_json(root: Path, label: str) -> None:
    write(
        root / "labels.jsonl", f'{json.dumps({"image": "a", "labels": [label]})}\n{{"image": "b", "labels": ["dog"]}}\n'
    )
    problems = problems_of(root)
    assert "labels.jsonl: line 1: expected the names of classes, found a name with" in problems
    assert problems.encode()
    dataset, (problem,) = open_dataset(root, skip_bad=True)
    assert dataset.classes.names == ("dog",)
    assert problem.sample == "a"


def test_a_broken_line_of_json_is_not_taken_for_an_image_without_labels(root: Path) -> None:
    write(root / "labels.jsonl", '{"image": "a", "labels": ["cat"\n{"image": "b", "labels": ["dog"]}\n')
    dataset, (problem,) = open_dataset(root, skip_bad=True)
    assert problem.sample == "a"
    assert tags(dataset) == {"b": ("dog",), "c": ()}


# XML


def annotate(root: Path, id: str, text: str | bytes) -> None:
    write(root / "Annotations" / f"{id}.xml", text)


@pytest.mark.parametrize(
    "text",
    [
        '<annotation xmlns="http://example.org/voc"><object><name>cat</name></object></annotation>',
        '<v:annotation xmlns:v="u"><v:object><v:name>cat</v:name></v:object></v:annotation>',
        "<Annotation><Object><Name>cat</Name></Object></Annotation>",
        "<annotation><objects><object><name>cat</name></object></objects></annotation>",
        "<annotations><annotation><object><name>cat</name></object></annotation></annotations>",
        "<annotation><object><part><name>head</name></part><name> cat </name></object></annotation>",
        "<annotation><object><name>cat</name></object><object><deleted>1</deleted><name>cow</name></object></annotation>",
        "<?xml version='1.0' encoding='utf8'?><annotation><object><name>cat</name></object></annotation>",
        "<?xml version='1.0' encoding='ANSI'?><annotation><object><name>cat</name></object></annotation>",
        "<?xml version='1.0' encoding='utf-16'?><annotation><object><name>cat</name></object></annotation>",
        "\ufeff<?xml version='1.0' encoding='utf-16'?><annotation><object><name>cat</name></object></annotation>"
        .encode("utf-16-le"),
    ],
)  # fmt: skip
def test_vocs_xml_is_read_as_tools_write_it(root: Path, text: str | bytes) -> None:
    annotate(root, "a", text)
    annotate(root, "b", "<annotation><object><name>dog</name></object></annotation>")
    assert opened(root) == {"a": ("cat",), "b": ("dog",), "c": ()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html><object><name>cat</name></object></html>", "found <html> around the whole"),
        ("<annotation><object><name> </name></object></annotation>", "found an object without a name"),
        ("<annotation><object><label>cat</label></object></annotation>", "without a name, but with <label>"),
        ("<annotation><object/></annotation>", "found an object without a name"),
        ("<annotations><image name='a.jpg'><box label='cat'/></image></annotations>", "found <annotations> around"),
        ("<?xml version='1.0' encoding='ANSI'?><annotation><object><name>\u732b</name></object></annotation>", "ANSI"),
        (b"<?xml version='1.0' encoding='gbk'?>" + b"<annotation>\xff</annotation>", "save it as UTF-8"),
        ("<annotation>" + "<a>" * 50_000, "expected an annotation in VOC's XML"),
    ],
)  # fmt: skip
def test_xml_that_is_not_understood_is_a_problem_of_its_image(root: Path, text: str | bytes, message: str) -> None:
    annotate(root, "a", text)
    annotate(root, "b", "<annotation><object><name>dog</name></object></annotation>")
    assert "a.xml: expected an annotation in VOC's XML" in problems_of(root)
    assert message in problems_of(root)
    dataset, (problem,) = open_dataset(root, skip_bad=True)
    assert problem.sample == "a"
    assert tags(dataset) == {"b": ("dog",), "c": ()}


@pytest.mark.parametrize(
    "encoding", ["gbk", "gb2312", "shift_jis", "big5", "euc-kr", "latin-1", "utf-8", "windows-1251"]
)
def test_xml_in_any_encoding_that_it_declares_is_read(root: Path, encoding: str) -> None:
    name = {"latin-1": "\u00e9t\u00e9", "windows-1251": "\u043a\u043e\u0442", "euc-kr": "\uace0\uc591"}.get(
        encoding, "\u4e2d"
    )
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation><object><name>{name}</name></object></annotation>'
    annotate(root, "a", text.encode(encoding))
    assert opened(root)["a"] == (name,)


def test_xml_beside_its_photographs_and_in_capitals_is_found(root: Path) -> None:
    for id, name in (("a.xml", "cat"), ("b.XML", "dog"), ("._c.xml", "junk")):
        write(root / id, f"<annotation><object><name>{name}</name></object></annotation>")
    assert opened(root) == {"a": ("cat",), "b": ("dog",), "c": ()}
    for name in ("a.xml", "b.XML", "._c.xml"):
        (root / "annotations").mkdir(exist_ok=True)
        (root / name).rename(root / "annotations" / name)
    assert opened(root) == {"a": ("cat",), "b": ("dog",), "c": ()}


# Class lists and vectors


@pytest.mark.parametrize(
    "text",
    [
        "image,labels\na,\"('cat',)\"\nb,\"('dog',)\"\nc,\"('cat', 'dog')\"\n",
        "image,labels\na,\"{'cat'}\"\nb,\"{'dog'}\"\nc,\"{'cat', 'dog'}\"\n",
        "image,cat,dog,is_train\na,1,0,1\nb,0,1,0\nc,1,1,1\n",
        "image,split,cat,dog\na,train,1,0\nb,val,0,1\nc,val,1,1\n",
    ],
)
def test_tuples_sets_and_columns_of_lists_are_no_classes(root: Path, text: str) -> None:
    write(root / "labels.csv", text)
    assert opened(root) == BOTH


def test_an_empty_tuple_or_set_is_no_label_and_a_bracket_may_begin_a_name(root: Path) -> None:
    write(root / "labels.csv", "image,labels\na,()\nb,set()\nc,(old) cat\n")
    assert opened(root) == {"a": (), "b": (), "c": ("(old) cat",)}


@pytest.mark.parametrize("sign", ["\uff0c", "\uff1b", "\u3001"])
def test_labels_joined_by_east_asian_signs_are_refused(root: Path, sign: str) -> None:
    write(root / "labels.csv", f"image,labels\na,cat\nb,dog\nc,cat{sign}dog\n")
    with pytest.raises(DatasetError, match="expected labels joined by `;`"):
        opened(root)


@pytest.mark.parametrize("sign", ["/", "+", "&"])
def test_classes_whose_parts_are_classes_are_noted(root: Path, sign: str) -> None:
    write(root / "labels.csv", f"image,labels\na,cat\nb,dog\nc,cat {sign} dog\n")
    assert f"classes whose words are classes, too: 'cat {sign} dog'" in open_dataset(root)[0].notes


def test_two_columns_of_labels_are_refused(root: Path) -> None:
    write(root / "labels.csv", "image,labels,labels\na,cat,\nb,dog,\nc,cat,dog\n")
    with pytest.raises(DatasetError, match="expected one column of labels, found labels, labels"):
        opened(root)


def test_an_image_that_comes_twice_in_an_object_of_json_is_refused(root: Path) -> None:
    write(root / "labels.json", '{"a": ["cat"], "a": ["dog"], "b": ["dog"], "c": ["cat"]}')
    with pytest.raises(DatasetError, match="expected each field once in an object, found 'a' twice"):
        opened(root)
    lines = '{"image": "a", "labels": ["cat"], "labels": ["dog"]}', '{"image": "b", "labels": ["x"]}'
    write(root / "labels.jsonl", "\n".join(lines))
    assert [problem.sample for problem in open_dataset(root, skip_bad=True)[1]] == ["a"]


def test_vocs_class_lists_are_labels_and_lists_of_images(root: Path) -> None:
    main = root / "ImageSets" / "Main"
    write(main / "train.txt", "a\nb\n")
    write(main / "cat_train.txt", "a  1\nb -1\n")
    write(main / "potted_plant_train.txt", "a -1\nb  0\n")
    write(main / "cat_val.txt", "c  1\n")
    (main / "._cat_train.txt").write_bytes(b"\x00\x05\x16\x07")
    assert opened(root) == {"a": ("cat",), "b": ("potted_plant",), "c": ("cat",)}
    assert list(opened(root, split="cat_train")) == ["a", "b"]
    assert list(opened(root, split="train.txt")) == ["a", "b"]
    assert opened(root, labels=main / "cat_train.txt") == {"a": ("cat",), "b": (), "c": ()}


def test_class_lists_are_asked_last(root: Path) -> None:
    write(root / "ImageSets" / "Main" / "cat_train.txt", "a  1\nb -1\n")
    write(root / "labels.csv", "a,cow\n")
    assert opened(root)["a"] == ("cow",)


@pytest.mark.parametrize(
    "text",
    [
        "/JPEGImages/a.jpg /SegmentationClass/a.png\n/JPEGImages/b.jpg /SegmentationClass/b.png\n",
        "# the list\na.jpg\nb.jpg\n",
        "a.jpg,1\nb.jpg,0\n",
        '"a.jpg"\n"b.jpg"\n',
        "JPEGImages/a.jpg\nJPEGImages/b.jpg\n",
        ".\\a.jpg\r\n.\\b.jpg\r\n",
        "\ufeffa\r\nb",
        "a\u00a0\nb\n",
    ],
)
def test_lists_are_read_in_the_forms_that_tools_write(root: Path, text: str) -> None:
    write(root / "labels.csv", "a,cat\nb,dog\nc,cat\n")
    write(root / "some.txt", text)
    assert list(opened(root, split="some")) == ["a", "b"]


def write_vectors(file: Path, vectors: dict[str, object]) -> None:
    """Write a dictionary as NumPy's form has it: a header, and what is pickled behind it."""
    array = np.array(vectors, dtype=object)
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, stream, protocol=4)


def test_a_name_with_spaces_or_a_sign_of_comments_is_a_name_where_an_image_has_it(tmp_path: Path) -> None:
    make_images(tmp_path, "img 1.jpg", "#2.jpg", "a,b.jpg", "c:d.jpg")
    write(tmp_path / "labels.csv", 'img 1,cat\n#2,dog\n"a,b",cat\nc:d,dog\n')
    write(tmp_path / "all.txt", "img 1\n#2\na,b\nc:d\n")
    expected = {"#2": ("dog",), "a,b": ("cat",), "c:d": ("dog",), "img 1": ("cat",)}
    assert opened(tmp_path) == opened(tmp_path, split="all") == expected


def test_vectors_of_classes_are_read_without_running_what_is_pickled(root: Path) -> None:
    write(root / "classes.txt", "cow\ncat\ndog\n")
    vectors = {"a": np.array([0, 1, 0], np.float32), "b": np.array([0, 0, 1.0]), "c": np.array([0, 1, 1], np.int64)}
    file = root / "cls_labels.npy"
    write_vectors(file, vectors)
    assert opened(root) == opened(root, labels=file) == BOTH
    write(root / "classes.txt", "cat\ndog\n")
    assert "found 3 numbers for 'a', and 2 classes: name them in classes.txt" in problems_of(root, labels=file)


def test_what_a_pickled_file_would_run_is_not_run(root: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    write_vectors(root / "x.npy", {"a": Evil()})
    assert "which is not looked up" in problems_of(root, labels=root / "x.npy")
    assert not (tmp_path / "ran").exists()


def test_other_arrays_and_damaged_ones_are_problems(root: Path) -> None:
    file = root / "x.npy"
    np.save(file, np.zeros((3, 4)))
    assert "it is an array of float64, [3, 4], without names of images" in problems_of(root, labels=file)
    write_vectors(file, {"a": np.ones(20), "b": 7})
    assert "x.npy" in problems_of(root, labels=file)
    write_vectors(file, {"a": np.ones(20)})
    content, draw = file.read_bytes(), random.Random(0)
    for _ in range(100):
        damaged = bytearray(content[: draw.randrange(len(content))] if draw.random() < 0.3 else content)
        for _ in range(3):
            if damaged:
                damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        file.write_bytes(bytes(damaged))
        with contextlib.suppress(DatasetError):
            open_dataset(root, labels=file)


# Encodings and kinds of files


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-8"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_text_is_read_in_the_encodings_that_have_a_mark(root: Path, encoding: str, ending: str) -> None:
    lines = ("image,labels", "a,caf\u00e9", "b,dog", "c,caf\u00e9;dog", "")
    write(root / "labels.csv", ending.join(lines).encode(encoding))
    assert opened(root) == {"a": ("caf\u00e9",), "b": ("dog",), "c": ("caf\u00e9", "dog")}
    write(root / "classes.txt", ending.join(("dog", "caf\u00e9", "")).encode(encoding))
    write(root / "some.txt", ending.join("ab").encode(encoding))
    assert open_dataset(root, split="some")[0].classes.names == ("dog", "caf\u00e9")
    record = json.dumps({"image": "a", "labels": ["caf\u00e9"]}, ensure_ascii=False)
    write(root / "x.jsonl", record.encode(encoding))
    assert opened(root, labels=root / "x.jsonl")["a"] == ("caf\u00e9",)


def test_text_in_another_encoding_is_named_with_its_line_and_byte(root: Path) -> None:
    write(root / "labels.csv", "image,labels\na,cat\nb,caf\u00e9\n".encode("latin-1"))
    assert "found the byte 0xE9 in line 3: save it as UTF-8" in problems_of(root)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04rest", "an archive, as Excel's .xlsx is one: save the table as CSV"),
        (b"\xd0\xcf\x11\xe0rest", "Excel's old .xls"),
        (b"\x80\x04\x95rest", "Python's pickle, which may hold code"),
        (b"\x1f\x8b\x08rest", "a gzip archive: unpack it"),
        (b"\x93NUMPY\x01\x00rest", "NumPy's array"),
        (None, "found no file"),
    ],
)
def test_files_of_another_kind_are_named_with_what_to_do(root: Path, content: bytes | None, kind: str) -> None:
    file = root / "table.dat"
    if content is not None:
        write(file, content)
    problems = problems_of(root, labels=file)
    assert "table.dat: expected a text file in UTF-8, found" in problems
    assert kind in problems


def test_a_source_that_is_not_read_is_named(root: Path) -> None:
    write(root / "Labels.CSV", "a,cat\n")
    write(root / "labels.jsonl", '{"image": "a", "labels": ["dog"]}\n')
    write(root / "annotations" / "x.json", '{"images": [], "annotations": [], "categories": []}')
    dataset, _ = open_dataset(root)
    assert dataset.labels_from == "Labels.CSV: a table with commas between columns"
    assert any("labels.jsonl, annotations/x.json; --labels names another source" in note for note in dataset.notes)


def test_a_set_without_labels_says_what_lies_there(root: Path) -> None:
    write(root / "mine.csv", "a,cat\n")
    assert "found mine.csv: name the right one with --labels" in problems_of(root)
    (root / "mine.csv").unlink()
    for id in "abc":
        (root / id).mkdir()
        (root / f"{id}.jpg").rename(root / id / "x.jpg")
    assert f"the images lie in folders (a, b, c): if these are classes, say --labels {root}" in problems_of(root)
    dataset, _ = open_dataset(root, labels=root)
    assert dataset.classes.names == ("a", "b", "c")
    assert {sample.id: sample.labels for sample in dataset.samples} == {
        id: ("abc".index(id.rpartition("/")[0][-1]),) for id in (sample.id for sample in dataset.samples)
    }
    assert "the names of the images' folders" in dataset.labels_from


# Names of images


@pytest.mark.parametrize(
    "names",
    [
        ("sub\\a.jpg", "sub\\b.jpg"),
        ("a.jpg", "b.jpg"),
        ("data/sub/a.jpg", "data/sub/b.jpg"),
        ("/home/me/images/a.jpg", "/home/me/images/b.jpg"),
        ("../images/a.jpg", "../images/b.jpg"),
        ("C:\\data\\a.jpg", "C:\\data\\b.jpg"),
        ("http://host/x/a.jpg", "http://host/x/b.jpg"),
        ("SUB/A.JPG", "sub/B.jpg"),
        ("sub/a.jpg ", " sub/b"),
    ],
)
def test_images_are_found_by_names_that_other_systems_give_them(tmp_path: Path, names: tuple[str, str]) -> None:
    make_images(tmp_path, "sub/a.jpg", "sub/b.jpg")
    write(tmp_path / "labels.csv", f"image,labels\n{names[0]},cat\n{names[1]},dog\n")
    write(tmp_path / "list.txt", f"{names[1]}\n")
    assert opened(tmp_path) == {"sub/a": ("cat",), "sub/b": ("dog",)}
    assert opened(tmp_path, split="list") == {"sub/b": ("dog",)}
    content = {
        "images": [{"id": n, "file_name": name.strip(), "height": 10, "width": 12} for n, name in enumerate(names)],
        "annotations": [{"id": n, "image_id": n, "category_id": n, "segmentation": []} for n in range(2)],
        "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    dataset, _ = open_dataset(tmp_path, labels=write(tmp_path / "coco.json", json.dumps(content)))
    assert sorted(tags(dataset).values()) == [("cat",), ("dog",)]
    assert {sample.image.name: sample.labels for sample in dataset.samples} == {"a.jpg": (0,), "b.jpg": (1,)}


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("u\u0308ber.jpg", "\u00fcber"),
        ("\u00fcber.jpg", "u\u0308ber.jpg"),
        ("a b.jpg", "a%20b.jpg"),
        ("\uff41.jpg", "a"),
        ("a .jpg", "a "),
    ],
)
def test_names_meet_in_whichever_form_their_letters_are(root: Path, file: str, name: str) -> None:
    make_images(root / "JPEGImages", file, "z.jpg")
    (id,) = (
        sample.id
        for sample in open_dataset(root, labels=write(root / "x.csv", "z,cat\n"))[0].samples
        if sample.id != "z"
    )
    for source, text in (
        ("labels.csv", f"image,labels\n{name},cow\nz,dog\n"),
        ("x.jsonl", json.dumps({"image": name, "labels": ["cow"]}) + "\n"),
    ):
        assert opened(root, labels=write(root / source, text))[id] == ("cow",)
    assert list(opened(root, split=write(root / "x.txt", name))) == [id]
    write(
        root / "Annotations" / f"{name.removesuffix('.jpg')}.xml",
        "<annotation><object><name>cow</name></object></annotation>",
    )
    assert opened(root, labels=root / "Annotations")[id] == ("cow",)
    write_label_map(root / "SegmentationClass" / f"{id}.png", np.zeros((10, 12), np.uint8))
    assert [s.semantic is not None for s in open_dataset(root)[0].samples if s.id == id] == [True]


def test_ids_that_are_equal_in_another_form_are_refused(tmp_path: Path) -> None:
    make_images(tmp_path, "\u00fc.jpg", "u\u0308.jpg")
    write(tmp_path / "labels.csv", "\u00fc,cat\nu\u0308,dog\n")
    assert "expected ids that differ in more than the form of their letters" in problems_of(tmp_path)


def test_names_of_which_none_fits_are_one_problem_with_examples(root: Path) -> None:
    write(root / "labels.csv", "image,labels\n" + "".join(f"x/{n},cat\n" for n in range(9)))
    first, *_ = problems_of(root).splitlines()
    assert (
        f"expected labels for images in {root}, found 9 names, of which none is an image there ('x/0', 'x/1'" in first
    )
    assert problems_of(root).count("x/") == 3
    write(root / "some.txt", "x\ny\nz\n")
    write(root / "labels.csv", "a,cat\n")
    assert "found none for any of its 3 names ('x', 'y', 'z')" in problems_of(root, split="some")


def test_a_name_in_two_folders_is_not_guessed(tmp_path: Path) -> None:
    make_images(tmp_path, "x/a.jpg", "y/a.jpg", "x/b.jpg")
    write(tmp_path / "labels.csv", "a,cat\nb,dog\n")
    assert "of which none is an image there" in problems_of(tmp_path)
    write(tmp_path / "labels.csv", "x/a,cat\nx/b,dog\nz/a,cow\n")
    assert "as labels.csv, line 3 has labels for it, found none" in problems_of(tmp_path)


def test_a_line_of_no_image_is_reported_where_an_image_of_the_list_has_none(root: Path) -> None:
    write(root / "labels.csv", "image,labels\na,cat\nbb,dog\nc,cat\n")
    write(root / "train.txt", "a\nb\n")
    assert "as labels.csv, line 3 has labels for it, found none" in problems_of(root, split="train")
    write(root / "train.txt", "a\nc\n")
    dataset, _ = open_dataset(root, split="train")
    assert "entries of labels.csv that fit no image: 1 ('bb')" in dataset.notes


def test_images_without_a_line_are_told(root: Path) -> None:
    write(root / "labels.csv", "image,labels\na,cat\n")
    assert "images that labels.csv does not name, taken for background only: 2 (b, c)" in open_dataset(root)[0].notes


def test_the_default_order_of_vectors_is_vocs(root: Path) -> None:
    vector = np.zeros(20)
    vector[VOC_CLASSES.index("cat")] = 1
    write_vectors(root / "cls_labels.npy", {"a": vector})
    assert opened(root)["a"] == ("cat",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_coco_is_read_in_the_encodings_that_have_a_mark(root: Path, encoding: str) -> None:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 10, "width": 12}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}],
        "categories": [{"id": 1, "name": "caf\u00e9"}],
    }
    file = write(root / "annotations" / "x.json", json.dumps(content, ensure_ascii=False).encode(encoding))
    assert opened(root) == opened(root, labels=file) == {"a": ("caf\u00e9",)}


def test_a_table_with_tabs_is_found_by_its_name(root: Path) -> None:
    write(root / "labels.tsv", "image\tlabels\na\tcat\nb\tdog\nc\tcat;dog\n")
    assert opened(root) == BOTH


def test_an_image_whose_line_is_broken_is_set_aside_wherever_its_name_stands(root: Path) -> None:
    write(root / "labels.csv", 'labels,image\ncat,a\n"dog,b\ncat,c\n')
    dataset, (problem,) = open_dataset(root, skip_bad=True)
    assert problem.sample == "b"
    assert tags(dataset) == {"a": ("cat",), "c": ("cat",)}


def test_the_mark_of_void_is_no_class(root: Path) -> None:
    write(root / "labels.csv", "a,(void)\nb,dog\n")
    assert "found the mark of void" in problems_of(root)


@pytest.mark.parametrize("other", ["labels.json", "labels.tsv", "metadata.csv", "annotations/a.xml", "result.json"])
def test_sources_that_were_always_read_go_first(root: Path, other: str) -> None:
    write(root / other, '["cat", "dog"]')
    write_label_map(root / "SegmentationClass" / "a.png", np.full((10, 12), 8, np.uint8))
    assert opened(root) == {"a": ("cat",), "b": (), "c": ()}


def test_coco_in_vocs_layout_is_named_and_not_taken_for_a_table(root: Path) -> None:
    make_images(root / "JPEGImages", "a.jpg")
    write(root / "annotations" / "x.json", '{"images": [], "annotations": [], "categories": []}')
    assert "found annotations/x.json: name the right one with --labels" in problems_of(root)


def test_images_whose_lines_are_problems_are_not_told_to_be_background(root: Path) -> None:
    write(root / "labels.jsonl", '{"image": "a", "labels": [1]}\n{"image": "b", "labels": ["dog"]}\n')
    dataset, _ = open_dataset(root, skip_bad=True)
    assert "images that labels.jsonl does not name, taken for background only: 1 (c)" in dataset.notes


def test_a_comma_may_be_part_of_a_name(root: Path) -> None:
    write(root / "labels.csv", 'image,labels\na,"cabinet, kitchen"\nb,"cabinet, garden;x:y"\nc,x:y\n')
    assert open_dataset(root)[0].classes.names == ("cabinet, garden", "cabinet, kitchen", "x:y")


def test_many_lines_of_no_image_are_one_problem_of_a_list(root: Path) -> None:
    write(root / "labels.csv", "image,labels\na,cat\n" + "".join(f"z{number},dog\n" for number in range(50)))
    write(root / "train.txt", "a\nb\n")
    (problem,) = problems_of(root, split="train").splitlines()
    assert "found 50 of none ('z0', 'z1', 'z2' and 47 more), while images of the list have no entry (b)" in problem
