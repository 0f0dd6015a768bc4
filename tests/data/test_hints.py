"""Hints: what a person said of pixels, in the forms of tools, and what is refused by its name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.dataset import VOID, ClassTable, Dataset, DatasetError, Sample, SampleWithMore
from data.formats.hints import Box, Hints, check_hints, nearest_box, read_hints
from data.formats.label_maps import VOC_PALETTE
from data.readers.beside.hints import with_hints
from data.validation import check_images, examine_images

SIZE = (37, 50)
CLASSES = ClassTable(("cat", "dog"))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph of 50 x 37 pixels."""
    file = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(file)
    return file


def read(photo: Path, name: str, content: str | bytes, labels: tuple[int, ...] = (0, 1)) -> Hints:
    file = photo.parent / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    sample = SampleWithMore("a", photo, labels, hints=file)
    check_hints(sample, CLASSES)
    return read_hints(sample, CLASSES)


def labelme(*shapes: tuple[str, str, list[list[float]]], **more: Any) -> str:
    found = [{"label": label, "shape_type": kind, "points": points} for label, kind, points in shapes]
    return json.dumps({"shapes": found, "imageHeight": SIZE[0], "imageWidth": SIZE[1], **more})


def voc_xml(*objects: tuple[str, int, int, int, int], more: str = "") -> str:
    sides = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for name, a, b, c, d in objects
    )
    return f"<annotation>{more}{sides}</annotation>"


def test_boxes_of_labelme_and_of_voc_are_the_same(photo: Path) -> None:
    ours = read(photo, "a.json", labelme(("dog", "rectangle", [[30, 20], [10, 5]])))
    theirs = read(
        photo, "a.xml", voc_xml(("dog", 11, 6, 30, 20), more="<size><width>50</width><height>37</height></size>")
    )
    assert ours.boxes == theirs.boxes == (Box(2, 10, 5, 30, 20),)
    space = ours.space(2)
    assert space is not None
    assert space.sum() == 20 * 15
    assert space[5:20, 10:30].all()
    assert ours.space(1) is None
    assert (ours.known == VOID).all()


def test_points_strokes_and_areas_say_what_pixels_are(photo: Path) -> None:
    shapes = [
        ("background", "linestrip", [[2, 33], [40, 33], [45, 34]]),
        ("dog", "polygon", [[10, 5], [30, 5], [30, 20], [10, 20]]),
        ("cat", "point", [[20, 10]]),
        ("_background_", "rectangle", [[0, 0], [4, 4]]),
        ("cat", "circle", [[44, 8], [44, 11]]),
    ]
    found = read(photo, "a.json", labelme(*shapes))
    known = found.known
    assert (known[10, 20], known[12, 15], known[33, 20], known[1, 1], known[8, 44]) == (1, 2, 0, 0, 1)
    assert known[28, 25] == VOID
    assert known[8, 12] == 2
    assert found.values == {1, 2}
    assert not found.boxes


def test_a_map_of_values_says_nothing_where_it_is_void(photo: Path) -> None:
    values = np.full(SIZE, VOID, np.uint8)
    values[3, 4], values[5, 6] = 0, 2
    file = photo.parent / "a.png"
    Image.fromarray(values).save(file)
    known = read_hints(SampleWithMore("a", photo, (1,), hints=file), CLASSES).known
    assert (known == values).all()


def test_outside_of_all_boxes_is_background_where_every_class_has_some(photo: Path) -> None:
    found = read(photo, "a.json", labelme(("dog", "rectangle", [[10, 5], [30, 20]])))
    truth = found.truth([2])
    assert set(np.unique(truth)) == {0, VOID}
    assert (truth == VOID).sum() == 20 * 15
    # The cat may lie anywhere.
    assert (found.truth([1, 2]) == VOID).all()


def test_thin_strokes_are_seen_at_any_size(photo: Path) -> None:
    known = np.full((300, 400), VOID, np.uint8)
    known[150, 17], known[3, 200:203] = 2, 0
    small = Hints(known, (Box(1, 40, 30, 400, 300),)).at_size((30, 40))
    assert (small.known[15, 1], small.known[0, 20]) == (2, 0)
    assert (small.known != VOID).sum() == 2
    assert small.boxes == (Box(1, 4, 3, 40, 30),)
    large = Hints(small.known).at_size((60, 80))
    assert (large.known == 2).sum() == 4


def test_a_pixel_belongs_to_the_box_whose_middle_is_nearest(photo: Path) -> None:
    boxes = [Box(1, 0, 0, 20, 10), Box(1, 10, 0, 20, 10)]
    pixels = np.ones((10, 30), bool)
    pixels[0] = False
    owners = nearest_box(boxes, (10, 30), pixels)
    assert (owners[0] == -1).all()
    assert (owners[1:, 20:] == -1).all()
    assert (owners[1:, :10] == 0).all()
    assert owners[5, 15] == 1
    assert owners[5, 10] == 0


@pytest.mark.parametrize(
    ("name", "content", "labels", "expected"),
    [
        ("a.json", labelme(("cow", "point", [[1, 1]])), (0, 1), "expected classes of the set, found 'cow'"),
        ("a.json", labelme(("cat", "point", [[1, 1]])), (1,), r"the classes that the image has \(dog\), found cat"),
        ("a.json", labelme(("dog", "mask", [[1, 1]])), (1,), "shapes that are rectangle, point"),
        ("a.json", labelme(("dog", "point", [[1, 1], [2, 2]])), (1,), "expected 1 points of a point"),
        ("a.json", labelme(("dog", "point", [[1, float("nan")]])), (1,), "expected points of two numbers"),
        ("a.json", labelme(("dog", "point", [[1, 1e9]])), (1,), "expected points of two numbers in the image"),
        ("a.json", labelme(("dog", "rectangle", [[60, 5], [70, 20]])), (1,), "boxes with pixels of the image"),
        ("a.json", labelme(imageWidth=51), (1,), "expected hints of an image of 50 x 37, found 51 x 37"),
        ("a.json", '{"shapes": 3}', (1,), "list of shapes"),
        ("a.json", '{"shapes": [3]}', (1,), "shapes with a label"),
        ("a.json", "{", (1,), "expected labelme's JSON, but"),
        ("a.json", "hello", (1,), "found another kind of file"),
        ("a.xml", "<annotation>", (1,), "expected an annotation in VOC's XML, but"),
        ("a.xml", "<html></html>", (1,), "found <html> around the whole"),
        ("a.xml", "<annotation><object><name>dog</name></object></annotation>", (1,), "a <name> and a <bndbox>"),
        ("a.xml", voc_xml(("dog", 11, 6, 3, 20)), (1,), "boxes with pixels of the image"),
        (
            "a.json",
            labelme(("dog", "rectangle", [[0.1, 0.2], [0.5, 0.6]])),
            (1,),
            "shape 1, a rectangle of 'dog': .*shares",
        ),
        ("a.json", labelme(("dog", "polygon", [[0, 0], [1, 0], [0.5, 1]])), (1,), "shape 1, a polygon .*not shares"),
        ("a.json", labelme(("dog", "point", [[0.5, 0.25]])), (1,), "shape 1, a point .*shares"),
        (
            "a.json",
            labelme(("dog", "point", [[9, 9]]), ("cat", "polygon", [[90, 90], [95, 90], [95, 99]])),
            (0, 1),
            "shape 2, a polygon of 'cat': expected pixels of the image, which is 50 x 37, .*mend it",
        ),
        ("a.json", labelme(("dog", "point", [[90, 10]])), (1,), "shape 1, a point of 'dog': expected pixels of the"),
        ("a.json", labelme(("dog", "rectangle", [[5, 5], [300, 300]])), (1,), "shape 1, .* a box in the image"),
        ("a.json", labelme(("background", "rectangle", [[60, 5], [70, 9]])), (1,), "boxes with pixels of the image"),
        ("a.xml", voc_xml(("dog", 10, 10, 30, 5000)), (1,), "object 1, 'dog': expected a box in .* 50 x 37"),
        ("a.xml", voc_xml(("dog", -100, 10, 30, 20)), (1,), "object 1, 'dog': expected a box in .* 50 x 37"),
        ("a.xml", voc_xml(("dog", 0, 0, 1, 1)), (1,), "object 1, 'dog': expected pixels, not shares"),
        ("a.xml", voc_xml(("dog", 1, 1, 9, 9), more="<size><width>640.0</width></size>"), (1,), "found 640 x 37"),
        ("a.xml", voc_xml(("dog", 1, 1, 9, 9), more="<size><width>wide</width></size>"), (1,), "numbers as <width>"),
        ("a.xml", voc_xml(("dog", 1, 1, 2, 2), more="<size><width>9</width><height>9</height></size>"), (1,), "9 x 9"),
    ],
)
def test_what_is_wrong_is_told_with_its_file(
    photo: Path, name: str, content: str, labels: tuple[int, ...], expected: str
) -> None:
    with pytest.raises(DatasetError, match=expected) as raised:
        read(photo, name, content, labels)
    assert all(str(problem).startswith(str(photo.parent / name)) for problem in raised.value.problems)


@pytest.mark.parametrize("said", ["50.0 37.0", "0 0", " ", "50 "])
def test_sizes_that_fit_or_were_not_looked_at_are_no_fault(photo: Path, said: str) -> None:
    width, _, height = said.partition(" ")
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    assert read(photo, "a.xml", voc_xml(("dog", 11, 6, 53, 40), more=size)).boxes == (Box(2, 10, 5, 53, 40),)


def test_clicks_on_the_first_pixel_are_read(photo: Path) -> None:
    assert read(photo, "a.json", labelme(("dog", "point", [[1, 0]]))).known[0, 0] == 2


def test_a_map_of_another_size_or_with_other_values_is_refused(photo: Path) -> None:
    for values, expected in (
        (np.zeros((5, 5), np.uint8), "found 5 x 5"),
        (np.full(SIZE, 9, np.uint8), "values below 3"),
    ):
        file = photo.parent / "a.png"
        Image.fromarray(values).save(file)
        with pytest.raises(DatasetError, match=expected):
            read_hints(SampleWithMore("a", photo, (1,), hints=file), CLASSES)


STROKE = (slice(10, 13), slice(5, 40))


def painted(mode: str, ground: object, colour: object) -> Image.Image:
    """Return a picture of the photograph's size with one stroke."""
    image = Image.new(mode, SIZE[::-1], ground)
    image.paste(colour, (5, 10, 40, 13))
    return image


@pytest.mark.parametrize(
    ("image", "options"),
    [
        (painted("RGBA", (0, 0, 0, 0), (0, 128, 0, 255)), {}),
        (painted("RGBA", (255, 255, 255, 0), (0, 128, 0, 90)), {}),
        (painted("LA", (0, 0), (2, 255)), {}),
        (painted("P", 0, 2), {"transparency": 0}),
        (painted("P", 9, 2), {"transparency": 9}),
        (painted("L", 0, 2), {"transparency": 0}),
        (painted("RGB", (0, 0, 0), (0, 128, 0)), {"transparency": (0, 0, 0)}),
        (Image.fromarray(np.asarray(painted("L", 0, 2)).astype(np.uint16)), {"transparency": 0}),
        (painted("L", 255, 2), {}),
    ],
)
def test_what_was_not_drawn_says_nothing(photo: Path, image: Image.Image, options: dict[str, Any]) -> None:
    file = photo.parent / "a.png"
    if image.mode == "P":
        image.putpalette(VOC_PALETTE.tobytes())
    image.save(file, **options)
    known = check_hints(SampleWithMore("a", photo, (1,), hints=file), CLASSES).known
    assert (known[STROKE] == 2).all()
    assert (known != VOID).sum() == 3 * 35


@pytest.mark.parametrize(
    "image",
    [
        painted("L", 0, 255),
        painted("1", 0, 1).convert("L"),
        painted("RGB", (0, 0, 0), (255, 255, 255)),
        painted("RGBA", (0, 0, 0, 255), (255, 255, 255, 255)),
        painted("RGBA", (0, 0, 0, 0), (255, 255, 255, 255)),
    ],
)
def test_white_strokes_are_refused_with_what_to_write(photo: Path, image: Image.Image) -> None:
    file = photo.parent / "a.png"
    image.save(file)
    with pytest.raises(DatasetError, match=r"a\.png: expected hints .* found only 0 and 255, .* write 1"):
        read_hints(SampleWithMore("a", photo, (1,), hints=file), CLASSES)


def test_strokes_of_background_alone_are_read(photo: Path) -> None:
    file = photo.parent / "a.png"
    painted("L", 255, 0).save(file)
    known = read_hints(SampleWithMore("a", photo, (1,), hints=file), CLASSES).known
    assert (known[STROKE] == 0).all()
    assert (known == 0).sum() == 3 * 35


def test_thin_strokes_on_background_everywhere_are_told(photo: Path) -> None:
    file = photo.parent / "a.png"
    dataset = Dataset(photo.parent, CLASSES, (SampleWithMore("a", photo, (1,), hints=file),))

    def told() -> str:
        return "\n".join(examine_images(dataset, 1)[1])

    values = np.zeros(SIZE, np.uint8)
    values[10:12, 5:40] = 2
    Image.fromarray(values).save(file)
    assert "hints with thin strokes on background everywhere; where black says nothing, write 255: a" in told()
    values[10:19, 5:15] = 2
    Image.fromarray(values).save(file)
    assert "strokes" not in told()


def test_hints_are_found_by_the_names_of_images_and_few_images_need_any(photo: Path) -> None:
    samples = tuple(Sample(id, photo, (1,)) for id in ("in/a", "in/b", "in/c"))
    dataset = Dataset(photo.parent, CLASSES, samples)
    folder = photo.parent / "hints"
    folder.mkdir()
    with pytest.raises(
        DatasetError, match=r"expected hints ID\.json, ID\.xml, ID\.png or ID\.txt of images of the set, .*found none"
    ):
        with_hints(dataset, folder)
    (folder / "a.json").write_text(labelme(("dog", "point", [[1, 1]])))
    (folder / "z.json").write_text(labelme())
    (folder / "notes.txt").write_text("no hint")
    (folder / "in").mkdir()
    (folder / "in/b.xml").write_text(voc_xml(("dog", 1, 1, 9, 9)))
    found, problems = with_hints(dataset, folder)
    assert not problems
    assert [getattr(sample, "hints", None) for sample in found.samples] == [
        folder / "a.json",
        folder / "in/b.xml",
        None,
    ]
    assert "hints: 2 of 3 images have some" in found.notes
    assert "hints: 1 are of no image of the set: z" in found.notes
    (folder / "in/b.json").write_text(labelme())
    with pytest.raises(DatasetError, match=r"expected hints of in/b once, found b\.json and b\.xml"):
        with_hints(dataset, folder)
    kept, problems = with_hints(dataset, folder, skip_bad=True)
    assert [problem.sample for problem in problems] == ["in/b"]
    assert kept.samples[1] == samples[1]


def test_photographs_are_no_hints_and_names_are_compared_as_tags_are(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(photo)
    (tmp_path / "a.json").write_text(labelme(("  dog\u200b", "point", [[1, 1]])))
    found, problems = with_hints(Dataset(tmp_path, CLASSES, (Sample("a", photo, (1,)),)), tmp_path)
    assert not problems
    (sample,) = found.samples
    assert isinstance(sample, SampleWithMore)
    assert read_hints(sample, CLASSES).values == {2}


def test_hints_are_checked_with_the_images(photo: Path) -> None:
    file = photo.parent / "a.json"
    file.write_text(labelme(("cow", "point", [[1, 1]])))
    sample = SampleWithMore("a", photo, (1,), hints=file)
    (problem,) = check_images(Dataset(photo.parent, CLASSES, (sample,)), 1)
    assert (problem.file, problem.sample) == (file, "a")
    assert not check_images(Dataset(photo.parent, CLASSES, (replace(sample, hints=None),)), 1)


def test_strokes_of_white_on_black_are_no_map_of_values(photo: Path) -> None:
    drawn = np.zeros(SIZE, np.uint8)
    drawn[5:8, 10:30] = 255
    Image.fromarray(drawn).save(photo.parent / "strokes.png")
    with pytest.raises(DatasetError, match="0 and 255"):
        read(photo, "a.png", (photo.parent / "strokes.png").read_bytes())
    # Somebody who says of a corner that it is background.
    Image.fromarray(255 - drawn).save(photo.parent / "corner.png")
    known = read(photo, "a.png", (photo.parent / "corner.png").read_bytes()).known
    assert (known == 0).sum() == 3 * 20


def test_sizes_with_a_point_and_answers_in_capitals_are_read(photo: Path) -> None:
    other = "<size><width>640.0</width><height>512.0</height></size>"
    with pytest.raises(DatasetError, match="640"):
        read(photo, "a.xml", voc_xml(("dog", 11, 6, 30, 20), more=other))
    gone = voc_xml(("dog", 11, 6, 30, 20)).replace("<name>", "<deleted>True</deleted><name>")
    assert read(photo, "a.xml", gone).boxes == ()
