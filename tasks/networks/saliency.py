"""Saliency co-learning on DeepLab v3+ (Sima et al. 2023): settings, presets, record."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from tasks.config import NonNegative, RateFactor
from tasks.networks.deeplabv3plus import VOC_SIDE, DeepLabV3PlusConfig, DeepLabV3PlusSettings
from tasks.networks.small_presets import small_streets, small_synthetic
from tasks.networks.spec import NetworkSpec


class SaliencyConfig(DeepLabV3PlusConfig):
    """Training of DeepLab v3+ that finds salient objects too.

    Attributes:
        task_weights: Of the loss of segmentation and of that of saliency, such as 0.5 0.5. None: they are learned, by
            the tasks' homoscedastic uncertainty (Eq. 8). Of 1 0 the network has no saliency branch.
        sigma_lr_factor: The learning rate of what they are learned by, log sigma^2, over the backbone's.
        salient_classes: Where no set with masks of salient objects is given, they are derived from the label maps:
            what has one of these classes is salient. If none are named, all classes but the background are, and of
            scenes, which have none, the movable things and signs.
    """

    dsc: bool = True
    task_weights: tuple[NonNegative, NonNegative] | None = None
    sigma_lr_factor: RateFactor = 10.0
    salient_classes: tuple[str, ...] = ()

    @field_validator("task_weights")
    @classmethod
    def _segmentation_counts(cls, weights: tuple[float, float] | None) -> tuple[float, float] | None:
        if weights is not None and not weights[0]:
            raise ValueError("expected a weight of segmentation, the first, above 0: label maps are what is predicted")
        return weights

    @property
    def learns_saliency(self) -> bool:
        """Whether the loss has a weight for saliency."""
        return self.task_weights is None or self.task_weights[1] > 0

    @property
    def network_options(self) -> dict[str, Any]:
        """What the network itself is told."""
        return {**super().network_options, "task_weights": self.task_weights}


class SaliencySettings(DeepLabV3PlusSettings):
    """Saliency co-learning (Sima et al. 2023).

    Attributes:
        network: The network's name.
        training: Settings of the training.
    """

    network: Literal["saliency-deeplabv3plus"] = "saliency-deeplabv3plus"  # pyright: ignore
    training: SaliencyConfig = SaliencyConfig()  # pyright: ignore[reportIncompatibleVariableOverride]


def cityscapes() -> SaliencySettings:
    """The paper's settings for Cityscapes with ImageNet ResNet-101 on a GPU.

    Command: `pseudomask train saliency-deeplabv3plus --data cityscapes --split train --val val --saliency DUTS ECSSD
    --saliency-split train all --preset cityscapes --out runs/saliency`
    """
    return SaliencySettings(weights="imagenet-v1")


def voc12() -> SaliencySettings:
    """The paper's settings for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-101 on a GPU: images of 256 x 256.

    Command: `pseudomask train saliency-deeplabv3plus --labels runs/voc12 --val val --preset voc12 --out runs/saliency`
    """
    side = (VOC_SIDE, VOC_SIDE)
    return cityscapes().with_training(image_size=side, crop_size=side, batch_size=16)


def quick() -> SaliencySettings:
    """Small images and few steps on MobileNetV2: a hundred photographs of streets on a CPU.

    From ImageNet's weights and in bfloat16, the 92 training images of a small CamVid take one core 5 minutes; the test
    images' mIoU is 42 to 43.

    Command: `pseudomask train saliency-deeplabv3plus --data camvid --split train --val val --weights FILE
    --out runs/saliency`
    """
    # In few steps the sigmas get nowhere at the other parameters' rate.
    return small_streets(SaliencySettings()).with_training(sigma_lr_factor=50)


def demo() -> SaliencySettings:
    """For the synthetic set of `pseudomask demo`, from the classifier of its run.

    In bfloat16 on one core, 3 minutes: mIoU is 50 on the validation images.

    Command: `pseudomask train saliency-deeplabv3plus --labels runs/demo --weights runs/demo --val val --preset demo
    --out runs/demo-saliency`
    """
    return small_synthetic(SaliencySettings()).with_training(sigma_lr_factor=50)


SPEC = NetworkSpec(
    name="saliency-deeplabv3plus",
    title="Saliency co-learning on DeepLab v3+",
    settings=SaliencySettings,
    presets={"quick": quick, "cityscapes": cityscapes, "voc12": voc12, "demo": demo},
    model="models.saliency:build",
    stages="tasks.networks.stages.saliency",
    deployment="saliency",
)
