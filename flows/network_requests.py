"""What the deployments of single networks are asked: a training each, whose form in Prefect's UI has its settings."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from flows.network_presets import NETWORK_PRESETS
from flows.train_request import TrainRequest
from tasks.networks import (
    CooperativeSettings,
    DeepLabV2Settings,
    DeepLabV3PlusSettings,
    MaskRCNNSettings,
    SaliencySettings,
    SceneSettings,
)


class DeepLabV2Request(TrainRequest):
    """A training of DeepLab v2."""

    default_network: ClassVar[str | None] = "deeplabv2"
    settings: DeepLabV2Settings = Field(default_factory=NETWORK_PRESETS["deeplabv2"]["quick"])  # pyright: ignore


class MaskRCNNRequest(TrainRequest):
    """A training of Mask R-CNN."""

    default_network: ClassVar[str | None] = "maskrcnn"
    settings: MaskRCNNSettings = Field(default_factory=NETWORK_PRESETS["maskrcnn"]["quick"])  # pyright: ignore


class SceneRequest(TrainRequest):
    """A training of SegNet, of a variant, or of a network that it is measured against."""

    default_network: ClassVar[str | None] = "segnet-basic"
    settings: SceneSettings = Field(default_factory=NETWORK_PRESETS["segnet-basic"]["quick"])  # pyright: ignore


class DeepLabV3PlusRequest(TrainRequest):
    """A training of DeepLab v3+."""

    default_network: ClassVar[str | None] = "deeplabv3plus"
    settings: DeepLabV3PlusSettings = Field(default_factory=NETWORK_PRESETS["deeplabv3plus"]["quick"])  # pyright: ignore


class SaliencyRequest(TrainRequest):
    """A training of DeepLab v3+ that learns saliency too."""

    default_network: ClassVar[str | None] = "saliency-deeplabv3plus"
    settings: SaliencySettings = Field(default_factory=NETWORK_PRESETS["saliency-deeplabv3plus"]["quick"])  # pyright: ignore


class CooperativeRequest(TrainRequest):
    """A training of two networks that cooperate."""

    default_network: ClassVar[str | None] = "cooperative-deeplabv3plus"
    settings: CooperativeSettings = Field(  # pyright: ignore
        default_factory=NETWORK_PRESETS["cooperative-deeplabv3plus"]["quick"]
    )
