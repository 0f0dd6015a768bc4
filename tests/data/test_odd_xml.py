"""XML that names things elsewhere than in `<object>` is refused, and an annotation of nothing stays one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import DatasetError
from data.readers import open_dataset
from data.readers.beside.hints import with_hints
from data.validation import check_images

ABOUT = """<folder>x</folder><filename>b.png</filename><source><database>y</database></source>
<owner><name>me</name></owner><size><width>8</width><height>8</height></size><segmented>0</segmented>"""
DOG = "<object><name>dog</name></object>"


def annotate(root: Path, inner: str) -> Path:
    """Write two images: one with a dog, one with what is given."""
    (root / "Annotations").mkdir()
    for id, content in (("a", DOG), ("b", inner)):
        Image.fromarray(np.full((8, 8, 3), 99, np.uint8)).save(root / f"{id}.png")
        (root / "Annotations" / f"{id}.xml").write_text(f"<annotation>{ABOUT}{content}</annotation>")
    return root


ODD = [
    ("<obj><title>cat</title></obj>", "found <obj> with <title>"),
    ("<obj><category>cat</category></obj>", "found <obj> with <category>"),
    ("<obj name='cat'/>", "found <obj name='cat'>"),
    ("<box label='cat' x='1'/>", "found <box label='cat'>"),
    (f"{DOG}<box label='cat' x='1'/>", "found <box label='cat'>"),
    ("<name>cat</name>", "found <name> alone: 'cat'"),
    ("<obj>cat</obj>", "found <obj> alone: 'cat'"),
    ("<objct>cat</objct>", "found <objct> alone: 'cat'"),
    ("<tags>cat;dog</tags>", "found <tags> alone: 'cat;dog'"),
    ("<tags><tag>cat</tag></tags>", "found <tags> with <tag>"),
    ("<part><name>head</name></part>", "found <part> with <name>"),
    ("<part><object><name>cat</name></object></part>", "found an <object> within a <part>"),
    ("<obj><type>x</type><robndbox/></obj>", "found <obj> with <robndbox>"),
    ("<object><name>cat</name><name>dog</name></object>", "found an object with the names 'cat', 'dog'"),
]


@pytest.mark.parametrize(("inner", "message"), ODD)
def test_names_outside_of_objects_are_not_taken_for_none(tmp_path: Path, inner: str, message: str) -> None:
    with pytest.raises(DatasetError) as caught:
        open_dataset(annotate(tmp_path, inner))
    assert (
        f"b.xml: expected an annotation in VOC's XML (<annotation> with <object>s that have a <name>), {message}"
        in (str(caught.value))
    )


@pytest.mark.parametrize(
    "inner",
    [
        *("", "<verified>yes</verified>", "<date>2024</date>", "<comment>no dog here</comment>", "<objects/>"),
        *("<object><name>cow</name><deleted>1</deleted></object>", "<!-- <name>cat</name> -->", "<tags/>"),
    ],
)
def test_an_annotation_without_objects_is_an_image_without_tags(tmp_path: Path, inner: str) -> None:
    dataset, _ = open_dataset(annotate(tmp_path, inner))
    assert [sample.labels for sample in dataset.samples] == [(0,), ()]
    assert dataset.classes.names == ("dog",)


@pytest.mark.parametrize(("inner", "message"), ODD[2:7])
def test_hints_with_names_outside_of_objects_are_refused(tmp_path: Path, inner: str, message: str) -> None:
    (tmp_path / "hints").mkdir()
    (tmp_path / "hints/a.xml").write_text(f"<annotation>{ABOUT}{inner}</annotation>")
    dataset, _ = with_hints(open_dataset(annotate(tmp_path, DOG))[0], tmp_path / "hints")
    assert message in str(DatasetError(check_images(dataset, 1)))
