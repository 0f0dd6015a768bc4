"""Signs in tags: what denies or doubts a class is read as such, or refused, and never a class of its own."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import Dataset, DatasetError, SampleWithMore, unknown_classes
from data.readers import open_dataset


def read(root: Path, tag: str) -> Dataset:
    """Read four images, the last one with a tag beside those of cats and dogs."""
    for id in "abcd":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / f"{id}.png")
    table = f'image,labels\na,cat\nb,dog\nc,cat;dog\nd,"{tag}"\n'
    (root / "labels.csv").write_text(table, encoding="utf-8")
    return open_dataset(root)[0]


@pytest.mark.parametrize("dash", ["\u2010", "\u2013", "\u2014", "\u2212"])
def test_a_dash_alone_is_no_label(tmp_path: Path, dash: str) -> None:
    dataset = read(tmp_path, dash)
    assert dataset.classes.names == ("cat", "dog")
    assert dataset.samples[3].labels == ()


def test_a_wide_question_mark_leaves_the_tags_open(tmp_path: Path) -> None:
    dataset = read(tmp_path, "\uff1f;cat")
    assert dataset.classes.names == ("cat", "dog")
    assert (dataset.samples[3].labels, unknown_classes(dataset.samples[3])) == ((0,), (1,))


@pytest.mark.parametrize("tag", ["dog\uff1a0.8", "dog:80\uff05", "dog\uff1a0\uff0e8", "dog:\u0660\u066b\u0668"])
def test_a_probability_is_read_in_the_signs_of_other_keyboards(tmp_path: Path, tag: str) -> None:
    last = read(tmp_path, tag).samples[3]
    assert isinstance(last, SampleWithMore)
    assert (last.labels, last.certainty) == ((1,), (0.8,))


def test_a_wide_sign_in_a_name_stays(tmp_path: Path) -> None:
    assert read(tmp_path, "\u732b\uff1a\u9ed2").classes.names == ("cat", "dog", "\u732b\uff1a\u9ed2")


@pytest.mark.parametrize("tag", ["--cat", "\u2013-cat", "!!cat", "-cat:0.8", "-cat?", "-?", "dog:0.8:0.9", "!-cat"])
def test_two_signs_of_one_tag_are_refused(tmp_path: Path, tag: str) -> None:
    with pytest.raises(DatasetError, match=r"line 5: expected the names of classes, found .* which has two signs"):
        read(tmp_path, tag)


@pytest.mark.parametrize(
    "tag",
    [
        *("cat?", "?cat", "+cat", "cat (not)", "cat:no", "cat:false", "cat:yes", "dog:80", "dog:150%", "dog:1."),
        *("dog:-0.5", "dog:+0.8", "dog:nan", "dog:0.8?", "dog[0.8]", "dog/0.8", "dog=1", "dog (0)", "dog\uff081\uff09"),
    ],
)
def test_a_class_with_what_seems_a_doubt_beside_it_is_no_class(tmp_path: Path, tag: str) -> None:
    with pytest.raises(DatasetError, match=r"labels\.csv: expected the names of classes, found .*\(line 5\).*`-NAME`"):
        read(tmp_path, tag)


@pytest.mark.parametrize("tag", ["who?", "a/c", "n+1", "room (2)", "gate 12", "mp3", "4x4", "9:16", "x" * 200])
def test_names_with_signs_that_are_no_other_class_stay(tmp_path: Path, tag: str) -> None:
    assert set(read(tmp_path, tag).classes.names) == {"cat", "dog", tag}


def test_a_very_long_tag_is_a_problem_and_not_an_endless_one(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="a name of"):
        read(tmp_path, "a" + ":0.5" * 10_000)
