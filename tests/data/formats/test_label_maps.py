"""Label maps keep their values, wear VOC's colours, and are written whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.dataset import DatasetError, Sample
from data.formats.label_maps import (
    VOC_PALETTE,
    instance_map,
    read_ground_truth,
    read_label_map,
    unknown_values,
    write_label_map,
)

LABELS = np.arange(256, dtype=np.uint8).reshape(8, 32)


def test_the_palette_is_vocs() -> None:
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0)}
    known |= {15: (192, 128, 128), 16: (0, 64, 0), 20: (0, 64, 128), 254: (96, 224, 192), 255: (224, 224, 192)}
    assert {value: tuple(map(int, VOC_PALETTE[value])) for value in known} == known
    assert len(np.unique(VOC_PALETTE, axis=0)) == 256


def test_labels_come_back_and_show_their_colours(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "folder" / "a.png"
    write_label_map(path, LABELS)
    np.testing.assert_array_equal(read_label_map(path), LABELS)
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), VOC_PALETTE[LABELS])


def test_a_transposed_view_is_written_as_seen(tmp_path: Path) -> None:
    write_label_map(tmp_path / "a.png", LABELS.T)
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), LABELS.T)


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_label_map(path, LABELS)

    def fail(_image: Image.Image, file: Path, format: str) -> None:
        file.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        write_label_map(path, LABELS[::-1].copy())
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(read_label_map(path), LABELS)


@pytest.mark.parametrize("labels", [LABELS.astype(np.int64), LABELS[None]])
def test_other_arrays_are_refused(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 or uint16 \[H, W\]"):
        write_label_map(tmp_path / "a.png", labels)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_grey_label_maps_are_read_in_whatever_mode(tmp_path: Path, mode: str) -> None:
    Image.fromarray(LABELS).convert(mode).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "grey.png"), LABELS)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_masks_in_vocs_colours_are_read_and_other_colours_refused(tmp_path: Path, mode: str) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(VOC_PALETTE[values]).convert(mode).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "rgb.png"), values)
    Image.new(mode, (4, 4), (1, 2, 3)).save(tmp_path / "rgb.png")
    with pytest.raises(DatasetError, match=r"rgb\.png: expected .* found the colour 1, 2, 3; write"):
        read_label_map(tmp_path / "rgb.png")


def test_minus_one_is_void_and_other_negative_values_are_refused(tmp_path: Path) -> None:
    labels = LABELS.astype(np.int32)
    labels[0, 0] = -1
    Image.fromarray(labels).save(tmp_path / "a.tif")
    assert read_label_map(tmp_path / "a.tif")[0, 0] == 255
    image = tmp_path / "image.png"
    Image.new("RGB", LABELS.shape[::-1]).save(image)
    with pytest.raises(DatasetError, match=r"a\.tif: expected instance ids from 0, found -1"):
        read_ground_truth(Sample("a", image, (), instances=tmp_path / "a.tif"))
    labels[0, 0] = -254
    Image.fromarray(labels).save(tmp_path / "a.tif")
    with pytest.raises(DatasetError, match=r"a\.tif: expected label values 0 to 65535, found -254"):
        read_label_map(tmp_path / "a.tif")


def test_values_over_255_are_kept_in_16_bits(tmp_path: Path) -> None:
    path, labels = tmp_path / "a.png", LABELS.astype(np.uint16)
    labels[0, 0] = 301
    write_label_map(path, labels)
    assert read_label_map(path).dtype == np.uint16
    np.testing.assert_array_equal(read_label_map(path), labels)
    assert unknown_values(labels, 302) == []
    assert unknown_values(labels, 301) == [301]
    write_label_map(path, LABELS.astype(np.uint16))
    assert read_label_map(path).dtype == np.uint8


def test_instance_ids_leave_out_void(tmp_path: Path) -> None:
    masks = np.eye(300, dtype=bool)[:, None]
    ids = instance_map(masks)
    assert ids.dtype == np.uint16
    assert [*ids[0, :254], *ids[0, 254:]] == [*range(1, 255), *range(256, 302)]
    assert instance_map(masks[:254]).dtype == np.uint8
    # The first covers what comes after it.
    assert instance_map(np.ones((2, 1, 1), bool)).tolist() == [[1]]
    assert instance_map(np.ones((0, 1, 2), bool)).tolist() == [[0, 0]]


def test_16_bit_instances_are_read(tmp_path: Path) -> None:
    ids = (LABELS.astype(np.uint16) * 5).astype(np.uint16)
    path = tmp_path / "ids.png"
    Image.fromarray(ids).save(path)
    truth = read_ground_truth(Sample("a", tmp_path / "a.jpg", (), instances=path))
    assert truth.semantic is None
    assert truth.instances is not None
    assert truth.instances.dtype == np.int32
    np.testing.assert_array_equal(truth.instances, ids)
    path = tmp_path / "ids.tif"
    Image.fromarray(ids.astype(np.int32) * 100).save(path)
    with pytest.raises(DatasetError, match="expected label values 0 to 65535, found 127500"):
        read_label_map(path)
