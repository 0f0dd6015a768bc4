"""DeepLab v2: settings, presets, record."""

from __future__ import annotations

from typing import Literal

from tasks.networks.spec import NetworkSettings, NetworkSpec
from tasks.networks.trainer import SegmentationConfig, SegmenterConfig


class DeepLabV2Settings(NetworkSettings):
    """DeepLab v2; the defaults are the original's for VOC 2012: 20,000 steps of 10 of its 10,582 images.

    Rates 6 to 24, crops of 321, learning rate 2.5e-4 with power 0.9, and the CRF of testing are the original's. It
    differs in training: the original shows each image at three scales and learns from their maximum and from each, with
    losses at the features' size; its classifiers' biases learn 20 times as fast as the backbone, without decay. Here
    there is one scale, drawn at random, losses at the image's size, and biases are as weights: 10 times as fast, with
    decay.
    """

    network: Literal["deeplabv2"] = "deeplabv2"
    training: SegmenterConfig = SegmenterConfig()
    testing: SegmentationConfig = SegmentationConfig()


def voc12() -> DeepLabV2Settings:
    """The original's settings but for what `DeepLabV2Settings` names, for PASCAL VOC 2012 `train_aug` with ImageNet
    ResNet-50 on a GPU.

    Command: `pseudomask train deeplabv2 --labels runs/voc12 --val val --preset voc12 --out runs/deeplabv2`
    IRNet's Table 4 has mIoU 63.5 on `val`, and 72.3 from ground truth; it was not run here.
    """
    return DeepLabV2Settings(weights="imagenet-v1", testing=SegmentationConfig(crf_iterations=10))


def quick() -> DeepLabV2Settings:
    """Small crops and few steps on MobileNetV2: some hundreds of photographs on a CPU.

    Command: `pseudomask train deeplabv2 --labels runs/first --val val --weights FILE --out runs/deeplabv2`
    """
    return DeepLabV2Settings(
        backbone="mobilenet_v2",
        training=SegmenterConfig(
            crop_size=256,
            rescale=(0.5, 1.25),
            batch_size=8,
            epochs=8,
            steps=(200, 2000),
            optimizer="adamw",
            learning_rate=1e-4,
            weight_decay=0.01,
            warmup_steps=20,
            clip_norm=10,
            ema_decay=0.98,
            photometric=0.3,
        ),
        testing=SegmentationConfig(scales=(1.0,), crf_iterations=10),
        shard_size=16,
    )


def demo() -> DeepLabV2Settings:
    """For the synthetic set of `pseudomask demo`, from the classifier of its run.

    Command: `pseudomask train deeplabv2 --labels runs/demo --weights runs/demo --val val --preset demo
    --out runs/demo-deeplabv2`
    """
    return DeepLabV2Settings(
        backbone="resnet18",
        training=SegmenterConfig(
            crop_size=112,
            rescale=(0.7, 1.2),
            batch_size=8,
            epochs=12,
            optimizer="adamw",
            learning_rate=3e-4,
            head_lr_factor=5,
            ema_decay=0.97,
            freeze_norm=False,
            photometric=0.3,
        ),
        testing=SegmentationConfig(scales=(1.0,), crf_iterations=10),
    )


SPEC = NetworkSpec(
    name="deeplabv2",
    title="DeepLab v2",
    settings=DeepLabV2Settings,
    presets={"quick": quick, "voc12": voc12, "demo": demo},
    model="models.deeplabv2:build",
    follows_run=True,
    background=True,
)
