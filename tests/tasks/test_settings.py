"""What the settings refuse."""

import pytest
from pydantic import ValidationError

from tasks.network_settings import DetectorConfig, SegmenterConfig
from tasks.settings import ClassifierConfig, LabelsConfig


@pytest.mark.parametrize(
    ("config", "name"), [(ClassifierConfig, "resize_long"), (SegmenterConfig, "rescale"), (DetectorConfig, "rescale")]
)
def test_a_range_that_descends_is_refused(config, name):
    assert getattr(config.model_validate({name: (3, 3)}), name) == (3, 3)
    with pytest.raises(ValidationError, match=rf"{name}\n.*ascends, got \(4"):
        config.model_validate({name: (4, 2)})


@pytest.mark.parametrize("sure", [(0.3, 0.5), (0.1, 0.25), (0.1, 1.2)])
def test_sure_thresholds_that_do_not_enclose_the_labels_own_are_refused(sure):
    assert LabelsConfig(background_threshold=0.25, sure_thresholds=(0.1, 1.0)).sure_thresholds == (0.1, 1.0)
    with pytest.raises(ValidationError, match=r"expected one below and one above background_threshold, which is 0\.25"):
        LabelsConfig(background_threshold=0.25, sure_thresholds=sure)


def test_thresholds_that_cannot_be_chosen_about_fixed_ones_are_refused():
    with pytest.raises(ValidationError, match="expected 'auto' or None where background_threshold is 'auto'"):
        LabelsConfig(background_threshold="auto", sure_thresholds=(0.1, 0.5))
    with pytest.raises(ValidationError, match="expected a background_threshold between 0 and 1"):
        LabelsConfig(background_threshold=0, sure_thresholds="auto")
    assert LabelsConfig(background_threshold=0.3, sure_thresholds="auto").sure_thresholds == "auto"
