"""Settings of DeepLab v2 and v3+, of the saliency branch, and of two networks that cooperate."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from tasks.networks.pixels import ClassWeights, SegmentationConfig, SegmenterConfig, Side
from tasks.settings import (
    BackboneName,
    LearningRate,
    NonNegative,
    OptimizerName,
    PositiveInt,
    Range,
    RateFactor,
    RunConfig,
)


class DeepLabV2Settings(RunConfig):
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


class DeepLabV3PlusConfig(SegmenterConfig):
    """Training of DeepLab v3+; the defaults are those of Sima et al. 2023, Sec. 4.1, for Cityscapes, whole images.

    The paper gives neither learning rate nor epochs.

    Attributes:
        dsc: The dilated convolutions of its pyramid pooling are depthwise separable (DSC-ASPP).
    """

    batch_size: PositiveInt = 8
    epochs: PositiveInt = 100
    optimizer: OptimizerName = "adam"
    learning_rate: LearningRate = 1e-4
    head_lr_factor: RateFactor = 10.0
    weight_decay: NonNegative = 0.0
    freeze_norm: bool = False
    class_weights: ClassWeights = "inverse_log"
    image_size: tuple[Side, Side] | None = (512, 1024)
    crop_size: Side | tuple[Side, Side] = (512, 1024)
    rescale: Range = (1.0, 1.0)
    dsc: bool = False

    @property
    def network_options(self) -> dict[str, Any]:
        """What the network itself is told."""
        return {"dsc": self.dsc}


class DeepLabV3PlusSettings(RunConfig):
    """DeepLab v3+ with pyramid pooling of plain convolutions or of depthwise separable ones."""

    network: Literal["deeplabv3plus"] = "deeplabv3plus"
    backbone: BackboneName = "resnet101"
    training: DeepLabV3PlusConfig = DeepLabV3PlusConfig()
    testing: SegmentationConfig = SegmentationConfig(scales=(1.0,), mirror=False)


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


class CooperativeSettings(RunConfig):
    """Two DANets or two DeepLab v3+ that cooperate (Ikedo and Hotta 2021)."""

    network: Literal["cooperative-danet", "cooperative-deeplabv3plus"] = "cooperative-deeplabv3plus"
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
