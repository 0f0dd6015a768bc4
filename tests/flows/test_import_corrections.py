"""`pseudomask import corrections`: what people changed in their tools, and nothing else, becomes corrections."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.hard_labels import SIZE, hard_labels, partition, publish_labels

from data.dataset import VOID, DatasetError
from data.exchange import FORMATS
from data.exchange.pixels import Pixels
from data.exchange.spec import Labels
from data.formats.coco import encode_mask
from data.formats.label_maps import read_label_map, write_label_map
from data.store import ArtifactError
from data.store.corrections import Corrections, apply_corrections
from flows.cli import main
from flows.commands.storing.export_labels import export_labels
from flows.commands.storing.import_corrections import ImportRequest, import_corrections

KINDS = ("SegmentationClass", "SegmentationObject")
CHANGED = "in a folder/größe 1.5"


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    labels = hard_labels(tmp_path)
    publish_labels(tmp_path, labels)
    return labels


def take(tmp_path: Path, format: str, folder: str = "out", **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"what": "corrections", "folder": tmp_path / folder, "to": tmp_path / "published"}
    return import_corrections(ImportRequest(**values, format=format, **more))  # pyright: ignore


def corrected(tmp_path: Path, labels: Labels, id: str) -> Pixels:
    """Return an image's labels with the corrections that were taken."""
    sample = labels.find(id)
    semantic, objects = labels.pixels(sample)
    assert objects is not None
    values = {name: value for value, name in enumerate(labels.classes.values) if value}
    corrections = Corrections(tmp_path / "published/corrections")
    record = corrections.records(id)[0]
    return Pixels(*apply_corrections(semantic, objects, corrections.of(id, record.digest), values))


def edit(tmp_path: Path, labels: Labels, name: str) -> Pixels:
    """Export, and change an image as a person would: another class for an object, one gone, one new, some void.

    Returns:
        What the image's labels are then, as the format keeps them.
    """
    export_labels(tmp_path / "published", tmp_path / "out", name)
    edited = hard_labels(tmp_path / "edited")
    sample = edited.find(CHANGED)
    semantic, objects = (read_label_map(edited.file(kind, sample)).copy() for kind in KINDS)
    semantic[objects == 1] = 5
    semantic[objects == 2], objects[objects == 2] = 0, 0
    semantic[14:18, 3:9], objects[14:18, 3:9] = 3, 7
    semantic[0, :4] = VOID
    for kind, values in zip(KINDS, (semantic, objects), strict=True):
        write_label_map(edited.file(kind, sample), values)
    edited = Labels(edited.folder, edited.samples, edited.classes, tmp_path / "out")
    _write_instances(edited, sample.id, semantic, objects)
    keep = {file: (tmp_path / "out" / file).read_bytes() for file in ("export.json", "images.csv")}
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").mkdir()
    FORMATS[name].write(edited, tmp_path / "out")
    for file, content in keep.items():
        (tmp_path / "out" / file).write_bytes(content)
    return FORMATS[name].kept(edited, sample)


def _write_instances(labels: Labels, id: str, semantic: np.ndarray, objects: np.ndarray) -> None:
    """Bring `instances.json` up to an image's maps."""
    file = labels.folder / "instances.json"
    document = json.loads(file.read_text())
    number = labels.number(labels.find(id))
    others = [each for each in document["annotations"] if each["image_id"] != number]
    for object in np.setdiff1d(objects, (0, VOID)).tolist():
        mask = objects == object
        record = {"image_id": number, "category_id": int(semantic[mask][0]), "segmentation": encode_mask(mask)}
        others.append({"id": 1000 + object, "iscrowd": 0, "score": 1.0, **record})
    file.write_text(json.dumps(document | {"annotations": others}))


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_nobody_edited_has_nothing_to_take(tmp_path: Path, labels: Labels, name: str) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", name)
    answer = take(tmp_path, name)
    assert (answer["images"], answer["taken"], answer["already"], answer["version"]) == (4, [], 0, 1)
    assert not (tmp_path / "published/corrections").exists()
    # macOS puts a file of its own beside each.
    for file in [file for file in (tmp_path / "out").rglob("*") if file.is_file()]:
        (file.parent / f"._{file.name}").write_bytes(b"\x00\x05\x16\x07")
    assert take(tmp_path, name) == answer


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_person_changed_is_taken_once_and_stands_in_the_labels(
    tmp_path: Path, labels: Labels, name: str
) -> None:
    wanted = edit(tmp_path, labels, name)
    would = take(tmp_path, name, author="Ada", dry_run=True)
    assert not (tmp_path / "published/corrections").exists()
    answer = take(tmp_path, name, author="Ada")
    assert would["taken"] == answer["taken"]
    assert [each["image"] for each in answer["taken"]] == [CHANGED]
    (record,) = Corrections(tmp_path / "published/corrections").records(CHANGED)
    assert (record.author, record.made_on) == ("Ada", 1)

    got = corrected(tmp_path, labels, CHANGED)
    before, kept = labels.pixels(labels.find(CHANGED)), FORMATS[name].kept(labels, labels.find(CHANGED))
    differs = wanted.semantic != kept.semantic
    np.testing.assert_array_equal(got.semantic[differs], wanted.semantic[differs])
    np.testing.assert_array_equal(got.semantic[~differs], before.semantic[~differs])
    assert differs.sum() > 60
    if not FORMATS[name].loss:
        assert wanted.objects is not None
        assert partition(got.objects) == partition(wanted.objects)

    again = take(tmp_path, name, author="Bo")
    assert (again["taken"], again["already"]) == ([], 1)
    assert len(Corrections(tmp_path / "published/corrections").records(CHANGED)) == 1


def test_what_lies_under_a_later_correction_is_taken_again(tmp_path: Path, labels: Labels) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "png")
    for value in (2, 3, 2):
        write_label_map(tmp_path / "out/masks/empty.png", np.full(SIZE, value, np.uint8), grey=True)
        answer = take(tmp_path, "png")
        assert ([each["image"] for each in answer["taken"]], answer["already"]) == (["empty"], 0)
        assert (corrected(tmp_path, labels, "empty").semantic == value).all()
    # A verdict changes no pixel.
    corrections = Corrections(tmp_path / "published/corrections")
    corrections.add("empty", corrections.records("empty")[0].digest, author="Ada", verdict="accepted")
    assert take(tmp_path, "png")["already"] == 1


def test_an_instance_that_was_split_is_two_and_one_that_was_merged_is_one(tmp_path: Path, labels: Labels) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "png")
    split, merged = tmp_path / "out/instances/mixed.png", tmp_path / f"out/instances/{CHANGED}.png"
    objects = {file: read_label_map(file).copy() for file in (split, merged)}
    objects[split][3:12, 8:12][objects[split][3:12, 8:12] == 1] = 9
    objects[merged][objects[merged] == 2] = 1
    for file, values in objects.items():
        write_label_map(file, values, grey=True)
    answer = take(tmp_path, "png")
    assert {each["image"]: (each["pixels"], each["instances"]) for each in answer["taken"]} == {
        "mixed": (0, 2),
        CHANGED: (0, 1),
    }
    for id, file in (("mixed", split), (CHANGED, merged)):
        got = corrected(tmp_path, labels, id)
        assert partition(got.objects) == partition(objects[file])
        np.testing.assert_array_equal(got.semantic, read_label_map(labels.file(KINDS[0], labels.find(id))))


def test_polygons_that_a_person_drew_in_label_studio_are_taken(tmp_path: Path, labels: Labels) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "label-studio")
    file = tmp_path / "out/tasks.json"
    (task,) = [each for each in json.loads(file.read_text()) if each["data"]["id"] == "empty"]
    height, width = SIZE
    corners = [[100 * x / width, 100 * y / height] for x, y in ((2, 3), (12, 3), (12, 9), (2, 9))]
    region = {
        "id": "kx9",
        "type": "polygonlabels",
        "original_width": width,
        "original_height": height,
        "value": {"points": corners, "closed": True, "polygonlabels": ["猫"]},
    }
    old = {"was_cancelled": True, "result": []}
    found = [
        {"result": [], "updated_at": "2024-05-01T10:00:00.5Z"},
        {"result": [region], "updated_at": "2024-05-02T10:00:00Z"},
        {"result": [], "updated_at": "2024-05-02T10:30:00+02:00"},
        {"result": []},
    ]
    file.write_text(json.dumps([task | {"annotations": [*found, old]}]))
    answer = take(tmp_path, "label-studio")
    assert (answer["images"], answer["taken"]) == (1, [{"image": "empty", "pixels": 60, "instances": 1}])
    got = corrected(tmp_path, labels, "empty")
    assert (got.semantic[3:9, 2:12] == 3).all()
    assert got.semantic.sum() == 180


def test_polygons_of_labelme_without_a_group_are_instances_of_their_own(tmp_path: Path, labels: Labels) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "labelme")
    file = tmp_path / "out/empty.json"
    document = json.loads(file.read_text())
    document["shapes"] = [
        {"label": "a dog", "points": [[x, 2], [x + 4, 2], [x + 4, 6], [x, 6]], "shape_type": "polygon"} for x in (1, 5)
    ]
    file.write_text(json.dumps(document))
    take(tmp_path, "labelme")
    got = corrected(tmp_path, labels, "empty")
    assert [len(mask) for mask in partition(got.objects)] == [len(np.packbits(got.objects > 0))] * 2
    assert (got.semantic > 0).sum() == 32


def broken(tmp_path: Path, kind: str) -> None:
    """Break a file of an export as plain PNGs, and change another."""
    masks = tmp_path / "out/masks"
    if kind == "size":
        for folder in (masks, tmp_path / "out/instances"):
            write_label_map(folder / "mixed.png", np.zeros((4, 5), np.uint8), grey=True)
    elif kind == "value":
        write_label_map(masks / "mixed.png", np.full(SIZE, 99, np.uint8), grey=True)
    elif kind == "class":
        file = tmp_path / "out/values.txt"
        file.write_text(file.read_text().replace("a dog", "a dgo"))
    elif kind == "stranger":
        shutil.copy(masks / "mixed.png", masks / "stranger.png")
    elif kind == "twice":
        (masks / "set").mkdir()
        shutil.copy(masks / "mixed.png", masks / "set/mixed.png")
    elif kind == "elsewhere":
        (masks / "other").mkdir()
        (masks / "mixed.png").rename(masks / "other/mixed.png")
    elif kind == "damaged":
        (masks / "mixed.png").write_bytes((masks / "mixed.png").read_bytes()[:60])
    elif kind == "instances":
        write_label_map(tmp_path / "out/instances/mixed.png", np.zeros((4, 5), np.uint8), grey=True)
    write_label_map(masks / "empty.png", np.full(SIZE, 2, np.uint8), grey=True)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("size", r"mixed\.png: expected labels of 31 x 23, found 5 x 4"),
        ("value", r"mixed\.png: expected values of 30 names, found 99"),
        ("class", r"größe 1\.5\.png: expected a class of the labels \(a dog, Straße, 猫, .* more\), found 'a dgo'"),
        ("stranger", r"stranger\.png: expected an image of the labels, found 'stranger\.png'"),
        ("twice", r"set/mixed\.png: expected each image once, found 'mixed' again"),
        ("elsewhere", r"expected an image of the labels, found 'other/mixed\.png', no image of the labels"),
        ("damaged", r"mixed\.png: "),
        ("instances", r"mixed\.png: expected instances of 31 x 23, found 5 x 4"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_taken(
    tmp_path: Path, labels: Labels, kind: str, message: str
) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "png")
    broken(tmp_path, kind)
    with pytest.raises(DatasetError, match=message):
        take(tmp_path, "png")
    assert not (tmp_path / "published/corrections").exists()


MALFORMED: dict[str, tuple[str, Any]] = {
    "coco": ("instances.json", ["{", "[]", '{"images": []}']),
    "cvat-coco": ("annotations/instances_default.json", ["{", "[]"]),
    "coco-panoptic": ("annotations/panoptic_default.json", ["{", "[]", '{"annotations": [{}], "categories": []}']),
    "label-studio": ("tasks.json", ["{", "{}", "[1]", '[{"data": {}}]', '[{"data": {"id": 3}}]']),
    "labelme": ("mixed.json", ["{", "[]", "{}", '{"imageHeight": 23, "imageWidth": 31, "shapes": [{}]}']),
    "x-anylabeling": ("mixed.json", ["[" * 100_000, '{"imageHeight": "23"}']),
    "yolo": (
        "labels/mixed.txt",
        [
            "0 1 2",
            f"0 {'9' * 400} 0 0 1 1 1",
            f"{'9' * 5000} 0 0 0 1 1 1",
            "99 0 0 0 1 1 1",
            "0 a b c d e f",
            "0 0 0 0 nan 1 1",
        ],
    ),
    "yolo-semantic": ("data.yaml", ["{", "[" * 10_000, "names: 2001-99-99", "names: 3", "a: [", "names: {1: a}"]),
    "cvat-mask": (
        "labelmap.txt",
        ["dog", "dog:1,2::", "dog:1,2,300::", f"dog:1,2,{'9' * 5000}::", "background:1,2,3::"],
    ),
    "fiftyone": ("mask_targets.json", ["{", "[]", '{"a": "b"}', "{}", '{"10000000000": "x"}']),
    "huggingface": ("data/train-00000.parquet", ["PAR1"]),
    "voc": ("classes.txt", ["", "x\n"]),
}


TEXTS = [(name, text) for name, (_, texts) in MALFORMED.items() for text in texts]


@pytest.mark.parametrize(("name", "content"), TEXTS)
def test_malformed_files_are_named_and_nothing_is_taken(
    tmp_path: Path, labels: Labels, name: str, content: str
) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", name)
    file = MALFORMED[name][0]
    (tmp_path / "out" / file).write_text(content)
    with pytest.raises(DatasetError) as error:
        take(tmp_path, name)
    assert "out" in str(error.value)
    assert "expected" in str(error.value)
    assert not (tmp_path / "published/corrections").exists()


CORNERS = [[0, 0], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    "change",
    [
        {"group_id": 10**20},
        {"points": [[float("inf"), 0], [1, 1]]},
        {"shape_type": "polygon", "points": [[10**399, 0], *CORNERS]},
        {"shape_type": "polygon", "points": [[float("nan"), 0], *CORNERS]},
        {"shape_type": "rectangle", "points": [[-(2**31), 0], [1, 1]]},
    ],
)
def test_numbers_that_no_tool_writes_are_refused(tmp_path: Path, labels: Labels, change: dict[str, Any]) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "labelme")
    file = tmp_path / "out/mixed.json"
    document = json.loads(file.read_text())
    document["shapes"][0] |= change
    file.write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=r"mixed\.json: mixed: (group_id|points): expected (a )?numbers? below"):
        take(tmp_path, "labelme")


@pytest.mark.parametrize(
    ("name", "file", "before"),
    [
        ("coco-panoptic", "annotations/panoptic_default.json", '"object": 1}'),
        ("label-studio", "tasks.json", '"id":"object-1-'),
    ],
)
def test_objects_of_numbers_that_no_tool_writes_are_refused(
    tmp_path: Path, labels: Labels, name: str, file: str, before: str
) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", name)
    text = (tmp_path / "out" / file).read_text()
    assert before in text
    (tmp_path / "out" / file).write_text(text.replace(before, before.replace("1", "9" * 30)))
    with pytest.raises(DatasetError, match="expected a number below 2147483648"):
        take(tmp_path, name)


def test_a_hugging_face_dataset_may_lack_instances_but_not_masks(tmp_path: Path, labels: Labels) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    export_labels(tmp_path / "published", tmp_path / "out", "huggingface")
    (file,) = (tmp_path / "out/data").glob("*.parquet")
    table = parquet.read_table(file)
    parquet.write_table(table.drop_columns(["instances"]), file)
    assert take(tmp_path, "huggingface")["taken"] == []
    parquet.write_table(table.drop_columns(["mask"]), file)
    with pytest.raises(DatasetError, match="expected the columns id and mask, found no mask"):
        take(tmp_path, "huggingface")


def test_the_card_of_a_hugging_face_dataset_names_values_of_label_maps(tmp_path: Path, labels: Labels) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    export_labels(tmp_path / "published", tmp_path / "out", "huggingface")
    card = tmp_path / "out/README.md"
    for names, message in (
        ('{"10000000000": "x"}', "expected values from 0 to 65535, found '10000000000'"),
        ("[" * 100_000, "expected the card"),
    ):
        card.write_text(f"<!-- values: {names} -->\n")
        with pytest.raises(DatasetError, match=message):
            take(tmp_path, "huggingface")


@pytest.mark.parametrize("id", ["export", "export.json/mixed"])
@pytest.mark.parametrize("name", ["labelme", "x-anylabeling"])
def test_an_image_whose_file_would_replace_the_export_s_own_is_refused(tmp_path: Path, name: str, id: str) -> None:
    labels = hard_labels(tmp_path)
    for kind in KINDS:
        target = labels.folder / kind / f"{id}.png"
        target.parent.mkdir(exist_ok=True)
        labels.file(kind, labels.find("mixed")).rename(target)
    samples = tuple(replace(each, id=id) if each.id == "mixed" else each for each in labels.samples)
    publish_labels(tmp_path, Labels(labels.folder, samples, labels.classes))
    with pytest.raises(DatasetError, match=rf"would be {id}\.json: the export has a file of its own there"):
        export_labels(tmp_path / "published", tmp_path / "out", name)
    assert not (tmp_path / "out").exists()
    export_labels(tmp_path / "published", tmp_path / "out", "png")
    assert take(tmp_path, "png")["images"] == 4


def test_the_version_that_was_exported_is_compared_not_the_latest(tmp_path: Path, labels: Labels) -> None:
    edit(tmp_path, labels, "labelme")
    newer = hard_labels(tmp_path / "newer")
    write_label_map(newer.file(KINDS[0], newer.find("mixed")), np.full(SIZE, 4, np.uint8))
    shutil.copytree(tmp_path / "set", tmp_path / "newer/set", dirs_exist_ok=True)
    publish_labels(tmp_path, Labels(newer.folder, labels.samples, newer.classes))
    answer = take(tmp_path, "labelme")
    assert (answer["version"], [each["image"] for each in answer["taken"]]) == (1, [CHANGED])
    # Without the record of the export it is not known.
    (tmp_path / "out/export.json").unlink()
    with pytest.raises(ArtifactError, match=r"not known which version .*--version NUMBER \(there are: 1, 2\)"):
        take(tmp_path, "labelme")
    assert take(tmp_path, "labelme", version=1)["already"] == 1
    with pytest.raises(DatasetError, match="'mixed' was exported with other labels than"):
        take(tmp_path, "labelme", version=2)


def test_labels_of_a_run_are_exported_and_taken_for_the_same_images(tmp_path: Path, labels: Labels) -> None:
    run = tmp_path / "run"
    shutil.copytree(tmp_path / "published/runs/v00001", run)
    shutil.copytree(labels.folder, run / "labels")
    export_labels(run, tmp_path / "out", "png")
    write_label_map(tmp_path / "out/masks/empty.png", np.full(SIZE, 2, np.uint8), grey=True)
    answer = take(tmp_path, "png")
    assert (answer["version"], [each["image"] for each in answer["taken"]]) == (None, ["empty"])
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "set/empty.png")
    (listing,) = run.glob("images-*.jsonl")
    listing.write_text(listing.read_text().replace(json.loads(listing.read_text().splitlines()[1])["sha256"], "0" * 64))
    with pytest.raises(ArtifactError, match="'empty' is not, or not with these bytes, in version 1"):
        take(tmp_path, "png")


def test_the_command_lists_what_it_took(tmp_path: Path, labels: Labels, capsys: pytest.CaptureFixture[str]) -> None:
    edit(tmp_path, labels, "cvat-mask")
    words = ["import", "corrections", str(tmp_path / "out"), "--to", str(tmp_path / "published")]
    assert main([*words, "--format", "cvat-mask"]) == 0
    shown = capsys.readouterr().out
    assert f"{CHANGED}: " in shown
    assert "1 corrections taken, 0 were there, 3 images are those of version 1" in shown
    assert main([*words, "--format", "cvat-mask"]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["import", "corrections", str(tmp_path / "set"), "--to", str(tmp_path), "--format", "png"]) == 1


def test_an_export_says_which_version_it_is_of_and_what_the_format_loses(
    tmp_path: Path, labels: Labels, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "labels", str(tmp_path / "published/v00001"), "--out", str(tmp_path / "o"), "--format", "yolo"]
    assert main(words) == 0
    assert "does not keep: holes" in capsys.readouterr().out
    stamp = json.loads((tmp_path / "o/export.json").read_text())
    assert (stamp["version"], stamp["publication"], len(stamp["digest"])) == (1, str(tmp_path / "published"), 64)
    rows = (tmp_path / "o/images.csv").read_text().splitlines()
    assert rows[0] == "image,path,photograph,labels"
    assert len(rows) == 5
    first = stamp["digest"]
    export_labels(tmp_path / "published", tmp_path / "o", "yolo")
    assert json.loads((tmp_path / "o/export.json").read_text())["digest"] == first


def test_masks_of_cvat_with_other_colours_are_read_by_its_label_map(tmp_path: Path, labels: Labels) -> None:
    export_labels(tmp_path / "published", tmp_path / "out", "cvat-mask")
    file = tmp_path / "out/labelmap.txt"
    file.write_text(file.read_text(encoding="utf-8").replace("a dog:128,0,0::", "a dog:1,2,3::"), encoding="utf-8")
    for mask in (tmp_path / "out/SegmentationClass").rglob("*.png"):
        pixels = np.asarray(Image.open(mask).convert("RGB")).copy()
        pixels[(pixels == (128, 0, 0)).all(axis=-1)] = (1, 2, 3)
        Image.fromarray(pixels).save(mask)
    assert take(tmp_path, "cvat-mask")["taken"] == []
