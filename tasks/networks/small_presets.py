"""Settings for small sets on a CPU, which several networks on a backbone share."""

from __future__ import annotations

from typing import TypeVar

from tasks.networks.spec import NetworkSettings

Settings = TypeVar("Settings", bound=NetworkSettings)


def small_streets(settings: Settings) -> Settings:
    """Small images and few steps on MobileNetV2: a hundred photographs of streets on a CPU."""
    return settings.model_copy(update={"backbone": "mobilenet_v2", "shard_size": 16}).with_training(
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


def small_synthetic(settings: Settings) -> Settings:
    """The synthetic set of `pseudomask demo` on a ResNet-18."""
    return (
        small_streets(settings)
        .model_copy(update={"backbone": "resnet18"})
        .with_training(
            image_size=(128, 128),
            crop_size=(112, 112),
            epochs=8,
            learning_rate=3e-4,
            freeze_norm=False,
            validate_epochs=2,
        )
    )
