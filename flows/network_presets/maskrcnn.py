"""Presets of Mask R-CNN."""

from __future__ import annotations

from tasks.networks import DetectorConfig, MaskRCNNSettings


def voc12() -> MaskRCNNSettings:
    """Detectron's settings for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-50 on GPUs.

    Command: `pseudomask train maskrcnn --labels runs/voc12 --val val --preset voc12 --out runs/maskrcnn`
    """
    return MaskRCNNSettings(weights="imagenet-v1")


def quick() -> MaskRCNNSettings:
    """Small images and few steps on MobileNetV2: some hundreds of photographs on a CPU.

    Command: `pseudomask train maskrcnn --labels runs/first --val val --weights FILE --out runs/maskrcnn`
    """
    return MaskRCNNSettings(
        backbone="mobilenet_v2",
        training=DetectorConfig(
            batch_size=4,
            epochs=12,
            steps=(400, 4000),
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


def demo() -> MaskRCNNSettings:
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
