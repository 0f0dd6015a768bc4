"""PSPNet: settings, presets, record."""

from __future__ import annotations

from typing import Any, Literal

from tasks.config import BackboneName, LearningRate, NonNegative, PositiveInt, Range
from tasks.networks.small_presets import small_streets, small_synthetic
from tasks.networks.spec import NetworkSettings, NetworkSpec
from tasks.networks.trainer import SegmentationConfig, SegmenterConfig, Side


class PSPNetConfig(SegmenterConfig):
    """Training of PSPNet; the defaults are those of Zhao et al. 2017, Sec. 4.1 and 5.2, for VOC 2012.

    16 images of 473 x 473 per step, learning rate 0.01 with power 0.9, momentum 0.9, weight decay 1e-4, 30,000 steps
    of 10,582 images. The paper rotates and blurs images too; here they are rescaled and mirrored. What is not the
    backbone learns 10 times as fast, as in the authors' code.

    Attributes:
        auxiliary_weight: Weight in the loss of the auxiliary classifier; 0 for none.
    """

    batch_size: PositiveInt = 16
    epochs: PositiveInt = 45
    learning_rate: LearningRate = 0.01
    weight_decay: NonNegative = 1e-4
    freeze_norm: bool = False
    crop_size: Side | tuple[Side, Side] = 473
    rescale: Range = (0.5, 2.0)
    auxiliary_weight: NonNegative = 0.4

    @property
    def network_options(self) -> dict[str, Any]:
        """What the network itself is told."""
        return {"auxiliary_weight": self.auxiliary_weight}


class PSPNetSettings(NetworkSettings):
    """PSPNet on any backbone at output stride 8."""

    network: Literal["pspnet"] = "pspnet"
    backbone: BackboneName = "resnet101"
    training: PSPNetConfig = PSPNetConfig()
    testing: SegmentationConfig = SegmentationConfig(scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75))


def voc12() -> PSPNetSettings:
    """The paper's settings for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-101 on a GPU.

    Command: `pseudomask train pspnet --labels runs/voc12 --val val --preset voc12 --out runs/pspnet`
    """
    return PSPNetSettings(weights="imagenet-v1")


def cityscapes() -> PSPNetSettings:
    """The paper's settings for Cityscapes with ImageNet ResNet-101 on a GPU: 90,000 steps of 16 crops of 713 x 713.

    Command: `pseudomask train pspnet --data cityscapes --split train --val val --preset cityscapes --out runs/pspnet`
    """
    return voc12().with_training(crop_size=713, epochs=484)


def quick() -> PSPNetSettings:
    """Small images and few steps on MobileNetV2: a hundred photographs of streets on a CPU.

    Command: `pseudomask train pspnet --data camvid --split train --val val --weights FILE --out runs/pspnet`
    """
    return small_streets(PSPNetSettings(testing=SegmentationConfig(scales=(1.0,)))).with_training(keep="last")


def demo() -> PSPNetSettings:
    """For the synthetic set of `pseudomask demo`, from the classifier of its run.

    Command: `pseudomask train pspnet --labels runs/demo --weights runs/demo --val val --preset demo
    --out runs/demo-pspnet`
    """
    return small_synthetic(PSPNetSettings(testing=SegmentationConfig(scales=(1.0,)))).with_training(keep="last")


SPEC = NetworkSpec(
    name="pspnet",
    title="PSPNet",
    settings=PSPNetSettings,
    presets={"quick": quick, "voc12": voc12, "cityscapes": cityscapes, "demo": demo},
    model="models.pspnet:build",
    follows_run=True,
    background=True,
)
