"""Whatever bytes a label file, a class table or a list holds: a set, or a DatasetError that names a file."""

import random
from pathlib import Path

import pytest
from PIL import Image

from data.dataset import DatasetError
from data.readers import open_dataset

CASES = 150
PIECES = [
    *b"a b a.jpg b.png sub/a ../a C:\\a %41 cat dog Cat background none \xc3\xa9 \xe9 e\xcc\x81 0 1 -1 1.5".split(),
    *b'[ ] { } " \' "" , ; | : # / \\ < > </ /> = image labels label file_name image,labels image,cat,dog'.split(),
    *b"<annotation> </annotation> <object> </object> <name>cat</name> <part> <deleted>1</deleted> <!-- -->".split(),
    *b'{"image":"a","labels":["cat"]} {"a":["dog"]} "labels": null NaN 1e999 \\ud800 \\u0000 {"image": [[[['.split(),
    *b"&amp; &x; <![CDATA[ ]]> <!DOCTYPE a [<!ENTITY x 'y'>]> <?xml version='1.0' encoding='gbk'?>".split(b" "),
    *b"\n \r\n \r \t \0 \x0b \x1b \xc2\x85 \xe2\x80\xa8 \xef\xbb\xbf \xff\xfe \xfe\xff \x80 \xff".split(b" "),
    *(b"\x93NUMPY\x01\0", b"\n", b"\n", b" ", b"x" * 200_000),
]


def some_bytes(random_: random.Random) -> bytes:
    """Return bytes that look like what readers know, or none at all."""
    if random_.random() < 0.2:
        return random_.randbytes(random_.randrange(60))
    return b"".join(random_.choice(PIECES) for _ in range(random_.randrange(1, 25)))


TABLES = ("labels.csv", "labels.tsv", "labels.jsonl", "labels.json", "cls_labels.npy")
OTHERS = ("classes.txt", "list.txt", "Annotations/a.xml", "ImageSets/Main/cat_train.txt")


@pytest.mark.parametrize("name", [*TABLES, *OTHERS])
def test_any_bytes_give_a_set_or_a_named_problem(tmp_path: Path, name: str) -> None:
    for image in ("a.jpg", "b.jpg", "sub/a.jpg"):
        (tmp_path / image).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / image)
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if name in ("classes.txt", "list.txt"):
        (tmp_path / "labels.csv").write_text("a,cat\nb,dog\n")
    labels = file if file.parent == tmp_path and name not in ("classes.txt", "list.txt") else None
    opened = refused = named = 0
    for seed in range(CASES):
        file.write_bytes(some_bytes(random.Random(seed)))
        try:
            dataset, problems = open_dataset(
                tmp_path, labels, split="list" if name == "list.txt" else None, skip_bad=seed % 2 == 0
            )
            opened += 1
            assert problems or seed % 2 or any(sample.labels for sample in dataset.samples)
            assert all(name.isprintable() for name in dataset.classes.names)
        except DatasetError as error:
            refused += 1
            named += all("\n" not in str(problem) and str(problem).encode() for problem in error.problems or [""])
    assert named == refused > CASES // 10
    assert opened + refused == CASES


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json", "labels.csv"])
def test_deep_nesting_and_long_cells_are_problems(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    for content in (
        "[" * 200_000,
        '{"a":' * 200_000,
        '{"image": "a", "labels": ' + "[" * 100_000,
        "a," + "x" * 200_000,
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(DatasetError) as caught:
            open_dataset(tmp_path, labels=tmp_path / name)
        assert name in str(caught.value)
        assert len(str(caught.value)) < 2000
