"""Presets of DeepLab v3+, alone, with its saliency branch, and of networks that cooperate."""

from __future__ import annotations

from typing import Any, TypeVar

from tasks.networks import CooperativeSettings, DeepLabV3PlusSettings, SaliencySettings

Settings = TypeVar("Settings", DeepLabV3PlusSettings, SaliencySettings, CooperativeSettings)
# Both sides of VOC's crops or images in the papers.
SALIENCY_VOC, COOPERATIVE_VOC = 256, 513


def cityscapes(settings: Settings) -> Settings:
    """The papers' settings for Cityscapes with ImageNet ResNet-101 on a GPU.

    Command: `pseudomask train saliency-deeplabv3plus --data cityscapes --split train --val val --saliency DUTS
    --saliency-split train --preset cityscapes --out runs/saliency`
    """
    return _as_in_the_paper(settings.model_copy(update={"weights": "imagenet"}))


def voc12(settings: Settings) -> Settings:
    """The papers' settings for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-101 on a GPU.

    Whole images of 256 x 256 in batches of 16 for DeepLab v3+ and its saliency branch, crops of 513 x 513 for networks
    that cooperate.

    Command: `pseudomask train cooperative-danet --labels runs/voc12 --val val --preset voc12 --out runs/cooperative`
    """
    settings = _as_in_the_paper(settings.model_copy(update={"weights": "imagenet"}))
    if isinstance(settings, CooperativeSettings):
        return _changed(settings, crop_size=COOPERATIVE_VOC, epochs=60)
    side = (SALIENCY_VOC, SALIENCY_VOC)
    return _changed(settings, image_size=side, crop_size=side, batch_size=16)


def quick(settings: Settings) -> Settings:
    """Small images and few steps on MobileNetV2: a hundred photographs of streets on a CPU.

    From ImageNet's weights and in bfloat16, the 92 training images of a small CamVid take one core 4 minutes of DeepLab
    v3+ (the test images' mIoU is 42 to 43), 5 with saliency, 4 to 14 of networks that cooperate (35 to 44).

    Command: `pseudomask train cooperative-danet --data camvid --split train --val val --weights FILE
    --out runs/cooperative`
    """
    settings = settings.model_copy(update={"backbone": "mobilenet_v2", "shard_size": 16})
    if isinstance(settings, SaliencySettings):
        # In few steps the sigmas get nowhere at the other parameters' rate.
        settings = _changed(settings, sigma_lr_factor=50)
    return _changed(
        settings,
        image_size=(120, 160),
        crop_size=(120, 160),
        rescale=(0.8, 1.25),
        batch_size=8,
        epochs=30,
        steps=(1, 4000),
        optimizer="adamw",
        learning_rate=2e-4,
        head_lr_factor=5,
        weight_decay=0.01,
        freeze_norm=True,
        validate_epochs=5,
        keep="best",
    )


def demo(settings: Settings) -> Settings:
    """For the synthetic set of `pseudomask demo`, from the classifier of its run.

    In bfloat16 on one core, 3 minutes with saliency: mIoU is 50 on the validation images.

    Command: `pseudomask train saliency-deeplabv3plus --labels runs/demo --weights runs/demo --val val --preset demo
    --out runs/demo-saliency`
    """
    settings = quick(settings).model_copy(update={"backbone": "resnet18"})
    return _changed(
        settings,
        image_size=(128, 128),
        crop_size=(112, 112),
        epochs=8,
        learning_rate=3e-4,
        freeze_norm=False,
        validate_epochs=2,
    )


def _as_in_the_paper(settings: Settings) -> Settings:
    """Return the settings with the networks that Ikedo and Hotta build on; of Sima et al. they are the defaults."""
    if not isinstance(settings, CooperativeSettings):
        return settings
    if settings.network == "cooperative-danet":
        return _changed(settings, stream_losses=True)
    return _changed(settings, dsc=True, separable_decoder=True)


def _changed(settings: Settings, **training: Any) -> Settings:
    return settings.model_copy(update={"training": settings.training.model_copy(update=training)})
