"""A run with the networks of another takes that one's thresholds where nothing is left to choose them."""

import pytest

from flows.labels.presets import demo, quick
from flows.labels.request import with_numbers_of
from tasks.pipeline.settings import PipelineConfig, PixelsConfig


@pytest.mark.parametrize("mine", [quick(), quick().model_copy(update={"pixels": PixelsConfig()})])
def test_thresholds_that_nothing_chooses_are_the_other_runs_numbers_in_all_places(mine: PipelineConfig) -> None:
    taught = PixelsConfig(folds=3, taught_thresholds=(0.1, 0.6))
    theirs = demo().model_copy(update={"pixels": taught})
    found = with_numbers_of(mine, theirs)
    assert found.labels.background_threshold == 0.25
    assert found.labels.sure_thresholds == (0.05, 0.5)
    assert found.pixels.taught_thresholds == (0.1, 0.6)
    assert found.labels.min_area_of_largest == quick().labels.min_area_of_largest
    # Together they are settings that a run can have.
    assert PipelineConfig.model_validate(found.model_dump()) == found


def test_own_numbers_and_thresholds_that_a_set_chooses_stay() -> None:
    assert with_numbers_of(demo(), quick()) == demo()
    assert with_numbers_of(quick(), quick()) == quick()
