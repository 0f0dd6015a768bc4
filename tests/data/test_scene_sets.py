"""Sets of scenes: CamVid in both forms, SUN RGB-D."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, DatasetError
from data.formats.label_codings import CAMVID_CLASSES, CAMVID_COLOURS, SUNRGBD_CLASSES
from data.formats.label_maps import read_ground_truth
from data.readers import open_dataset, open_images
from data.validation import check_images


def _save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def _photo(file: Path, size: tuple[int, int] = (4, 6)) -> None:
    _save(file, np.zeros((*size, 3), np.uint8))


def test_camvid_of_eleven_classes_has_its_folders_for_lists(tmp_path: Path) -> None:
    labels = np.arange(24, dtype=np.uint8).reshape(4, 6) % 12
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for number in range(count):
            _photo(tmp_path / split / f"{split}{number}.jpg")
            _save(tmp_path / f"{split}annot" / f"{split}{number}.png", labels)
    dataset, problems = open_dataset(tmp_path, split="train")
    assert not problems
    assert dataset.classes.values == CAMVID_CLASSES
    assert [sample.id for sample in dataset.samples] == ["train0", "train1", "train2"]
    truth = read_ground_truth(dataset.samples[0]).semantic
    assert truth is not None
    assert np.array_equal(truth, np.where(labels == 11, 255, labels))
    assert len(open_dataset(tmp_path)[0].samples) == 6
    (tmp_path / "some.txt").write_text("val0\ntest1.png\n")
    assert [sample.id for sample in open_dataset(tmp_path, split="some")[0].samples] == ["test1", "val0"]


@pytest.mark.parametrize("suffix", ["jpg", "webp", "gif"])
def test_label_maps_in_files_that_change_values_are_refused(tmp_path: Path, suffix: str) -> None:
    colours = np.full((8, 8, 3), CAMVID_COLOURS["car"][0], np.uint8)
    for number, ending in enumerate((suffix, "png")):
        _photo(tmp_path / "701_StillsRaw_full" / f"Seq_{number}.png", (8, 8))
        _save(tmp_path / "LabeledApproved_full" / f"Seq_{number}_L.{ending}", colours)
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path)
    (problem,) = caught.value.problems
    assert (problem.file.name, problem.sample) == (f"Seq_0_L.{suffix}", "Seq_0")
    assert "expected a label map as PNG, TIFF or BMP, which keep every value" in problem.message
    dataset, _ = open_dataset(tmp_path, skip_bad=True)
    assert [sample.id for sample in dataset.samples] == ["Seq_1"]


def test_every_fault_of_a_set_is_told_with_its_file(tmp_path: Path) -> None:
    for number in range(3):
        _photo(tmp_path / "train" / f"{number}.png")
        _save(tmp_path / "trainannot" / f"{number}.png", np.full((4, 6), 12 if number == 1 else 3, np.uint8))
    (tmp_path / "trainannot" / "2.png").unlink()
    _save(tmp_path / "trainannot" / "9.png", np.zeros((4, 6), np.uint8))
    with pytest.raises(DatasetError) as caught:
        open_dataset(tmp_path, split="train")
    assert [problem.sample for problem in caught.value.problems] == ["2", "9"]
    assert "expected its label map" in str(caught.value)
    dataset, _ = open_dataset(tmp_path, split="train", skip_bad=True)
    (problem,) = check_images(dataset, 1)
    assert (problem.file.name, problem.sample) == ("1.png", "1")
    assert "expected values 0 to 10 and 255, found 12" in problem.message
    with pytest.raises(DatasetError, match="one of the set's lists: train"):
        open_dataset(tmp_path, split="testing")
    with pytest.raises(DatasetError, match="class table of its own"):
        open_dataset(tmp_path, split="train", classes=tmp_path / "classes.txt")


def test_images_alone_are_those_of_the_layout_and_need_no_label_maps(tmp_path: Path) -> None:
    table = ClassTable(("road",), has_background=False)
    for number in range(3):
        _photo(tmp_path / "camvid" / "test" / f"{number}.png")
        _save(tmp_path / "camvid" / "testannot" / f"{number}.png", np.zeros((4, 6), np.uint8))
    (tmp_path / "camvid" / "testannot" / "1.png").unlink()
    _save(tmp_path / "camvid" / "testannot" / "7.png", np.zeros((4, 6), np.uint8))
    _photo(tmp_path / "camvid" / "train" / "a.png")
    _photo(tmp_path / "objects" / "images" / "x.jpg")
    _save(tmp_path / "objects" / "ground_truth_mask" / "x.png", np.zeros((4, 6), np.uint8))
    dataset, problems = open_images(tmp_path / "camvid", table, "test")
    assert not problems
    assert dataset.classes == table
    assert [(sample.id, sample.semantic, sample.coding) for sample in dataset.samples] == [
        (str(number), None, None) for number in range(3)
    ]
    assert [sample.id for sample in open_images(tmp_path / "camvid", table)[0].samples] == ["0", "1", "2", "a"]
    assert [sample.id for sample in open_images(tmp_path / "objects", table)[0].samples] == ["x"]


def test_camvids_frames_are_decoded_from_colours_and_listed_as_in_the_paper(tmp_path: Path) -> None:
    colours = [colour for name in CAMVID_CLASSES for colour in CAMVID_COLOURS[name]]
    assert len(set(colours)) == 31
    # Void, and a colour of no class.
    labels = np.array([[*colours, (0, 0, 0), (1, 2, 3)]], np.uint8)
    expected = [value for value, name in enumerate(CAMVID_CLASSES) for _ in CAMVID_COLOURS[name]] + [255, 255]
    names = {
        "0001TP_008520": "train",
        "0001TP_008550": "test",
        "0006R0_f00930": "train",
        "0016E5_07957": "train",
        "0016E5_07959": "val",
        "0016E5_08159": "val",
        "0016E5_08161": "train",
        "Seq05VD_f00000": "test",
    }
    for name in names:
        _photo(tmp_path / "701_StillsRaw_full" / f"{name}.png", (1, 33))
        _save(tmp_path / "LabeledApproved_full" / f"{name}_L.png", labels)
    for split in ("train", "val", "test"):
        dataset, _ = open_dataset(tmp_path, split=split)
        assert [sample.id for sample in dataset.samples] == [name for name, of in names.items() if of == split]
        truth = read_ground_truth(dataset.samples[0]).semantic
        assert truth is not None
        assert truth.tolist() == [expected]


def test_sunrgbd_has_its_test_labels_first(tmp_path: Path) -> None:
    for split, numbers in (("test", (1, 5050)), ("train", (1, 2))):
        for number in numbers:
            _photo(tmp_path / f"SUNRGBD-{split}_images" / f"img-{number:06d}.jpg")
    for number, value in ((1, 0), (5050, 1), (5051, 37), (5052, 5)):
        _save(tmp_path / "sunrgbd_train_test_labels" / f"img-{number:06d}.png", np.full((4, 6), value, np.uint8))
    values = {}
    for split in ("train", "test"):
        dataset, problems = open_dataset(tmp_path, split=split)
        assert not problems
        assert dataset.classes.values == SUNRGBD_CLASSES
        for sample in dataset.samples:
            truth = read_ground_truth(sample).semantic
            assert truth is not None
            values[sample.id] = int(truth[0, 0])
    expected = {"test/img-000001": 255, "test/img-005050": 0, "train/img-000001": 36, "train/img-000002": 4}
    assert values == expected


def test_a_label_map_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    _photo(tmp_path / "train" / "a.png")
    _save(tmp_path / "trainannot" / "a.png", np.zeros((4, 6, 3), np.uint8))
    (problem,) = check_images(open_dataset(tmp_path, split="train")[0], 1)
    assert problem.file.name == "a.png"
    assert "expected a label map of L or P pixels, found RGB" in problem.message


def test_cityscapes_is_read_by_its_ids(tmp_path: Path) -> None:
    ids = np.array([[0, 7, 33, 9], [26, 11, 255, 4]], np.uint8)
    for split, city in (("train", "aachen"), ("val", "ulm")):
        name = f"{city}/{city}_000000_000019"
        _photo(tmp_path / "leftImg8bit" / split / f"{name}_leftImg8bit.png", (2, 4))
        _save(tmp_path / "gtFine" / split / f"{name}_gtFine_labelIds.png", ids)
        _save(tmp_path / "gtFine" / split / f"{name}_gtFine_instanceIds.png", ids)
    dataset, problems = open_dataset(tmp_path, split="val")
    assert not problems
    assert len(dataset.classes.values) == 19
    (sample,) = dataset.samples
    assert sample.id == "ulm/ulm_000000_000019"
    truth = read_ground_truth(sample).semantic
    assert truth is not None
    assert truth.tolist() == [[255, 0, 18, 255], [13, 2, 255, 255]]
    assert not check_images(dataset, 1)


def test_saliency_sets_have_a_background_and_one_class(tmp_path: Path) -> None:
    mask = np.array([[0, 100, 128, 255]], np.uint8)
    for name in ("DUTS-TR", "DUTS-TE"):
        _photo(tmp_path / "duts" / name / f"{name}-Image" / "a.jpg", (1, 4))
        _save(tmp_path / "duts" / name / f"{name}-Mask" / "a.png", mask)
    _photo(tmp_path / "ecssd/images/0001.jpg", (1, 4))
    _save(tmp_path / "ecssd/ground_truth_mask/0001.png", np.repeat(mask[..., None], 3, axis=2))
    for root, split in (("duts", "train"), ("duts", "test"), ("ecssd", None)):
        dataset, _ = open_dataset(tmp_path / root, split=split)
        assert dataset.classes.values == ("background", "salient")
        truth = read_ground_truth(dataset.samples[0]).semantic
        assert truth is not None
        assert truth.tolist() == [[0, 0, 1, 1]]
        assert not check_images(dataset, 1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "ones", "red"])
def test_masks_are_read_however_they_are_stored(mode: str, tmp_path: Path) -> None:
    _photo(tmp_path / "images/0001.jpg", (2, 3))
    mask = np.array([[0, 255, 255], [0, 0, 255]], np.uint8)
    image = Image.fromarray(mask // 255 if mode == "ones" else mask)
    if mode == "red":
        # An indexed label map, whose first class has a dark colour.
        image = Image.fromarray(mask // 255)
        image.putpalette([0, 0, 0, 128, 0, 0])
    elif mode != "ones":
        image = image.convert(mode)
    if mode in ("LA", "RGBA"):
        # Nothing is opaque.
        image.putalpha(0)
    (tmp_path / "ground_truth_mask").mkdir()
    image.save(tmp_path / "ground_truth_mask/0001.png")
    dataset, _ = open_dataset(tmp_path)
    truth = read_ground_truth(dataset.samples[0]).semantic
    assert truth is not None
    assert truth.tolist() == [[0, 1, 1], [0, 0, 1]]
    assert not check_images(dataset, 1)


def test_a_mask_without_an_object_is_empty_and_one_of_numbers_is_refused(tmp_path: Path) -> None:
    for name in ("0001", "0002"):
        _photo(tmp_path / f"images/{name}.jpg", (2, 3))
    _save(tmp_path / "ground_truth_mask/0001.png", np.full((2, 3), 9, np.uint8))
    _save(tmp_path / "ground_truth_mask/0002.png", np.full((2, 3), 700, np.uint16))
    dataset, _ = open_dataset(tmp_path)
    truth = read_ground_truth(dataset.samples[0]).semantic
    assert truth is not None
    assert not truth.any()
    (problem,) = check_images(dataset, 1)
    assert "0002.png" in str(problem)
    assert "RGBA pixels, found I;16" in str(problem)


def test_images_of_one_name_in_two_lists_are_two_images(tmp_path: Path) -> None:
    for name, count in (("DUTS-TR", 3), ("DUTS-TE", 2)):
        for number in range(count):
            _photo(tmp_path / name / f"{name}-Image" / f"i{number}.jpg")
            _save(tmp_path / name / f"{name}-Mask" / f"i{number}.png", np.zeros((4, 6), np.uint8))
    samples = open_dataset(tmp_path)[0].samples
    assert [sample.id for sample in samples] == ["i2", "test/i0", "test/i1", "train/i0", "train/i1"]
    assert samples[1].image == tmp_path / "DUTS-TE" / "DUTS-TE-Image" / "i0.jpg"
    assert samples[1].semantic == tmp_path / "DUTS-TE" / "DUTS-TE-Mask" / "i0.png"
    assert len(open_images(tmp_path, ClassTable(("salient",)))[0].samples) == 5
    assert [sample.id for sample in open_dataset(tmp_path, split="test")[0].samples] == ["i0", "i1"]
    (tmp_path / "some.txt").write_text("test/i1\ni2\n")
    assert [sample.id for sample in open_dataset(tmp_path, split="some")[0].samples] == ["i2", "test/i1"]
