"""Labels -> format -> labels: identical, or what the format says that it does not keep, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from support.hard_labels import SIZE, hard_labels, partition

from data.dataset import VOID, DatasetError
from data.exchange import FORMATS
from data.exchange.changes import find_change
from data.exchange.pixels import Pixels
from data.exchange.sets import huggingface
from data.exchange.spec import Labels
from data.formats.label_maps import write_label_map

LOSSLESS = ("voc", "png", "coco-panoptic", "label-studio", "labelme", "huggingface")


def written(tmp_path: Path, name: str) -> tuple[Labels, Path, dict[str, Pixels]]:
    """Return labels, the folder of their export, and what is read of it."""
    if name == "huggingface":
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    labels = hard_labels(tmp_path)
    labels.place.mkdir()
    FORMATS[name].write(labels, labels.place)
    found = {}
    for edited in FORMATS[name].read(labels.place, labels):
        sample = labels.find(edited.name)
        found[sample.id] = edited.read(sample)
    return labels, labels.place, found


def test_the_formats_without_loss_are_these() -> None:
    assert tuple(name for name, format in FORMATS.items() if not format.loss) == LOSSLESS


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_written_is_read_again_as_the_format_keeps_it(tmp_path: Path, name: str) -> None:
    labels, _, found = written(tmp_path, name)
    assert found.keys() == {sample.id for sample in labels.samples}
    for sample in labels.samples:
        kept, again = FORMATS[name].kept(labels, sample), found[sample.id]
        np.testing.assert_array_equal(again.semantic, kept.semantic)
        assert (again.objects is None) == (kept.objects is None)
        if again.objects is not None and kept.objects is not None:
            assert partition(again.objects) == partition(kept.objects)
        assert find_change(kept, again, labels.name) is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_says_what_it_writes_beside_the_export_s_own_files(tmp_path: Path, name: str) -> None:
    _, folder, _ = written(tmp_path, name)
    suffix = FORMATS[name].suffix
    assert [file.name for file in folder.glob("mixed*")] == ([f"mixed{suffix}"] if suffix else [])


@pytest.mark.parametrize("name", LOSSLESS)
def test_formats_without_loss_keep_every_pixel_and_object(tmp_path: Path, name: str) -> None:
    labels, _, found = written(tmp_path, name)
    for sample in labels.samples:
        exported, again = labels.pixels(sample), found[sample.id]
        np.testing.assert_array_equal(again.semantic, exported.semantic)
        assert again.objects is not None
        assert partition(again.objects) == partition(exported.objects)


@pytest.mark.parametrize("name", ["cvat-mask", "cvat-coco", "yolo-semantic", "fiftyone"])
def test_formats_that_lose_instances_alone_keep_every_class(tmp_path: Path, name: str) -> None:
    labels, _, found = written(tmp_path, name)
    for sample in labels.samples:
        np.testing.assert_array_equal(found[sample.id].semantic, labels.pixels(sample).semantic)


def test_polygons_of_x_anylabeling_lose_holes_that_show_background_alone(tmp_path: Path) -> None:
    labels, _, found = written(tmp_path, "x-anylabeling")
    lost = {}
    for sample in labels.samples:
        exported = labels.pixels(sample).semantic
        lost[sample.id] = found[sample.id].semantic != exported
        assert (exported[lost[sample.id]] == 0).all()
    assert {id: int(mask.sum()) for id, mask in lost.items() if mask.any()} == {"in a folder/größe 1.5": 6}


@pytest.mark.parametrize("name", ["coco", "yolo"])
def test_files_of_instances_lose_what_no_instance_has(tmp_path: Path, name: str) -> None:
    labels, _, found = written(tmp_path, name)
    for sample in labels.samples:
        exported = labels.pixels(sample)
        owned = (exported.objects != 0) & ((exported.semantic != VOID) & (exported.semantic != 3))
        np.testing.assert_array_equal(found[sample.id].semantic[owned], exported.semantic[owned])


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_of_the_same_labels_is_the_same_bytes(tmp_path: Path, name: str) -> None:
    labels, folder, _ = written(tmp_path, name)
    first = {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    folder.rename(tmp_path / "first")
    folder.mkdir()
    FORMATS[name].write(labels, folder)
    assert {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()} == first


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "yolo-semantic"])
def test_values_of_more_than_eight_bits_are_kept(tmp_path: Path, name: str) -> None:
    labels = with_many(tmp_path)
    labels.place.mkdir()
    FORMATS[name].write(labels, labels.place)
    (edited,) = [each for each in FORMATS[name].read(labels.place, labels) if labels.find(each.name).id == "mixed"]
    sample = labels.find("mixed")
    kept, again = FORMATS[name].kept(labels, sample), edited.read(sample)
    assert find_change(kept, again, labels.name) is None
    if name not in ("coco", "yolo"):
        assert set(np.unique(again.semantic)) == {0, 254, VOID, 256, 300}


def with_many(tmp_path: Path) -> Labels:
    """Return labels of 300 classes, of which an image has the last, that beside void, and 400 instances."""
    labels = hard_labels(tmp_path, tuple(f"class {number}" for number in range(299)))
    sample = labels.find("mixed")
    semantic = np.zeros(SIZE, np.uint16)
    semantic[:10], semantic[10:12, 4:], semantic[12:20], semantic[21:] = 300, 254, 256, VOID
    objects = np.where(semantic == 300, np.arange(semantic.size).reshape(SIZE) + 256, 0).astype(np.uint16)
    write_label_map(labels.file("SegmentationClass", sample), semantic)
    write_label_map(labels.file("SegmentationObject", sample), objects)
    return labels


def test_yolo_refuses_masks_of_more_than_a_byte(tmp_path: Path) -> None:
    labels = with_many(tmp_path)
    with pytest.raises(DatasetError, match="expected 254 classes at most, found 299"):
        FORMATS["yolo-semantic"].write(labels, tmp_path)


def test_cvats_label_map_takes_no_colon_in_a_name(tmp_path: Path) -> None:
    labels = hard_labels(tmp_path, ("a:b", "c"))
    with pytest.raises(DatasetError, match=r"found 'a:b'; choose another format, such as cvat-coco"):
        FORMATS["cvat-mask"].write(labels, tmp_path)


def test_a_large_hugging_face_dataset_is_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "GROUP_BYTES", 1)
    monkeypatch.setattr(huggingface, "MOST_BYTES", 1)
    labels, folder, found = written(tmp_path, "huggingface")
    assert [file.name for file in sorted((folder / "data").iterdir())] == [f"train-0000{n}.parquet" for n in range(4)]
    assert list(found) == [sample.id for sample in labels.samples]


def test_a_photograph_that_is_gone_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    labels = hard_labels(tmp_path)
    labels.place.mkdir()
    labels.samples[0].image.unlink()
    with pytest.raises(DatasetError, match=r"empty\.png: expected the photograph"):
        FORMATS["huggingface"].write(labels, labels.place)
