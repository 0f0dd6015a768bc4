"""Boxes of one image in two places are refused with both names: none of them is laid over the other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.dataset import Dataset, DatasetError
from data.readers import open_dataset
from data.readers.beside.hints import with_hints

BOX = "0 0.5 0.5 0.25 0.25\n"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    root = tmp_path / "set"
    root.mkdir()
    for id in "ab":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / f"{id}.png")
    (root / "labels.csv").write_text("a,cat\nb,cat\n")
    hints = tmp_path / "hints"
    hints.mkdir()
    (hints / "classes.txt").write_text("cat\n")
    return open_dataset(root)[0]


@pytest.mark.parametrize(("first", "second"), [("a.txt", "A.txt"), ("a.txt", "a.png.txt"), ("a.txt", "./a.jpg.txt")])
def test_two_text_files_of_an_image_are_refused(tmp_path: Path, dataset: Dataset, first: str, second: str) -> None:
    hints = tmp_path / "hints"
    (hints / first).write_text(BOX)
    (hints / second).write_text(BOX)
    names = " and ".join(sorted((Path(first).name, Path(second).name)))
    with pytest.raises(DatasetError, match=f"expected hints of a once, found {names.replace('.', '[.]')}"):
        with_hints(dataset, hints)
    # A file without a box says nothing.
    (hints / first).write_text("\n")
    assert [len(getattr(sample, "boxes", ())) for sample in with_hints(dataset, hints)[0].samples] == [1, 0]


@pytest.mark.parametrize("names", [("a.png", "a.png"), ("a.png", "a.jpg"), ("a.png", "A.png")])
def test_two_images_of_one_name_in_coco_are_refused(tmp_path: Path, dataset: Dataset, names: tuple[str, str]) -> None:
    images = [{"id": number, "file_name": name} for number, name in enumerate((*names, "b.png"))]
    annotations: list[dict[str, Any]] = [
        {"id": number, "image_id": number, "category_id": 1, "bbox": [number, 1, 3, 3]} for number in range(3)
    ]
    file = tmp_path / "boxes.json"
    file.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]})
    )
    with pytest.raises(DatasetError) as caught:
        with_hints(dataset, file)
    assert f"expected the image 'a' once, found images called {names[0]!r} and {names[1]!r}" in str(caught.value)
    kept, (problem,) = with_hints(dataset, file, skip_bad=True)
    assert problem.sample == "a"
    assert [len(getattr(sample, "boxes", ())) for sample in kept.samples] == [0, 1]
