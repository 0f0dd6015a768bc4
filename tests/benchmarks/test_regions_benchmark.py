"""The benchmark of regions: what it makes of objects, and its table on labels that are right."""

from pathlib import Path

import numpy as np
from fabricated_run import make_run

from benchmarks.regions import GROUND_PARTS, PARTS, SEGMENTERS, measure

OBJECTS = np.zeros((3, 40, 60), bool)
OBJECTS[0, 5:20, 5:20] = OBJECTS[1, 5:20, 22:40] = OBJECTS[2, 32:38, 50:58] = True


def test_segmenters_cut_and_merge_objects_and_invent_none() -> None:
    made = {name: np.array(segment(list(OBJECTS), np.random.default_rng(0))) for name, segment in SEGMENTERS.items()}
    objects = OBJECTS.any(0)
    np.testing.assert_array_equal(made["exact"], OBJECTS)
    np.testing.assert_array_equal(made["exact, and the ground"].sum(0), np.ones(objects.shape))
    assert len(made["exact, and the ground"]) == 3 + GROUND_PARTS
    assert len(made["parts"]) == 3 * PARTS
    np.testing.assert_array_equal(made["parts"].sum(0), objects)
    assert (made["coarse"].any(0) & objects).sum() > 0.8 * objects.sum()
    assert len(made["merged"]) == 2
    assert (made["merged"].any(0) >= objects).all()


def test_labels_that_are_right_stay_so_but_for_coarse_and_merged_regions(tmp_path: Path) -> None:
    rows = measure(make_run(tmp_path))
    for name in ("none", "exact", "exact, and the ground", "parts"):
        assert rows[name]["miou"] == 100.0
    assert rows["exact"]["ap50"] == 100.0
    assert 0 < rows["merged"]["miou"] < 100
