"""Files below a folder of labels, maps or hints: what cannot be read is not absent, and what is not of them is none."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.dataset import ClassTable, Dataset, DatasetError, Sample
from data.exchange.maps.png import png_files
from data.exchange.shapes.labelme import read_labelme
from data.exchange.shapes.yolo import read_yolo
from data.files import MARK, files_below, visible
from data.formats.label_maps import write_label_map
from data.readers import open_dataset
from data.readers.beside.cams import with_cams
from data.readers.beside.hints import with_hints
from data.readers.beside.regions import with_regions
from data.readers.beside.saliency import with_saliency
from tasks.evaluation.folders import evaluate_semantic

CLASSES = ClassTable(("cat", "dog"))
XML = "<annotation><object><name>cat</name></object></annotation>"
SHAPE = {"label": "cat", "shape_type": "rectangle", "points": [[1, 1], [8, 8]]}
SHAPES = json.dumps({"imageHeight": 10, "imageWidth": 12, "shapes": [SHAPE]})


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """A set of `a`, `sub/b` and `deep/down/c`."""
    samples = []
    for id in ("a", "sub/b", "deep/down/c"):
        file = tmp_path / "set" / f"{id}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10)).save(file)
        samples.append(Sample(id, file, (0,)))
    return Dataset(tmp_path / "set", CLASSES, tuple(samples))


def fill(folder: Path, kind: str) -> Path:
    """Write a file of each image of the set into a folder."""
    write: dict[str, Callable[[Path], object]] = {
        ".xml": lambda file: file.write_text(XML),
        ".json": lambda file: file.write_text(SHAPES),
        ".txt": lambda file: file.write_text("0 0.5 0.5 0.2 0.2\n"),
        ".npy": lambda file: np.save(file, np.ones((2, 10, 12), np.float32)),
        ".png": lambda file: write_label_map(file, np.ones((10, 12), np.uint8)),
    }
    for id in ("a", "sub/b", "deep/down/c"):
        file = folder / f"{id}{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        write[kind](file)
    return folder


def deny(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let a folder be one that cannot be read."""
    scandir = os.scandir

    def denied(path: Any) -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)


def see_refused(
    dataset: Dataset, folder: Path, read: Callable[[Dataset, Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """See that a reader names each folder below that cannot be read."""
    for below in ("sub", "deep/down"):
        with monkeypatch.context() as patch:
            deny(patch, folder / below)
            with pytest.raises(DatasetError, match=rf"{folder / below}: expected a folder that can be read, but Permi"):
                read(dataset, folder)


def with_names(dataset: Dataset, folder: Path) -> None:
    (folder / "data.yaml").write_text("names: [cat, dog]\n")
    with_hints(dataset, folder)


READERS: dict[str, tuple[str, Callable[[Dataset, Path], object]]] = {
    "annotations as labels": (".xml", lambda dataset, folder: open_dataset(dataset.root, folder)),
    "label maps as labels": (".png", lambda dataset, folder: open_dataset(dataset.root, folder)),
    "hints": (".json", with_hints),
    "hints of YOLO": (".txt", with_names),
    "regions": (".png", with_regions),
    "saliency": (".png", with_saliency),
    "attention maps": (".npy", with_cams),
    "ground truth": (".png", lambda dataset, folder: evaluate_semantic(folder, folder)),
    "corrected label maps": (".png", lambda dataset, folder: png_files(folder)),
    "corrected shapes": (".json", lambda dataset, folder: list(read_labelme(folder, None))),  # pyright: ignore
}


@pytest.mark.parametrize("what", READERS)
def test_a_folder_that_cannot_be_read_is_named_by_every_reader(
    tmp_path: Path, dataset: Dataset, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, read = READERS[what]
    folder = fill(tmp_path / "files", kind)
    read(dataset, folder)
    see_refused(dataset, folder, read, monkeypatch)


def test_corrected_polygons_of_a_folder_that_cannot_be_read_are_not_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "labels", ".txt")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    deny(monkeypatch, tmp_path / "labels/sub")
    with pytest.raises(DatasetError, match="Permission denied"):
        list(read_yolo(tmp_path, None))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("what", ["hints", "regions", "saliency", "attention maps"])
def test_folders_that_are_links_are_read(tmp_path: Path, dataset: Dataset, what: str) -> None:
    kind, read = READERS[what]
    folder = fill(tmp_path / "files", kind)
    shutil.move(folder / "sub", tmp_path / "elsewhere")
    (folder / "sub").symlink_to(tmp_path / "elsewhere")
    (folder / "loop").symlink_to(folder)
    found: Any = read(dataset, folder)
    given = {"hints": "hints", "regions": "regions", "saliency": "saliency", "attention maps": "cams"}[what]
    files = [getattr(sample, given) for sample in found[0].samples]
    assert files[1] == folder / f"sub/b{kind}"
    assert all(files)


def test_label_maps_that_the_product_made_are_no_hints(tmp_path: Path, dataset: Dataset) -> None:
    hints = tmp_path / "hints"
    hints.mkdir()
    (hints / "a.json").write_text(SHAPES)
    fill(hints / "predicted", ".png")
    (hints / "predicted" / MARK).write_text("{}")
    flat = replace(
        dataset, samples=tuple(replace(sample, id=sample.id.rpartition("/")[2]) for sample in dataset.samples)
    )
    found, _ = with_hints(flat, hints)
    assert "hints: folders that pseudomask wrote, left out: predicted" in found.notes
    assert [bool(getattr(sample, "hints", None)) for sample in found.samples] == [True, False, False]
    # Given by itself it is what the user says it is.
    found, _ = with_hints(dataset, hints / "predicted")
    assert all(getattr(sample, "hints", None) for sample in found.samples)


@pytest.mark.parametrize("what", READERS)
def test_files_that_are_called_as_records_of_the_product_hide_no_folder(
    tmp_path: Path, dataset: Dataset, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, read = READERS[what]
    folder = fill(tmp_path / "files", kind)
    for name in ("run", "export", "version"):
        shutil.copyfile(folder / f"sub/b{kind}", folder / f"sub/{name}{kind}")
        if kind != ".json":
            (folder / f"deep/down/{name}.json").write_text("{}")
    # The folder was looked into: where it cannot be read, that is told.
    see_refused(dataset, folder, read, monkeypatch)


def test_a_folder_of_coco_s_files_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "annotations").mkdir()
    deny(monkeypatch, tmp_path / "annotations")
    with pytest.raises(DatasetError, match=r"annotations: expected a folder that can be read, but Permission denied"):
        visible(tmp_path, "*.json", "annotations/*.json")


def test_what_systems_write_is_none_of_the_files(tmp_path: Path) -> None:
    for name in ("a.png", "._a.png", ".hidden/b.png", "__MACOSX/c.png", "@eaDir/d.png", "x/E.PNG", "x/f.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [file.relative_to(tmp_path).as_posix() for file in files_below(tmp_path, {".png"})] == ["a.png", "x/E.PNG"]
    assert files_below(tmp_path / "nothing") == []
