"""Mask R-CNN: settings, presets, record."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tasks.config import Config, Fraction, LearningRate, NonNegative, PositiveInt, Precision, Range, RateFactor
from tasks.networks.spec import NetworkSettings, NetworkSpec
from tasks.networks.trainer import TrainerConfig

# Of the settings, what the network is built with.
OPTIONS = {"min_size", "max_size", "anchor_sizes", "channels", "num_proposals", "num_sampled", "freeze_norm"}


class DetectorConfig(TrainerConfig):
    """Training of a network that finds instances and their masks.

    Attributes:
        min_score: Of the instance labels; those that score lower are regions to ignore, neither object nor background.
        rescale: Range of the random rescaling, before the network brings the image to its own size.
        crop_size: Side of a square cut from the rescaled image; None for the whole image.
        min_size: The network resizes images so that their short side has this many pixels,
        max_size: or fewer, where the long side would have more than this.
        anchor_sizes: Sides of the anchors at strides 4, 8, 16, 32 and 64, in pixels of the resized image.
        channels: Of the feature pyramid and the mask branch; the box branch has four times as many.
        num_proposals: Regions of an image that are looked at in training; half as many in testing.
        num_sampled: Of these, the regions that the branches learn from.
    """

    batch_size: PositiveInt = 16
    epochs: PositiveInt = 30
    learning_rate: LearningRate = 0.02
    head_lr_factor: RateFactor = 1.0
    weight_decay: NonNegative = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 500
    min_score: Fraction = 0.3
    rescale: Range = (1.0, 1.0)
    crop_size: PositiveInt | None = None
    min_size: PositiveInt = 800
    max_size: PositiveInt = 1333
    anchor_sizes: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (32, 64, 128, 256, 512)
    channels: PositiveInt = 256
    num_proposals: PositiveInt = 2000
    num_sampled: PositiveInt = 512

    @property
    def network_options(self) -> dict[str, Any]:
        """What the network itself is told."""
        return self.model_dump(include=OPTIONS)


class DetectionConfig(Config):
    """Instances from a trained network.

    Attributes:
        min_score: Detections that score lower are dropped; average precision is of all others.
        map_score: Detections that score lower are no part of the label maps.
        mask_threshold: Pixels whose probability reaches this belong to the mask.
        precision: Of the network's arithmetic; "fastest" is bfloat16 where the machine is fast in it.
    """

    min_score: Fraction = 0.05
    map_score: Fraction = 0.5
    mask_threshold: Fraction = 0.5
    precision: Precision = "float32"


class MaskRCNNSettings(NetworkSettings):
    """Mask R-CNN with a feature pyramid; the defaults are Detectron's, but for what `docs/papers/irnet.md` names.

    In parts of batches, or in several processes, the loss is the mean of the parts' losses, as Detectron's over its
    GPUs, and not that of the whole: each part has its own number of regions.

    The polynomial decay stands for Detectron's two drops of the rate; 30 epochs of VOC's 10,582 images are 20,000
    steps.
    """

    network: Literal["maskrcnn"] = "maskrcnn"
    training: DetectorConfig = DetectorConfig()
    testing: DetectionConfig = DetectionConfig()


def voc12() -> MaskRCNNSettings:
    """Detectron's settings, as far as `MaskRCNNSettings` has them, for PASCAL VOC 2012 `train_aug` with ImageNet
    ResNet-50 on GPUs.

    Command: `pseudomask train maskrcnn --labels runs/voc12 --val val --preset voc12 --out runs/maskrcnn`
    IRNet's Table 3 has AP50 46.7 and AP70 23.5 on `val`; it was not run here.
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


SPEC = NetworkSpec(
    name="maskrcnn",
    title="Mask R-CNN",
    settings=MaskRCNNSettings,
    presets={"quick": quick, "voc12": voc12, "demo": demo},
    model="models.maskrcnn:build",
    stages="tasks.networks.stages.detection",
    scores="tasks.networks.stages.detection_scores",
    learns="instances",
    follows_run=True,
    background=True,
)
