"""Two networks that cooperate (Ikedo and Hotta 2021): settings, presets, records."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from pydantic import model_validator

from tasks.config import BackboneName, LearningRate, NonNegative, PositiveInt, Range, RateFactor
from tasks.networks.small_presets import small_streets, small_synthetic
from tasks.networks.spec import NetworkSettings, NetworkSpec, Row
from tasks.networks.trainer import SegmentationConfig, SegmenterConfig, Side

CooperativeName = Literal["cooperative-danet", "cooperative-deeplabv3plus"]
# Both sides of VOC's crops in the paper.
VOC_SIDE = 513

PREDICTIONS = {"second": "the second network's output", "mean": "the mean of both networks' probabilities"}
"""What counts as the prediction of two networks -> in words."""


class CooperativeConfig(SegmenterConfig):
    """Training of two networks of a kind together; the defaults are those of Ikedo and Hotta 2021 for Cityscapes.

    The paper gives the crops, and neither batch, learning rate nor epochs.

    Attributes:
        connections: "same-layer": features of the first network go to the same layers of the second. "multi-layer":
            features of several depths go to each of these layers. "ensemble": there are no paths. "single": there is
            one network.
        prediction: The output of the "second" network, or the "mean" of both. None: the mean of an ensemble, the
            second's where there are paths.
        dsc: Of DeepLab v3+: the dilated convolutions of its pyramid pooling are depthwise separable.
        separable_decoder: Of DeepLab v3+: so are the 3 x 3 convolutions of its decoder.
        stream_losses: Of DANet: in training each stream of attention is classified by itself too.
        keep: The network that comes out: the "best" on the validation images (Sec. 4.1.2), or the "last".
    """

    batch_size: PositiveInt = 8
    epochs: PositiveInt = 240
    learning_rate: LearningRate = 0.01
    head_lr_factor: RateFactor = 1.0
    weight_decay: NonNegative = 1e-4
    freeze_norm: bool = False
    crop_size: Side | tuple[Side, Side] = 768
    rescale: Range = (0.5, 2.0)
    connections: Literal["single", "ensemble", "same-layer", "multi-layer"] = "same-layer"
    prediction: Literal["second", "mean"] | None = None
    dsc: bool = False
    separable_decoder: bool = False
    stream_losses: bool = False
    keep: Literal["last", "best"] = "best"

    @property
    def network_options(self) -> dict[str, Any]:
        """What the networks themselves are told."""
        asked = {name: True for name in ("dsc", "separable_decoder", "stream_losses") if getattr(self, name)}
        return {"connections": self.connections, "prediction": self.prediction, **asked}


class CooperativeSettings(NetworkSettings):
    """Two DANets or two DeepLab v3+ that cooperate (Ikedo and Hotta 2021)."""

    network: CooperativeName = "cooperative-deeplabv3plus"
    backbone: BackboneName = "resnet101"
    training: CooperativeConfig = CooperativeConfig()
    testing: SegmentationConfig = SegmentationConfig(scales=(1.0,), mirror=False)

    @model_validator(mode="after")
    def _parts_are_the_networks(self) -> CooperativeSettings:
        if self.training.dsc and self.network == "cooperative-danet":
            raise ValueError("DANet has no pyramid pooling whose convolutions could be separable (dsc)")
        if self.training.separable_decoder and self.network == "cooperative-danet":
            raise ValueError("DANet has no decoder whose convolutions could be separable (separable_decoder)")
        if self.training.stream_losses and self.network == "cooperative-deeplabv3plus":
            raise ValueError("DeepLab v3+ has no streams of attention to be classified (stream_losses)")
        if self.training.prediction and self.training.connections == "single":
            raise ValueError("a single network has no other whose output could be the prediction")
        return self


def cityscapes(network: CooperativeName) -> CooperativeSettings:
    """The paper's settings for Cityscapes with ImageNet ResNet-101 on a GPU, with the networks that it builds on.

    Command: `pseudomask train cooperative-danet --data cityscapes --split train --val val --preset cityscapes
    --out runs/cooperative`
    """
    settings = CooperativeSettings(network=network, weights="imagenet-v1")
    if network == "cooperative-danet":
        return settings.with_training(stream_losses=True)
    return settings.with_training(dsc=True, separable_decoder=True)


def voc12(network: CooperativeName) -> CooperativeSettings:
    """The paper's settings for PASCAL VOC 2012 `train_aug` with ImageNet ResNet-101 on a GPU: crops of 513 x 513.

    Command: `pseudomask train cooperative-danet --labels runs/voc12 --val val --preset voc12 --out runs/cooperative`
    """
    return cityscapes(network).with_training(crop_size=VOC_SIDE, epochs=60)


def quick(network: CooperativeName) -> CooperativeSettings:
    """Small images and few steps on MobileNetV2: a hundred photographs of streets on a CPU.

    From ImageNet's weights and in bfloat16, the 92 training images of a small CamVid take one core 4 to 14 minutes; the
    test images' mIoU is 35 to 44.

    Command: `pseudomask train cooperative-danet --data camvid --split train --val val --weights FILE
    --out runs/cooperative`
    """
    return small_streets(CooperativeSettings(network=network))


def demo(network: CooperativeName) -> CooperativeSettings:
    """For the synthetic set of `pseudomask demo`, from the classifier of its run.

    Command: `pseudomask train cooperative-danet --labels runs/demo --weights runs/demo --val val --preset demo
    --out runs/demo-cooperative`
    """
    return small_synthetic(CooperativeSettings(network=network))


def _spec(network: CooperativeName, title: str, model: str, *rows: Row) -> NetworkSpec:
    connected = (Row(f"{network}-{kind}", {"connections": kind}) for kind in ("same-layer", "multi-layer"))
    presets = {"quick": quick, "cityscapes": cityscapes, "voc12": voc12, "demo": demo}
    return NetworkSpec(
        name=network,
        title=title,
        settings=CooperativeSettings,
        presets={name: partial(preset, network) for name, preset in presets.items()},
        model=model,
        deployment="cooperative",
        rows=(*rows, *connected),
    )


SPECS = (
    _spec(
        "cooperative-danet",
        "Two DANets that cooperate",
        "models.cooperative:build_danet",
        Row("danet", {"connections": "single"}),
    ),
    _spec("cooperative-deeplabv3plus", "Two DeepLab v3+ that cooperate", "models.cooperative:build_deeplabv3plus"),
)
