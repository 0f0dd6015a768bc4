"""Presets: complete settings for a purpose, to be changed by options. Each says its command, time and score."""

from __future__ import annotations

from tasks.settings import PipelineConfig


def voc12() -> PipelineConfig:
    """The reference's settings, for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-50 on a GPU.

    Command: `pseudomask run --data VOC2012 --split train_aug --preset voc12 --out runs/voc12`
    Score to expect: 66.5 mIoU of the semantic and 37.7 AP50 of the instance labels on `train` (the paper's Tables 1, 2).
    """
    return PipelineConfig(backbone="resnet50", weights="imagenet")
