"""Labels -> format -> labels: identical, or what the format says that it does not keep, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from support.hard_labels import hard_labels, partition

from data.dataset import VOID
from data.exchange import FORMATS
from data.exchange.changes import find_change
from data.exchange.pixels import Pixels
from data.exchange.spec import Labels

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
