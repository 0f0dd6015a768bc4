"""What the settings refuse."""

import pytest
import torch
from pydantic import ValidationError

from models.losses import pair_losses
from tasks.config import RunConfig
from tasks.networks.maskrcnn import DetectorConfig
from tasks.networks.trainer import SegmenterConfig
from tasks.pipeline.settings import ClassifierConfig, IRNetConfig, LabelsConfig, WalkConfig


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


@pytest.mark.parametrize(
    ("config", "name", "bad", "least"),
    [
        (WalkConfig, "radius_px", 1, 2),
        (WalkConfig, "tolerance", 1.0, 0.99),
        (WalkConfig, "tolerance", float("inf"), 0),
        (IRNetConfig, "radius_px", 1, 2),
        (IRNetConfig, "rescale", (1.5, 0.5), (0.5, 1.5)),
        (ClassifierConfig, "crop_size", 16, 32),
        (ClassifierConfig, "learning_rate", 1e38, 1e30),
        (DetectorConfig, "learning_rate", 1e38, 1e30),
        (SegmenterConfig, "head_lr_factor", 1e7, 1e6),
        (RunConfig, "seed", -1, 0),
        (RunConfig, "seed", 2**32, 2**32 - 1),
    ],
)
def test_settings_that_no_stage_can_run_are_refused_by_name(config, name, bad, least):
    config.model_validate({name: least})
    with pytest.raises(ValidationError, match=rf"\n{name}\n"):
        config.model_validate({name: bad})


@pytest.mark.parametrize("radius", [2, 5, 10])
def test_crops_in_which_no_two_pixels_are_a_pair_are_refused(radius):
    def num_pairs(crop_size: int) -> int:
        labels = torch.zeros(1, crop_size // 4, crop_size // 4, dtype=torch.uint8)
        losses = pair_losses(
            torch.zeros(1, 1, *labels.shape[1:]), torch.zeros(1, 2, *labels.shape[1:]), labels, radius=radius
        )
        return int(losses.num_bg)

    for crop_size in range(32, 161, 16):
        if num_pairs(crop_size):
            assert IRNetConfig(crop_size=crop_size, radius_px=radius).crop_size == crop_size
        else:
            with pytest.raises(
                ValidationError, match=rf"crop_size {crop_size}: expected more than .* radius_px {radius}"
            ):
                IRNetConfig(crop_size=crop_size, radius_px=radius)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_network_of_instances_is_told_whether_its_batch_norms_are_frozen(frozen):
    assert DetectorConfig(freeze_norm=frozen).network_options["freeze_norm"] is frozen
