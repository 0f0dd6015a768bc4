"""SegNet, its decoder variants, and what it is measured against: settings, presets, records."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from tasks.config import ClassWeights, Fraction, LearningRate, NonNegative, PositiveInt, RateFactor
from tasks.networks.spec import NetworkSettings, NetworkSpec, Paper, Row
from tasks.networks.trainer import PixelTrainerConfig, SegmentationConfig, Side

# Those that the paper trains from ImageNet's weights, in the order of its Table 3, and those that it compares decoders
# by; its Table 1 begins with bilinear-interpolation.
OnVGG16 = Literal["segnet", "deeplab-largefov", "fcn-fixed", "fcn-learned", "deconvnet"]
DecoderVariant = Literal[
    "segnet-basic",
    "segnet-basic-encoder-addition",
    "segnet-basic-single-channel-decoder",
    "bilinear-interpolation",
    "fcn-basic",
    "fcn-basic-no-addition",
    "fcn-basic-no-dim-reduction",
    "fcn-basic-no-addition-no-dim-reduction",
]
SceneNetworkName = Literal[OnVGG16, DecoderVariant]
ON_VGG16: tuple[OnVGG16, ...] = get_args(OnVGG16)
DECODER_VARIANTS: tuple[DecoderVariant, ...] = get_args(DecoderVariant)
SCENE_NETWORKS: tuple[SceneNetworkName, ...] = (*ON_VGG16, *DECODER_VARIANTS)
DEEPEST_STRIDE = 32
# Those with batch norm behind the fifth pooling.
NORM_AT_DEEPEST = ("fcn-fixed", "fcn-learned", "deconvnet")


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


class SceneSettings(NetworkSettings):
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
        if self.network in NORM_AT_DEEPEST and max(height, width) <= DEEPEST_STRIDE:
            raise ValueError(
                f"training.image_size: batch norm of {self.network} at stride {DEEPEST_STRIDE} expects images larger "
                f"than {DEEPEST_STRIDE} x {DEEPEST_STRIDE}, got {height} x {width}"
            )
        return self


def camvid(network: SceneNetworkName) -> SceneSettings:
    """The paper's settings for CamVid's 367 images on a GPU.

    Of the decoder variants the best on the validation images comes out, of the networks on VGG16 the last.

    Command: `pseudomask train segnet --data CamVid --split train --val val --preset camvid --out runs/segnet`
    """
    if network in ON_VGG16:
        return SceneSettings(network=network, weights="imagenet", training=_benchmarked(batch_size=5, epochs=200))
    return SceneSettings(network=network)


def sunrgbd(network: SceneNetworkName) -> SceneSettings:
    """The paper's settings for SUN RGB-D's 5,285 images on a GPU.

    Of the networks on VGG16 the one after the last epoch comes out. Of the decoder variants, which the paper trains on
    CamVid alone, the best on validation images does, and the set has none: hold some of the training images out, in
    lists of your own (`--split`, `--val`). The test images must not choose the network.

    Command: `pseudomask train segnet --data SUNRGBD --split train --preset sunrgbd --out runs/segnet`
    """
    if network in ON_VGG16:
        return SceneSettings(network=network, weights="imagenet", training=_benchmarked(batch_size=4, epochs=180))
    return SceneSettings(network=network)


def quick(network: SceneNetworkName) -> SceneSettings:
    """Small images and few steps from random weights: a hundred photographs of streets on a CPU.

    AdamW gets further in them than the paper's SGD: in 12 epochs the validation images' mIoU is 39.7 instead of 37.4
    (bilinear-interpolation), and 29.4 instead of 24.3 (segnet). The networks on VGG16, which the paper starts from
    ImageNet's weights, have its dropout and twice the epochs: with neither, segnet learns a hundred images by heart.

    Command: `pseudomask train segnet-basic --data camvid --split train --val val --out runs/segnet-basic`
    """
    return SceneSettings(
        network=network,
        training=SceneConfig(
            image_size=(120, 160),
            batch_size=6,
            epochs=160 if network in ON_VGG16 else 80,
            steps=(1, 8000),
            optimizer="adamw",
            learning_rate=1e-3,
            power=0.9,
            dropout=0.5 if network in ON_VGG16 else 0.0,
            mirror=True,
            validate_epochs=5,
        ),
        shard_size=16,
    )


def demo(network: SceneNetworkName) -> SceneSettings:
    """For the synthetic set of `pseudomask demo`.

    Command: `pseudomask train segnet-basic --labels runs/demo --val val --preset demo --out runs/demo-segnet-basic`
    """
    small = quick(network)
    return small.model_copy(update={"training": small.training.model_copy(update={"image_size": (128, 128)})})


def _benchmarked(*, batch_size: int, epochs: int) -> SceneConfig:
    return SceneConfig(
        batch_size=batch_size,
        epochs=epochs,
        learning_rate=1e-3,
        validate_epochs=10,
        keep="last",
        class_weights="none",
        input="imagenet",
    )


# Badrinarayanan et al. 2017, Sec. 3, Tables 1 and 6. DeconvNet's 877 MB is left out: with 1024 features in its fully
# connected layers, as Section 4 has it, it takes 328 MB, with the original 4096 it takes 1007 MB.
_PAPER: dict[SceneNetworkName, dict[str, float]] = {
    "segnet": {"encoder_parameters": 14.7e6, "megabytes": 117},
    "segnet-basic": {"parameters": 1.425e6},
    "segnet-basic-encoder-addition": {"parameters": 1.425e6},
    "segnet-basic-single-channel-decoder": {"parameters": 0.625e6},
    "bilinear-interpolation": {"parameters": 0.625e6},
    "fcn-basic": {"parameters": 0.65e6},
    "fcn-basic-no-addition": {"parameters": 0.65e6},
    "fcn-basic-no-dim-reduction": {"parameters": 1.625e6},
    "fcn-basic-no-addition-no-dim-reduction": {"parameters": 1.625e6},
    "fcn-learned": {"megabytes": 539},
    "deeplab-largefov": {"megabytes": 83},
}


def _spec(network: SceneNetworkName) -> NetworkSpec:
    presets = {"quick": quick, "camvid": camvid, "sunrgbd": sunrgbd, "demo": demo}
    figures = _PAPER.get(network)
    return NetworkSpec(
        name=network,
        title=f"{network}, as in Badrinarayanan et al. 2017",
        settings=SceneSettings,
        presets={name: partial(preset, network) for name, preset in presets.items()},
        model=f"models.segnet.build:{network.replace('-', '_')}",
        deployment="segnet",
        takes_weights=network in ON_VGG16,
        rows=(Row(network, {"input": "imagenet"}, {"": Paper(11, figures)} if figures else {}),),
    )


SPECS = tuple(map(_spec, SCENE_NETWORKS))
