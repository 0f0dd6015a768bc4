"""The benchmark of `tune` judges a choice on images that did not make it."""

from __future__ import annotations

from pathlib import Path

from fabricated_run import make_walked_run

from benchmarks.tuning import choose_by_few, judge_criteria
from tasks.tuning.curves import CRITERIA


def test_a_few_images_choose_and_the_others_judge(tmp_path: Path) -> None:
    found = choose_by_few(make_walked_run(tmp_path), tmp_path / "few")
    assert found["draws"] == 50
    # The run's own threshold lies under the scores of background.
    assert 0 < found["least"] <= found["mean_gain"] <= found["most"] < 1


def test_each_criterion_stands_beside_the_default_and_the_best(tmp_path: Path) -> None:
    found = judge_criteria(make_walked_run(tmp_path), tmp_path / "criteria")
    assert {"mean", *CRITERIA} < set(found)
    assert all(found[name]["miou"] <= found["oracle"]["miou"] for name in CRITERIA)
    assert found["default"] <= found["oracle"]["miou"]
