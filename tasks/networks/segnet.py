"""Settings of SegNet, its decoder variants, and what it is measured against."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from tasks.networks.pixels import ClassWeights, PixelTrainerConfig, SegmentationConfig, Side
from tasks.settings import Fraction, LearningRate, NonNegative, PositiveInt, RateFactor, RunConfig

SceneNetworkName = Literal[
    "segnet",
    "segnet-basic",
    "segnet-basic-encoder-addition",
    "segnet-basic-single-channel-decoder",
    "bilinear-interpolation",
    "fcn-basic",
    "fcn-basic-no-addition",
    "fcn-basic-no-dim-reduction",
    "fcn-basic-no-addition-no-dim-reduction",
    "fcn-fixed",
    "fcn-learned",
    "deeplab-largefov",
    "deconvnet",
]
SCENE_NETWORKS: tuple[SceneNetworkName, ...] = get_args(SceneNetworkName)
# Those that the paper trains from ImageNet's weights (Sec. 4), and those that it compares decoders by (Table 1).
ON_VGG16 = ("segnet", "fcn-fixed", "fcn-learned", "deeplab-largefov", "deconvnet")
DEEPEST_STRIDE = 32
# Those with batch norm behind the fifth pooling.
NORM_AT_DEEPEST = ("fcn-fixed", "fcn-learned", "deconvnet")
DECODER_VARIANTS = tuple(name for name in SCENE_NETWORKS if name not in ON_VGG16)


class SceneConfig(PixelTrainerConfig):
    """Training on whole images of one size (Badrinarayanan et al. 2017, Sec. 3.2 and 4).

    Attributes:
        mirror: Mirror training images at random.
        input: What the network is shown: "local_contrast" (pixels against their surroundings, which the paper has for
            the decoder variants), or "imagenet" (by ImageNet's mean and deviation, which VGG16's weights expect).
        dropout: Of the networks on VGG16.
        recompute_norms: Before each evaluation the statistics of batch norm are computed anew, over the whole training
            set. Without, they are running means of the last batches.
    """

    batch_size: PositiveInt = 12
    epochs: PositiveInt = 330
    learning_rate: LearningRate = 0.1
    head_lr_factor: RateFactor = 1.0
    momentum: Fraction = 0.9
    power: NonNegative = 0.0
    freeze_norm: bool = False
    validate_epochs: PositiveInt = 33
    keep: Literal["last", "best"] = "best"
    keep_by: Literal["miou", "accuracy"] = "accuracy"
    class_weights: ClassWeights = "median_frequency"
    image_size: tuple[Side, Side] = (360, 480)  # pyright: ignore[reportIncompatibleVariableOverride]
    mirror: bool = False
    input: Literal["imagenet", "local_contrast"] = "local_contrast"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5
    recompute_norms: bool = True

    @property
    def network_options(self) -> dict[str, Any]:
        """What the network itself is told."""
        return {"input": self.input, "dropout": self.dropout}


class SceneSettings(RunConfig):
    """SegNet, its decoder variants, and what it is measured against; the defaults are the paper's for the variants.

    Attributes:
        backbone: Of those on VGG16; the others start from random weights.
    """

    network: SceneNetworkName = "segnet-basic"
    backbone: Literal["vgg16"] = "vgg16"  # pyright: ignore[reportIncompatibleVariableOverride]
    training: SceneConfig = SceneConfig()
    testing: SegmentationConfig = SegmentationConfig(scales=(1.0,), mirror=False)

    @model_validator(mode="after")
    def _weights_are_vgg16s(self) -> SceneSettings:
        if self.weights is not None and self.network not in ON_VGG16:
            raise ValueError(
                f"{self.network} starts from random weights; those on VGG16, which has some, are {', '.join(ON_VGG16)}"
            )
        return self

    @model_validator(mode="after")
    def _images_reach_the_deepest_maps(self) -> SceneSettings:
        height, width = self.training.image_size
        smallest = round(min(height, width) * min(self.testing.scales))
        if smallest < DEEPEST_STRIDE:
            raise ValueError(
                f"testing.scales: expected images of at least {DEEPEST_STRIDE} pixels a side, got {smallest}: "
                f"{height} x {width} at scale {min(self.testing.scales):g}"
            )
        # A batch may be of one image, and batch norm in training needs two values.
        if self.network in NORM_AT_DEEPEST and (height // DEEPEST_STRIDE) * (width // DEEPEST_STRIDE) < 2:
            raise ValueError(
                f"training.image_size: batch norm of {self.network} at stride {DEEPEST_STRIDE} expects images of at "
                f"least {DEEPEST_STRIDE} x {2 * DEEPEST_STRIDE}, got {height} x {width}"
            )
        return self
