"""Presets of the networks that learn from label maps. Each says its command, time and score."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tasks.network_settings import (
    SCENE_NETWORKS,
    DeepLabV2Settings,
    DetectorConfig,
    MaskRCNNSettings,
    SceneConfig,
    SceneNetworkName,
    SceneSettings,
    SegmentationConfig,
    SegmenterConfig,
)


def deeplabv2_voc12() -> DeepLabV2Settings:
    """The original's settings, for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-50 on a GPU.

    Command: `pseudomask train deeplabv2 --labels runs/voc12 --val val --preset voc12 --out runs/deeplabv2`
    """
    return DeepLabV2Settings(weights="imagenet", testing=SegmentationConfig(crf_iterations=10))


def deeplabv2_quick() -> DeepLabV2Settings:
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


def deeplabv2_demo() -> DeepLabV2Settings:
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


def maskrcnn_voc12() -> MaskRCNNSettings:
    """Detectron's settings for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-50 on GPUs.

    Command: `pseudomask train maskrcnn --labels runs/voc12 --val val --preset voc12 --out runs/maskrcnn`
    """
    return MaskRCNNSettings(weights="imagenet")


def maskrcnn_quick() -> MaskRCNNSettings:
    """Small images and few steps on MobileNetV2: some hundreds of photographs on a CPU.

    Command: `pseudomask train maskrcnn --labels runs/first --val val --weights FILE --out runs/maskrcnn`
    """
    return MaskRCNNSettings(
        backbone="mobilenet_v2",
        training=DetectorConfig(
            batch_size=4,
            epochs=12,
            optimizer="adamw",
            learning_rate=5e-4,
            warmup_steps=50,
            clip_norm=10,
            min_size=256,
            max_size=384,
            channels=128,
            anchor_sizes=(24, 48, 96, 160, 256),
            num_proposals=300,
            num_sampled=64,
        ),
        shard_size=16,
    )


def maskrcnn_demo() -> MaskRCNNSettings:
    """For the synthetic set of `pseudomask demo`, from the classifier of its run.

    Command: `pseudomask train maskrcnn --labels runs/demo --weights runs/demo --val val --preset demo
    --out runs/demo-maskrcnn`
    """
    return MaskRCNNSettings(
        backbone="resnet18",
        training=DetectorConfig(
            batch_size=8,
            epochs=10,
            optimizer="adamw",
            learning_rate=5e-4,
            weight_decay=0.01,
            warmup_steps=20,
            clip_norm=10,
            rescale=(0.8, 1.25),
            crop_size=128,
            min_size=128,
            max_size=160,
            channels=64,
            anchor_sizes=(16, 24, 40, 64, 96),
            num_proposals=200,
            num_sampled=64,
        ),
    )


# The networks on VGG16, which the paper trains from ImageNet's weights (Sec. 4).
ON_VGG16 = ("segnet", "fcn-fixed", "fcn-learned", "deeplab-largefov", "deconvnet")


def scene_camvid(network: SceneNetworkName) -> SceneSettings:
    """The paper's settings for CamVid's 367 images on a GPU.

    Command: `pseudomask train segnet --data CamVid --split train --val val --preset camvid --out runs/segnet`
    """
    if network in ON_VGG16:
        return SceneSettings(network=network, weights="imagenet", training=_benchmarked(batch_size=5, epochs=200))
    return SceneSettings(network=network)


def scene_sunrgbd(network: SceneNetworkName) -> SceneSettings:
    """The paper's settings for SUN RGB-D's 5,285 images on a GPU.

    Command: `pseudomask train segnet --data SUNRGBD --split train --val test --preset sunrgbd --out runs/segnet`
    """
    if network in ON_VGG16:
        return SceneSettings(network=network, weights="imagenet", training=_benchmarked(batch_size=4, epochs=180))
    return SceneSettings(network=network)


def scene_quick(network: SceneNetworkName) -> SceneSettings:
    """Small images and few steps from random weights: a hundred photographs of streets on a CPU.

    Command: `pseudomask train segnet-basic --data camvid --split train --val val --out runs/segnet-basic`
    """
    return SceneSettings(
        network=network,
        training=SceneConfig(
            image_size=(120, 160),
            batch_size=6,
            epochs=40,
            learning_rate=0.1 if network not in ON_VGG16 else 0.02,
            power=0.9,
            dropout=0.2,
            mirror=True,
            validate_epochs=5,
        ),
        shard_size=16,
    )


def scene_demo(network: SceneNetworkName) -> SceneSettings:
    """For the synthetic set of `pseudomask demo`.

    Command: `pseudomask train segnet-basic --labels runs/demo --val val --preset demo --out runs/demo-segnet-basic`
    """
    quick = scene_quick(network)
    return quick.model_copy(update={"training": quick.training.model_copy(update={"image_size": (128, 128)})})


def _benchmarked(*, batch_size: int, epochs: int) -> SceneConfig:
    return SceneConfig(
        batch_size=batch_size,
        epochs=epochs,
        learning_rate=1e-3,
        validate_epochs=10,
        class_weights="none",
        input="imagenet",
    )


NETWORK_PRESETS: dict[str, dict[str, Callable[[], DeepLabV2Settings | MaskRCNNSettings | SceneSettings]]] = {
    "deeplabv2": {"quick": deeplabv2_quick, "voc12": deeplabv2_voc12, "demo": deeplabv2_demo},
    "maskrcnn": {"quick": maskrcnn_quick, "voc12": maskrcnn_voc12, "demo": maskrcnn_demo},
    **{
        name: {
            "quick": partial(scene_quick, name),
            "camvid": partial(scene_camvid, name),
            "sunrgbd": partial(scene_sunrgbd, name),
            "demo": partial(scene_demo, name),
        }
        for name in SCENE_NETWORKS
    },
}
"""Network -> preset -> its settings."""
