"""Settings of Mask R-CNN."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.config import Config
from tasks.networks.trainer import TrainerConfig
from tasks.settings import Fraction, LearningRate, NonNegative, PositiveInt, Precision, Range, RateFactor, RunConfig


class DetectorConfig(TrainerConfig):
    """Training of a network that finds instances and their masks.

    Attributes:
        min_score: Of the instance labels; those that score lower are regions to ignore, neither object nor background.
        rescale: Range of the random rescaling, before the network brings the image to its own size.
        crop_size: Side of a square cut from the rescaled image; None for the whole image.
        min_size: The network resizes images so that their short side has this many pixels,
        max_size: or fewer, where the long side would have more than this.
        anchor_sizes: Sides of the anchors at strides 4, 8, 16, 32 and 64, in pixels of the resized image.
        channels: Of the feature pyramid and the mask branch; the box branch has four times as many.
        num_proposals: Regions of an image that are looked at in training; half as many in testing.
        num_sampled: Of these, the regions that the branches learn from.
    """

    batch_size: PositiveInt = 16
    epochs: PositiveInt = 30
    learning_rate: LearningRate = 0.02
    head_lr_factor: RateFactor = 1.0
    weight_decay: NonNegative = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    min_score: Fraction = 0.3
    rescale: Range = (1.0, 1.0)
    crop_size: PositiveInt | None = None
    min_size: PositiveInt = 800
    max_size: PositiveInt = 1333
    anchor_sizes: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (32, 64, 128, 256, 512)
    channels: PositiveInt = 256
    num_proposals: PositiveInt = 2000
    num_sampled: PositiveInt = 512


class DetectionConfig(Config):
    """Instances from a trained network.

    Attributes:
        min_score: Detections that score lower are dropped; average precision is of all others.
        map_score: Detections that score lower are no part of the label maps.
        mask_threshold: Pixels whose probability reaches this belong to the mask.
        precision: Of the network's arithmetic; "fastest" is bfloat16 where the machine is fast in it.
    """

    min_score: Fraction = 0.05
    map_score: Fraction = 0.5
    mask_threshold: Fraction = 0.5
    precision: Precision = "float32"


class MaskRCNNSettings(RunConfig):
    """Mask R-CNN with a feature pyramid; the defaults are Detectron's, but for the steps.

    In parts of batches, or in several processes, the loss is the mean of the parts' losses, as Detectron's over its
    GPUs, and not that of the whole: each part has its own number of regions.

    The polynomial decay stands for Detectron's two drops of the rate; 30 epochs of VOC's 10,582 images are 20,000
    steps.
    """

    network: Literal["maskrcnn"] = "maskrcnn"
    training: DetectorConfig = DetectorConfig()
    testing: DetectionConfig = DetectionConfig()
