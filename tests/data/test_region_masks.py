"""Regions of a segmenter: what is read, how it is found, and what is refused by its name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_tools

from data.dataset import ClassTable, Dataset, DatasetError, Sample, SampleWithMore, without_more
from data.files import content_digest, content_state
from data.readers.beside.regions import with_regions
from data.region_masks import MAX_REGIONS, read_regions
from data.validation import check_images

SIZE = (5, 7)
IDS = np.zeros(SIZE, np.uint8)
IDS[1:4, :3], IDS[2:, 4:], IDS[0, 6] = 3, 7, 3


def masks() -> np.ndarray:
    return np.stack([IDS == 3, IDS == 7])


def compressed(mask: np.ndarray) -> dict[str, Any]:
    found: Any = rle_tools.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": found["size"], "counts": found["counts"].decode()}


def plain(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}


def record(runs: dict[str, Any]) -> dict[str, Any]:
    more = {"bbox": [0, 0, 3, 3], "point_coords": [[1, 1]], "stability_score": 0.97, "crop_box": [0, 0, 7, 5]}
    return {"segmentation": runs, "area": 9, "predicted_iou": 1.01, **more}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph of 7 x 5 pixels."""
    file = tmp_path / "a.jpg"
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(file)
    return file


def read(photo: Path, source: Path) -> np.ndarray:
    found = read_regions(SampleWithMore("a", photo, (0,), regions=source))
    assert len(found) == len(list(found))
    return np.array(list(found), bool).reshape(-1, *found.size)


@pytest.mark.parametrize("runs", [compressed, plain])
@pytest.mark.parametrize("whole", [False, True], ids=["list", "SA-1B"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_sams_json_is_read_in_both_forms_and_both_kinds_of_run_lengths(photo, tmp_path, runs, whole, encoding) -> None:
    records = [record(runs(mask)) for mask in masks()]
    content: Any = {"image": {"image_id": 1, "height": 5, "width": 7}, "annotations": records} if whole else records
    (tmp_path / "a.json").write_bytes(f"\n {json.dumps(content)}".encode(encoding))
    np.testing.assert_array_equal(read(photo, tmp_path / "a.json"), masks())


@pytest.mark.parametrize("mode", ["L", "1", "P", "I;16", "RGB", "LA"])
def test_a_folder_of_masks_is_read_whatever_its_one_value_is(photo: Path, tmp_path: Path, mode: str) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number, mask in enumerate(masks()):
        value = np.uint16(60_000) if mode == "I;16" else np.uint8(1 if mode == "P" else 255)
        image = Image.fromarray(mask * value)
        (image if mode == "I;16" else image.convert(mode)).save(folder / f"{number}.png")
    (folder / "metadata.csv").write_text("id,area\n")
    np.testing.assert_array_equal(read(photo, folder), masks())


@pytest.mark.parametrize("type", [np.uint8, np.uint16])
def test_a_map_of_ids_is_read_and_0_is_no_region(photo: Path, tmp_path: Path, type: type) -> None:
    ids = IDS.astype(type)
    if type == np.uint16:
        ids[ids == 7] = 65_535
    Image.fromarray(ids).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(photo, tmp_path / "a.png"), masks())


def test_a_file_is_what_its_content_is_and_no_region_is_a_result(photo: Path, tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "map.json", format="PNG")
    np.testing.assert_array_equal(read(photo, tmp_path / "map.json"), masks())
    (tmp_path / "none.json").write_text("[]")
    (tmp_path / "none").mkdir()
    Image.fromarray(IDS * 0).save(tmp_path / "none.png")
    for name in ("none.json", "none", "none.png"):
        assert not len(read(photo, tmp_path / name))


def test_masks_of_the_photograph_as_it_is_stored_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Stored turned left: upright it is 5 wide and 7 high.
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    for name, ids in (("stored", IDS), ("upright", np.rot90(IDS, -1))):
        Image.fromarray(ids).save(tmp_path / f"{name}.png")
        found = [record(compressed(np.ascontiguousarray(ids == id))) for id in (3, 7)]
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
        for suffix in ("png", "json"):
            turned = read(tmp_path / "a.jpg", tmp_path / f"{name}.{suffix}")
            np.testing.assert_array_equal(turned, np.rot90(masks(), -1, axes=(1, 2)))


SQUARE = {"size": [5, 7], "counts": [35]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"masks": []}, "a list of masks, or an object with such a list as 'annotations'"),
        ([{"area": 3}], "mask number 0: expected run lengths"),
        ([3], "mask number 0: expected an object, found 3"),
        ([record({"size": [5, 7]})], "expected run lengths with 'counts'"),
        ([record({"size": [5, 7.5], "counts": []})], r"an object with 'size' \[height, width\]"),
        ([record({"size": [7, 5], "counts": [35]})], r"mask number 0: expected the size of a\.jpg, 7 x 5, found 5 x 7"),
        ([record({"size": [5, 7], "counts": [36]})], "mask number 0: expected run lengths from 0 to 35"),
        ([record({"size": [5, 7], "counts": "~~"})], "mask number 0: expected compressed run lengths"),
        ([record(SQUARE), record({"size": [5, 7], "counts": [1, 2]})], "mask number 1: expected run lengths of 35"),
        ([record(SQUARE) | {"predicted_iou": "high"}], "expected a number as predicted_iou"),
        ([record(SQUARE)] * (MAX_REGIONS + 1), f"at most {MAX_REGIONS} regions of an image, found {MAX_REGIONS + 1}"),
    ],
)
def test_other_json_is_refused_with_what_was_found(photo: Path, tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "masks.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=rf"masks\.json: .*{message}"):
        read(photo, tmp_path / "masks.json")


def test_other_files_are_refused_by_their_names(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.json").write_text("masks")
    (tmp_path / "cut.json").write_text('[{"segmentation"')
    (tmp_path / "large.json").write_text("[" + " " * 2000 + "]")
    (tmp_path / "folder").mkdir()
    Image.fromarray(IDS).save(tmp_path / "folder" / "two.png")
    Image.fromarray(IDS[:3]).save(tmp_path / "small.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "small.png").read_bytes()[:45])
    Image.fromarray(np.stack([IDS, IDS, IDS * 0], axis=-1)).save(tmp_path / "colours.png")
    many = np.arange(80 * 80, dtype=np.uint16).reshape(80, 80)
    Image.fromarray(many).save(tmp_path / "many.png")
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(tmp_path / "many.jpg")
    monkeypatch.setattr("data.region_masks.MAX_BYTES", 1000)
    for name, message in (
        ("text.json", "found another kind of file"),
        ("cut.json", "expected regions as SAM's JSON, but"),
        ("large.json", "of at most 1000 bytes, found 2002"),
        ("folder", r"two\.png: expected a mask of one region, 0 and one other value, found 0, 3, 7"),
        ("small.png", r"expected a map of ids of regions of the size of a\.jpg, 7 x 5, found 7 x 3"),
        ("cut.png", "expected a map of ids of regions"),
        ("colours.png", "grey or indexed, of 8 or 16 bits, found RGB pixels"),
        ("gone.json", "expected regions, found no file"),
    ):
        with pytest.raises(DatasetError, match=message):
            read(photo, tmp_path / name)
    with pytest.raises(DatasetError, match=r"many\.png: expected at most 4096 regions of an image, found 6399"):
        read(tmp_path / "many.jpg", tmp_path / "many.png")


def _set(root: Path, ids: list[str], untagged: tuple[str, ...] = ()) -> Dataset:
    samples = tuple(Sample(id, root / f"{id}.jpg", () if id in untagged else (0,)) for id in sorted(ids))
    return Dataset(root, ClassTable(("cat",)), samples)


def _write(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("[]") if file.suffix == ".json" else Image.fromarray(IDS * 0).save(file)


def _found(dataset: Dataset, folder: Path) -> dict[str, Path | None]:
    found, problems = with_regions(dataset, folder)
    assert not problems
    return {sample.id: getattr(sample, "regions", None) for sample in found.samples}


def test_regions_are_found_by_id_in_any_form_and_untagged_images_need_none(tmp_path: Path) -> None:
    dataset = _set(tmp_path, ["cats/1", "dogs/2", "dogs/3", "none"], untagged=("none",))
    deep, flat = tmp_path / "deep", tmp_path / "flat"
    _write(deep, "cats/1.json", "dogs/2/0.png", "dogs/2/1.png", "dogs/3.png", "another.json")
    _write(flat, "1.json", "2/0.png", "3.png")
    for folder, names in ((deep, ("cats/1.json", "dogs/2", "dogs/3.png")), (flat, ("1.json", "2", "3.png"))):
        expected = zip(("cats/1", "dogs/2", "dogs/3"), (folder / name for name in names), strict=True)
        assert _found(dataset, folder) == {**dict(expected), "none": None}


def test_a_png_below_is_a_region_of_its_folders_image_unless_an_image_has_its_name(tmp_path: Path) -> None:
    _write(tmp_path / "regions", "a/0.png", "b/0.png", "b.json")
    (tmp_path / "regions/c").mkdir()
    assert _found(_set(tmp_path, ["a", "c"]), tmp_path / "regions") == {
        "a": tmp_path / "regions/a",
        "c": tmp_path / "regions/c",
    }
    both = _found(_set(tmp_path, ["a/0", "b/0", "b"]), tmp_path / "regions")
    assert both == {
        "a/0": tmp_path / "regions/a/0.png",
        "b/0": tmp_path / "regions/b/0.png",
        "b": tmp_path / "regions/b.json",
    }


def test_missing_and_double_regions_are_listed_ten_by_name_and_the_rest_counted(tmp_path: Path) -> None:
    ids = [f"{number:02d}" for number in range(25)]
    _write(tmp_path / "regions", "00.png", "01.png", "01.json")
    dataset = _set(tmp_path, ids)
    with pytest.raises(DatasetError) as caught:
        with_regions(dataset, tmp_path / "regions")
    told = list(map(str, caught.value.problems))
    assert len(told) == 11
    assert "expected regions of 01 once, found 01.json and 01.png" in told[0]
    assert "expected regions, 02.json, .png or a folder of that name, found none" in told[1]
    assert told[-1].endswith("and 14 more images without regions")
    kept, problems = with_regions(dataset, tmp_path / "regions", skip_bad=True)
    assert [problem.sample for problem in problems] == ids[1:]
    assert kept.samples[0] == SampleWithMore("00", tmp_path / "00.jpg", (0,), regions=tmp_path / "regions/00.png")
    assert without_more(kept.samples[0]) == dataset.samples[0]
    with pytest.raises(DatasetError, match="expected a folder of regions"):
        with_regions(dataset, tmp_path / "regions/00.png")


def test_the_check_of_a_set_lists_every_bad_source_with_its_image(tmp_path: Path) -> None:
    ids = ["a", "b", "c"]
    for id in ids:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / f"{id}.jpg")
    (tmp_path / "regions/b").mkdir(parents=True)
    (tmp_path / "regions/a.json").write_text(json.dumps([record(compressed(masks()[0]))]))
    Image.fromarray(IDS).save(tmp_path / "regions/b/0.png")
    (tmp_path / "regions/c.json").write_text(json.dumps([record(SQUARE), record({"size": [5, 7], "counts": "?"})]))
    dataset, _ = with_regions(_set(tmp_path, ids), tmp_path / "regions")
    found = [(problem.sample, problem.file.name) for problem in check_images(dataset, 1)]
    assert found == [("b", "0.png"), ("c", "c.json")]


def test_the_digest_of_a_folder_is_that_of_its_files_and_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    digests, states = {content_digest(folder)}, {content_state(folder)}
    for change in (
        lambda: (folder / "0.png").write_text("x"),
        lambda: (folder / "0.png").write_text("y"),
        lambda: (folder / "0.png").rename(folder / "1.png"),
    ):
        change()
        digests.add(content_digest(folder))
        states.add(content_state(folder))
    assert len(digests) == 4
    assert len(states) >= 3
    before = content_digest(folder)
    (folder / ".hidden").write_text("z")
    (folder / "below").mkdir()
    assert content_digest(folder) == before
    with pytest.raises(OSError, match="gone"):
        content_digest(tmp_path / "gone")
