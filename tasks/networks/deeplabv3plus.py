"""DeepLab v3+: settings, presets, record."""

from __future__ import annotations

from typing import Any, Literal

from tasks.config import (
    BackboneName,
    ClassWeights,
    LearningRate,
    NonNegative,
    OptimizerName,
    PositiveInt,
    Range,
    RateFactor,
)
from tasks.networks.small_presets import small_streets, small_synthetic
from tasks.networks.spec import NetworkSettings, NetworkSpec, Paper, Row
from tasks.networks.trainer import SegmentationConfig, SegmenterConfig, Side


class DeepLabV3PlusConfig(SegmenterConfig):
    """Training of DeepLab v3+; the defaults are those of Sima et al. 2023, Sec. 4.1, for Cityscapes, whole images.

    The paper gives neither learning rate nor epochs.

    Attributes:
        dsc: The dilated convolutions of its pyramid pooling are depthwise separable (DSC-ASPP).
    """

    batch_size: PositiveInt = 8
    epochs: PositiveInt = 100
    optimizer: OptimizerName = "adam"
    learning_rate: LearningRate = 1e-4
    head_lr_factor: RateFactor = 10.0
    weight_decay: NonNegative = 0.0
    freeze_norm: bool = False
    class_weights: ClassWeights = "inverse_log"
    image_size: tuple[Side, Side] | None = (512, 1024)
    crop_size: Side | tuple[Side, Side] = (512, 1024)
    rescale: Range = (1.0, 1.0)
    dsc: bool = False

    @property
    def network_options(self) -> dict[str, Any]:
        """What the network itself is told."""
        return {"dsc": self.dsc}


class DeepLabV3PlusSettings(NetworkSettings):
    """DeepLab v3+ with pyramid pooling of plain convolutions or of depthwise separable ones."""

    network: Literal["deeplabv3plus"] = "deeplabv3plus"
    backbone: BackboneName = "resnet101"
    training: DeepLabV3PlusConfig = DeepLabV3PlusConfig()
    testing: SegmentationConfig = SegmentationConfig(scales=(1.0,), mirror=False)


# The side of VOC's images in Sima et al. 2023.
VOC_SIDE = 256


def cityscapes() -> DeepLabV3PlusSettings:
    """The paper's settings for Cityscapes with ImageNet ResNet-101 on a GPU.

    Command: `pseudomask train deeplabv3plus --data cityscapes --split train --val val --preset cityscapes
    --out runs/deeplabv3plus`
    """
    return DeepLabV3PlusSettings(weights="imagenet-v1")


def voc12() -> DeepLabV3PlusSettings:
    """The paper's settings for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-101 on a GPU: images of 256 x 256.

    Command: `pseudomask train deeplabv3plus --labels runs/voc12 --val val --preset voc12 --out runs/deeplabv3plus`
    """
    side = (VOC_SIDE, VOC_SIDE)
    return cityscapes().with_training(image_size=side, crop_size=side, batch_size=16)


def quick() -> DeepLabV3PlusSettings:
    """Small images and few steps on MobileNetV2: a hundred photographs of streets on a CPU.

    From ImageNet's weights and in bfloat16, the 92 training images of a small CamVid take one core 4 minutes; the test
    images' mIoU is 42 to 43.

    Command: `pseudomask train deeplabv3plus --data camvid --split train --val val --weights FILE
    --out runs/deeplabv3plus`
    """
    return small_streets(DeepLabV3PlusSettings())


def demo() -> DeepLabV3PlusSettings:
    """For the synthetic set of `pseudomask demo`, from the classifier of its run.

    Command: `pseudomask train deeplabv3plus --labels runs/demo --weights runs/demo --val val --preset demo
    --out runs/demo-deeplabv3plus`
    """
    return small_synthetic(DeepLabV3PlusSettings())


# Sima et al. 2023, Table 1, whose GFLOPs are multiply-adds.
_PLAIN = Paper(19, {"parameters": 59.34e6, "gmacs": 177.78}, (512, 1024))
_SEPARABLE = Paper(19, {"parameters": 46.81e6, "gmacs": 152.13}, (512, 1024))

SPEC = NetworkSpec(
    name="deeplabv3plus",
    title="DeepLab v3+",
    settings=DeepLabV3PlusSettings,
    presets={"quick": quick, "cityscapes": cityscapes, "voc12": voc12, "demo": demo},
    model="models.deeplabv3plus:build",
    rows=(
        Row("deeplabv3plus", papers={"resnet101": _PLAIN}),
        Row("deeplabv3plus-dsc", {"dsc": True}, {"resnet101": _SEPARABLE}),
    ),
)
