"""Settings that networks share: training of any, and training and testing of those that give every pixel a class."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.config import (
    ClassWeights,
    Config,
    Fraction,
    LearningRate,
    NonNegative,
    OptimizerName,
    Positive,
    PositiveInt,
    Precision,
    Range,
    RateFactor,
    Steps,
)

Side = Annotated[int, Field(ge=32)]


class TrainerConfig(Config):
    """What the trainer of every network can be told.

    Attributes:
        batch_size: Images of a step, of all processes together.
        batch_parts: A process's share of a step is computed in this many parts, which takes less memory. Batch norm
            that is trained is over a part's images.
        epochs: Passes over the set.
        steps: Least and largest number of steps, which bound those of the epochs: few images are seen more often, and a
            large set not as often. Figures and validation are then of a sixteenth of the steps. None for no bounds.
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
        sync_norm: Batch norm that is trained is over the images of all processes, as of one; without, over each
            process's share.
        validate_epochs: The network is tested on the validation images after this many epochs, at one scale.
        keep: The network that comes out: the "last", or the "best" on the validation images.
        log_steps: TensorBoard's logs get the mean of so many steps; 0 for no logs.
    """

    batch_size: PositiveInt = 10
    batch_parts: PositiveInt = 1
    epochs: PositiveInt = 19
    steps: Steps | None = None
    optimizer: OptimizerName = "sgd"
    learning_rate: LearningRate = 2.5e-4
    head_lr_factor: RateFactor = 10.0
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 5e-4
    power: NonNegative = 0.9
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Positive | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    freeze_norm: bool = True
    sync_norm: bool = True
    validate_epochs: PositiveInt = 1
    keep: Literal["last", "best"] = "last"
    log_steps: Annotated[int, Field(ge=0)] = 10


class PixelTrainerConfig(TrainerConfig):
    """Training of a network that gives every pixel a class.

    Attributes:
        class_weights: Of the cross-entropy: "none"; "median_frequency", the median of the classes' frequencies over
            a class's own, a frequency being that among the pixels of the images that have the class; "inverse_log",
            1 / ln(1.02 + the class's share of all pixels).
        confidence_weight: A pixel's loss is multiplied by the confidence of its label to this power; 0 leaves it. It
            takes the labels of a run, which come with their confidence.
        image_size: (H, W) that every image is resized to, in training and testing; None leaves images as they are.
        keep_by: What the best network is the best in: the mean IoU, or the share of pixels that are right.
    """

    class_weights: ClassWeights = "none"
    confidence_weight: NonNegative = 0.0
    image_size: tuple[Side, Side] | None = None
    keep_by: Literal["miou", "accuracy"] = "miou"

    @property
    def network_options(self) -> dict[str, Any]:
        """What the network itself is told."""
        return {}


class SegmenterConfig(PixelTrainerConfig):
    """Training on random crops.

    Attributes:
        crop_size: Side of the square training crop in pixels, or its (H, W); what the image does not fill is ignored.
        rescale: Range of the random rescaling before the crop.
        photometric: Strength of random brightness, contrast and saturation, 0 for none.
    """

    crop_size: Side | tuple[Side, Side] = 321
    rescale: Range = (0.5, 1.5)
    photometric: Fraction = 0.0

    @model_validator(mode="after")
    def _images_fill_the_crop(self) -> SegmenterConfig:
        crop = self.crop_size if isinstance(self.crop_size, tuple) else (self.crop_size, self.crop_size)
        if self.image_size and any(c > self.rescale[1] * s for c, s in zip(crop, self.image_size, strict=True)):
            (h, w), (height, width) = crop, self.image_size
            raise ValueError(f"crop_size {h} x {w} is larger than images of image_size {height} x {width}: change both")
        return self


class SegmentationConfig(Config):
    """Label maps from a trained network.

    Attributes:
        scales: The image is seen at each of these sizes; the probabilities are averaged.
        mirror: So are those of the mirrored image.
        precision: Of the network's arithmetic; "fastest" is bfloat16 where the machine is fast in it.
    """

    scales: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.5, 1.0, 1.5, 2.0)
    mirror: bool = True
    crf_iterations: Annotated[int, Field(ge=0)] = 0
    precision: Precision = "float32"
