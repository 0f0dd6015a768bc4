"""Whatever a file of a set holds, its reader gives a result or a DatasetError that names a file; nothing else."""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from data.dataset import ClassTable, DatasetError, Sample, SampleWithMore
from data.formats.coco import CocoFile, read_coco, read_results
from data.formats.hints import check_hints
from data.formats.images import image_size, read_image
from data.formats.label_codings import read_coded
from data.formats.label_maps import read_ground_truth, read_label_map
from data.formats.quality import ImageQuality, quality_text, read_quality
from data.formats.unit_maps import read_unit_map
from data.readers import open_dataset
from data.readers.beside.cams import read_table, with_cams
from data.region_masks import check_regions
from data.validation import check_images

PIECES = [
    *b"a b a.jpg b.png sub/a ../a C:\\a %41 cat dog Cat background none \xc3\xa9 \xe9 e\xcc\x81 0 1 -1 1.5".split(),
    *b'[ ] { } " \' "" , ; | : # / \\ < > </ /> = image labels label file_name image,labels image,cat,dog'.split(),
    *b"<annotation> </annotation> <object> </object> <name>cat</name> <part> <deleted>1</deleted> <!-- -->".split(),
    *b'{"image":"a","labels":["cat"]} {"a":["dog"]} "labels": null NaN 1e999 \\ud800 \\u0000 {"image": [[[['.split(),
    *b"&amp; &x; <![CDATA[ ]]> <!DOCTYPE a [<!ENTITY x 'y'>]> <?xml version='1.0' encoding='gbk'?>".split(b" "),
    *b"\n \r\n \r \t \0 \x0b \x1b \xc2\x85 \xe2\x80\xa8 \xef\xbb\xbf \xff\xfe \xfe\xff \x80 \xff".split(b" "),
    *(b"\x93NUMPY\x01\0", b"\n", b"\n", b" ", b"x" * 200_000),
]
TEXT = st.one_of(st.lists(st.sampled_from(PIECES), min_size=1, max_size=25).map(b"".join), st.binary(max_size=60))
VALUES = st.one_of(
    st.sampled_from([None, True, -1, 0, 1, 10**25, 1e308, math.nan, math.inf, "", "1", "\ud800", "PP0", "cat"]),
    st.sampled_from([[], {}, [[]], [1, 2, 3, 4], [[20, 20, math.inf, 20, 70, 60]], {"size": [8, 8], "counts": []}]),
    st.integers(-(2**65), 2**65),
    st.text(max_size=8),
)
any_input = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def write_images(root: Path) -> None:
    for image in ("a.jpg", "b.jpg", "sub/a.jpg"):
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (9, 99, 200)).save(root / image)


@contextmanager
def read_or_named() -> Iterator[None]:
    """Let a DatasetError pass whose problems have a file and one printable line each."""
    try:
        yield
    except DatasetError as error:
        if not error.problems or any("\n" in str(each) or not str(each).encode() for each in error.problems):
            raise AssertionError(f"no named problem: {error}") from error


TABLES = ("labels.csv", "labels.tsv", "labels.jsonl", "labels.json", "cls_labels.npy")
OTHERS = ("classes.txt", "list.txt", "Annotations/a.xml", "ImageSets/Main/cat_train.txt")


@pytest.mark.parametrize("name", [*TABLES, *OTHERS])
def test_any_bytes_give_a_set_or_a_named_problem(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.mktemp("set")
    write_images(root)
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    if name in ("classes.txt", "list.txt"):
        (root / "labels.csv").write_text("a,cat\nb,dog\n")
    labels = file if name in TABLES else None
    outcomes: list[str] = []

    @any_input
    @given(TEXT, st.booleans())
    def read(content: bytes, skip_bad: bool) -> None:
        file.write_bytes(content)
        outcomes.append("refused")
        with read_or_named():
            dataset, problems = open_dataset(
                root, labels, split="list" if name == "list.txt" else None, skip_bad=skip_bad
            )
            outcomes[-1] = "read"
            assert problems or not skip_bad or any(sample.labels for sample in dataset.samples)
            assert all(each.isprintable() for each in dataset.classes.names)

    read()
    assert "refused" in outcomes


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json", "labels.csv"])
def test_deep_nesting_and_long_cells_are_problems(tmp_path: Path, name: str) -> None:
    write_images(tmp_path)
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


def coco_set() -> dict[str, Any]:
    """Return a COCO file of two images, with a polygon and both kinds of run lengths."""
    square = [[1, 1, 6, 1, 6, 6, 1, 6]]
    masks: list[Any] = [square, {"size": [8, 8], "counts": [10, 20, 34]}, {"size": [8, 8], "counts": "1000k0"}]
    return {
        "images": [{"id": i, "file_name": f"{n}.jpg", "height": 8, "width": 8} for i, n in ((1, "a"), (2, "b"))],
        "annotations": [
            {"id": i, "image_id": 1 + i % 2, "category_id": 1 + i % 2, "segmentation": mask, "iscrowd": i % 2}
            | {"bbox": [1, 1, 5, 5], "score": 0.5, "area": 25}
            for i, mask in enumerate(masks)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def paths(content: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value in JSON."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [here] * bool(here) + [path for key, value in items for path in paths(value, (*here, key))]


def with_values(content: Any, changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
    """Return JSON with other values at some places; those that an earlier change took away are left out."""
    content = json.loads(json.dumps(content))
    for path, value in changes:
        at = content
        try:
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue
    return content


CHANGES = st.lists(st.tuples(st.sampled_from(paths(coco_set())), VALUES), min_size=1, max_size=4)


@any_input
@given(CHANGES)
def test_any_values_in_a_coco_file_give_a_set_or_a_named_problem(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_images(root)
        file = root / "annotations" / "instances_train.json"
        file.parent.mkdir()
        file.write_text(json.dumps(with_values(coco_set(), changes)))
        with read_or_named():
            dataset, _ = open_dataset(root, skip_bad=True)
            check_images(dataset, 1)
            assert isinstance(read_coco(file), CocoFile)


RESULT_CHANGES = st.lists(st.tuples(st.sampled_from(paths(coco_set()["annotations"])), VALUES), max_size=3)


@any_input
@given(RESULT_CHANGES)
def test_any_values_in_coco_results_give_objects_or_a_named_problem(
    changes: list[tuple[tuple[Any, ...], Any]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        truth, results = Path(name, "truth.json"), Path(name, "results.json")
        truth.write_text(json.dumps(coco_set()))
        results.write_text(json.dumps(with_values(coco_set()["annotations"], changes)))
        with read_or_named():
            assert isinstance(read_results(results, read_coco(truth)), CocoFile)


def sam_masks() -> list[dict[str, Any]]:
    """Return SAM's JSON of two regions, one of each kind of run lengths."""
    runs: list[Any] = [{"size": [8, 8], "counts": [10, 20, 34]}, {"size": [8, 8], "counts": "1000k0"}]
    return [{"segmentation": each, "area": 20, "predicted_iou": 0.9, "stability_score": 0.9} for each in runs]


@any_input
@given(st.lists(st.tuples(st.sampled_from(paths(sam_masks())), VALUES), max_size=3), st.booleans())
def test_any_values_in_sams_json_give_regions_or_a_named_problem(
    changes: list[tuple[tuple[Any, ...], Any]], whole: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name))
        file, content = Path(name, "a.json"), with_values(sam_masks(), changes)
        file.write_text(json.dumps({"annotations": content} if whole else content))
        with read_or_named():
            check_regions(SampleWithMore("a", Path(name, "a.jpg"), (0,), regions=file))


@any_input
@given(TEXT)
def test_any_bytes_as_regions_give_regions_or_a_named_problem(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name))
        file = Path(name, "a.json")
        file.write_bytes(content)
        with read_or_named():
            check_regions(SampleWithMore("a", Path(name, "a.jpg"), (0,), regions=file))


def labelme_shapes() -> dict[str, Any]:
    """Return labelme's JSON of a box, a stroke and a point."""
    kinds = {"rectangle": [[0, 0], [4, 5]], "linestrip": [[1, 1], [2, 5], [7, 7]], "point": [[3, 3.5]]}
    shapes = [{"label": "cat", "shape_type": kind, "points": points} for kind, points in kinds.items()]
    return {"version": "5.5.0", "shapes": shapes, "imageHeight": 8, "imageWidth": 8, "imagePath": "a.jpg"}


@any_input
@given(st.lists(st.tuples(st.sampled_from(paths(labelme_shapes())), VALUES), max_size=3))
def test_any_values_in_labelmes_json_give_hints_or_a_named_problem(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name))
        file = Path(name, "a.json")
        file.write_text(json.dumps(with_values(labelme_shapes(), changes)))
        with read_or_named():
            check_hints(SampleWithMore("a", Path(name, "a.jpg"), (0,), hints=file), ClassTable(("cat",)))


@any_input
@given(TEXT)
def test_any_bytes_as_hints_give_hints_or_a_named_problem(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name))
        file = Path(name, "a.json")
        file.write_bytes(content)
        with read_or_named():
            check_hints(SampleWithMore("a", Path(name, "a.jpg"), (0,), hints=file), ClassTable(("cat",)))


def encoded(mode: str, format: str) -> bytes:
    values = (np.arange(64).reshape(8, 8) % 3).astype(np.uint16 if mode == "I;16" else np.uint8)
    image, stream = Image.fromarray(values), BytesIO()
    (image if mode == "I;16" else image.convert(mode)).save(stream, format)
    return stream.getvalue()


FORMS = [("P", "PNG"), ("I;16", "PNG"), ("RGB", "PNG"), ("L", "TIFF"), ("RGB", "BMP"), ("RGB", "JPEG"), ("RGB", "WEBP")]
IMAGES = [encoded(*form) for form in FORMS]
FLIPS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6)
READERS: list[Callable[[Path], Any]] = [
    *(read_image, image_size, read_label_map),
    lambda path: read_coded(path, "saliency"),
    lambda path: read_ground_truth(Sample("a", path, (), semantic=path, instances=path)),
    lambda path: check_regions(SampleWithMore("a", path, (), regions=path)),
]


@any_input
@given(st.sampled_from(IMAGES), FLIPS, st.floats(0, 1))
def test_any_bytes_as_an_image_or_a_mask_give_pixels_or_a_named_problem(
    sound: bytes, flips: list[tuple[float, int]], kept: float
) -> None:
    content = bytearray(sound)
    for at, value in flips:
        content[int(at * len(content))] = value
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(name, "a.png")
        path.write_bytes(bytes(content[: math.ceil(kept * len(content))]))
        for read in READERS:
            with read_or_named():
                read(path)


FIELDS = ["scores", "classes", "keys", "cam", "high_res", "hr_cam", "rw", "IS_CAM", "cams", "class_ids", "0", "1", "x"]
NUMBERS: list[Any] = [[], 0, 3, -1, [0], [1], [0, 1], [0, 0], [2**62], [True], [0.5], [math.nan], ["cat"], [1j]]
SHAPES = [(2, 2, 2), (1, 2, 2), (2, 8, 8), (0, 2, 2), (2, 0, 2), (1, 1, 2, 2), (2, 2), (3,)]
FILLED = [np.full(shape, value) for shape in SHAPES for value in (0.0, 0.5, 7.0, -1.0, math.nan, math.inf, 1, "x")]
ARRAYS = [*map(np.array, NUMBERS), *FILLED, np.full((1, 2, 2), 0.5, np.float16), np.full((2, 2), 200, np.uint8)]


def damaged(content: bytes, flips: list[tuple[float, int]], kept: float) -> bytes:
    changed = bytearray(content)
    for at, value in flips:
        changed[int(at * len(changed))] = value
    return bytes(changed[: math.ceil(kept * len(changed))])


@any_input
@given(st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(range(len(ARRAYS))), max_size=4), FLIPS, st.booleans())
def test_any_maps_of_another_method_are_read_or_a_named_problem(
    fields: dict[str, int], flips: list[tuple[float, int]], is_sound: bool
) -> None:
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root, stream = Path(name), BytesIO()
        write_images(root)
        (root / "labels.csv").write_text("a,cat\nb,dog\n")
        np.savez(stream, allow_pickle=False, **{field: ARRAYS[number] for field, number in fields.items()})
        (root / "maps").mkdir()
        (root / "maps/a.npz").write_bytes(stream.getvalue() if is_sound else damaged(stream.getvalue(), flips, 0.9))
        with read_or_named():
            dataset, _ = with_cams(open_dataset(root)[0], root / "maps", missing="background")
            check_images(dataset, 1)


@any_input
@given(st.sampled_from(range(len(ARRAYS))), FLIPS, st.floats(0, 1))
def test_any_bytes_as_a_map_of_saliency_are_read_or_a_named_problem(
    number: int, flips: list[tuple[float, int]], kept: float
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root, stream = Path(name), BytesIO()
        write_images(root)
        np.save(stream, ARRAYS[number], allow_pickle=False)
        for file, content in ((root / "a.npy", stream.getvalue()), (root / "a.png", IMAGES[number % len(IMAGES)])):
            file.write_bytes(damaged(content, flips, kept))
            with read_or_named():
                found = read_unit_map(file, root / "a.jpg", "a map")
                assert found.dtype == np.float32
                assert 0 <= found.min() <= found.max() <= 1


ROW = quality_text([ImageQuality("a", 0.5, 0.5, 0.5, 0.5, 0.5, 1, 1, 0)]).encode()


@any_input
@given(TEXT, FLIPS, st.floats(0, 1))
def test_any_bytes_as_a_table_of_quality_or_classes_are_read_or_a_named_problem(
    text: bytes, flips: list[tuple[float, int]], kept: float
) -> None:
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "table.csv")
        for content in (text, damaged(ROW, flips, kept)):
            file.write_bytes(content)
            with read_or_named():
                assert all(isinstance(row.image, str) for row in read_quality(file))
            with read_or_named():
                assert read_table(str(file))
