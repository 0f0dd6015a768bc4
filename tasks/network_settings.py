"""The settings of networks that are trained on label maps or instance masks, and of their testing.

The defaults are those of the papers; `flows.presets` has smaller ones.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tasks.config import Config
from tasks.settings import Fraction, NonNegative, OptimizerName, Positive, PositiveInt, Range, RunConfig


class TrainerConfig(Config):
    """What the trainer of every network can be told.

    Attributes:
        batch_size: Images of a step, of all processes together.
        batch_parts: A process's share of a step is computed in this many parts, which takes less memory.
        epochs: Passes over the set.
        optimizer: "sgd", "adam" or "adamw".
        learning_rate: Of the backbone.
        head_lr_factor: What is not the backbone learns this many times faster.
        momentum: Of SGD.
        power: Learning rates decay by (1 - step / steps) ** power.
        warmup_steps: Steps in which they grow from nothing first.
        clip_norm: Largest norm of the gradients; None for any.
        ema_decay: Decay of a moving average of the weights, which is then what is tested and kept; None for none.
        precision: Of the network's arithmetic; "auto" is bfloat16 on a GPU and float32 elsewhere. With float16 losses
            are scaled.
        freeze_norm: Keep batch norm at the statistics of the pretrained weights. Without such it is trained.
        sync_norm: Batch norm over the images of all processes; without, each has its own share's.
        validate_epochs: The network is tested on the validation images after this many epochs, at one scale.
        keep: The network that comes out: the "last", or the "best" on the validation images.
        log_steps: TensorBoard's logs get the mean of so many steps; 0 for no logs.
    """

    batch_size: PositiveInt = 10
    batch_parts: PositiveInt = 1
    epochs: PositiveInt = 19
    optimizer: OptimizerName = "sgd"
    learning_rate: Positive = 2.5e-4
    head_lr_factor: Positive = 10.0
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 5e-4
    power: NonNegative = 0.9
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Positive | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    freeze_norm: bool = True
    sync_norm: bool = False
    validate_epochs: PositiveInt = 1
    keep: Literal["last", "best"] = "last"
    log_steps: Annotated[int, Field(ge=0)] = 10


class SegmenterConfig(TrainerConfig):
    """Training of a network that gives every pixel a class.

    Attributes:
        crop_size: Side of the square training crop in pixels; what the image does not fill is ignored.
        rescale: Range of the random rescaling before the crop.
        photometric: Strength of random brightness, contrast and saturation, 0 for none.
        class_weights: Of the cross-entropy: "none"; "median_frequency", the median of the classes' frequencies over
            a class's own, a frequency being that among the pixels of the images that have the class; "inverse_log",
            1 / ln(1.02 + the class's share of all pixels).
    """

    crop_size: Annotated[int, Field(ge=32)] = 321
    rescale: Range = (0.5, 1.5)
    photometric: Fraction = 0.0
    class_weights: Literal["none", "median_frequency", "inverse_log"] = "none"


class SegmentationConfig(Config):
    """Label maps from a trained network.

    Attributes:
        scales: The image is seen at each of these sizes; the probabilities are averaged.
        mirror: So are those of the mirrored image.
        crf_iterations: Of a dense CRF on the probabilities; 0 leaves it out.
    """

    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 1.0, 1.5, 2.0)
    mirror: bool = True
    crf_iterations: Annotated[int, Field(ge=0)] = 0


class DeepLabV2Settings(RunConfig):
    """DeepLab v2; the defaults are the original's for VOC 2012: 20,000 steps of 10 of its 10,582 images."""

    network: Literal["deeplabv2"] = "deeplabv2"
    training: SegmenterConfig = SegmenterConfig()
    testing: SegmentationConfig = SegmentationConfig()


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
    learning_rate: Positive = 0.02
    head_lr_factor: Positive = 1.0
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
        min_score: Detections that score lower are dropped.
        mask_threshold: Pixels whose probability reaches this belong to the mask.
    """

    min_score: Fraction = 0.05
    mask_threshold: Fraction = 0.5


class MaskRCNNSettings(RunConfig):
    """Mask R-CNN with a feature pyramid; the defaults are Detectron's, but for the steps.

    The polynomial decay stands for Detectron's two drops of the rate; 30 epochs of VOC's 10,582 images are 20,000
    steps.
    """

    network: Literal["maskrcnn"] = "maskrcnn"
    training: DetectorConfig = DetectorConfig()
    testing: DetectionConfig = DetectionConfig()


NETWORK_SETTINGS: dict[str, type[RunConfig]] = {"deeplabv2": DeepLabV2Settings, "maskrcnn": MaskRCNNSettings}
"""Network -> its settings."""
