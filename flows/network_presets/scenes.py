"""Presets of SegNet, its decoder variants, and what it is measured against."""

from __future__ import annotations

from tasks.networks import ON_VGG16, SceneConfig, SceneNetworkName, SceneSettings


def camvid(network: SceneNetworkName) -> SceneSettings:
    """The paper's settings for CamVid's 367 images on a GPU.

    Of the decoder variants the best on the validation images comes out, of the networks on VGG16 the last.

    Command: `pseudomask train segnet --data CamVid --split train --val val --preset camvid --out runs/segnet`
    """
    if network in ON_VGG16:
        return SceneSettings(network=network, weights="imagenet", training=_benchmarked(batch_size=5, epochs=200))
    return SceneSettings(network=network)


def sunrgbd(network: SceneNetworkName) -> SceneSettings:
    """The paper's settings for SUN RGB-D's 5,285 images on a GPU; the network after the last epoch comes out.

    The set has no validation images: where the best shall come out, hold some of the training images out, in lists of
    your own. The test images must not choose the network.

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
