"""Settings of the networks that give every pixel a class: their training and their testing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tasks.config import Config
from tasks.networks.trainer import TrainerConfig
from tasks.settings import ClassWeights, Fraction, Positive, Precision, Range

Side = Annotated[int, Field(ge=32)]


class PixelTrainerConfig(TrainerConfig):
    """Training of a network that gives every pixel a class.

    Attributes:
        class_weights: Of the cross-entropy: "none"; "median_frequency", the median of the classes' frequencies over
            a class's own, a frequency being that among the pixels of the images that have the class; "inverse_log",
            1 / ln(1.02 + the class's share of all pixels).
        image_size: (H, W) that every image is resized to, in training and testing; None leaves images as they are.
        keep_by: What the best network is the best in: the mean IoU, or the share of pixels that are right.
    """

    class_weights: ClassWeights = "none"
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
