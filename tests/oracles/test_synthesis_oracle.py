"""Walk and labels together give the reference's semantic map and instances."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.pipeline.labels import instance_masks, semantic_rows
from tasks.pipeline.settings import LabelsConfig, WalkConfig
from tasks.pipeline.walk import sum_rows, walk_instances

pytestmark = pytest.mark.oracles


@pytest.fixture(scope="module")
def expected(oracles: Path) -> dict[str, np.ndarray]:
    with np.load(oracles / "synthesis.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def walked(expected: dict[str, np.ndarray]) -> tuple[torch.Tensor, list[int]]:
    cams, boundary, displacement = (torch.from_numpy(expected[k]) for k in ("cam", "edge", "displacement"))
    return walk_instances(cams, boundary, displacement, WalkConfig())


def test_semantic_labels_match_the_reference(expected: dict, walked: tuple) -> None:
    pieces, rows = walked
    size = tuple(expected["image_size"].tolist())
    found = semantic_rows(sum_rows(pieces, rows, 2), size, LabelsConfig().background_threshold)
    values = np.array([0, *(expected["class_ids"] + 1)])
    assert (values[found] == expected["semantic"]).mean() >= 0.999


def test_instances_match_the_reference(expected: dict, walked: tuple) -> None:
    pieces, rows = walked
    size = tuple(expected["image_size"].tolist())
    found = instance_masks(pieces, rows, size, LabelsConfig())
    assert len(found.masks) == len(expected["instance_mask"])
    for mask, score, name in zip(
        expected["instance_mask"], expected["instance_score"], expected["instance_class"], strict=True
    ):
        ious = [(mask & m).sum() / (mask | m).sum() for m in found.masks]
        best = int(np.argmax(ious))
        assert ious[best] >= 0.99
        assert found.scores[best] == pytest.approx(score, abs=1e-3)
        assert expected["class_ids"][found.rows[best]] == name
