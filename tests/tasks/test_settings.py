"""What the settings refuse."""

import pytest
from pydantic import ValidationError

from tasks.network_settings import DetectorConfig, SegmenterConfig
from tasks.settings import ClassifierConfig


@pytest.mark.parametrize(
    ("config", "name"), [(ClassifierConfig, "resize_long"), (SegmenterConfig, "rescale"), (DetectorConfig, "rescale")]
)
def test_a_range_that_descends_is_refused(config, name):
    assert getattr(config.model_validate({name: (3, 3)}), name) == (3, 3)
    with pytest.raises(ValidationError, match=rf"{name}\n.*ascends, got \(4"):
        config.model_validate({name: (4, 2)})
