"""YOLO polygons: filled outlines are the pixels again."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from fabricated_run import make_run

from data.exchange.outlines import outlines
from data.formats.coco import decode_mask
from flows.commands.storing.export_labels import export_labels


def fill(rows: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Fill outlines whose corners are pixels' corners: a pixel is inside where its centre is."""
    height, width = shape
    found = [(row * (width, height)).astype(np.float32) for row in rows]
    centres = [[(x + 0.5, y + 0.5) for x in range(width)] for y in range(height)]
    return np.array([[any(cv2.pointPolygonTest(c, at, False) > 0 for c in found) for at in line] for line in centres])


@pytest.mark.parametrize("seed", range(5))
def test_filled_outlines_are_the_mask_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = cv2.GaussianBlur(rng.random((17, 23)), (0, 0), 2) > 0.5
    _, outside = cv2.connectedComponents(np.pad(~mask, 1, constant_values=True).astype(np.uint8), connectivity=4)
    without_holes = (outside != outside[0, 0])[1:-1, 1:-1]
    np.testing.assert_array_equal(fill([corners / (23, 17) for corners in outlines(mask)], (17, 23)), without_holes)


def test_a_pixel_on_the_border_is_a_square_of_the_image() -> None:
    mask = np.zeros((4, 5), bool)
    mask[3, 4] = True
    (corners,) = outlines(mask)
    assert {tuple(corner) for corner in corners.tolist()} == {(4, 3), (5, 3), (4, 4), (5, 4)}


def test_every_image_has_a_file_whose_polygons_are_its_instances(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    answer = export_labels(run, tmp_path / "export", "yolo")
    coco = json.loads((run / "labels/instances.json").read_text())
    count = 0
    for image in coco["images"]:
        wanted = [each for each in coco["annotations"] if each["image_id"] == image["id"]]
        lines = (tmp_path / "export/labels" / f"{Path(image['file_name']).stem}.txt").read_text().splitlines()
        count += len(lines)
        for index in {each["category_id"] - 1 for each in wanted}:
            rows = [np.array(line.split()[1:], float).reshape(-1, 2) for line in lines if line.split()[0] == str(index)]
            masks = [decode_mask(each["segmentation"]) for each in wanted if each["category_id"] - 1 == index]
            np.testing.assert_array_equal(fill(rows, masks[0].shape), np.any(masks, axis=0))
    assert answer["polygons"] == count > 0
    assert "0: " in (tmp_path / "export/data.yaml").read_text()
